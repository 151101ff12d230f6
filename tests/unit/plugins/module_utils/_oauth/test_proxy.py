# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy between a client and a server: who may use it, what it says when the login fails, and that it changes nothing after it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import ssl
import threading
import time
import typing as t

import pytest
from sasl_server import bearer
from smtp_server import Certificates, Peer, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._oauth import proxy as proxy_module
from ansible_collections.outpost.smtp.plugins.module_utils._oauth import upstream
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.proxy import Proxy
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.settings import OAuthError, RelaySettings

Make = t.Callable[..., RelaySettings]
TOKEN = "CANARY" + os.urandom(1000).hex()
USER = "alerts@provider.test"
SECRET = f"user={USER}\x01auth=Bearer {TOKEN}\x01\x01"
SASL = {"XOAUTH2": bearer(SECRET.encode(), b"", json.dumps({"status": "400"}).encode())}
ME = (os.geteuid(),)


class Keeper:
    """Has a token, or says why it has none; keeps what was refused."""

    def __init__(self, token: str = TOKEN, problem: str = "") -> None:
        self._token, self._problem = token, problem
        self.rejected: t.List[str] = []

    def token(self) -> str:
        if self._problem:
            raise OAuthError(self._problem)
        return self._token

    def refused(self, token: str) -> None:
        self.rejected.append(token)


class Running:
    """A proxy at work, and clients of it."""

    def __init__(self, relay: RelaySettings, keeper: Keeper, allowed: t.Container[t.Optional[int]] = ME) -> None:
        self.logged: t.List[str] = []
        self._clients: t.List[Client] = []
        self.proxy = Proxy(relay, t.cast(t.Any, keeper), allowed, self.logged.append)
        self._thread = threading.Thread(target=self.proxy.run, daemon=True)

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        for client in self._clients:
            client.close()
        self.proxy.close(5)
        self._thread.join(5)
        assert not self._thread.is_alive()

    def client(self) -> Client:
        self._clients.append(Client(self.proxy.port))
        return self._clients[-1]


class Client:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self._file = self.socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def reply(self) -> t.List[str]:
        lines = []
        while True:
            line = self._file.readline().decode().rstrip("\r\n")
            lines.append(line)
            if line[3:4] != "-":
                return lines

    def say(self, line: str) -> t.List[str]:
        self.socket.sendall(line.encode() + b"\r\n")
        return self.reply()

    def exactly(self, count: int) -> bytes:
        return self._file.read(count)

    def ended(self) -> bool:
        return self._file.read(1) == b""


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_the_client_finds_the_login_done(settings: Make, certificates: Certificates, tls: str) -> None:
    offer = ("PIPELINING", "AUTH XOAUTH2 PLAIN", "AUTH=PLAIN", "STARTTLS", "SIZE 1000", "8BITMIME")
    server = conversation(tls=tls, context=certificates.good(), sasl=SASL, offer=("STARTTLS",), offer_tls=offer)
    with Server(server) as relay, Running(settings(port=relay.port, tls=tls), Keeper()) as running:
        client = running.client()
        assert client.reply() == ["220 mx.provider.test ESMTP"]
        assert client.say("EHLO host.example") == ["250-mx.provider.test", "250-PIPELINING", "250-SIZE 1000", "250 8BITMIME"]
        assert client.say("MAIL FROM:<a@provider.test>")[0].startswith("250")
        assert client.say("QUIT")[0].startswith("221") and client.ended()
        assert b"EHLO host.example" in relay.lines and b"CANARY" not in relay.clear_text
    assert running.logged == []


def test_the_name_of_the_server_is_no_keyword(settings: Make, certificates: Certificates) -> None:
    replies = {"EHLO_TLS": "250 auth.provider.test"}
    server = conversation(tls="implicit", context=certificates.good(), sasl=SASL, replies=replies)
    with Server(server) as relay, Running(settings(port=relay.port), Keeper()) as running:
        client = running.client()
        client.reply()
        assert client.say("EHLO x") == ["250 auth.provider.test"]


def echo(context: ssl.SSLContext) -> t.Callable[[Peer], None]:
    """Takes any login, and then sends everything back."""

    def handle(peer: Peer) -> None:
        peer.start_tls(context)
        peer.send("220 x")
        peer.response()
        peer.send("250 x")
        peer.response()
        peer.send("334 ")
        peer.response()
        peer.send("235 ok")
        while True:
            data = peer.connection.recv(65536)
            if not data:
                return
            peer.connection.sendall(data)

    return handle


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_every_octet_after_the_login_passes_unchanged(settings: Make, certificates: Certificates, version: ssl.TLSVersion) -> None:
    context = certificates.good()
    context.maximum_version = version
    data = os.urandom(3_000_000)
    with Server(echo(context)) as relay, Running(settings(port=relay.port), Keeper()) as running:
        client = running.client()
        client.reply()
        client.say("EHLO x")
        sender = threading.Thread(target=client.socket.sendall, args=(data,))
        sender.start()
        assert client.exactly(len(data)) == data
        sender.join(5)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.ended()


