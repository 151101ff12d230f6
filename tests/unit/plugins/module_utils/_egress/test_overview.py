# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a host: with real rules, by root and by somebody who may read little."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "_support"))

import namespace  # noqa: E402  (needs the path set above)

pytestmark = pytest.mark.skipif(not namespace.available(), reason="needs root and nft")

GUARD = namespace.guard(65534)
SCRIPT = """
import json, os, tempfile
from ansible_collections.outpost.smtp.plugins.module_utils._egress import command, files, nft, overview, own_table, state
from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import Relay

root = tempfile.mkdtemp()
os.chmod(root, 0o755)
if REMEMBERED:
    listed = nft.Nft(nft.find(), command.run).own_table()
    known = {"smtp.example.invalid": {"ipv4": {FAR: None}, "ipv6": {}}}
    state.save(state.State(known, nft.normalised(listed)), root)
    files.write(root + own_table.RULES_PATH, "table inet outpost_smtp {\\n\\tchain smtp {\\n\\t\\ttcp dport 25 reject\\n\\t}\\n}\\n")

def run(arguments, text):
    if arguments[0] == "journalctl":
        return 0, "1795470000.0 host kernel: outpost-smtp refused: DST=192.0.2.9 DPT=25 UID=33\\n", ""
    return command.run(arguments, text)

if UID:
    os.setgroups([]); os.setgid(UID); os.setuid(UID)
hosts = [(FAR, 587), (FAR, 465), ("smtp.example.invalid", 587), ("lost.example.invalid", 587)]
relays = [Relay(host, host, port) for host, port in hosts]
print(json.dumps(overview.Overview(run, root).facts(relays, "nobody", 1)))
"""


def facts(rules: str = GUARD, uid: int = 0, remembered: bool = True) -> t.Dict[str, t.Any]:
    script = SCRIPT.replace("FAR", repr(namespace.FAR)).replace("REMEMBERED", repr(remembered))
    script = script.replace("if UID:", f"if {uid}:").replace("(UID)", f"({uid})")
    return t.cast("t.Dict[str, t.Any]", namespace.run_beside([587, 465], rules, script))


@pytest.fixture(scope="module")
def seen() -> t.Dict[str, t.Any]:
    return facts()


def test_the_rules_are_told(seen: t.Dict[str, t.Any]) -> None:
    assert seen["loaded"] and seen["in_force"] and not seen["persistent"]
    assert seen["rules"] == ["smtp: tcp dport 25 reject"] and seen["manager"] == "nftables" and seen["opened"] == []
    assert set(seen["counters"]) >= {"accepted", "refused"}
    assert seen["addresses"] == {"smtp.example.invalid": {"ipv4": [namespace.FAR], "ipv6": []}}


def test_who_was_refused_is_told(seen: t.Dict[str, t.Any]) -> None:
    assert [(entry["uid"], entry["destinations"]) for entry in seen["refused"]] == [(33, ["192.0.2.9 port 25"])]


def test_what_stops_each_relay_is_told(seen: t.Dict[str, t.Any]) -> None:
    """A name that can not be resolved now stands for its last good addresses, as in the rules."""
    first, second, named, lost = seen["relays"]

    assert first["blocked_by"] is None and first["addresses"] == [namespace.FAR]
    assert second["blocked_by"]["cause"] == "own_table"
    assert named["addresses"] == [namespace.FAR] and named["blocked_by"] is None
    assert lost["addresses"] == [] and lost["blocked_by"] is None


def test_a_host_without_our_rules() -> None:
    found = facts("", remembered=False)

    assert not found["loaded"] and not found["in_force"] and found["rules"] == [] and found["counters"] == {} and found["addresses"] == {}


def test_rules_that_somebody_has_changed_are_not_in_force() -> None:
    found = facts(remembered=False)

    assert found["loaded"] and not found["in_force"]


def test_a_plain_user_is_told_what_he_may_know() -> None:
    """Nobody but root may list rules. The relay is tried all the same, by that user."""
    found = facts(uid=33)

    assert found["loaded"] is found["in_force"] is found["manager"] is None
    assert len(set(found["unreadable"])) == len(found["unreadable"])
    assert any("CAP_NET_ADMIN" in reason for reason in found["unreadable"]) and any("only root can try" in reason for reason in found["unreadable"])
    blocked_by = found["relays"][0]["blocked_by"]
    assert blocked_by["cause"] == "relay_refused" and "could not be read" in blocked_by["detail"]
