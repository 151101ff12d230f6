# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The proxy on a host: its program, its settings and tokens, and the systemd service that runs it.

::

    /usr/local/lib/outpost-smtp/oauth.pyz               the program, of root
    /etc/systemd/system/outpost-smtp-oauth.service
    /var/lib/outpost-smtp-oauth/               0755     of root, so that the user of Postfix can exchange none of these by a link
      settings.json                            0600     of that user, as whom the program runs
      unfinished                               0600     while what the service runs with may be older than these files
      tokens/                                  0700     of that user; access tokens, and refresh tokens that were exchanged

New settings are tried out first: the program, run as that user, fetches a token with them. Only then they are put in place.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils import _zipapp
from ansible_collections.outpost.smtp.plugins.module_utils._oauth import daemon, settings
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.settings import DATA, OAuthError, RelaySettings
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.files import create_file, read_file, remove_tree, replace_file, sync_directory
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result

PROGRAM = "/usr/local/lib/outpost-smtp/oauth.pyz"
UNIT = "outpost-smtp-oauth.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"
MASK = "********"
_SECRETS = ("client_secret", "refresh_token")

#: What the program may do: listen on ports that only root can take, talk, read, and write its tokens. Nothing that needs a seccomp
#: filter, which a container may not be allowed to set. Without a start limit, an instance that can not begin, as where the network
#: comes late, is tried again for ever.
_UNIT_TEXT = """\
# Managed by Ansible, module outpost.smtp.smtp_oauth_proxy.
[Unit]
Description=Logs Postfix in to its relays by OAuth 2.0 (outpost.smtp)
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
User={user}
ExecStart={python} -I {program} serve {data}/settings.json {data}/tokens
Restart=always
RestartSec=10
TimeoutStopSec=90
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
AmbientCapabilities=CAP_NET_BIND_SERVICE
ProtectSystem=strict
ReadWritePaths={data}/tokens
ProtectHome=read-only
ProtectControlGroups=yes
PrivateTmp=yes
LimitCORE=0

[Install]
WantedBy=multi-user.target
"""

Run = t.Callable[[t.Sequence[str]], Result]


def program() -> bytes:
    """The program as one file that Python runs, the same octets for the same sources."""
    return _zipapp.pack(daemon.__name__)


def _entries(content: t.Optional[bytes]) -> t.Dict[str, t.Dict[str, t.Any]]:
    """The settings in a file that may be absent or damaged, by relay."""
    try:
        return {entry["name"]: entry for entry in json.loads(content or b"[]")}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}


def _shown(entries: t.Mapping[str, t.Dict[str, t.Any]], others: t.Mapping[str, t.Dict[str, t.Any]], mark: str = "") -> str:
    """Settings as text, with masks for secrets; ``mark`` is added to one that is different in ``others``."""
    shown = []
    for name, entry in entries.items():
        other = others.get(name, entry)
        masks = {secret: MASK + (mark if other.get(secret) != entry[secret] else "") for secret in _SECRETS if entry.get(secret)}
        shown.append(json.dumps({**entry, **masks}, indent=1, sort_keys=True) + "\n")
    return "".join(shown)


