# SPDX-License-Identifier: GPL-3.0-or-later
"""What the other ports and addresses of a host tell after a failure, seen by servers that stand for those ports."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
import typing as t

import pytest
from smtp_server import PASSWORD, USERNAME, Certificates, Handler, Peer, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import client, connect, probe, resolve
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings import look_around, refusal, visitor

Result = t.Dict[str, t.Any]
LOGIN = {"username": USERNAME, "password": PASSWORD}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PATIENCE", 0.3)
    monkeypatch.setattr(client, "QUIT_SECONDS", 0.3)
    monkeypatch.setattr(look_around, "SIBLINGS", ())


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[t.Callable[..., t.List[Server]]]:
    """Runs servers and lets them be the sibling ports: ports((tls, handler), ...)."""
    with contextlib.ExitStack() as stack:

        def run(*siblings: t.Tuple[str, Handler]) -> t.List[Server]:
            servers = [stack.enter_context(Server(handler)) for _tls, handler in siblings]
            monkeypatch.setattr(look_around, "SIBLINGS", tuple((server.port, tls) for server, (tls, _handler) in zip(servers, siblings)))
            return servers

        yield run


@pytest.fixture
def closed_port() -> int:
    """A port of loopback that refuses connections."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def ask(relay: t.Callable[..., t.Dict[str, t.Any]], certificates: Certificates) -> t.Callable[..., Result]:
    """Test one port: ask(port, tls, ...) -> result."""

    def run(port: int, tls: str, timeout: float = 5.0, investigate: bool = True, **fields: t.Any) -> Result:
        entry = relay(port, tls=tls, ca_file=certificates.ca_file, **{**LOGIN, **fields})
        (result,) = probe.probe_all([entry], timeout, "client.example.org", investigate=investigate)
        assert PASSWORD not in json.dumps(result)
        return result

    return run


def evidence(result: Result) -> str:
    return "\n".join(result["diagnosis"]["evidence"])


def test_the_port_that_works_is_named(ports: t.Any, ask: t.Any, closed_port: int, certificates: Certificates) -> None:
    works = conversation(tls="implicit", context=certificates.good())
    no_login = conversation(context=certificates.good(), offer_tls=["SIZE 1"])
    server, other = ports(("implicit", works), ("starttls", no_login))
    result = ask(closed_port, "starttls")
    server.settle()

    why = f"Port {closed_port} is refused on all addresses; port {server.port} answers with implicit TLS"
    assert f"{why}: set port: {server.port} and tls: implicit." in result["diagnosis"]["evidence"]
    assert f"port {other.port} (starttls): no login offered" in evidence(result)
    assert server.auth_attempts == other.auth_attempts == 0


def test_the_siblings_are_asked_at_once_and_within_the_deadline(ports: t.Any, ask: t.Any, closed_port: int, certificates: Certificates) -> None:
    """Two are silent and one works: the silent ones do not keep the other from being found."""
    works = conversation(context=certificates.good())
    silent, _mute, server = ports(("implicit", Peer.wait_until_closed), ("starttls", Peer.wait_until_closed), ("starttls", works))
    started = time.monotonic()
    result = ask(closed_port, "starttls", timeout=1.5)

    assert time.monotonic() - started < 2.5
    assert f"set port: {server.port}." in evidence(result) and f"port {silent.port} (implicit): silent at tls" in evidence(result)


def test_a_sibling_whose_certificate_does_not_verify_is_no_way_out(ports: t.Any, ask: t.Any, closed_port: int, certificates: Certificates) -> None:
    (server,) = ports(("implicit", conversation(tls="implicit", context=certificates.wrong_name())))
    result = ask(closed_port, "starttls")

    assert f"set port: {server.port}" not in evidence(result)
    assert f"port {server.port} (implicit): certificate verification failed" in evidence(result)


def test_a_wrong_mode_is_followed_to_the_offer_of_a_login(ask: t.Any, certificates: Certificates) -> None:
    with Server(conversation(context=certificates.good())) as server:
        result = ask(server.port, "implicit")

    assert result["diagnosis"]["code"] == "tls_wrong_mode"
    assert f"Port {server.port} speaks SMTP in clear text at first; it answers with STARTTLS: set tls: starttls." in evidence(result)
    assert server.auth_attempts == 0


