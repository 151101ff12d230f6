# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and addresses that lead nowhere or elsewhere, and many tests at once. See hostile.py; firewalls: tests/system."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import typing as t

import pytest
from hostile import Hostile, failed, isolated, texts
from smtp_server import HOST, PASSWORD, USERNAME, Certificates, Peer, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import connect, probe, resolve
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.endpoint import normalise_endpoints
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import RelayError

NAME = "smtp.provider.test"
Resolver = t.Callable[..., None]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Makes NAME resolve to these addresses (IPv6 ones have a colon), or raises, or does not answer."""

    def make(*addresses: str, error: t.Optional[Exception] = None, seconds: float = 0.0) -> None:
        def getaddrinfo(_host: object, port: int, *_a: object, **_k: object) -> t.List[t.Any]:
            threading.Event().wait(seconds)
            if error is not None:
                raise error
            return [_entry(address, port) for address in addresses]

        monkeypatch.setattr(resolve.socket, "getaddrinfo", getaddrinfo)

    return make


def _entry(address: str, port: int) -> t.Tuple[t.Any, ...]:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))


@contextlib.contextmanager
def dropping() -> t.Iterator[int]:
    """A port on loopback that answers no SYN: its queue is full."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen(0)
        fillers = [socket.socket() for _count in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


def test_a08_dropped(hostile: Hostile) -> None:
    """See tests/system/test_hostile.py for a firewall that drops, and what its counters tell."""
    with dropping() as port:
        result = hostile.test(port, timeout=1.5)

    assert result["diagnosis"]["stage"] == "connect" and result["diagnosis"]["code"] in ("tcp_timeout", "egress_blocked_upstream")
    assert result["addresses"][0]["outcome"] == "timeout"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "dns_nxdomain"),
        (socket.gaierror(socket.EAI_NODATA, "No address associated with hostname"), "dns_no_address"),  # MX or TXT only, too
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "dns_temporary"),  # SERVFAIL
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution"), "dns_failed"),  # a loop of CNAMEs
        (socket.gaierror(-999, "\x1b[31m new"), "dns_failed"),
    ],
)
def test_a38_names_without_an_address(hostile: Hostile, resolver: Resolver, error: Exception, code: str) -> None:
    resolver(error=error)
    diagnosis = failed(hostile.test(2500, host=NAME), code, "resolve")

    assert all(text.isprintable() for text in texts(diagnosis))


def test_a38_a_resolver_that_does_not_answer(hostile: Hostile, resolver: Resolver) -> None:
    resolver(seconds=5)

    failed(hostile.test(2500, host=NAME, timeout=1.0), "dns_timeout", "resolve")


@pytest.mark.parametrize("count", [200, 5000])
def test_a38_many_addresses(hostile: Hostile, resolver: Resolver, count: int) -> None:
    resolver(*[f"127.0.{7 + number // 250}.{number % 250 + 1}" for number in range(count)])
    with socket.socket() as unused:
        unused.bind(("127.0.200.1", 0))
        result = hostile.test(unused.getsockname()[1], host=NAME)

    failed(result, "tcp_refused", "connect")
    outcomes = [entry["outcome"] for entry in result["addresses"]]
    assert outcomes.count("refused") == connect.MAX_ADDRESSES and len(outcomes) <= resolve.MAX_ADDRESSES
    assert set(outcomes[connect.MAX_ADDRESSES :]) == {"not_tried"}


def test_a38_addresses_of_no_use_first(hostile: Hostile, resolver: Resolver, certificates: Certificates) -> None:
    """AAAA records where IPv6 does not work: the one that does is taken, within the deadline."""
    resolver("2001:db8::1", "2001:db8::2", "::1", HOST)
    result = hostile(conversation(tls="implicit", context=certificates.good()), host="localhost", logins=1)

    assert result["ok"] and result["addresses"][-1]["outcome"] == "connected"
    assert {entry["family"] for entry in result["addresses"]} == {"ipv4", "ipv6"}


def test_a38_only_addresses_that_do_not_work(hostile: Hostile, resolver: Resolver) -> None:
    resolver("2001:db8::1")
    result = hostile.test(2500, host=NAME, timeout=1.5)

    assert result["diagnosis"]["stage"] == "connect" and result["addresses"][0]["family"] == "ipv6"


@pytest.mark.parametrize(
    "host", ["[smtp.provider.test]", "[192.0.2.1]", "smtp.provider.test:587", "-x.test", "a..b", "a" * 64 + ".test", "b\u00fccher.test"]
)
def test_a38_what_is_no_host(host: str) -> None:
    """Brackets are Postfix's way to say that no MX is asked for; here no MX ever is."""
    with pytest.raises(RelayError, match=r"\.host: "):
        normalise_endpoints([{"host": host}])


@pytest.mark.parametrize(
    ("address", "told"),
    [("127.0.0.1", "loopback"), ("::1", "loopback"), ("169.254.169.254", "metadata"), ("169.254.7.7", "link-local"), ("0.0.0.0", "unspecified")],
)
def test_a39_addresses_that_a_relay_does_not_have(hostile: Hostile, resolver: Resolver, address: str, told: str) -> None:
    resolver(address)
    result = hostile.test(9, host=NAME, timeout=1.0)

    assert any(told in warning and NAME in warning for warning in result["warnings"]), result["warnings"]


def test_a40_refused_by_one_family_and_taken_by_the_other(hostile: Hostile, resolver: Resolver, certificates: Certificates) -> None:
    try:
        server = Server(conversation(tls="implicit", context=certificates.good()), socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    resolver(HOST, "::1")
    with server as hostile.server:
        result = hostile.test(server.port, host="localhost", logins=1)

    assert result["ok"]
    assert [(entry["family"], entry["outcome"]) for entry in result["addresses"]] == [("ipv4", "refused"), ("ipv6", "connected")]


def test_a43_twenty_at_once(relay: t.Callable[..., t.Dict[str, t.Any]], certificates: Certificates, hostile: Hostile) -> None:
    """Each is told what its own server said; no password gets to the server of another."""
    passwords = [f"pass phrase of number {number:02}" for number in range(20)]

    def numbered(number: int) -> t.Callable[[Peer], None]:
        reply = "235 2.7.0 welcome" if number % 3 == 0 else f"535 5.7.8 no, number {number}"
        return conversation(tls="implicit", context=certificates.good(), greeting=[f"220 mx{number}.provider.test"], replies={"AUTH": reply})

    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Server(numbered(number))) for number in range(20)]
        entries = [
            relay(server.port, name=f"r{number}", ca_file=certificates.ca_file, username=USERNAME, password=passwords[number])
            for number, server in enumerate(servers)
        ]
        report = isolated(lambda: probe.probe_all(entries, 10, "client.example.org"), 20)
    results = report.value

    assert report.seconds < 11 and not report.left_open and not report.errors
    for number, (server, result) in enumerate(zip(servers, results)):
        assert result["name"] == f"r{number}" and result["ok"] is (number % 3 == 0)
        assert f"S: 220 mx{number}.provider.test" in result["transcript"]
        assert result["ok"] or result["auth"]["text"] == f"no, number {number}"
        assert server.auth_attempts == 1 and not server.running


def test_the_port_that_drops_does(hostile: Hostile) -> None:
    """So that its test means something."""
    with dropping() as port, socket.socket() as sock:
        sock.settimeout(0.3)
        started = time.monotonic()
        with pytest.raises(socket.timeout):
            sock.connect((HOST, port))
        assert time.monotonic() - started >= 0.3 and PASSWORD and hostile.certificates
