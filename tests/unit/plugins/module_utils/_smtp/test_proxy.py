# SPDX-License-Identifier: GPL-3.0-or-later
"""The way through a proxy, against proxies that relay, refuse, and misbehave."""

from __future__ import annotations

import base64
import socket
import time
import typing as t

import proxy_server
import pytest
from delaying_proxy import Far
from pki import Pki
from proxy_server import Asked
from smtp_server import HOST, PASSWORD, USERNAME, Handler, Peer, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.probe import probe_all
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.route import Proxy, Route
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust

NAME = "smtp.known-to-the-proxy.test"
LOGIN = ("outpost", "pr0xy s3cret")
KINDS = pytest.mark.parametrize("kind", ["socks5", "http"])
_PROXIES: t.Dict[str, t.Callable[..., Handler]] = {"socks5": proxy_server.socks5, "http": proxy_server.http}


def route(kind: str, server: Server, login: t.Tuple[t.Optional[str], t.Optional[str]] = (None, None)) -> Route:
    return Route(proxy=Proxy(kind, HOST, server.port, *login))


def refusal(kind: str, handler: Handler, *, host: str = NAME, seconds: float = 5, login: t.Any = (None, None)) -> t.Tuple[SmtpError, Client]:
    with Server(handler) as server:
        client = Client(host, 587, "none", deadline=Deadline(seconds), route=route(kind, server, login))
        with client, pytest.raises(SmtpError) as caught:
            client.connect()
    assert (caught.value.kind, caught.value.stage, client.stage) == (Kind.PROXY, "connect", "connect")
    assert not client.in_dialogue
    return caught.value, client


@KINDS
@pytest.mark.parametrize("login", [None, LOGIN], ids=["open", "with login"])
@pytest.mark.parametrize("mode", ["implicit", "starttls", "none"])
def test_a_dialogue_through_a_proxy(pki: Pki, kind: str, login: t.Optional[t.Tuple[str, str]], mode: str) -> None:
    """The name is known to the proxy only, and what the server says first is not lost."""
    pki.server("behind", "inter", names=f"DNS:{NAME}")
    asked: t.List[Asked] = []
    context = pki.context("behind", "inter")
    with Server(conversation(tls=mode, context=context)) as server, Server(_PROXIES[kind](asked, login)) as between:
        way = route(kind, between, login or (None, None))
        trust = Trust(ca_file=pki.path("root"))
        with Client(NAME, server.port, mode, deadline=Deadline(10), ehlo_name="h.example", route=way, trust=trust) as client:
            peer = client.connect()
            client.greeting()
            client.ehlo()
            if mode == "starttls":
                client.starttls()
                client.ehlo()
            if mode != "none":
                assert client.authenticate(Credentials(USERNAME, PASSWORD), "plain").code == 235

            assert asked == [Asked(NAME, server.port, *(login or ()))]
            assert peer.sockaddr == (HOST, between.port)
            assert [attempt.outcome for attempt in client.attempts] == ["connected"]
            told = client.transcript.lines()
    assert told[0] == f"-- connected to the proxy {HOST} port {between.port}"
    assert told[1] == f"-- the proxy is connected to {NAME} port {server.port}"
    assert not any(LOGIN[1] in line for line in told)


@KINDS
@pytest.mark.parametrize(
    ("host", "expected"),
    [("192.0.2.1", "192.0.2.1"), ("[2001:db8::1]", "2001:db8::1"), ("b\u00fccher.example.", "xn--bcher-kva.example")],
)
def test_addresses_and_international_names(kind: str, host: str, expected: str) -> None:
    asked: t.List[Asked] = []
    refuse: t.Any = 5 if kind == "socks5" else "502 Bad Gateway"
    refusal(kind, _PROXIES[kind](asked, refuse=refuse), host=host)

    assert [(one.host.strip("[]"), one.port) for one in asked] == [(expected, 587)]
    if kind == "http" and ":" in expected:
        assert asked[0].host == f"[{expected}]"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "general SOCKS server failure"),
        (2, "connection not allowed by ruleset"),
        (3, "network unreachable"),
        (4, "host unreachable"),
        (5, "connection refused"),
        (6, "TTL expired"),
        (7, "command not supported"),
        (8, "address type not supported"),
        (91, "error 91"),
    ],
)
def test_socks_says_why_it_does_not_connect(code: int, words: str) -> None:
    error, _client = refusal("socks5", proxy_server.socks5([], refuse=code))

    assert error.reason == "refused" and str(error) == f"the proxy does not connect to {NAME} port 587: {words}"


