# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers whose replies do not belong together, and what is asked of them beyond the login. See hostile.py."""

from __future__ import annotations

import threading
import typing as t

import pytest
from hostile import Hostile, endless, failed
from smtp_server import AUTH_OFFER, Certificates, Handler, Peer, conversation

SENDER, RECIPIENT = "alerts@provider.test", "inbox@provider.test"
BOTH = {"sender": SENDER, "recipient": RECIPIENT}
PIPELINING = pytest.mark.parametrize("offer", [[AUTH_OFFER], ["PIPELINING", AUTH_OFFER]], ids=["one by one", "pipelined"])

MakeServer = t.Callable[..., Handler]


@pytest.fixture
def server(certificates: Certificates) -> MakeServer:
    """A server with a good certificate; see conversation()."""

    def make(**options: t.Any) -> Handler:
        return conversation(tls="implicit", context=certificates.good(), **options)

    return make


def verbs(hostile: Hostile) -> t.List[bytes]:
    return [line.split(b" ")[0].upper() for line in hostile.server.lines]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("421 4.3.2 Service not available", "service_closing"),
        ("500 5.5.1 Unrecognized command", "ehlo_502"),
        ("502 5.5.1 Not implemented", "ehlo_502"),
        ("554 5.7.1 Access denied", "ehlo_550_policy"),
    ],
)
@pytest.mark.parametrize("verb", ["EHLO", "EHLO_TLS"])
def test_a14_ehlo_is_refused(hostile: Hostile, certificates: Certificates, reply: str, code: str, verb: str) -> None:
    """HELO is not tried: it has neither TLS nor AUTH."""
    handler = conversation(context=certificates.good(), replies={verb: reply, "HELO": "250 mx"})

    failed(hostile(handler, "starttls"), code, "ehlo" if verb == "EHLO" else "ehlo_tls")
    assert b"HELO" not in verbs(hostile)


@pytest.mark.parametrize(
    ("replies", "code", "stage"),
    [
        ({"MAIL": "550 5.7.1 Sender address rejected: not owned by user alerts@provider.test"}, "sender_not_owned", "sender"),
        ({"MAIL": "530 5.7.0 Authentication required"}, "sender_auth_required", "sender"),
        ({"MAIL": "553 5.7.1 no"}, "sender_refused", "sender"),
        ({"MAIL": "451 4.7.1 later"}, "sender_temporary", "sender"),
        ({"RCPT": "554 5.7.1 Relay access denied"}, "recipient_relay_denied", "recipient"),
        ({"RCPT": "550 5.1.1 User unknown"}, "recipient_unknown", "recipient"),
    ],
)
@PIPELINING
def test_a33_a_login_that_is_good_for_nothing(
    hostile: Hostile, server: MakeServer, offer: t.List[str], replies: t.Dict[str, str], code: str, stage: str
) -> None:
    result = hostile(server(offer_tls=offer, replies=replies), logins=1, **BOTH)

    diagnosis = result["diagnosis"]
    assert (diagnosis["code"], diagnosis["stage"]) == (code, stage), diagnosis
    assert result["auth"]["code"] == 235 and verbs(hostile)[-2:] == [b"RSET", b"QUIT"]


def test_a34_a_reply_after_the_deadline_belongs_to_nothing(hostile: Hostile, server: MakeServer) -> None:
    def late(peer: Peer) -> None:
        threading.Event().wait(1.2)
        peer.send("235 2.7.0 welcome", "250 ok", "250 ok", "250 ok", "221 bye")
        peer.wait_until_closed()

    failed(hostile(server(replies={"AUTH": late}), logins=1, timeout=1.0, **BOTH), "deadline_exceeded", "auth")
    assert verbs(hostile) == [b"EHLO", b"AUTH"]


@pytest.mark.parametrize("verb", ["EHLO_TLS", "AUTH", "MAIL"])
def test_a34_two_replies_to_one_command(hostile: Hostile, server: MakeServer, verb: str) -> None:
    """The second would answer the next command."""

    def twice(peer: Peer) -> None:
        first = {"EHLO_TLS": "250-mx\r\n250 AUTH PLAIN", "AUTH": "235 2.7.0 welcome", "MAIL": "250 ok"}[verb]
        peer.send_raw(f"{first}\r\n250 2.1.0 ok\r\n".encode())
        peer.wait_until_closed()

    stage = {"EHLO_TLS": "auth", "AUTH": "sender", "MAIL": "sender"}[verb]
    result = hostile(server(replies={verb: twice}), logins=int(verb != "EHLO_TLS"), **BOTH)

    assert result["diagnosis"]["code"] == "reply_unsolicited" and result["diagnosis"]["stage"] in (stage, "recipient")


@pytest.mark.parametrize("replies", ["250 1\r\n", "250 1\r\n250 2\r\n", "250 1\r\n250-2\r\n"], ids=["one", "two", "unfinished"])
def test_a34_fewer_replies_than_commands(hostile: Hostile, server: MakeServer, replies: str) -> None:
    def few(peer: Peer) -> None:
        peer.send_raw(replies.encode())
        peer.wait_until_closed()

    result = hostile(server(offer_tls=["PIPELINING", AUTH_OFFER], replies={"MAIL": few}), logins=1, timeout=1.0, **BOTH)

    assert result["ok"] is False and result["diagnosis"]["code"] == "deadline_exceeded"


@pytest.mark.parametrize(
    "ending", [Peer.wait_until_closed, Peer.reset, lambda peer: None, endless(b"221-bye\r\n")], ids=["silence", "reset", "end", "endless"]
)
def test_a35_quit_that_is_not_answered(hostile: Hostile, server: MakeServer, ending: Handler) -> None:
    assert hostile(server(replies={"QUIT": ending}), logins=1)["ok"]


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "RSET"])
@pytest.mark.parametrize("ending", [lambda peer: None, Peer.reset], ids=["end", "reset"])
@PIPELINING
def test_a41_the_end_between_mail_and_rcpt(hostile: Hostile, server: MakeServer, offer: t.List[str], verb: str, ending: Handler) -> None:
    result = hostile(server(offer_tls=offer, replies={verb: ending}), logins=1, **BOTH)

    assert result["ok"] is False and result["diagnosis"]["stage"] in ("sender", "recipient")
    assert result["diagnosis"]["code"] in ("connection_closed", "connection_reset")


@PIPELINING
def test_a41_nothing_is_ever_sent(hostile: Hostile, server: MakeServer, offer: t.List[str]) -> None:
    assert hostile(server(offer_tls=offer), logins=1, **BOTH)["ok"]

    assert verbs(hostile) == [b"EHLO", b"AUTH", b"MAIL", b"RCPT", b"RSET", b"QUIT"]


@pytest.mark.parametrize("size", ["SIZE", "SIZE garbage", "SIZE -1", "SIZE 99999999999999999999999999", "SIZE 1 2", "SIZE=5", "SIZE \u0661"])
def test_a42_sizes_that_are_none(hostile: Hostile, server: MakeServer, size: str) -> None:
    result = hostile(server(offer_tls=[size, AUTH_OFFER]), logins=1, **BOTH)

    assert result["ok"] and size in result["capabilities"]["after_tls"]
