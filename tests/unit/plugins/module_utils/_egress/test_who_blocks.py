# SPDX-License-Identifier: GPL-3.0-or-later
"""Real rules in a network of their own: which of them is named for a connection that it stops, and which never is."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
import typing as t
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "_support"))

import namespace  # noqa: E402  (needs the path set above)

from ansible_collections.outpost.smtp.plugins.module_utils._egress import nft, probe, who_blocks  # noqa: E402

real = pytest.mark.skipif(not namespace.available(), reason="needs root and nft")

RULES = """
table inet guard {
    set mail {
        type inet_service
        elements = { 29 }
    }
    chain input {
        type filter hook input priority 0
        tcp dport 32 counter drop
    }
    chain aside {
        tcp dport 31 counter drop
    }
    chain output {
        type filter hook output priority 0
        tcp dport 25 reject
        tcp dport 26 counter drop
        tcp dport 28 reject with tcp reset
        tcp dport @mail counter drop
        tcp dport 30 limit rate 100/second drop
        tcp dport 33 counter accept
        meta skuid 8 tcp dport 587 drop
        tcp dport { 30, 31 } jump aside
    }
}
"""
SMTP_EGRESS = """
table inet outpost_smtp {
    counter accepted {
    }
    counter refused {
    }
    chain managed_by_outpost_smtp {
    }
    chain output {
        type filter hook output priority 60; policy accept
        tcp flags & (fin | syn | rst | ack) == syn jump smtp
    }
    chain smtp {
        ip daddr { 192.0.2.2 } tcp dport 587 meta skuid 8 counter name "accepted" accept
        tcp dport { 25, 465, 587 } counter name "refused" reject with tcp reset
    }
}
"""
TWO_CHAINS = """
table inet guard {
    chain late {
        type filter hook output priority 10
        tcp dport 25 drop
    }
    chain early {
        type filter hook output priority -10
        tcp dport 25 reject
    }
}
"""
DEFAULT_DENY = """
table ip filter {
    chain OUTPUT {
        type filter hook output priority 0; policy drop
        tcp dport 587 accept
    }
}
"""
SCRIPT = """
import json
from ansible_collections.outpost.smtp.plugins.module_utils._egress import who_blocks
print(json.dumps([who_blocks.explain(*question) for question in QUESTIONS]))
"""
FAR = [namespace.FAR]


def explain(rules: str, *questions: t.Tuple[t.Any, ...]) -> t.List[t.List[str]]:
    return t.cast("t.List[t.List[str]]", namespace.run(rules, SCRIPT.replace("QUESTIONS", repr(questions))))


@real
@pytest.mark.parametrize(
    ("port", "rule", "chain", "counted"),
    [
        (25, "tcp dport 25 reject", "output", False),
        (26, "tcp dport 26 counter drop", "output", True),
        (28, "tcp dport 28 reject with tcp reset", "output", False),
        (29, "tcp dport @mail counter drop", "output", True),
        (31, "tcp dport 31 counter drop", "aside", True),
    ],
    ids=["reject", "drop", "reset", "named set", "in another chain"],
)
def test_the_rule_that_stops_the_packet_is_named(port: int, rule: str, chain: str, counted: bool) -> None:
    ((found,),) = explain(RULES, (FAR, port))

    assert found.startswith(f"rule '{rule}' (handle ") and f"in chain 'inet guard {chain}' of nftables" in found
    assert found.endswith("its counter counted the packet") is counted


@real
def test_what_can_not_be_shown_is_not_claimed() -> None:
    """A limit that may match, an accept that counts, a port that no rule is about, a chain for what comes in."""
    assert explain(RULES, (FAR, 30), (FAR, 33), (FAR, 465), (FAR, 32)) == [[], [], [], []]


@real
def test_the_rule_for_one_user_stops_that_user_only() -> None:
    by_root, by_mail = explain(RULES, (FAR, 587, 0), (FAR, 587, 8))

    assert by_root == [] and "meta skuid 8 tcp dport 587 drop" in by_mail[0]


@real
def test_a_policy_is_named_by_its_chain() -> None:
    allowed, denied = explain(DEFAULT_DENY, (FAR, 587), (FAR, 465))

    assert allowed == [] and denied == ["chain 'ip filter OUTPUT' of iptables: its policy is drop"]


@real
def test_the_table_of_smtp_egress_is_named() -> None:
    mail_user, root, elsewhere = explain(SMTP_EGRESS, (FAR, 587, 8), (FAR, 587, 0), (FAR, 2525, 0))

    assert mail_user == elsewhere == []
    assert root == ["table 'inet outpost_smtp' of smtp_egress, which refuses this user; its counter 'refused' counted the packet"]


@real
def test_a_table_that_only_has_its_name_is_not_ours() -> None:
    """Without the chain that marks it."""
    foreign = SMTP_EGRESS.replace("    chain managed_by_outpost_smtp {\n    }\n", "")
    (found,) = explain(foreign, (FAR, 587, 0))

    assert "managed_by" not in foreign and not any("smtp_egress" in line for line in found)


@real
def test_what_the_packet_meets_first_is_told_first() -> None:
    (found,) = explain(TWO_CHAINS, (FAR, 25))

    assert [line.partition("chain ")[2].split("'")[1] for line in found] == ["inet guard early", "inet guard late"]


@real
def test_a_host_without_rules_has_nothing_to_say() -> None:
    assert explain("", (FAR, 587), (["127.0.0.1"], 587), ([], 587)) == [[], [], []]


@real
def test_asking_changes_no_rule() -> None:
    script = """
