# SPDX-License-Identifier: GPL-3.0-or-later
"""Proof by packet, with real rules and a real neighbour in networks of their own."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "_support"))

import namespace  # noqa: E402  (needs the path set above)

from ansible_collections.outpost.smtp.plugins.module_utils._egress import proof  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._egress.proof import Proof  # noqa: E402

real = pytest.mark.skipif(not namespace.available(), reason="needs root and nft")

GUARD = namespace.guard(8)
SCRIPT = """
import json, subprocess
from ansible_collections.outpost.smtp.plugins.module_utils._egress import proof
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Way

def counters():
    listed = json.loads(subprocess.run(["nft", "-j", "list", "counters"], capture_output=True, check=True).stdout)["nftables"]
    return {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listed if "counter" in entry}

ways = [Way.to(network, port) for network, port in WAYS]
print(json.dumps([list(found) for found in proof.prove(ways, 8, GUARDED, 2, counters)]))
"""
BOTH = [(namespace.FAR, 587), (namespace.FAR6, 587)]


def prove(
    rules: str, ways: t.Sequence[t.Tuple[str, int]], guarded: bool = True, listening: t.Sequence[int] = (587, 2525), far_rules: str = ""
) -> t.List[Proof]:
    script = SCRIPT.replace("WAYS", repr(ways)).replace("GUARDED", repr(guarded))
    return [Proof(*found) for found in namespace.run_beside(listening, rules, script, far_rules)]


def facts(found: Proof) -> t.Tuple[str, str, t.Optional[bool], bool]:
    return found.mta, found.others, found.counted, found.ok


@real
def test_the_mail_server_gets_out_and_nobody_else_does() -> None:
    found = prove(GUARD, BOTH)

    assert [(entry.address, entry.port, entry.version) for entry in found] == [(namespace.FAR, 587, 4), (namespace.FAR6, 587, 6)]
    assert [facts(entry) for entry in found] == [("reached", "refused", True, True)] * 2
    assert all(entry.others_ms < 100 for entry in found)


@real
def test_without_the_guard_no_other_user_is_tried() -> None:
    assert [facts(entry) for entry in prove("", BOTH, guarded=False)] == [("reached", "", None, True)] * 2


@real
def test_who_is_let_out_although_the_guard_is_on_is_seen() -> None:
    assert [facts(entry) for entry in prove("", BOTH)] == [("reached", "reached", False, False)] * 2


@real
def test_a_refusal_that_our_table_did_not_count_is_not_ours() -> None:
    """The user of the mail server gets out past a rule of somebody else, which says nothing about our own."""
    other = "table inet other { chain output { type filter hook output priority 0\n meta skuid != 8 tcp dport 587 reject with tcp reset\n }\n }"

    assert [facts(entry) for entry in prove(GUARD + other, BOTH)] == [("reached", "refused", False, False)] * 2


@real
def test_each_address_is_judged_by_itself() -> None:
    """Packets over IPv6 are stopped before our table sees them; that IPv4's are counted does not hide it."""
    other = "table ip6 other { chain output { type filter hook output priority 0\n tcp dport 587 reject with tcp reset\n }\n }"
    ipv4, ipv6 = prove(GUARD + other, BOTH)

    assert facts(ipv4) == ("reached", "refused", True, True) and facts(ipv6) == ("refused", "refused", False, False)


@real
def test_a_relay_that_is_silent_is_waited_for_once() -> None:
    silent = "table inet far { chain input { type filter hook input priority 0\n tcp dport 587 drop\n }\n }"
    found = prove(GUARD, BOTH, far_rules=silent)

    assert [facts(entry) for entry in found] == [("timeout", "refused", True, False)] * 2
    assert all(1900 <= entry.mta_ms < 3500 for entry in found)


@real
def test_a_relay_on_another_port_is_not_kept_from_others() -> None:
    assert [facts(entry) for entry in prove(GUARD, [(namespace.FAR, 2525)])] == [("reached", "", None, True)]


@real
def test_what_can_not_be_tried_is_not_tried() -> None:
    """A network is no address, and an address without a route is missed by nobody."""
    found = prove(GUARD, [("198.51.100.0/24", 587), ("198.51.100.1", 587), (namespace.FAR, 587)])

    assert [facts(entry) for entry in found] == [("no_route", "", None, True), ("reached", "refused", True, True)]


def test_the_other_user_is_one_whom_the_guard_keeps_out() -> None:
    assert proof.other_than([101, 0]) == proof.NOBODY and proof.other_than([proof.NOBODY, 65533]) == 65532