def test_http_says_why_it_does_not_connect() -> None:
    error, client = refusal("http", proxy_server.http([], refuse="403 Forbidden \x1b[31mby policy"))

    assert error.reason == "refused"
    assert str(error) == f"the proxy does not connect to {NAME}:587: 'HTTP/1.1 403 Forbidden \\\\x1b[31mby policy'"
    assert client.transcript.lines()[-1] == f"-- {error}"


@KINDS
@pytest.mark.parametrize("given", [(None, None), ("outpost", "wrong")], ids=["no login", "wrong login"])
def test_a_login_that_is_missing_or_wrong(kind: str, given: t.Tuple[t.Optional[str], t.Optional[str]]) -> None:
    error, _client = refusal(kind, _PROXIES[kind]([], LOGIN), login=given)

    assert error.reason == "auth"
    assert ("demands a login" if given[0] is None else "does not accept") in str(error)
    if kind == "http":
        assert "(Basic, Negotiate)" in str(error)


def test_logins_that_can_not_be_sent() -> None:
    error, _client = refusal("socks5", proxy_server.socks5([], LOGIN), login=("x" * 256, "y"))
    assert error.reason == "auth"
    error, _client = refusal("http", proxy_server.http([], LOGIN), login=("a:b", "y"))
    assert error.reason == "auth"


def _raw(data: bytes, repeat: int = 1) -> Handler:
    def handle(peer: Peer) -> None:
        for _count in range(repeat):
            peer.send_raw(data)
        peer.wait_until_closed()

    return handle


def _last_words(data: bytes) -> Handler:
    """Hears what the client wants, says *data* and closes the connection."""

    def handle(peer: Peer) -> None:
        peer.connection.recv(65536)
        peer.send_raw(data)

    return handle


@KINDS
@pytest.mark.parametrize("host", ["\ud800.test", "a b.test", "x" * 256])
def test_what_can_not_be_a_name_is_not_asked_for(kind: str, host: str) -> None:
    asked: t.List[Asked] = []
    with Server(_PROXIES[kind](asked)) as between:
        client = Client(host, 25, "none", deadline=Deadline(5), route=route(kind, between))
        with client, pytest.raises(SmtpError, match="not a valid host name") as caught:
            client.connect()

    assert caught.value.kind == Kind.RESOLVE and asked == []


@pytest.mark.parametrize(
    ("kind", "handler"),
    [
        pytest.param("socks5", _raw(b"220 mx.provider.test ESMTP\r\n"), id="smtp instead of socks"),
        pytest.param("socks5", _raw(b"\x04\x5a" + bytes(6)), id="socks 4"),
        pytest.param("socks5", _raw(b"\x05\x07"), id="a method that was not offered"),
        pytest.param("socks5", _raw(b"\x05\x00\x05\x00\x00\x09"), id="an address of no kind"),
        pytest.param("socks5", _raw(b"\x05\x00\x04\x00\x00\x01"), id="another version in the reply"),
        pytest.param("socks5", _last_words(b"\x05"), id="socks cut short"),
        pytest.param("socks5", lambda peer: peer.connection.recv(1) and peer.reset(), id="reset"),
        pytest.param("http", _raw(b"220 mx.provider.test ESMTP\r\n"), id="smtp instead of http"),
        pytest.param("http", _raw(b"HTTP/2 200\r\n\r\n"), id="another version of http"),
        pytest.param("http", _raw(b"HTTP/1.1 999 x\r\n\r\n"), id="no status"),
        pytest.param("http", _raw(b"HTTP/1.1 200 ok\r\nX: " + b"x" * 100_000), id="header without end"),
        pytest.param("http", _raw(b"\n\n"), id="nothing but line ends"),
        pytest.param("http", _last_words(b"HTTP/1.1 200 ok\r\n"), id="http cut short"),
    ],
)
def test_what_is_no_proxy_is_told_at_once(kind: str, handler: Handler) -> None:
    began = time.monotonic()
    error, _client = refusal(kind, handler)

    assert error.reason == "protocol" and time.monotonic() - began < 3
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    ("kind", "answer", "reason"),
    [("socks5", b"", "protocol"), ("socks5", b"\x05\x00", "refused"), ("http", b"", "refused"), ("http", b"HTTP/1.1 200 ", "refused")],
)
def test_silence_ends_at_the_deadline(kind: str, answer: bytes, reason: str) -> None:
    """After the request it is the proxy that waits for the server."""
    began = time.monotonic()
    error, _client = refusal(kind, _raw(answer), seconds=0.3)

    assert error.reason == reason and "in time" in str(error)
    assert 0.25 < time.monotonic() - began < 1.5