import json, subprocess
from ansible_collections.outpost.smtp.plugins.module_utils._egress import who_blocks
def rules():
    return subprocess.run(["nft", "--stateless", "list", "ruleset"], stdout=subprocess.PIPE, check=True).stdout.decode()
before = rules()
who_blocks.explain(["192.0.2.2"], 26)
print(json.dumps([before == rules(), "guard" in before]))
"""
    assert namespace.run(RULES, script) == [True, True]


@real
def test_without_the_privilege_nothing_is_told() -> None:
    script = SCRIPT.replace("print", "import os; os.setgid(65534); os.setuid(65534)\nprint").replace("QUESTIONS", "[(['192.0.2.2'], 26)]")
    assert namespace.run(RULES, script) == [[]]


def test_without_nft_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "find", lambda: None)
    assert who_blocks.explain(FAR, 587) == []


@pytest.mark.parametrize("body", ["exec sleep 60", "kill -SEGV $$", "echo no JSON"], ids=["hangs", "crashes", "talks"])
def test_an_nft_that_misbehaves_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str) -> None:
    fake = tmp_path / "nft"
    fake.write_text(f"#!/bin/sh\n{body}\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(nft, "find", lambda: str(fake))
    monkeypatch.setattr(who_blocks, "DEADLINE", 0.5)
    started = time.monotonic()

    assert who_blocks.explain(FAR, 587) == []
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("verdict", [{"drop": None}, {"xt": {"type": "target", "name": "REJECT"}}], ids=["nftables", "iptables"])
def test_a_counter_that_others_move_meanwhile_names_no_rule(monkeypatch: pytest.MonkeyPatch, verdict: t.Dict[str, t.Any]) -> None:
    """The chain for what comes in, and one that it leads to, count all the time, and stand in the same table."""
    packets = {"input": 5, "aside": 5, "output": 5}

    def run(command: t.Sequence[str], _text: str) -> t.Tuple[int, str, str]:
        if "outpost_smtp" in command:
            return 1, "", "Error: No such file or directory"
        chains = [dict(_CHAIN, name=name, hook=name, handle=handle) for handle, name in ((1, "input"), (2, "output"))]
        rules = [
            dict(_CHAIN, chain=name, handle=7, expr=[{"match": _UNKNOWN}, {"counter": {"packets": packets[name], "bytes": 0}}, verdict])
            for name in packets
        ]
        rules.append(dict(_CHAIN, chain="input", handle=8, expr=[{"jump": {"target": "aside"}}]))
        listed = [{"chain": chain} for chain in chains] + ([{"rule": rule} for rule in rules] if {"table", "ruleset"}.intersection(command) else [])
        return (0, "", "") if "--handle" in command else (0, json.dumps({"nftables": listed}), "")

    def explain_while_moving(chain: str) -> t.List[str]:
        monkeypatch.setattr(probe, "send_syn", lambda *_packet: packets.__setitem__(chain, packets[chain] + 1))
        return who_blocks.explain(FAR, 587, run=run)

    monkeypatch.setattr(nft, "find", lambda: "nft")
    monkeypatch.setattr(probe, "outside", lambda _address: True)

    assert explain_while_moving("input") == explain_while_moving("aside") == []
    assert [line.split(")")[0] for line in explain_while_moving("output")] == ["rule '' (handle 7"]


_CHAIN = {"family": "inet", "table": "guard", "type": "filter", "prio": 0}
_UNKNOWN = {"op": "==", "left": {"meta": {"key": "mark"}}, "right": 1}


def test_a_user_who_does_not_exist_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: t.List[t.Tuple[str, int, int]] = []
    listing = '{"nftables": [{"chain": {"family": "ip", "table": "f", "name": "o", "handle": 1, "hook": "output", "type": "filter", "prio": 0}}]}'
    monkeypatch.setattr(nft, "find", lambda: "nft")
    monkeypatch.setattr(probe, "outside", lambda _address: True)

    def send(address: str, port: int, uid: int) -> None:
        sent.append((address, port, uid))
        raise KeyError(uid)

    monkeypatch.setattr(probe, "send_syn", send)
    assert who_blocks.explain(FAR, 587, 4242, run=lambda _command, _text: (0, listing, "")) == []
    assert sent == [("192.0.2.2", 587, 4242)]


def test_the_packet_of_this_user_is_sent_without_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    probe.send_syn("127.0.0.1", 9, os.geteuid())
