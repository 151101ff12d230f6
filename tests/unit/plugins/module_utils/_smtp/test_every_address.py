# SPDX-License-Identifier: GPL-3.0-or-later
"""The dialogue on every address of a host: 127.0.0.1, 127.0.0.2 and so on, with one port."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import threading
import time
import typing as t

import pytest
from smtp_server import AUTH_OFFER, Certificates, Handler, Peer, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import MAX_ADDRESSES
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.every_address import AddressResult, differences, examine
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.visitor import Visitor, VisitorFactory
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "QUIT_SECONDS", 0.3)


class Host:
    """Servers on addresses of loopback that share a port, and one more address, where nobody listens."""

    def __init__(self, certificates: Certificates, stack: contextlib.ExitStack) -> None:
        self._certificates = certificates
        self._stack = stack
        self.servers: t.List[Server] = []

    def serve(self, *handlers: Handler) -> None:
        for number, handler in enumerate(handlers, 1):
            port = self.servers[0].port if self.servers else 0
            self.servers.append(self._stack.enter_context(Server(handler, address=f"127.0.0.{number}", port=port)))

    def visitor(self) -> VisitorFactory:
        port = self.servers[0].port

        def visit(tls: str, _port: t.Any = None, addresses: t.Any = None, *, verify: bool = False) -> Visitor:
            trust = Trust(ca_file=self._certificates.ca_file)
            return Visitor("localhost", port, tls, deadline=Deadline(5), ehlo_name="c.example.org", trust=trust, verify=verify, addresses=addresses)

        return visit

    def examine(self, tls: str, count: int, seconds: float = 5.0) -> t.List[AddressResult]:
        addresses = [Address(socket.AF_INET, (f"127.0.0.{number}", self.servers[0].port)) for number in range(1, count + 1)]
        return examine(addresses, tls, self.visitor(), Deadline(seconds))


@pytest.fixture
def host(certificates: Certificates) -> t.Iterator[Host]:
    with contextlib.ExitStack() as stack:
        yield Host(certificates, stack)


def fingerprint(server: Server) -> str:
    """Of the certificate that *server* shows to anybody, read without the code under test."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", server.port), 5) as sock, context.wrap_socket(sock) as tls:
        return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


def test_addresses_that_are_alike(host: Host, certificates: Certificates) -> None:
    context = certificates.good()
    host.serve(*[conversation(tls="implicit", context=context)] * 3)
    results = host.examine("implicit", 3)

    assert [(result.address, result.ok, result.stage, result.detail) for result in results] == [(f"127.0.0.{n}", True, "", "") for n in (1, 2, 3)]
    assert {result.fingerprint for result in results} == {fingerprint(host.servers[0])}
    assert differences(results) == [] and sum(server.auth_attempts for server in host.servers) == 0


def test_every_address_has_its_own_result(host: Host, certificates: Certificates) -> None:
    good = conversation(context=certificates.good())
    host.serve(good, conversation(offer=["SIZE 1"]), conversation(greeting=["554 5.7.1 Go away"]), conversation(context=certificates.self_signed()))
    results = host.examine("starttls", 5)

    assert [result.ok for result in results] == [True, False, False, False, False]
    assert [result.stage for result in results] == ["", "starttls", "greeting", "tls", "connect"]
    assert [result.detail for result in results][1:3] == ["no STARTTLS offered", "554 5.7.1 Go away"] and results[4].detail == "refused"
    assert len(results[3].fingerprint) == 64 and results[3].fingerprint != results[0].fingerprint, "one that did not verify is told, too"
    found = differences(results)
    assert found[0].startswith("4 of 5 addresses do not work: 127.0.0.2 (starttls: no STARTTLS offered), 127.0.0.3 (greeting: 554")
    assert found[1] == "STARTTLS differs between the addresses: is offered on 127.0.0.1, 127.0.0.4; is not offered on 127.0.0.2"
    assert found[2].startswith("the certificate differs between the addresses: sha256:") and len(found) == 3


def test_a_login_that_is_not_offered_everywhere(host: Host, certificates: Certificates) -> None:
    context = certificates.good()
    host.serve(*[conversation(tls="implicit", context=context, offer_tls=[offer]) for offer in (AUTH_OFFER, "AUTH LOGIN PLAIN", "SIZE 1")])

    assert differences(host.examine("implicit", 3)) == [
        "the offer of AUTH differs between the addresses: is LOGIN, PLAIN on 127.0.0.1, 127.0.0.2; is missing on 127.0.0.3"
    ]


def test_without_tls_the_first_offer_counts(host: Host) -> None:
    host.serve(conversation(offer=[AUTH_OFFER]), conversation(offer=["SIZE 1"]))
    results = host.examine("none", 2)

    assert [result.ok for result in results] == [True, True] and [result.fingerprint for result in results] == ["", ""]
    assert [result.mechanisms for result in results] == [{"PLAIN", "LOGIN"}, frozenset()]


def test_a_silent_address_delays_nobody_beyond_the_deadline(host: Host, certificates: Certificates) -> None:
    host.serve(conversation(tls="implicit", context=certificates.good()), Peer.wait_until_closed)
    started = time.monotonic()
    results = host.examine("implicit", 2, seconds=2.0)

    assert time.monotonic() - started < 3.5
    assert [(result.ok, result.stage, result.detail) for result in results] == [(True, "", ""), (False, "tls", "silent at tls")]


def test_there_is_a_bound_on_the_addresses(host: Host) -> None:
    host.serve(conversation())
    assert len(host.examine("none", MAX_ADDRESSES + 5)) == MAX_ADDRESSES


def test_a_certificate_that_can_not_be_read_again_has_no_fingerprint(host: Host, certificates: Certificates) -> None:
    """The server closes on who comes a second time."""
    first = conversation(tls="implicit", context=certificates.self_signed())
    visits: t.List[Peer] = []

    def handle(peer: Peer) -> None:
        visits.append(peer)
        if len(visits) == 1:
            first(peer)

    host.serve(handle)
    (result,) = host.examine("implicit", 1)

    assert (result.ok, result.stage, result.fingerprint) == (False, "tls", "") and len(visits) == 2


def test_one_that_did_not_end_is_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever keeps a look from ending, or breaks it, is the result of that address alone."""
    gate = threading.Event()
    host.serve(conversation())

    def look(client_: Visitor) -> t.Any:
        gate.wait(5)
        raise OSError("secret")

    monkeypatch.setattr(Visitor, "look", look)
    (late,) = host.examine("none", 1, seconds=0.3)
    gate.set()
    (broken,) = host.examine("none", 1)

    assert (late.ok, late.detail) == (False, "it did not end in time") and (broken.ok, broken.detail) == (False, "OSError")
