# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
import threading
import time
import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import addresses
from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import Addresses, Relay
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp import dns
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import normalise_relays

HOST = "smtp.example.net"
RELAYS = [Relay("primary", HOST, 465)]
LAST: addresses.Known = {HOST: {"ipv4": {"192.0.2.9": None}, "ipv6": {"2001:db8::9": None}}}


def resolved(ipv4: addresses.Answer, ipv6: addresses.Answer, last: t.Optional[addresses.Known] = None) -> Addresses:
    answers = {"ipv4": ipv4, "ipv6": ipv6}
    found = addresses.resolve(RELAYS, LAST if last is None else last, lambda _host, family: answers[family], time_to_live=lambda *_asked: None)
    # What leaves the answer stays for a while, see test_refresh.py; here it is left out.
    return found[HOST]._replace(**{family: [one for one in getattr(found[HOST], family) if one not in found[HOST].leaving] for family in answers})


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "expected"),
    [
        pytest.param(["192.0.2.1"], ["2001:db8::1"], (["192.0.2.1"], ["2001:db8::1"], "dns"), id="both-answer"),
        pytest.param(["192.0.2.1"], [], (["192.0.2.1"], [], "dns"), id="an-empty-answer-is-an-answer"),
        pytest.param(["192.0.2.1"], None, (["192.0.2.1"], ["2001:db8::9"], "dns"), id="one-family-failed"),
        pytest.param(None, ["2001:db8::1"], (["192.0.2.9"], ["2001:db8::1"], "dns"), id="the-other-failed"),
        pytest.param(None, None, (["192.0.2.9"], ["2001:db8::9"], "last_good"), id="both-failed"),
        pytest.param([], [], (["192.0.2.9"], ["2001:db8::9"], "last_good"), id="no-such-name"),
        pytest.param([], None, (["192.0.2.9"], ["2001:db8::9"], "last_good"), id="nothing-and-failed"),
    ],
)
def test_a_failed_query_never_takes_an_address_away(ipv4: addresses.Answer, ipv6: addresses.Answer, expected: t.Any) -> None:
    assert tuple(resolved(ipv4, ipv6))[:3] == expected


def test_a_name_that_never_resolved_is_an_error_that_names_it() -> None:
    with pytest.raises(EgressError, match=r"no address is known for smtp\.example\.net") as caught:
        resolved(None, None, {})
    assert caught.value.facts == {"unresolved": [HOST]}


def test_where_none_is_needed_none_is_no_error() -> None:
    found = addresses.resolve(RELAYS, {}, lambda _host, _family: None, required=False)
    assert found == {HOST: Addresses([], [], "unknown")}


@pytest.mark.parametrize(
    ("host", "expected"), [("192.0.2.7", (["192.0.2.7"], [], "literal")), ("2001:db8::7", ([], ["2001:db8::7"], "literal"))]
)
def test_an_address_is_not_asked_for(host: str, expected: t.Any) -> None:
    def never(_host: str, _family: str) -> addresses.Answer:
        raise AssertionError("asked")

    assert tuple(addresses.resolve([Relay("a", host, 465)], {}, never)[host])[:3] == expected


def test_last_good_addresses_are_validated() -> None:
    damaged: addresses.Known = {HOST: {"ipv4": {"192.0.2.9 } flush ruleset": None, "192.0.2.8": None}, "ipv6": {"x": None}}}
    assert tuple(resolved(None, None, damaged))[:3] == (["192.0.2.8"], [], "last_good")


def test_a_resolver_that_hangs_costs_the_deadline_once() -> None:
    release = threading.Event()

    def hang(_host: str, family: str) -> addresses.Answer:
        if family == "ipv6":
            release.wait(30)
        return ["192.0.2.1"]

    many = [Relay(f"{number}", f"{number}.example.net", 465) for number in range(10)]
    start = time.monotonic()
    found = addresses.resolve([*RELAYS, *many], LAST, hang, deadline=0.2, time_to_live=lambda *_asked: None)
    elapsed = time.monotonic() - start
    release.set()
    assert 0.2 <= elapsed < 1
    assert (found[HOST].ipv4, found[HOST].ipv6) == (["192.0.2.1", "192.0.2.9"], ["2001:db8::9"]) and list(found[HOST].leaving) == ["192.0.2.9"]
    assert found["7.example.net"] == Addresses(["192.0.2.1"], [], "dns")


def answer(*found: str) -> t.List[t.Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (answer("192.0.2.10", "192.0.2.9", "192.0.2.10"), ["192.0.2.9", "192.0.2.10"]),
        (answer("fe80::1%eth0"), []),
        (socket.gaierror(socket.EAI_NONAME, "no such name"), []),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), None),
        (socket.gaierror(socket.EAI_FAIL, "server failure"), None),
        (OSError("no descriptors"), None),
        (UnicodeError("label too long"), None),
    ],
)
def test_lookup_tells_no_address_from_no_answer(monkeypatch: pytest.MonkeyPatch, outcome: t.Any, expected: addresses.Answer) -> None:
    def getaddrinfo(*_arguments: t.Any) -> t.Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert addresses.lookup(HOST, "ipv4") == expected


def test_each_destination_is_one_and_srv_records_go_by_their_name() -> None:
    relays = normalise_relays(
        [
            {"name": "a", "host": "a.example", "port": 465, "username": "u", "password": "CANARY"},
            {"name": "b", "host": "a.example", "port": 465, "senders": ["root"]},
            {"name": "c", "host": "example.com", "srv": True, "tls": "implicit"},
        ]
    )
    assert addresses.destinations(relays) == [Relay("a", "a.example", 465), Relay("c", "_submissions._tcp.example.com", 465)]


def test_srv_records_stand_for_the_servers_at_the_port_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    named: t.Any = [(0, 0, 587, "localhost"), (0, 0, 2587, "192.0.2.7"), (5, 0, 587, "127.0.0.9")]
    monkeypatch.setattr(dns, "srv", lambda service, domain, deadline: named if (service, domain) == ("submission", "example.com") else [])
    assert addresses.lookup("_submission._tcp.example.com", "ipv4") == ["127.0.0.1", "127.0.0.9"]
    assert addresses.lookup("_submission._tcp.example.org", "ipv4") is None
