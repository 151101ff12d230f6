# SPDX-License-Identifier: GPL-3.0-or-later
"""Sender and recipient are asked for, and nothing is ever sent."""

from __future__ import annotations

import typing as t

import pytest
from smtp_server import PASSWORD, USERNAME, Certificates, Handler, Peer, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.probe import probe_all

SENDER, RECIPIENT = "alerts@provider.test", "inbox@provider.test"
Result = t.Dict[str, t.Any]


class Asked(t.NamedTuple):
    result: Result
    server: Server

    @property
    def commands(self) -> t.List[bytes]:
        """What came after the login, without QUIT."""
        lines = self.server.lines
        login = next(index for index, line in enumerate(lines) if line.startswith(b"AUTH"))
        return [line for line in lines[login + 1 :] if line != b"QUIT"]

    def status(self, stage: str) -> str:
        return next(str(entry["status"]) for entry in self.result["stages"] if entry["stage"] == stage)


@pytest.fixture
def ask(relay: t.Callable[..., t.Dict[str, t.Any]], certificates: Certificates) -> t.Callable[..., Asked]:
    def run(pipelining: bool = True, replies: t.Optional[t.Dict[str, t.Any]] = None, **fields: t.Any) -> Asked:
        offer = ["AUTH PLAIN", *(["PIPELINING"] if pipelining else [])]
        handler: Handler = conversation(tls="implicit", context=certificates.good(), offer_tls=offer, replies=replies)
        with Server(handler) as server:
            wanted = {"sender": SENDER, "recipient": RECIPIENT, "username": USERNAME, "password": PASSWORD, **fields}
            (result,) = probe_all([relay(server.port, ca_file=certificates.ca_file, **wanted)], 5, "client.example.org")
            server.settle()
        assert not any(line.startswith(b"DATA") for line in server.lines)
        return Asked(result, server)

    return run


@pytest.mark.parametrize("pipelining", [True, False])
def test_both_are_asked_for_and_taken_back(ask: t.Callable[..., Asked], pipelining: bool) -> None:
    asked = ask(pipelining)
    assert asked.result["ok"] is True
    assert asked.commands == [b"MAIL FROM:<alerts@provider.test>", b"RCPT TO:<inbox@provider.test>", b"RSET"]
    assert asked.result["sender"] == {"code": 250, "enhanced_code": "2.0.0", "text": "Ok"}
    assert asked.result["recipient"]["code"] == 250
    assert (asked.status("sender"), asked.status("recipient")) == ("ok", "ok")


def test_the_sender_alone(ask: t.Callable[..., Asked]) -> None:
    asked = ask(recipient=None)
    assert asked.result["ok"] is True
    assert asked.commands == [b"MAIL FROM:<alerts@provider.test>", b"RSET"]
    assert "recipient" not in [entry["stage"] for entry in asked.result["stages"]]
    assert asked.result["recipient"]["code"] is None


def test_with_pipelining_it_is_one_round_trip(ask: t.Callable[..., Asked], certificates: Certificates) -> None:
    """The server answers nothing until it has all three commands: a client that waits in between would never end."""

    def answer_at_once(peer: Peer) -> None:
        assert [peer.line()[:4], peer.line()] == [b"RCPT", b"RSET"]
        peer.send("250 2.1.0 Ok", "250 2.1.5 Ok", "250 2.0.0 Ok")
        assert peer.line() == b"QUIT"
        peer.send("221 2.0.0 Bye")

    asked = ask(replies={"MAIL": answer_at_once})
    assert asked.result["ok"] is True, asked.result["diagnosis"]


@pytest.mark.parametrize("pipelining", [True, False])
def test_a_refused_sender_is_told_and_the_recipient_not_blamed(ask: t.Callable[..., Asked], pipelining: bool) -> None:
    refusal = "553 5.7.1 <alerts@provider.test>: Sender address rejected: not owned by user"
    asked = ask(pipelining, {"MAIL": refusal, "RCPT": "503 5.5.1 Error: need MAIL command"})
    assert asked.result["ok"] is False
    assert asked.result["diagnosis"]["stage"] == "sender"
    assert asked.result["sender"]["code"] == 553 and asked.result["sender"]["enhanced_code"] == "5.7.1"
    assert asked.result["recipient"]["code"] is None
    assert (asked.status("sender"), asked.status("recipient")) == ("failed", "skipped")
    assert asked.commands[-1] == b"RSET"


@pytest.mark.parametrize("pipelining", [True, False])
def test_a_refused_recipient(ask: t.Callable[..., Asked], pipelining: bool) -> None:
    asked = ask(pipelining, {"RCPT": "554 5.7.1 <inbox@provider.test>: Relay access denied"})
    assert asked.result["diagnosis"]["stage"] == "recipient"
    assert (asked.status("sender"), asked.status("recipient")) == ("ok", "failed")
    assert asked.result["sender"]["code"] == 250 and asked.result["recipient"]["code"] == 554


def test_251_accepts_a_recipient(ask: t.Callable[..., Asked]) -> None:
    assert ask(replies={"RCPT": "251 2.1.5 User not local; will forward"}).result["ok"] is True


def test_a_server_that_hangs_up_in_between(ask: t.Callable[..., Asked]) -> None:
    asked = ask(False, {"RCPT": lambda peer: None})
    assert asked.result["ok"] is False
    assert asked.result["diagnosis"]["stage"] == "recipient"


def test_nobody_is_asked_after_a_refused_login(ask: t.Callable[..., Asked]) -> None:
    asked = ask(password="wr0ng-password")
    assert asked.result["diagnosis"]["code"] == "auth_bad_credentials"
    assert not any(line.startswith(b"MAIL") for line in asked.server.lines)
    assert asked.status("sender") == "skipped"


@pytest.mark.parametrize(("recipient", "warned"), [(None, True), (RECIPIENT, False)])
def test_a_sender_alone_proves_little(ask: t.Callable[..., Asked], recipient: t.Optional[str], warned: bool) -> None:
    """Postfix judges the sender at RCPT TO, if it is not told otherwise: postconf(5) smtpd_delay_reject."""
    result = ask(recipient=recipient).result
    assert result["ok"] is True
    assert any("set recipient as well" in warning for warning in result["warnings"]) is warned
