# SPDX-License-Identifier: GPL-3.0-or-later
"""By which way a connection goes: address family, source address; and what is odd about addresses."""

from __future__ import annotations

import errno
import socket
import typing as t

import pytest
from smtp_server import HOST, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import resolve
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import Connector
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.route import Route


@pytest.fixture
def two_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's resolver knows both.test with both families, and old.test with one."""
    known = {"both.test": ["::1", "127.0.0.1"], "old.test": ["127.0.0.1"]}
    real = socket.getaddrinfo

    def getaddrinfo(host: t.Any, *arguments: t.Any, **options: t.Any) -> t.Any:
        name = host.decode() if isinstance(host, bytes) else host
        return [entry for address in known.get(name, [name]) for entry in real(address, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.usefixtures("two_families")
@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (Route(), ["::1", "127.0.0.1"]),
        (Route("ipv4"), ["127.0.0.1"]),
        (Route("ipv6"), ["::1"]),
        (Route(source_address="127.0.0.9"), ["127.0.0.1"]),
        (Route(source_address="fe80::1%lo"), ["::1"]),
    ],
)
def test_the_family_is_chosen_by_name_or_by_source_address(route: Route, expected: t.List[str]) -> None:
    client = Client("both.test", 25, "none", deadline=Deadline(5), route=route)

    assert [address.host for address in client.resolve()] == expected


@pytest.mark.usefixtures("two_families")
def test_a_host_without_the_family_says_what_it_has() -> None:
    client = Client("old.test", 25, "none", deadline=Deadline(5), route=Route("ipv6"))

    with pytest.raises(SmtpError) as caught:
        client.resolve()

    assert (caught.value.kind, caught.value.errno, caught.value.reason) == (Kind.RESOLVE, socket.EAI_NODATA, "family")
    assert str(caught.value) == "old.test has no IPv6 address, only 127.0.0.1"


@pytest.mark.usefixtures("two_families")
def test_both_families_are_reported_although_one_is_dead() -> None:
    with Server(conversation()) as server:
        with Client("both.test", server.port, "none", deadline=Deadline(5), ehlo_name="h.example") as client:
            client.connect()
            client.greeting()
        outcomes = [(attempt.address.family_name, attempt.outcome) for attempt in client.attempts]

    assert outcomes == [("ipv6", "refused"), ("ipv4", "connected")]


def test_connections_go_out_from_the_source_address() -> None:
    seen: t.List[str] = []
    with Server(lambda peer: seen.append(peer.connection.getpeername()[0]) or peer.send("220 hello")) as server:
        route = Route(source_address="127.0.0.77")
        with Client(HOST, server.port, "none", deadline=Deadline(5), route=route) as client:
            client.connect()
            client.greeting()

    assert seen == ["127.0.0.77"]


def test_a_source_address_that_is_not_of_this_host() -> None:
    with Server(conversation()) as server:
        client = Client(HOST, server.port, "none", deadline=Deadline(5), route=Route(source_address="192.0.2.99"))
        with client, pytest.raises(SmtpError) as caught:
            client.connect()

        assert server.peers == []
    assert caught.value.kind == Kind.CONNECT
    assert [(attempt.outcome, attempt.errno) for attempt in client.attempts] == [("no_source_address", errno.EADDRNOTAVAIL)]


def test_a_source_address_of_another_family_than_the_server() -> None:
    connector = Connector([Address(socket.AF_INET, (HOST, 25))], "::1")

    with pytest.raises(SmtpError):
        connector.connect(Deadline(5))
    connector.finish()

    assert connector.attempts[0].outcome == "failed"


def test_addresses_beyond_two_hundred_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"10.0.{number // 250}.{number % 250}", 25)) for number in range(1000)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: many)

    addresses = resolve.resolve("many.test", 25, Deadline(5))

    assert len(addresses) == 200 and addresses[-1].host == "10.0.0.199"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1", "this host itself (loopback)"),
        ("127.9.9.9", "this host itself (loopback)"),
        ("::1", "this host itself (loopback)"),
        ("::ffff:127.0.0.1", "this host itself (loopback)"),
        ("0.0.0.0", "no address of any host (unspecified)"),
        ("::", "no address of any host (unspecified)"),
        ("169.254.169.254", "the metadata service of a cloud"),
        ("fd00:ec2::254", "the metadata service of a cloud"),
        ("169.254.7.7", "link-local, so of no host beyond this network"),
        ("fe80::1%eth0", "link-local, so of no host beyond this network"),
        ("192.168.1.1", ""),
        ("203.0.113.5", ""),
        ("2001:db8::5", ""),
    ],
)
def test_odd_addresses_of_a_name(address: str, words: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    addresses = [Address(family, (address, 25))]

    expected = [f"relay.test resolves to {address}, which is {words}"] if words else []
    assert resolve.warnings("relay.test", addresses) == expected
    assert resolve.warnings(address, addresses) == []


def test_an_address_in_brackets_is_no_name() -> None:
    assert resolve.warnings("[::1]", [Address(socket.AF_INET6, ("::1", 25, 0, 0))]) == []
