# SPDX-License-Identifier: GPL-3.0-or-later
"""Who answers a connection with an error, asked of the kernel, in a network of its own with rules of its own."""

from __future__ import annotations

import socket
import struct
import sys
import typing as t
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "_support"))

import namespace  # noqa: E402  (needs the path set above)

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings import refusal  # noqa: E402

RULES = """
table inet test {
    chain output {
        type filter hook output priority 0
        tcp dport 25 reject
        tcp dport 26 drop
        tcp dport 27 reject with icmpx type admin-prohibited
    }
}
"""
SCRIPT = """
import json, socket
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings import refusal
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address
def ask(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = refusal.ask(Address(family, (host, port)), Deadline(0.5))
    return found and [found.by, found.own, found.meaning]
print(json.dumps([ask(host, port) for host, port in WAYS]))
"""


def answers(*ways: t.Tuple[str, int]) -> t.List[t.Any]:
    return t.cast("t.List[t.Any]", namespace.run(RULES, SCRIPT.replace("WAYS", repr(ways))))


@pytest.mark.skipif(not namespace.available(), reason="needs root and nft")
def test_the_icmp_error_of_a_rule_is_this_hosts_own() -> None:
    four, six = namespace.FAR, namespace.FAR6
    assert answers((four, 25), (four, 26), (four, 27), (six, 25), (six, 26), (six, 27)) == [
        [namespace.OWN, True, "port unreachable"],
        None,
        [namespace.OWN, True, "communication administratively prohibited"],
        [namespace.OWN6, True, "port unreachable"],
        None,
        [namespace.OWN6, True, "communication administratively prohibited"],
    ]


def ask(port: int, source: t.Optional[str] = None) -> t.Optional[refusal.Refusal]:
    return refusal.ask(Address(socket.AF_INET, ("127.0.0.1", port)), Deadline(2), source)


def test_a_reset_has_no_sender() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        found = ask(sock.getsockname()[1])

    assert found is not None and (found.by, found.own, found.meaning) == ("", False, "")
    assert str(found).startswith("127.0.0.1: a TCP reset after ")


def test_who_is_let_in_is_not_refused() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(1)
        assert ask(sock.getsockname()[1]) is None


def test_a_source_address_that_is_not_there_tells_nothing() -> None:
    assert ask(9, "192.0.2.77") is None


def test_it_is_told_who_sent_the_error() -> None:
    found = refusal.Refusal("192.0.2.1", "198.51.100.1", False, "host unreachable", 7)

    assert str(found) == "192.0.2.1: ICMP host unreachable, sent by 198.51.100.1 after 7 ms"
    assert str(found._replace(own=True)) == "192.0.2.1: ICMP host unreachable, sent by this server itself after 7 ms"


class ErrorQueue:
    """Stands for a socket with an entry in its error queue: struct sock_extended_err, then the sender's sockaddr."""

    def __init__(self, origin: int, icmp_type: int, code: int, sender: str) -> None:
        family = socket.AF_INET6 if ":" in sender else socket.AF_INET
        before = b"\0" * (6 if family == socket.AF_INET6 else 2)
        self.content = struct.pack("=IBBBBII", 113, origin, icmp_type, code, 0, 0, 0)
        self.content += struct.pack("=H", family) + before + socket.inet_pton(family, sender) + b"\0" * 8

    def recvmsg(self, *_arguments: int) -> t.Tuple[bytes, t.List[t.Tuple[int, int, bytes]], int, None]:
        return b"", [(0, 25 if len(self.content) > 36 else 11, self.content)], 0, None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (ErrorQueue(2, 3, 13, "198.51.100.1"), ("198.51.100.1", "communication administratively prohibited")),
        (ErrorQueue(2, 3, 250, "198.51.100.1"), ("198.51.100.1", "type 3 code 250")),
        (ErrorQueue(3, 1, 4, "2001:db8::7"), ("2001:db8::7", "port unreachable")),
        (ErrorQueue(1, 0, 0, "198.51.100.1"), ("", "")),
    ],
    ids=["IPv4", "a new code", "IPv6", "not by ICMP"],
)
def test_the_entry_of_the_error_queue_is_read(entry: t.Any, expected: t.Tuple[str, str]) -> None:
    assert refusal.error_queue(entry) == expected


def test_ipv6_is_asked_in_its_own_way() -> None:
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        found = refusal.ask(Address(socket.AF_INET6, ("::1", sock.getsockname()[1], 0, 0)), Deadline(2))

    assert found is not None and found.address == "::1" and found.by == ""