def test_who_proved_nothing_is_shown_no_client_certificate(ask: t.Any, certificates: Certificates) -> None:
    """The certificate of a server that did not verify is read on a second connection."""
    shown: t.List[t.Optional[bytes]] = []
    context = certificates.self_signed()
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(certificates.ca_file)

    def look(peer: Peer) -> None:
        peer.start_tls(context)
        shown.append(t.cast(ssl.SSLSocket, peer.connection).getpeercert(binary_form=True))
        peer.wait_until_closed()

    with Server(look) as server:
        result = ask(server.port, "implicit", client_certificate=certificates.client())
        server.settle()

    assert result["diagnosis"]["code"] == "tls_cert_self_signed" and shown == [None]


def test_a_second_look_that_found_nothing_is_told(ask: t.Any) -> None:
    with Server(Peer.wait_until_closed) as server:
        result = ask(server.port, "starttls", timeout=2.0)

    looks = [(entry["port"], entry["tls"], entry["works"], entry["outcome"]) for entry in result["alternatives"]]
    assert looks == [(server.port, "implicit", False, "silent at tls")]


def test_who_refuses_a_connection_is_told(ask: t.Any, closed_port: int) -> None:
    found = ask(closed_port, "implicit")["interception"]

    assert found["verdict"] == "rejected" and found["evidence"][0].startswith("127.0.0.1: a TCP reset after ")


@pytest.mark.parametrize("reply", ["535 5.7.8 no", "454 4.7.0 later"])
def test_after_a_refused_login_nobody_else_is_asked(ports: t.Any, ask: t.Any, certificates: Certificates, reply: str) -> None:
    context = certificates.good()
    (sibling,) = ports(("implicit", conversation(tls="implicit", context=context)))
    with Server(conversation(tls="implicit", context=context, replies={"AUTH": reply})) as server:
        ask(server.port, "implicit")

    assert sibling.peers == [] and len(server.peers) == 1


def test_without_permission_nobody_else_is_asked(ports: t.Any, ask: t.Any, closed_port: int, certificates: Certificates) -> None:
    (sibling,) = ports(("implicit", conversation(tls="implicit", context=certificates.good())))
    result = ask(closed_port, "starttls", investigate=False)

    assert sibling.peers == [] and "looked around" not in evidence(result)


def test_an_endpoint_without_login_has_its_siblings_asked(ports: t.Any, ask: t.Any, certificates: Certificates) -> None:
    context = certificates.good()
    (sibling,) = ports(("implicit", conversation(tls="implicit", context=context)))
    with Server(conversation(context=context, offer_tls=["SIZE 1"])) as server:
        result = ask(server.port, "starttls")

    assert f"Port {server.port} offers no login; port {sibling.port} answers with implicit TLS" in evidence(result)


def test_the_other_addresses_of_the_host_are_looked_at(monkeypatch: pytest.MonkeyPatch, ask: t.Any, certificates: Certificates) -> None:
    """The preferred address has lost its STARTTLS on the way, the other one offers it."""
    context = certificates.good()
    with Server(conversation(offer=["SIZE 1"])) as stripped, Server(conversation(context=context), address="127.0.0.2", port=stripped.port) as whole:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, stripped.port)) for address in ("127.0.0.1", "127.0.0.2")]
        monkeypatch.setattr(resolve.socket, "getaddrinfo", lambda *_args, **_kwargs: found)
        result = ask(stripped.port, "starttls", host="localhost")
        whole.settle()

    assert result["diagnosis"]["code"] == "cap_starttls_stripped"
    assert "STARTTLS is not offered here, but address 127.0.0.2 of the same host offers it" in evidence(result)
    assert whole.auth_attempts == stripped.auth_attempts == 0 and b"AUTH" not in stripped.clear_text


def test_the_web_port_is_only_knocked_at(monkeypatch: pytest.MonkeyPatch, ask: t.Any, closed_port: int) -> None:
    received: t.List[bytes] = []
    with Server(lambda peer: received.append(peer.connection.recv(100))) as web:
        monkeypatch.setattr(look_around, "WEB_PORT", web.port)
        result = ask(closed_port, "implicit")
        web.settle()

    assert received == [b""] and f"port {web.port}: connected" in evidence(result)


