# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""The state of a host's outbound rules, for those who only look: as much of it as this user may read, and what was not readable."""

from __future__ import annotations

import os
import pwd
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import (
    addresses,
    blame,
    denials,
    files,
    kernel_log,
    nft,
    refused_log,
    ruleset,
    state,
    units,
)
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers import backends, detect
from ansible_collections.outpost.smtp.plugins.module_utils._egress.own_table import RULES_PATH

Facts = t.Dict[str, t.Any]


class Overview:
    """Looks at one host. ``root`` is where the host's files are."""

    def __init__(self, run: nft.Run, root: str = "") -> None:
        self._run = run
        self._root = root
        self._unreadable: t.List[str] = []

    def facts(self, relays: t.Sequence[addresses.Relay], user: str, seconds: float) -> Facts:
        """What module smtp_egress_info returns. Each relay is tried for `seconds` at most, as `user` where this process may."""
        command = nft.find()
        listed = self._ask(lambda: nft.Nft(command, self._run).own_table() or []) if command else []
        ours = None if listed is None else nft.is_ours(listed)
        remembered = self._ask(lambda: state.load(self._root)) or state.parse(None)
        found = self._ask(lambda: detect.look(self._run, self._root))
        log = kernel_log.read(self._run, self._root)
        if log.why:
            self._unreadable.append(log.why)
        if command is None:
            self._unreadable.append("the nft command is not installed, so no rules can be read")
        result = {
            "loaded": ours,
            "in_force": ours and nft.normalised(listed) == remembered.loaded,
            "persistent": os.path.islink(self._root + units.ENABLED_PATH),
            "manager": (remembered.manager if remembered.manager in found.active else found.manager) if found else None,
            "evidence": dict(found.evidence) if found else {},
            "rules": ruleset.rules(self._ask(lambda: files.read(self._root + RULES_PATH)) or ""),
            "counters": nft.counters(listed) if ours else {},
            "opened": self._opened(remembered.manager),
            "addresses": {host: {family: sorted(known) for family, known in families.items()} for host, families in remembered.addresses.items()},
            "refused": [entry._asdict() for entry in refused_log.refused(log.lines)],
            "denials": [entry._asdict() for entry in denials.find([*log.lines, *denials.audited(self._root)], self._root)],
            "apparmor_profiles": [entry._asdict() for entry in denials.profiles(self._root)],
            "relays": self._relays(relays, remembered.addresses, user, seconds) if relays else [],
        }
        return {**result, "unreadable": list(dict.fromkeys(self._unreadable))}

    def _opened(self, manager: str) -> t.List[str]:
        if not manager:
            return []
        ways = self._ask(lambda: backends.make(manager, self._run, self._root).opened())
        return [str(way) for way in sorted(ways or ())]

    def _relays(self, relays: t.Sequence[addresses.Relay], known: addresses.Known, user: str, seconds: float) -> t.List[Facts]:
        uid = self._uid(user)
        resolved = addresses.resolve(relays, known, required=False)
        every = [[*resolved[relay.host].ipv4, *resolved[relay.host].ipv6] for relay in relays]
        found = blame.find_all([(one, relay.port) for one, relay in zip(every, relays)], uid, seconds, self._run, self._root)
        return [
            {
                "name": relay.name,
                "host": relay.host,
                "port": relay.port,
                "addresses": one,
                "blocked_by": blocked_by.facts() if blocked_by and one else None,
            }
            for relay, one, blocked_by in zip(relays, every, found)
        ]

    def _uid(self, user: str) -> int:
        """The user who tries: the mail server's, else the one who runs this."""
        try:
            uid = pwd.getpwnam(user).pw_uid
        except (KeyError, ValueError):
            self._unreadable.append(f"there is no user {user}, so the relays were tried by the user who runs this")
            return os.geteuid()
        if os.geteuid() not in (0, uid):
            self._unreadable.append(f"only root can try the relays as user {user}, so they were tried by the user who runs this")
            return os.geteuid()
        return uid

    def _ask(self, question: t.Callable[[], t.Any]) -> t.Any:
        """The answer; None, with the reason among what is not readable, where there is none."""
        try:
            return question()
        except (EgressError, OSError) as error:
            self._unreadable.append(str(error))
            return None