class Installation:
    """The proxy of one host, whose files are below ``root``."""

    def __init__(self, run: Run, root: str = "") -> None:
        self._run = run
        self._program, self._unit, self._data = (root + path for path in (PROGRAM, UNIT_PATH, DATA))
        self._settings = f"{self._data}/settings.json"
        self._new_settings = f"{self._settings}.new"
        self._unfinished = f"{self._data}/unfinished"
        self._tokens = f"{self._data}/tokens"

    def exists(self) -> bool:
        return any(os.path.lexists(path) for path in (self._program, self._unit, self._data))

    def diff(self, relays: t.Sequence[RelaySettings]) -> t.List[t.Dict[str, str]]:
        """The settings before and after, without secrets."""
        before, after = _entries(read_file(self._settings)), {relay.name: relay._asdict() for relay in relays}
        shown_before, shown_after = _shown(before, after), _shown(after, before, " (changed)")
        header = f"{DATA}/settings.json"
        different = shown_before != shown_after
        return [{"before_header": header, "after_header": header, "before": shown_before, "after": shown_after}] if different else []

    def set_up(self, relays: t.Sequence[RelaySettings], user: str, change: bool) -> bool:
        """Make the host run the proxy for these relays; return whether anything had to change. Raises OAuthError, OSError."""
        text = settings.to_json(relays).encode()
        unit = _UNIT_TEXT.format(user=user, python=_zipapp.python(), program=self._program, data=self._data).encode()
        code = program()
        stale = {
            "program": read_file(self._program) != code,
            "unit": read_file(self._unit) != unit,
            "settings": read_file(self._settings) != text or not self._is_private(user),
            "state": self._state() != ("active", "enabled") or os.path.lexists(self._unfinished),
        }
        left = os.path.lexists(self._new_settings)  # by a run that was killed; it holds secrets
        if left and change:
            remove_tree(self._new_settings)
        if not any(stale.values()) or not change:
            return left or any(stale.values())
        self._make_directories(user)
        if stale["program"]:
            replace_file(self._unfinished, b"", 0o600)
            replace_file(self._program, code, 0o644)
        if stale["settings"]:
            self._try_out(text, user)
        replace_file(self._unfinished, b"", 0o600)
        if stale["unit"]:
            replace_file(self._unit, unit, 0o644)
        self._put_in_place(text if stale["settings"] else None, user)
        remove_tree(self._unfinished)
        return True

    def remove(self, change: bool) -> bool:
        """Remove program, service, settings and tokens; return whether there was anything. Raises OAuthError, OSError."""
        if not self.exists() or not change:
            return self.exists()
        if os.path.lexists(self._unit):
            self._systemctl("disable", "--now", UNIT)
            remove_tree(self._unit)
            self._systemctl("daemon-reload")
        remove_tree(self._data)
        remove_tree(self._program)
        with contextlib.suppress(OSError):  # somebody keeps a file of their own in it
            os.rmdir(os.path.dirname(self._program))
        return True

    def _is_private(self, user: str) -> bool:
        status, owner = os.lstat(self._settings), pwd.getpwnam(user)
        return (status.st_uid, status.st_mode & 0o777) == (owner.pw_uid, 0o600)

    def _make_directories(self, user: str) -> None:
        owner = pwd.getpwnam(user)
        for path in (os.path.dirname(self._program), self._data, self._tokens):
            if not os.path.isdir(path):
                os.makedirs(path, 0o700)
                os.chmod(path, 0o700 if path == self._tokens else 0o755)
                sync_directory(os.path.dirname(path))
        os.chown(self._tokens, owner.pw_uid, owner.pw_gid, follow_symlinks=False)

    def _write_settings(self, path: str, text: bytes, user: str) -> None:
        owner = pwd.getpwnam(user)
        remove_tree(path)
        create_file(path, text, 0o600)
        os.chown(path, owner.pw_uid, owner.pw_gid)

    def _try_out(self, text: bytes, user: str) -> None:
        """Fetch tokens for the relays that are new or different. Raises OAuthError; the settings in place are then untouched."""
        new = self._new_settings
        try:
            self._write_settings(new, text, user)
            result = self._run([_zipapp.python(), "-I", self._program, "fetch", new, self._tokens, self._settings])
            if result.rc != 0:
                raise OAuthError(f"No access token can be had, nothing was changed: {result.err.strip() or 'the program ended without a word'}")
        finally:
            remove_tree(new)

    def _put_in_place(self, text: t.Optional[bytes], user: str) -> None:
        """Switch to settings that were tried out, and run the service with them; back to those before if it does not start."""
        before = read_file(self._settings)
        if text is not None:
            self._switch(text, user)
        self._systemctl("daemon-reload")
        self._systemctl("enable", "--quiet", UNIT)
        try:
            self._systemctl("restart", UNIT)
        except OAuthError as error:
            reason = self._last_words(user)
            if text is not None:
                self._back_to(before, user)
            raise OAuthError(f"{error}{reason}; the settings before are in place") from None

    def _back_to(self, before: t.Optional[bytes], user: str) -> None:
        with contextlib.suppress(OAuthError):  # what was wrong with the new settings has been found already
            if before is None:
                self._systemctl("disable", "--now", "--quiet", UNIT)
                remove_tree(self._settings)
            else:
                self._switch(before, user)
                self._systemctl("restart", UNIT)

    def _last_words(self, user: str) -> str:
        """What the program said last, as the user whom it runs as; systemd's own lines say only that it ended."""
        said = self._run(["journalctl", "--quiet", "--unit", UNIT, "--lines", "1", "--output", "cat", f"_UID={pwd.getpwnam(user).pw_uid}"])
        return f": {said.out.strip()}" if said.out.strip() else ""

    def _switch(self, text: bytes, user: str) -> None:
        self._write_settings(self._new_settings, text, user)
        os.rename(self._new_settings, self._settings)
        sync_directory(self._data)

    def _state(self) -> t.Tuple[str, str]:
        """The service's ActiveState and UnitFileState."""
        result = self._run(["systemctl", "show", "--property", "ActiveState,UnitFileState", UNIT])
        found = dict(line.split("=", 1) for line in result.out.splitlines() if "=" in line)
        return found.get("ActiveState", ""), found.get("UnitFileState", "")

    def _systemctl(self, *arguments: str) -> None:
        result = self._run(["systemctl", *arguments])
        if result.rc != 0:
            raise OAuthError(f"systemctl {' '.join(arguments)} failed")