def test_octets_that_drip_end_at_the_deadline() -> None:
    def drip(peer: Peer) -> None:
        peer.send_raw(b"HTTP/1.1 200 ok\r\nX: ")
        while True:
            peer.send_raw(b"x")
            time.sleep(0.05)  # the speed is what is tested

    began = time.monotonic()
    refusal("http", drip, seconds=0.4)

    assert time.monotonic() - began < 1.5  # all that are allowed would take minutes


@KINDS
def test_a_proxy_that_can_not_be_reached(kind: str) -> None:
    with socket.socket() as closed:
        closed.bind((HOST, 0))
        for host, words in ((HOST, "refused"), ("proxy.invalid", "proxy.invalid")):
            way = Route(proxy=Proxy(kind, host, closed.getsockname()[1]))
            with Client(NAME, 587, "none", deadline=Deadline(5), route=way) as client, pytest.raises(SmtpError) as caught:
                client.connect()

            assert (caught.value.kind, caught.value.reason, caught.value.stage) == (Kind.PROXY, "unreachable", "connect")
            assert client.stage == "connect" and words in str(caught.value)


def test_the_password_of_the_proxy_is_masked_in_what_it_says() -> None:
    def parrot(peer: Peer) -> None:
        lines = [peer.line() for _count in range(3)]
        peer.send_raw(b"HTTP/1.1 403 you said " + lines[2] + b" and " + LOGIN[1].encode() + b"\r\n\r\n")

    error, client = refusal("http", parrot, login=LOGIN)

    shown = str(error) + "".join(client.transcript.lines())
    assert LOGIN[1] not in shown and "you said Proxy-Authorization: Basic ********" in shown
    assert base64.b64encode(":".join(LOGIN).encode()).decode() not in shown


def test_known_addresses_are_those_of_the_proxy() -> None:
    """As for the second look at a server: the port is the proxy's, whatever port of the server is looked at."""
    asked: t.List[Asked] = []
    with Server(proxy_server.socks5(asked, refuse=5)) as between:
        way = route("socks5", between)
        with Client(NAME, 465, "none", deadline=Deadline(5), route=way) as client:
            with pytest.raises(SmtpError):
                client.connect()
            assert client.peer is not None
            known = client.peer.at_port(465)
        with Client(NAME, 2525, "none", deadline=Deadline(5), route=way, addresses=[known]) as client, pytest.raises(SmtpError):
            client.connect()

    assert [one.port for one in asked] == [465, 2525]


def test_a_login_that_was_not_offered_is_none_that_a_proxy_can_choose() -> None:
    def handle(peer: Peer) -> None:
        peer.connection.recv(3)
        peer.send_raw(b"\x05\x02")
        peer.wait_until_closed()

    error, _client = refusal("socks5", handle)
    assert (error.reason, error.message) == ("protocol", "the proxy does not answer as SOCKS 5 does")


def test_a_user_name_that_http_can_not_carry_is_not_sent() -> None:
    """The proxy would take what follows the colon for the password (RFC 7617 section 2)."""
    asked: t.List[Asked] = []
    error, _client = refusal("http", proxy_server.http(asked), login=("me:you", "pr0xy s3cret"))
    assert error.reason == "auth" and "colon" in error.message and not asked


@pytest.fixture
def ask(relay: t.Callable[..., t.Dict[str, t.Any]]) -> t.Callable[..., t.Dict[str, t.Any]]:
    """Test a port without TLS through an endpoint's proxy: ask(port, type, port of the proxy, ...) -> result."""

    def run(port: int, kind: str, proxy_port: int, **login: str) -> t.Dict[str, t.Any]:
        entry = relay(port, "none", host=NAME, proxy={"type": kind, "host": HOST, "port": proxy_port, **login})
        (result,) = probe_all([entry], 5, "client.example.org")
        return result

    return run


def test_a_proxy_that_quotes_its_password_is_quoted_without_it(ask: t.Callable[..., t.Dict[str, t.Any]]) -> None:
    with Server(proxy_server.http([], refuse=f"403 not with {LOGIN[1]}")) as between:
        result = ask(25, "http", between.port, username=LOGIN[0], password=LOGIN[1])

    assert result["diagnosis"]["code"] == "proxy_refused" and "403 not with" in str(result)
    assert LOGIN[1] not in str(result)


def test_a_proxy_that_is_near_says_nothing_about_the_server(ask: t.Callable[..., t.Dict[str, t.Any]]) -> None:
    """Otherwise a connection that opens at once, and answers that take their time, are a sign of interception."""
    with Server(conversation()) as server, Far(server.port) as far, Server(proxy_server.socks5([])) as between:
        result = ask(far.port, "socks5", between.port)

    assert result["ok"] and not [line for line in result["interception"]["evidence"] if "the connection opens" in line]
