# SPDX-License-Identifier: GPL-3.0-or-later
"""How each kind of block looks to connect(2): the table that the blame rests on, asked of this kernel."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "_support"))

import namespace  # noqa: E402  (needs the path set above)

pytestmark = pytest.mark.skipif(not namespace.available(), reason="needs root and nft")

#: Port: what a rule of this host does to it.
LOCAL = {
    2001: "drop",
    2002: "reject with tcp reset",
    2003: "reject with icmpx type port-unreachable",
    2004: "reject with icmpx type admin-prohibited",
    2005: "reject with icmpx type host-unreachable",
    2006: "reject with icmpx type no-route",
}
#: Port: what a rule of the neighbour does to it.
FAR = {
    2011: "drop",
    2012: "reject with icmpx type admin-prohibited",
    2013: "reject with tcp reset",
}
CLOSED, OPEN = 2020, 2021
ROUTES = {
    "prohibit": ("198.51.100.1", "2001:db8:1::1"),
    "blackhole": ("198.51.100.2", "2001:db8:1::2"),
    "unreachable": ("198.51.100.3", "2001:db8:1::3"),
}
NOWHERE = ("203.0.113.1", "2001:db8:2::1")

SCRIPT = f"""
import json, subprocess
from ansible_collections.outpost.smtp.plugins.module_utils._egress import probe
ROUTES, NOWHERE = {ROUTES!r}, {NOWHERE!r}
for kind, addresses in ROUTES.items():
    for address in addresses:
        subprocess.run(["ip", "route", "add", kind, address], check=True)
tries = [probe.Try(address, port, 8) for port in {[*LOCAL, *FAR, CLOSED, OPEN]!r} for address in {(namespace.FAR, namespace.FAR6)!r}]
tries += [probe.Try(address, 25, 8) for addresses in [*ROUTES.values(), NOWHERE] for address in addresses]
found = probe.connect(tries, 2.5)
routes = {{address: probe.route(address) for addresses in [*ROUTES.values(), NOWHERE] for address in addresses}}
print(json.dumps([[f"{{one.address}} {{one.port}}", outcome.word, outcome.ms] for one, outcome in zip(tries, found)] + [["routes", routes, 0]]))
"""


@pytest.fixture(scope="module")
def seen() -> t.Dict[str, t.Tuple[t.Any, int]]:
    rules = "\n".join(f"tcp dport {port} {verdict}" for port, verdict in LOCAL.items())
    far_rules = "\n".join(f"tcp dport {port} {verdict}" for port, verdict in FAR.items())
    local = f"table inet guard {{\n chain output {{\n type filter hook output priority 0\n {rules}\n }}\n}}"
    far = f"table inet far {{\n chain input {{\n type filter hook input priority 0\n {far_rules}\n }}\n}}"
    found = namespace.run_beside([*LOCAL, *FAR, OPEN], local, SCRIPT, far)
    return {what: (word, ms) for what, word, ms in found}


@pytest.mark.parametrize(
    ("port", "ipv4", "ipv6"),
    [
        (2001, "timeout", "timeout"),
        (2002, "refused", "refused"),
        (2003, "refused", "refused"),
        (2004, "host_unreachable", "access_denied"),
        (2005, "host_unreachable", "host_unreachable"),
        (2006, "net_unreachable", "net_unreachable"),
        (2011, "timeout", "timeout"),
        (2012, "host_unreachable", "access_denied"),
        (2013, "refused", "refused"),
        (CLOSED, "refused", "refused"),
        (OPEN, "reached", "reached"),
    ],
)
def test_what_a_rule_looks_like(seen: t.Dict[str, t.Tuple[t.Any, int]], port: int, ipv4: str, ipv6: str) -> None:
    assert (seen[f"{namespace.FAR} {port}"][0], seen[f"{namespace.FAR6} {port}"][0]) == (ipv4, ipv6)


def test_only_a_reset_refuses_at_once_on_both_families(seen: t.Dict[str, t.Tuple[t.Any, int]]) -> None:
    """So the guard rejects with a reset: after an ICMPv6 error, connect(2) goes on until the next SYN, a second later."""
    assert all(seen[f"{address} 2002"][1] < 100 for address in (namespace.FAR, namespace.FAR6))
    assert seen[f"{namespace.FAR} 2003"][1] < 100 and seen[f"{namespace.FAR6} 2003"][1] > 500


@pytest.mark.parametrize(
    ("kind", "ipv4", "ipv6"),
    [
        ("prohibit", "access_denied", "access_denied"),
        ("blackhole", "invalid", "invalid"),
        ("unreachable", "host_unreachable", "host_unreachable"),
        ("", "net_unreachable", "net_unreachable"),
    ],
)
def test_what_a_route_looks_like(seen: t.Dict[str, t.Tuple[t.Any, int]], kind: str, ipv4: str, ipv6: str) -> None:
    """And a UDP socket, which sends nothing, is told the same."""
    addresses = ROUTES.get(kind, NOWHERE)
    assert [seen[f"{address} 25"][0] for address in addresses] == [ipv4, ipv6]
    assert all(seen["routes"][0][address] for address in addresses)
