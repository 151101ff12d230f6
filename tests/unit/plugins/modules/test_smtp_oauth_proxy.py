# SPDX-License-Identifier: GPL-3.0-or-later
"""The glue: relays in, what has to be installed, one result or one sentence out, and no secret in any of it."""

from __future__ import annotations

import json
import os
import typing as t

import pytest
from ansible.module_utils.common.parameters import PASS_VARS
from ansible.module_utils.testing import patch_module_args

from ansible_collections.outpost.smtp.plugins.module_utils._oauth.settings import OAuthError, RelaySettings
from ansible_collections.outpost.smtp.plugins.modules import smtp_oauth_proxy

RELAY: t.Dict[str, t.Any] = {
    "name": "primary",
    "host": "smtp.example.net",
    "username": "alerts@example.net",
    "oauth": {"token_endpoint": "https://login.example.net/token", "client_id": "app", "client_secret": "CANARY-secret"},
}
PLAIN = {"name": "plain", "host": "mail.example.net", "username": "x", "password": "CANARY-password"}


class FakeInstallation:
    """Stands for the host: keeps what it is asked, and answers or fails."""

    asked: t.ClassVar[t.List[t.Any]] = []
    outcome: t.ClassVar[t.Any] = True

    def __init__(self, _run: t.Any) -> None:
        pass

    def diff(self, _relays: t.Sequence[RelaySettings]) -> t.List[t.Dict[str, str]]:
        return []

    def set_up(self, relays: t.Sequence[RelaySettings], user: str, change: bool) -> bool:
        self.asked.append(("set up", [relay.name for relay in relays], user, change))
        if isinstance(self.outcome, Exception):
            raise self.outcome  # pylint: disable=raising-bad-type  # seen as the boolean that it is at first
        return bool(self.outcome)

    def remove(self, change: bool) -> bool:
        self.asked.append(("remove", change))
        return bool(self.outcome)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> t.Callable[..., t.Dict[str, t.Any]]:
    monkeypatch.setattr(smtp_oauth_proxy, "Installation", FakeInstallation)
    monkeypatch.setattr(FakeInstallation, "asked", [])
    monkeypatch.setattr(smtp_oauth_proxy.os.path, "isdir", lambda path: path == "/run/systemd/system")

    def call(outcome: t.Any = True, user: t.Optional[str] = "postfix", missing: t.Sequence[str] = (), **options: t.Any) -> t.Dict[str, t.Any]:
        monkeypatch.setattr(FakeInstallation, "outcome", outcome)
        monkeypatch.setattr(smtp_oauth_proxy, "mail_owner", lambda: user)
        monkeypatch.setattr(smtp_oauth_proxy, "missing_packages", lambda _user: list(missing))
        # The result then has the options, too. ansible-core 2.19 always does so, and does not know that it can be asked for.
        asked_for = {"_ansible_inject_invocation": True} if "inject_invocation" in PASS_VARS else {}
        with patch_module_args({**options, **asked_for}), pytest.raises(SystemExit):
            smtp_oauth_proxy.main()
        output = capsys.readouterr().out
        assert "CANARY" not in output
        return t.cast(t.Dict[str, t.Any], json.loads(output))

    return call


Run = t.Callable[..., t.Dict[str, t.Any]]


def test_relays_with_oauth_are_set_up_and_others_are_not(run: Run) -> None:
    result = run(relays=[PLAIN, RELAY])
    assert result["changed"] and result["ports"] == {"primary": 288}
    assert FakeInstallation.asked == [("set up", ["primary"], "postfix", True)]


def test_check_mode_changes_nothing(run: Run) -> None:
    assert run(relays=[RELAY], _ansible_check_mode=True)["changed"]
    assert FakeInstallation.asked == [("set up", ["primary"], "postfix", False)]


@pytest.mark.parametrize("options", [{"state": "absent", "relays": [RELAY]}, {"relays": []}, {"relays": [PLAIN]}])
def test_without_such_a_relay_all_is_removed(run: Run, options: t.Dict[str, t.Any]) -> None:
    assert run(**options)["changed"]
    assert FakeInstallation.asked == [("remove", True)]


def test_missing_packages_are_reported_or_named(run: Run) -> None:
    missing = {"user": None, "missing": ["postfix"]}
    assert run(relays=[RELAY], packages_missing="report", **missing) | {"invocation": 0} == {
        "changed": False,
        "diff": [],
        "missing_packages": ["postfix"],
        "ports": {"primary": 288},
        "invocation": 0,
    }
    failed = run(relays=[RELAY], **missing)
    assert failed["failed"] and failed["missing_packages"] == ["postfix"] and "postfix" in failed["msg"]
    assert run(relays=[RELAY], _ansible_check_mode=True, **missing)["changed"]
    assert FakeInstallation.asked == []


def test_a_failure_is_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run(OAuthError("No access token can be had"), relays=[RELAY])["msg"] == "No access token can be had"
    assert run(PermissionError(13, "Permission denied", "/usr/local"), relays=[RELAY])["msg"].endswith("this needs root's rights (become)")
    assert run(KeyError("CANARY"), relays=[RELAY])["msg"].startswith("Unexpected KeyError")


def test_a_wrong_relay_is_named(run: Run) -> None:
    wrong = {**RELAY, "oauth": {**RELAY["oauth"], "token_endpoint": "http://login.example.net/no-tls"}}
    message = run(relays=[wrong])["msg"]
    assert message.startswith("relays[0] (primary).oauth.token_endpoint: ") and "no-tls" not in message
    assert not FakeInstallation.asked


@pytest.mark.parametrize(
    "options",
    [
        {"state": "x", "relays": [RELAY, PLAIN]},
        {"relays": RELAY},
        {"relays": [RELAY, "not a relay"]},
        {"relays": [RELAY], "unknown": 1},
        {"relays": [{**PLAIN, "password": ["CANARY-in-a-list"]}, {**PLAIN, "oauth": {"refresh_token": {"a": "CANARY"}}}], "state": "x"},
    ],
)
def test_options_that_ansible_refuses_are_not_quoted(run: Run, options: t.Dict[str, t.Any]) -> None:
    assert run(**options)["failed"]
    assert not FakeInstallation.asked


def test_without_systemd_it_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_oauth_proxy.os.path, "isdir", lambda _path: False)
    assert "needs systemd" in run(relays=[RELAY])["msg"]