def test_the_web_port_is_left_alone_where_the_mail_port_answers(monkeypatch: pytest.MonkeyPatch, ask: t.Any) -> None:
    with Server(lambda peer: peer.send("554 5.7.1 no")) as server, Server(Peer.wait_until_closed) as web:
        monkeypatch.setattr(look_around, "WEB_PORT", web.port)
        ask(server.port, "starttls")

    assert web.peers == []


def test_a_defect_in_a_look_does_not_hide_the_failure(monkeypatch: pytest.MonkeyPatch, ports: t.Any, ask: t.Any, closed_port: int) -> None:
    (sibling,) = ports(("implicit", Peer.wait_until_closed))

    def broken(_self: t.Any) -> None:
        raise OSError(24, f"too many open files {PASSWORD}")

    monkeypatch.setattr(visitor.Visitor, "look", broken)
    result = ask(closed_port, "starttls")

    assert result["diagnosis"]["code"] == "tcp_refused" and f"port {sibling.port} (implicit): failed" in evidence(result)


@pytest.mark.parametrize(
    ("kind", "stage", "reason", "expected"),
    [
        (Kind.CONNECT, "connect", "", True),
        (Kind.TLS, "tls", "", True),
        (Kind.REPLY, "greeting", "", True),
        (Kind.NO_AUTH, "auth", "", True),
        (Kind.PROXY, "connect", "refused", True),
        (Kind.PROXY, "connect", "auth", False),
        (Kind.REPLY, "auth", "", False),
        (Kind.NO_MECHANISM, "auth", "", False),
        (Kind.UNPROTECTED, "auth", "", False),
        (Kind.TOKEN, "auth", "", False),
        (Kind.REPLY, "sender", "", False),
        (Kind.RESOLVE, "resolve", "", False),
        (Kind.CA_FILE, "tls", "", False),
        (Kind.CLIENT_CERTIFICATE, "tls", "", False),
        (Kind.INTERNAL, "tls", "", False),
    ],
)
def test_when_a_look_around_is_worth_it(kind: str, stage: str, reason: str, expected: bool) -> None:
    assert look_around.worthwhile(SmtpError(kind, "x", stage=stage, reason=reason)) is expected


def test_a_reset_that_comes_from_nearby_is_told() -> None:
    refused = refusal.Refusal("192.0.2.1", "", False, "", 1)
    visit = visitor.Visit(None, [], "192.0.2.1", 40, 90)

    assert "something nearer sent the reset" in look_around.nearer(refused, [visit])
    for harmless in (visit._replace(connect_ms=4), visit._replace(address="192.0.2.2"), visit._replace(connect_ms=None)):
        assert look_around.nearer(refused, [harmless, TimeoutError()]) == ""
    assert look_around.nearer(refused._replace(elapsed_ms=38), [visit]) == ""
    assert look_around.nearer(refused._replace(by="192.0.2.9"), [visit]) == ""


def test_one_attempt_for_each_address_is_enough_to_look_at_a_host_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound on other addresses holds whatever the name resolves to."""
    attempts = [connect.Attempt(resolve.Address(socket.AF_INET, (f"192.0.2.{index}", 587)), "connected") for index in range(1, 16)]
    seen = Observation("host.example.org", 587, "starttls", error=SmtpError(Kind.NO_STARTTLS, "x", stage="starttls"))
    seen.attempts, seen.peer = attempts, "192.0.2.1"

    assert [address.host for address in look_around.other_addresses(seen)] == ["192.0.2.2", "192.0.2.3", "192.0.2.4"]


def test_silence_everywhere_is_a_tarpit(ports: t.Any, ask: t.Any) -> None:
    ports(("implicit", Peer.wait_until_closed), ("starttls", Peer.wait_until_closed))
    with Server(Peer.wait_until_closed) as server:
        result = ask(server.port, "starttls", timeout=2.0)

    assert result["diagnosis"]["code"] == "greet_tarpit" and result["interception"]["verdict"] == "tarpit"
