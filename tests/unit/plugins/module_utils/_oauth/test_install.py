# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy as it is put on a host: by a systemd that only pretends, and by the real program."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from token_server import TOKEN, TokenServer

from ansible_collections.outpost.smtp.plugins.module_utils._oauth import install, stored_token
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.install import UNIT, Installation
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.settings import OAuthError, RelaySettings, read
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result

Make = t.Callable[..., RelaySettings]
USER = pwd.getpwuid(os.geteuid()).pw_name


class FakeHost:
    """Runs the real program, and stands for systemd: the service starts unless it is broken."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: t.List[t.List[str]] = []
        self.active = self.enabled = self.broken = False
        for directory in ("etc/systemd/system", "usr/local/lib", "var/lib"):
            (root / directory).mkdir(parents=True)
        self.installation = Installation(self.run, str(root))

    def run(self, argv: t.Sequence[str]) -> Result:
        self.calls.append(list(argv))
        if argv[0] == "systemctl":
            return self._systemctl(list(argv[1:]))
        if argv[0] == "journalctl":
            return Result(0, "primary: port is taken\n", "")
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return Result(done.returncode, done.stdout, done.stderr)

    def _systemctl(self, words: t.List[str]) -> Result:
        if words[0] == "show":
            states = ("active" if self.active else "inactive", "enabled" if self.enabled else "disabled")
            return Result(0, "ActiveState={}\nUnitFileState={}\n".format(*states), "")
        if words[0] == "enable":
            self.enabled = True
        elif words[0] == "disable":
            self.enabled = self.active = False
        elif words[0] == "restart":
            self.active = not self.broken
        return Result(1 if words[0] == "restart" and self.broken else 0, "", "")

    def files(self) -> t.Set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}

    @property
    def data(self) -> Path:
        return self.root / "var/lib/outpost-smtp-oauth"


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


@pytest.fixture
def relay(endpoint: TokenServer, settings: Make) -> RelaySettings:
    return settings(token_endpoint=endpoint.url)


def test_a_token_is_there_before_the_service_starts(host: FakeHost, relay: RelaySettings) -> None:
    assert host.installation.set_up([relay], USER, change=True)
    assert stored_token.load(stored_token.path_of(str(host.data / "tokens"), relay)).access_token == TOKEN
    assert read(str(host.data / "settings.json")) == [relay]
    words = [call[1] for call in host.calls]
    assert words == ["show", "-I", "daemon-reload", "enable", "restart"] and host.active and host.enabled
    assert "CANARY" not in str(host.calls)


def test_secrets_are_for_the_user_alone_and_the_rest_is_for_root(host: FakeHost, relay: RelaySettings) -> None:
    host.installation.set_up([relay], USER, change=True)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [host.data, *host.data.rglob("*")]}
    assert modes.pop("settings.json") == 0o600 and modes.pop("tokens") == 0o700 and modes.pop(host.data.name) == 0o755
    assert set(modes.values()) == {0o600}


def test_a_second_run_changes_nothing(host: FakeHost, relay: RelaySettings, endpoint: TokenServer) -> None:
    host.installation.set_up([relay], USER, change=True)
    host.calls.clear()
    assert not host.installation.set_up([relay], USER, change=True)
    assert len(host.calls) == 1 and len(endpoint.forms) == 1
    assert host.installation.diff([relay]) == []


@pytest.mark.parametrize("damage", ["stopped", "disabled", "unit", "program", "mode", "settings"])
def test_what_was_changed_is_mended(host: FakeHost, relay: RelaySettings, damage: str) -> None:
    host.installation.set_up([relay], USER, change=True)
    settings_file = host.data / "settings.json"
    if damage == "stopped":
        host.active = False
    elif damage == "disabled":
        host.enabled = False
    elif damage == "mode":
        settings_file.chmod(0o644)
    else:
        paths = {"unit": host.root / install.UNIT_PATH[1:], "program": host.root / install.PROGRAM[1:], "settings": settings_file}
        paths[damage].write_text("[]")
    assert host.installation.set_up([relay], USER, change=False)
    assert host.installation.set_up([relay], USER, change=True)
    assert not host.installation.set_up([relay], USER, change=True)
    assert stat.S_IMODE(settings_file.stat().st_mode) == 0o600


@pytest.mark.parametrize("changed", ["settings", "unit", "program"])
def test_a_run_that_was_killed_before_the_restart_is_finished_by_the_next(
    host: FakeHost, relay: RelaySettings, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.installation.set_up([relay], USER, change=True)
    if changed == "settings":
        relay = relay._replace(minimum_tls="1.3")
    else:
        (host.root / {"unit": install.UNIT_PATH, "program": install.PROGRAM}[changed][1:]).write_text("older")

    class Killed(BaseException):
        pass

    def die(_installation: Installation, *arguments: str) -> None:
        raise Killed

    with monkeypatch.context() as killed, pytest.raises(Killed):
        killed.setattr(Installation, "_systemctl", die)
        host.installation.set_up([relay], USER, change=True)
    host.calls.clear()
    assert host.installation.set_up([relay], USER, change=False)
    assert host.installation.set_up([relay], USER, change=True) and ["systemctl", "restart", UNIT] in host.calls
    assert not host.installation.set_up([relay], USER, change=True)


def test_what_a_killed_run_left_is_removed(host: FakeHost, relay: RelaySettings) -> None:
    """It tried new settings out, and its user has gone back to the old ones."""
    host.installation.set_up([relay], USER, change=True)
    (host.data / "settings.json.new").write_text("CANARY-new")
    assert host.installation.set_up([relay], USER, change=False)
    host.calls.clear()
    assert host.installation.set_up([relay], USER, change=True)
    assert not (host.data / "settings.json.new").exists() and ["systemctl", "restart", UNIT] not in host.calls
    assert not host.installation.set_up([relay], USER, change=True)


@pytest.mark.parametrize("content", ["[" * 100_000, '[{"name": []}]', '["x"]', "[[1]]", '{"name": 1}', "\xff", '[{"name": "primary"}]'])
def test_settings_that_the_user_of_postfix_has_damaged_are_mended(host: FakeHost, relay: RelaySettings, content: str) -> None:
    host.installation.set_up([relay], USER, change=True)
    (host.data / "settings.json").write_text(content)
    assert "CANARY" not in str(host.installation.diff([relay]))
    assert host.installation.set_up([relay], USER, change=True)
    assert read(str(host.data / "settings.json")) == [relay]


def test_check_mode_touches_nothing(host: FakeHost, relay: RelaySettings, endpoint: TokenServer) -> None:
    assert host.installation.set_up([relay], USER, change=False)
    assert host.files() == set() and not endpoint.forms


def test_settings_that_earn_no_token_are_not_put_in_place(host: FakeHost, relay: RelaySettings, endpoint: TokenServer) -> None:
    host.installation.set_up([relay], USER, change=True)
    before = {name: (host.root / name).read_bytes() for name in host.files()}
    endpoint.status, endpoint.body = "400 Bad Request", {"error": "invalid_grant"}
    host.calls.clear()
    with pytest.raises(OAuthError, match="nothing was changed: primary: the token endpoint refuses: HTTP 400 invalid_grant"):
        host.installation.set_up([relay._replace(refresh_token="CANARY-other")], USER, change=True)
    assert {name: (host.root / name).read_bytes() for name in host.files()} == before
    assert ["systemctl", "restart", UNIT] not in host.calls


def test_a_new_program_takes_over_although_the_settings_that_came_with_it_were_refused(
    host: FakeHost, relay: RelaySettings, endpoint: TokenServer
) -> None:
    host.installation.set_up([relay], USER, change=True)
    (host.root / install.PROGRAM[1:]).write_text("older")
    with pytest.raises(OAuthError):
        host.installation.set_up([relay._replace(token_endpoint=f"{endpoint.url}/nowhere", token_ca_file=None)], USER, change=True)
    host.calls.clear()
    assert host.installation.set_up([relay], USER, change=True) and ["systemctl", "restart", UNIT] in host.calls


def test_a_new_client_secret_is_tried_out_but_what_did_not_change_is_not(host: FakeHost, relay: RelaySettings, endpoint: TokenServer) -> None:
    other = relay._replace(name="second", username="x@provider.test")
    host.installation.set_up([relay, other], USER, change=True)
    host.installation.set_up([relay, other._replace(client_secret="new")], USER, change=True)
    assert [form["client_secret"] for form in endpoint.forms] == [relay.client_secret, relay.client_secret, "new"]


def test_a_service_that_does_not_start_goes_back_to_the_settings_before(host: FakeHost, relay: RelaySettings) -> None:
    host.installation.set_up([relay], USER, change=True)
    host.broken = True
    restarts = host.calls.count(["systemctl", "restart", UNIT])
    with pytest.raises(OAuthError, match="primary: port is taken; the settings before are in place"):
        host.installation.set_up([relay._replace(local_port=1)], USER, change=True)
    assert read(str(host.data / "settings.json")) == [relay]
    assert host.calls.count(["systemctl", "restart", UNIT]) == restarts + 2


def test_a_service_that_never_started_is_not_left_to_try(host: FakeHost, relay: RelaySettings) -> None:
    host.broken = True
    with pytest.raises(OAuthError, match="port is taken"):
        host.installation.set_up([relay], USER, change=True)
    assert not host.enabled and not (host.data / "settings.json").exists()


def test_all_of_it_is_removed(host: FakeHost, relay: RelaySettings) -> None:
    host.installation.set_up([relay], USER, change=True)
    assert host.installation.remove(change=False) and host.files()
    assert host.installation.remove(change=True)
    assert not host.files() and not host.active and not host.enabled and not host.data.exists()
    assert not host.installation.remove(change=True)


def test_the_diff_masks_secrets_and_tells_that_they_changed(host: FakeHost, relay: RelaySettings) -> None:
    first = host.installation.diff([relay])
    assert first[0]["before"] == "" and '"client_id": "outpost"' in first[0]["after"]
    host.installation.set_up([relay], USER, change=True)
    second = host.installation.diff([relay._replace(client_secret="CANARY-new")])
    assert '"client_secret": "********"' in second[0]["before"] and '"client_secret": "******** (changed)"' in second[0]["after"]
    assert '"refresh_token": "********"' in second[0]["after"]
    assert "CANARY" not in str(first) + str(second)
    assert host.installation.diff([])[0]["after"] == ""


def test_the_program_is_the_same_every_time_and_needs_nothing_else(tmp_path: Path) -> None:
    assert install.program() == install.program()
    path = tmp_path / "oauth.pyz"
    path.write_bytes(install.program())
    done = subprocess.run([sys.executable, "-I", str(path), "serve", "/nowhere", "/nowhere"], capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stderr) == (1, "/nowhere can not be used: No such file or directory\n")


def test_settings_that_others_can_read_are_refused(tmp_path: Path, relay: RelaySettings) -> None:
    path = tmp_path / "settings.json"
    path.write_text(install.settings.to_json([relay]))
    path.chmod(0o640)
    with pytest.raises(OAuthError, match="0600"):
        read(str(path))
    path.chmod(0o600)
    assert read(str(path)) == [relay]
    path.write_text('{"CANARY": [')
    with pytest.raises(OAuthError, match="is damaged") as caught:
        read(str(path))
    assert "CANARY" not in str(caught.value)