def give_up(settings: Make, keeper: Keeper, handler: t.Callable[[Peer], None], **fields: t.Any) -> t.Tuple[str, t.List[str]]:
    """What smtp(8) is told in the end, and the log."""
    with Server(handler) as relay, Running(settings(port=relay.port, **fields), keeper) as running:
        client = running.client()
        said = client.reply()
        if said[0].startswith("220"):
            said = client.say("EHLO x")
        assert client.ended()
    assert "CANARY" not in said[0] + "".join(running.logged)
    assert [f"421 4.7.0 {line[len('primary: ') :]}" for line in running.logged] == said
    return said[0], running.logged


def test_a_refused_token_is_told_and_renewed(settings: Make, certificates: Certificates) -> None:
    keeper = Keeper("CANARYwrong")
    said, _log = give_up(settings, keeper, conversation(tls="implicit", context=certificates.good(), sasl=SASL))
    assert said.startswith("421 4.7.0 localhost refuses the login by XOAUTH2: 535 ")
    assert keeper.rejected == ["CANARYwrong"]


def test_a_server_that_is_busy_does_not_make_a_token_wrong(settings: Make, certificates: Certificates) -> None:
    keeper = Keeper()

    def authenticate(peer: Peer) -> None:
        peer.send("334 ")
        peer.response()
        peer.send("454 4.7.0 Temporary failure")

    busy = conversation(tls="implicit", context=certificates.good(), replies={"AUTH": authenticate})
    said, _log = give_up(settings, keeper, busy)
    assert "454 4.7.0 Temporary failure" in said and not keeper.rejected


def test_what_comes_right_after_the_login_is_not_lost(settings: Make, certificates: Certificates) -> None:
    def authenticate(peer: Peer) -> None:
        peer.send("334 ")
        peer.response()
        peer.send("235 2.7.0 ok", "421 4.3.2 shutting down")

    handler = conversation(tls="implicit", context=certificates.good(), replies={"AUTH": authenticate})
    with Server(handler) as relay, Running(settings(port=relay.port), Keeper()) as running:
        client = running.client()
        client.reply()
        assert client.say("EHLO x")[-1].startswith("250 ")
        assert client.reply() == ["421 4.3.2 shutting down"] and client.ended()


@pytest.mark.parametrize("part", [slice(None), slice(0, 40), slice(700, 740)], ids=["all", "begin", "middle"])
@pytest.mark.parametrize("text", [TOKEN, base64.b64encode(SECRET.encode()).decode()], ids=["token", "base64"])
@pytest.mark.parametrize("late", [False, True])
def test_a_server_that_says_the_token_back_is_not_quoted(settings: Make, certificates: Certificates, text: str, part: slice, late: bool) -> None:
    def authenticate(peer: Peer) -> None:
        if late:
            peer.send("334 ")
            peer.response()
        peer.send(f"535-{text[part]}", "535 5.7.8 no")

    handler = conversation(tls="implicit", context=certificates.good(), replies={"AUTH": authenticate})
    said, _log = give_up(settings, Keeper(), handler)
    assert said.endswith("535 (its text holds the token)")


def test_without_a_token_nobody_is_connected_to(settings: Make) -> None:
    with Server(Peer.wait_until_closed) as relay, Running(settings(port=relay.port), Keeper(problem="there is none: HTTP 503")) as running:
        assert running.client().reply() == ["421 4.7.0 there is none: HTTP 503"]
        assert not relay.peers


def test_the_server_must_be_who_it_should_be(settings: Make, certificates: Certificates) -> None:
    good, wrong = certificates.good(), certificates.wrong_name()
    for context, fields in ((good, {"ca_file": None}), (wrong, {}), (good, {"server_name": "x.test"})):
        said, _log = give_up(settings, Keeper(), conversation(tls="implicit", context=context, sasl=SASL), **fields)
        assert "the certificate of localhost can not be verified" in said
    server = conversation(tls="implicit", context=wrong, sasl=SASL)
    with Server(server) as relay, Running(settings(port=relay.port, server_name="mail.provider.test"), Keeper()) as running:
        client = running.client()
        client.reply()
        assert client.say("EHLO x")[0].startswith("250")


def test_a_tls_version_that_is_too_old_is_refused(settings: Make, certificates: Certificates) -> None:
    context = certificates.good()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    said, _log = give_up(settings, Keeper(), conversation(tls="implicit", context=context, sasl=SASL), minimum_tls="1.3")
    assert "the connection to localhost broke" in said


