# SPDX-License-Identifier: GPL-3.0-or-later
"""Which logins are tested before a switch, as whom, and what is made of their results."""

from __future__ import annotations

import types
import typing as t
from pathlib import Path

import pytest
from postfix_instance import Instance
from smtp_server import Certificates

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import preflight
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.run_as import RunAsError

STAGE, LIVE = "/stage", "/live"
MASTER = "outpost_a unix - - n - - smtp\noutpost_b unix - - n - - smtp\n"
MAIN = (
    "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = hash:/p\nsmtp_sasl_tls_security_options = noanonymous\n"
    "smtp_tls_security_level = encrypt\nsmtp_tls_CAfile = {ca}\ndefault_transport = outpost_a:[a.example]:587\n"
    "sender_dependent_default_transport_maps = hash:/t\n"
)


class Logins:
    """The logins that were asked for; every one succeeds as long as no other answer is given."""

    def __init__(self, certificates: Certificates, ca: Path) -> None:
        self.certificates, self.ca = certificates, ca
        self.users: t.List[str] = []
        self.endpoints: t.List[t.Any] = []
        self.timeout = 0.0
        self.instances: t.Dict[str, t.Optional[Instance]] = {}

    def configure(self, directory: str, password: str = "p", by_sender: str = "outpost_b:[b.example]:587", ca: t.Optional[Path] = None) -> None:
        tables = {"hash:/p": {"a.example": f"u:{password}", "b.example": "u:b"}, "hash:/t": {"s@x.example": by_sender}}
        self.instances[directory] = Instance(MAIN.format(ca=ca or self.ca), MASTER, tables)

    def relays(self, directory: str, _deadline: t.Any, run: t.Any = None) -> t.Any:
        instance = self.instances[directory]
        if instance is None:
            raise PostfixError("broken")
        return instance.relays()

    def probe(self, user: str, targets: t.Any, timeout: float, explain: t.Any = None) -> t.List[t.Dict[str, t.Any]]:
        self.users.append(user)
        self.endpoints += targets
        self.timeout = timeout
        return [{"name": one["name"], "ok": True, "diagnosis": None, "auth": {"tried": True}} for one in targets]

    def log_in(self, unless: t.Optional[str] = None, transports: t.Collection[str] = ("outpost_a", "outpost_b")) -> t.List[str]:
        """The hosts that a login is made to."""
        self.endpoints.clear()
        preflight.log_in(STAGE, transports, 30, lambda argv, stdin: Result(0, "postmail\n", ""), unless)
        return [one["host"] for one in self.endpoints]


@pytest.fixture
def tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Logins:
    certificates = Certificates(tmp_path)
    found = Logins(certificates, tmp_path / "ca.pem")
    found.configure(STAGE)
    found.configure(LIVE)
    monkeypatch.setattr(preflight, "effective", types.SimpleNamespace(relays=found.relays))
    monkeypatch.setattr(preflight, "probe_all_as", found.probe)
    return found


def test_our_transports_are_tested_as_the_user_of_the_mta(tested: Logins) -> None:
    assert tested.log_in() == ["a.example", "b.example"]
    assert tested.users == ["postmail"] and 0 < tested.timeout <= 30
    assert [one["password"] for one in tested.endpoints] == ["p", "b"]
    assert tested.log_in(transports=["outpost_b"]) == ["b.example"]
    assert tested.log_in(transports=["outpost_c"]) == [] and len(tested.users) == 2


def test_only_what_is_different_is_tested_if_that_is_asked_for(tested: Logins, tmp_path: Path) -> None:
    assert tested.log_in(LIVE) == []
    tested.configure(STAGE, password="new")
    assert tested.log_in(LIVE) == ["a.example"]
    tested.configure(STAGE, by_sender="outpost_b:[b.example]:465")
    assert tested.log_in(LIVE) == ["b.example"]
    same = tmp_path / "same.pem"
    same.write_bytes(tested.ca.read_bytes())
    tested.configure(STAGE, ca=same)
    assert tested.log_in(LIVE) == [], "the same certificates at another path"
    same.write_bytes(Path(tested.certificates.unrelated_root()).read_bytes())
    assert tested.log_in(LIVE) == ["a.example", "b.example"]


def test_where_the_configuration_in_force_can_not_be_read_everything_is_different(tested: Logins) -> None:
    tested.instances[LIVE] = None
    assert tested.log_in(LIVE) == ["a.example", "b.example"]


def test_a_user_that_can_not_be_taken_on_is_a_refusal(tested: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: t.Any, **_options: t.Any) -> t.Any:
        raise RunAsError("run_as", "there is no user 'postmail' on this host")

    monkeypatch.setattr(preflight, "probe_all_as", refuse)
    with pytest.raises(PostfixError, match="can not be tested: there is no user 'postmail'"):
        tested.log_in()


def test_a_refusal_names_the_first_diagnosis() -> None:
    good = {"ok": True, "diagnosis": None}
    bad = {"ok": False, "diagnosis": {"code": "a", "summary": "S.", "remedy": "R."}}
    assert preflight.refusal([]) == "" and preflight.refusal([good]) == ""
    assert preflight.refusal([bad]) == "S. R. [a]"
    assert preflight.refusal([good, bad, bad]) == "2 of 3 logins failed, first: S. R. [a]"


def test_no_program_is_started_when_the_time_is_over(tested: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "effective", types.SimpleNamespace(relays=lambda _directory, _deadline, run: run(["postconf"], "")))
    with pytest.raises(PostfixError, match="preflight_timeout: postconf was not started"):
        preflight.log_in(STAGE, ["outpost_a"], 0, lambda argv, stdin: pytest.fail("it was started"))
