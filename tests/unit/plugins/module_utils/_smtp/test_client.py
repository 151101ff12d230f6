# SPDX-License-Identifier: GPL-3.0-or-later
"""The client beyond what the authentication test needs: commands, messages, and its refusals."""

from __future__ import annotations

import base64
import socket
import typing as t

import pytest
from smtp_server import HOST, PASSWORD, USERNAME, Certificates, Peer, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust


def make(server: Server, tls: str = "none", **options: t.Any) -> Client:
    return Client(HOST, server.port, tls, deadline=Deadline(5), **options)


def _take_message(peer: Peer) -> None:
    peer.send("354 go ahead")
    while peer.line() != b".":
        pass
    peer.send("250 2.0.0 queued as 4F1A2B")
    peer.line()


@pytest.mark.parametrize(
    ("message", "received"),
    [
        (b"A: b\r\n\r\ntext\r\n", [b"A: b", b"", b"text"]),
        (b"A: b\n\ntext", [b"A: b", b"", b"text"]),
        (b".\n..\n.x\n", [b"..", b"...", b"..x"]),
        (b"text\n\n\n", [b"text", b"", b""]),
        (b"a\rb\r\nc", [b"a", b"b", b"c"]),
        (b"x\r\n.\r\nQUIT\r\n", [b"x", b"..", b"QUIT"]),
        (b"y" * 300000, [b"y" * 300000]),
    ],
)
def test_a_message_arrives_as_it_is(message: bytes, received: t.List[bytes]) -> None:
    with Server(conversation(replies={"DATA": _take_message})) as server, make(server) as client:
        client.connect()
        client.greeting()
        client.ehlo()
        assert client.command("MAIL FROM:<a@example.org>").code == 250
        assert client.stage == "sender"
        assert client.command("RCPT TO:<b@example.org>").code == 250
        assert client.stage == "recipient"
        assert str(client.data(message)) == "250 2.0.0 queued as 4F1A2B"
        client.close()
        server.settle()

    lines = server.lines
    assert lines[lines.index(b"DATA") + 1 :] == [*received, b"."]


def test_data_that_is_refused_sends_no_message() -> None:
    with Server(conversation(replies={"DATA": "554 5.7.1 no"})) as server, make(server) as client:
        client.connect()
        client.greeting()
        assert client.data(b"secret text").code == 554
        client.quit()
        server.settle()

    assert server.lines == [b"DATA", b"QUIT"]


@pytest.mark.parametrize("line", ["RSET\r\nQUIT", "RSET\nQUIT", "RSET\r"])
def test_a_command_is_one_line(line: str) -> None:
    with Server(conversation()) as server, make(server) as client:
        client.connect()
        client.greeting()
        with pytest.raises(ValueError, match="one line"):
            client.command(line)


def test_the_own_address_is_said_where_there_is_no_name() -> None:
    with Server(conversation()) as server, make(server) as client:
        client.connect()
        client.greeting()
        client.ehlo()
        client.quit()
        server.settle()

    assert server.lines[0] == b"EHLO [127.0.0.1]"


def test_a_client_that_does_not_verify_does_not_authenticate(certificates: Certificates) -> None:
    with Server(conversation(tls="implicit", context=certificates.self_signed())) as server:
        with make(server, "implicit", verify=False) as client:
            client.connect()
            client.greeting()
            assert client.ehlo().auth == ["PLAIN", "LOGIN"]
            with pytest.raises(SmtpError) as caught:
                client.authenticate(Credentials(USERNAME, PASSWORD))
        server.settle()

    assert caught.value.kind == Kind.UNPROTECTED and server.auth_attempts == 0


def test_ehlo_is_needed_again_after_starttls(certificates: Certificates) -> None:
    """What was said before TLS may have been written by anybody."""
    handler = conversation(context=certificates.good(), offer=["STARTTLS", "AUTH PLAIN"])
    with Server(handler) as server:
        with make(server, "starttls", trust=Trust(ca_file=certificates.ca_file)) as client:
            client.connect()
            client.greeting()
            client.ehlo()
            client.starttls()
            assert client.capabilities is None
            with pytest.raises(SmtpError) as caught:
                client.authenticate(Credentials(USERNAME, PASSWORD))
        server.settle()

    assert caught.value.kind == Kind.NO_AUTH and server.auth_attempts == 0


def test_after_an_error_nothing_more_is_sent() -> None:
    with Server(lambda peer: peer.wait_until_closed()) as server:
        with Client(HOST, server.port, "none", deadline=Deadline(0.3)) as client:
            client.connect()
            with pytest.raises(SmtpError) as caught:
                client.greeting()
            assert caught.value.kind == Kind.TIMEOUT and not client.in_dialogue
            with pytest.raises(SmtpError) as again:
                client.command("NOOP")
        server.settle()

    assert again.value.kind == Kind.CLOSED and server.lines == []


def test_closing_twice_is_fine_and_so_is_closing_at_once() -> None:
    client = Client(HOST, 1, "none", deadline=Deadline(1))
    client.close()
    with pytest.raises(SmtpError):
        client.connect()
    client.close()
    client.close()


def test_ipv6() -> None:
    try:
        server = Server(conversation(), socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with server, Client("::1", server.port, "none", deadline=Deadline(5)) as client:
        client.connect()
        client.greeting()
        client.ehlo()
        client.quit()
        server.settle()

    assert server.lines[0] == b"EHLO [IPv6:::1]"
    assert client.attempts[0].address.family_name == "ipv6"


def test_what_is_raised_and_returned_is_redacted(certificates: Certificates) -> None:
    echo = ["535-5.7.8 you said " + base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode()).decode(), f"535 5.7.8 or {PASSWORD}"]
    handler = conversation(tls="implicit", context=certificates.good(), replies={"AUTH": echo, "NOOP": f"250 {PASSWORD}"})
    with Server(handler) as server, make(server, "implicit", trust=Trust(ca_file=certificates.ca_file)) as client:
        client.connect()
        client.greeting()
        client.ehlo()
        with pytest.raises(SmtpError) as caught:
            client.authenticate(Credentials(USERNAME, PASSWORD))
        reply = client.command("NOOP")
        client.quit()

    assert caught.value.reply is not None
    assert caught.value.reply.lines == ["5.7.8 you said ********", "5.7.8 or ********"] and PASSWORD not in str(caught.value)
    assert reply.lines == ["********"]


def test_after_garbage_nothing_more_is_sent() -> None:
    with Server(conversation(replies={"EHLO": "what?", "NOOP": "250 ok"})) as server:
        with make(server) as client:
            client.connect()
            client.greeting()
            with pytest.raises(SmtpError) as caught:
                client.ehlo()
            with pytest.raises(SmtpError) as again:
                client.command("NOOP")
        server.settle()

    assert caught.value.kind == Kind.MALFORMED and again.value.kind == Kind.CLOSED
    assert len(server.lines) == 1