@pytest.mark.parametrize("replies", [{"STARTTLS": "454 not now"}, {"STARTTLS": ["220 go", "250 injected"]}])
def test_no_token_without_tls(settings: Make, certificates: Certificates, replies: t.Any) -> None:
    keeper = Keeper()
    with Server(conversation(tls="starttls", context=certificates.good(), sasl=SASL, replies=replies)) as relay:
        with Running(settings(port=relay.port, tls="starttls"), keeper) as running:
            client = running.client()
            client.reply()
            assert client.say("EHLO x")[0].startswith("421 4.7.0 localhost s")
        assert relay.auth_attempts == 0


@pytest.mark.parametrize(
    ("send", "words"),
    [
        (b"554 5.7.1 go away\r\n", "localhost says 554 5.7.1 go away"),
        (b"HTTP/1.1 400 Bad Request\r\n", "does not speak SMTP"),
        (b"x" * 10000, "a line without an end"),
        (b"220-x\r\n" * 200, "does not speak SMTP"),
        (b"", "closes the connection"),
        (b"554 \x1b[31m\xff\r\n", "554 ?[31m?"),
    ],
)
def test_what_is_no_greeting_is_told(settings: Make, certificates: Certificates, send: bytes, words: str) -> None:
    context = certificates.good()

    def handle(peer: Peer) -> None:
        peer.start_tls(context)
        peer.send_raw(send)

    said, _log = give_up(settings, Keeper(), handle)
    assert words in said


def test_a_server_that_is_silent_is_left(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "TIMEOUT", 0.3)
    said, _log = give_up(settings, Keeper(), Peer.wait_until_closed)
    assert "does not answer" in said or "broke" in said


def test_a_server_that_drips_is_left(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each octet comes in time, and the end never."""
    monkeypatch.setattr(upstream, "LOGIN_TIMEOUT", 0.5)

    def drip(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer.send_raw(b"2")
                time.sleep(0.05)

    said, _log = give_up(settings, Keeper(), drip, tls="starttls")
    assert "does not answer" in said


def test_a_relay_that_is_not_there_is_told(settings: Make) -> None:
    with Server(Peer.wait_until_closed) as gone:
        port = gone.port
    for fields in ({"port": port}, {"host": "absent.invalid"}):
        with Running(settings(**fields), Keeper()) as running:
            assert "can not be reached: " in running.client().reply()[0]


def test_only_postfix_may_connect(settings: Make) -> None:
    with Server(Peer.wait_until_closed) as relay, Running(settings(port=relay.port), Keeper(), allowed=(os.geteuid() + 1,)) as running:
        client = running.client()
        assert client.reply() == ["554 5.7.1 Only Postfix may send here"] and client.ended()
        assert not relay.peers


@pytest.mark.parametrize("line", ["MAIL FROM:<x>", "EHLO", "EHLO a b", "EHLO \x01", "EHLO " + "x" * 3000])
def test_what_is_no_ehlo_goes_no_further(settings: Make, certificates: Certificates, line: str) -> None:
    with Server(conversation(tls="implicit", context=certificates.good(), sasl=SASL)) as relay:
        with Running(settings(port=relay.port), Keeper()) as running:
            client = running.client()
            client.reply()
            assert client.say(line) == ["421 4.5.1 EHLO was expected"]
        assert relay.auth_attempts == 0


class ShortOfDescriptors:
    """A listener that can not accept at first, as where a process has no descriptor left (accept(2))."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.refusals = 2

    def accept(self) -> t.Any:
        if self.refusals:
            self.refusals -= 1
            raise OSError(24, "Too many open files")
        return self._listener.accept()

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._listener, name)


def test_a_shortage_ends_the_service_for_nobody_who_comes_later(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(proxy_module, "PAUSE", 0.01)
    running = Running(settings(), Keeper(problem="there is none"))
    monkeypatch.setattr(running.proxy, "_listener", ShortOfDescriptors(running.proxy._listener))
    with running:
        assert running.client().reply() == ["421 4.7.0 there is none"]
        assert running.logged[0] == "primary: no connection can be taken: Too many open files"


def test_who_has_left_makes_room_for_the_next(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "MAX_CONNECTIONS", 1)
    with Running(settings(), Keeper(problem="there is none")) as running:
        for _number in range(3):
            client = running.client()
            assert client.reply() == ["421 4.7.0 there is none"] and client.ended()


def test_a_port_that_is_taken_is_named(settings: Make) -> None:
    with Server(Peer.wait_until_closed) as other, pytest.raises(OAuthError, match=f"127.0.0.1:{other.port}.*primary.*local_port"):
        Proxy(settings(local_port=other.port), t.cast(t.Any, Keeper()), ME, print)


def test_an_idle_connection_ends(settings: Make, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "IDLE", 0.3)
    with Server(echo(certificates.good())) as relay, Running(settings(port=relay.port), Keeper()) as running:
        client = running.client()
        client.reply()
        client.say("EHLO x")
        assert client.ended()
