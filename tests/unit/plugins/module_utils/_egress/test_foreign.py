# SPDX-License-Identifier: GPL-3.0-or-later
"""What foreign rules do to a SYN, on expressions as nft 0.9.8 to 1.1.3 list them."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import foreign
from ansible_collections.outpost.smtp.plugins.module_utils._egress.foreign import PASS, STOP, UNKNOWN, Syn

V4 = Syn("192.0.2.10", 465, ("postfix", 101))
V6 = Syn("2001:db8::10", 465, ("postfix", 101))

ACCEPT: t.Dict[str, t.Any] = {"accept": None}
DROP: t.Dict[str, t.Any] = {"drop": None}
REJECT: t.Dict[str, t.Any] = {"reject": {"type": "tcp reset"}}
RETURN: t.Dict[str, t.Any] = {"return": None}
LIMIT: t.Dict[str, t.Any] = {"limit": {"rate": 1, "per": "second"}}


def match(left: t.Dict[str, t.Any], right: t.Any, op: str = "==") -> t.Dict[str, t.Any]:
    return {"match": {"op": op, "left": left, "right": right}}


def payload(protocol: str, field: str, right: t.Any, op: str = "==") -> t.Dict[str, t.Any]:
    return match({"payload": {"protocol": protocol, "field": field}}, right, op)


def meta(key: str, right: t.Any, op: str = "==") -> t.Dict[str, t.Any]:
    return match({"meta": {"key": key}}, right, op)


def state(right: t.Any, op: str = "in") -> t.Dict[str, t.Any]:
    return match({"ct": {"key": "state"}}, right, op)


def flags(mask: t.Any, right: t.Any, op: str = "==") -> t.Dict[str, t.Any]:
    return match({"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, mask]}, right, op)


DPORT = payload("tcp", "dport", 465)
SYN_FLAGS = ["fin", "syn", "rst", "ack"]


def outcome(
    *rules: t.List[t.Dict[str, t.Any]], packet: Syn = V4, policy: str = "drop", family: str = "inet", **chains: t.List[t.List[t.Dict[str, t.Any]]]
) -> str:
    base = {"family": family, "table": "filter", "name": "output", "type": "filter", "hook": "output", "policy": policy}
    table = [
        {"rule": {"chain": chain, "handle": handle, "expr": expr}}
        for chain, listed in {"output": list(rules), **chains}.items()
        for handle, expr in enumerate(listed)
    ]
    return foreign.verdict(base, [{"metainfo": {}}, {"chain": base}, *table], packet).outcome


def test_without_rules_the_policy_decides() -> None:
    assert outcome() == STOP
    assert outcome(policy="accept") == PASS


@pytest.mark.parametrize(
    "expression",
    [
        DPORT,
        payload("tcp", "dport", {"set": [22, 465]}),
        payload("tcp", "dport", {"set": [22, {"range": [400, 500]}]}),
        payload("tcp", "dport", {"range": [465, 465]}),
        payload("tcp", "dport", 25, "!="),
        payload("th", "dport", 465),
        payload("ip", "daddr", "192.0.2.10"),
        payload("ip", "daddr", {"prefix": {"addr": "192.0.2.0", "len": 24}}),
        payload("ip", "daddr", {"range": ["192.0.2.1", "192.0.2.20"]}),
        payload("ip", "daddr", {"set": ["198.51.100.1", {"prefix": {"addr": "192.0.2.0", "len": 28}}]}),
        payload("ip", "daddr", {"set": [{"elem": {"val": "192.0.2.10", "comment": "x"}}]}),
        payload("ip", "protocol", "tcp"),
        meta("l4proto", "tcp"),
        meta("l4proto", 6),
        meta("nfproto", "ipv4"),
        meta("skuid", "postfix"),
        meta("skuid", {"set": [0, 101]}),
        meta("oifname", "lo", "!="),
        state(["new", "established"]),
        state("new"),
        state({"set": ["new", "untracked"]}),
        flags(SYN_FLAGS, "syn"),
        flags({"|": SYN_FLAGS}, "syn"),
        flags({"|": [{"|": [{"|": ["fin", "syn"]}, "rst"]}, "ack"]}, "syn"),
        flags("ack", "ack", "!="),
        flags(["syn", "ack"], ["syn", "ack"], "!="),
    ],
)
def test_a_rule_that_matches_for_certain(expression: t.Dict[str, t.Any]) -> None:
    assert outcome([expression, {"counter": {"packets": 1, "bytes": 2}}, {"log": {"prefix": "x"}}, ACCEPT]) == PASS
    assert outcome([expression, REJECT], policy="accept") == STOP


@pytest.mark.parametrize(
    "expression",
    [
        payload("tcp", "dport", 22),
        payload("tcp", "dport", {"set": [25, {"range": [500, 600]}]}),
        payload("tcp", "dport", 465, "!="),
        payload("udp", "dport", 465),
        payload("udp", "dport", 53, "!="),
        payload("icmp", "type", "echo-request"),
        payload("ip", "daddr", "192.0.2.11"),
        payload("ip", "daddr", {"prefix": {"addr": "192.0.2.128", "len": 25}}),
        payload("ip6", "daddr", "2001:db8::10"),
        meta("l4proto", {"set": ["udp", "icmp"]}),
        meta("skuid", 0),
        meta("skuid", "postfix", "!="),
        meta("oifname", "lo"),
        state(["established", "related"]),
        state("new", "!="),
        flags(SYN_FLAGS, "syn", "!="),
        flags(["fin", "syn"], ["fin", "syn"]),
    ],
)
def test_a_rule_that_does_not_match(expression: t.Dict[str, t.Any]) -> None:
    assert outcome([expression, ACCEPT]) == STOP
    assert outcome([expression, DROP], policy="accept") == PASS


@pytest.mark.parametrize(
    "expression",
    [
        payload("ip", "daddr", "@relays"),
        payload("ip", "daddr", {"set": ["198.51.100.1", "@more"]}),
        payload("ip", "saddr", "198.51.100.2"),
        payload("tcp", "sport", 1024),
        payload("tcp", "dport", 1024, "<"),
        meta("mark", 1),
        meta("oifname", "eth0"),
        match({"ct": {"key": "mark"}}, 1),
        flags(2, 2),
        flags([*SYN_FLAGS, "cwr"], "syn"),
        match({"concat": [{"meta": {"key": "l4proto"}}]}, {"set": []}),
        LIMIT,
        {"xt": None},
        {"xt": {"type": "match", "name": "conntrack"}},
        {"ct count": {"val": 20, "inv": True}},
        {"quota": {"val": 10, "val_unit": "mbytes", "inv": True}},
        {"set": {"op": "add", "elem": {"payload": {"protocol": "ip", "field": "daddr"}}, "set": "@s", "stmt": [{**LIMIT}]}},
    ],
)
def test_a_rule_that_can_not_be_judged_leaves_doubt_only_where_it_matters(expression: t.Dict[str, t.Any]) -> None:
    assert outcome([expression, ACCEPT]) == UNKNOWN
    assert outcome([expression, ACCEPT], policy="accept") == PASS
    assert outcome([expression, DROP]) == STOP
    assert outcome([expression, DROP], policy="accept") == UNKNOWN
    assert outcome([DPORT, ACCEPT], [expression, DROP]) == PASS


def test_where_the_user_is_not_known_a_rule_about_users_leaves_doubt() -> None:
    anybody = V4._replace(users=())
    assert outcome([meta("skuid", "postfix"), ACCEPT], packet=anybody) == UNKNOWN
    assert outcome([meta("skuid", "postfix"), DROP], policy="accept", packet=anybody) == UNKNOWN


@pytest.mark.parametrize(
    ("way", "addresses"),
    [
        ((4, "192.0.2.10", 465), ["192.0.2.10"]),
        ((4, "192.0.2.0/24", 465), ["192.0.2.0", "192.0.2.255"]),
        ((6, "2001:db8::/64", 465), ["2001:db8::", "2001:db8::ffff:ffff:ffff:ffff"]),
        ((4, "", 465), ["198.51.100.1"]),
        ((6, "", 465), ["2001:db8::1"]),
    ],
)
def test_packets_that_stand_for_a_network(way: t.Tuple[int, str, int], addresses: t.List[str]) -> None:
    assert foreign.samples(*way) == [Syn(address, 465, ()) for address in addresses]


def test_an_unknown_verdict_and_a_queue_leave_doubt() -> None:
    assert outcome([{"queue": {"num": 0}}]) == UNKNOWN
    assert outcome([{"xt": None}], policy="accept") == UNKNOWN  # iptables' REJECT is listed like this
    assert outcome([{"xt": {"type": "target", "name": "REJECT"}}], policy="accept") == UNKNOWN
    assert outcome([payload("tcp", "dport", 22), {"xt": None}], policy="accept") == PASS


def test_jumps_are_followed_and_return() -> None:
    assert outcome([{"jump": {"target": "mail"}}], mail=[[DPORT, ACCEPT]]) == PASS
    assert outcome([{"jump": {"target": "mail"}}], [DPORT, ACCEPT], mail=[[RETURN], [DROP]]) == PASS
    assert outcome([{"jump": {"target": "mail"}}], [DPORT, ACCEPT], mail=[]) == PASS
    assert outcome([{"goto": {"target": "mail"}}], [DPORT, ACCEPT], mail=[]) == STOP
    assert outcome([LIMIT, {"jump": {"target": "mail"}}], mail=[[DPORT, ACCEPT]]) == UNKNOWN
    assert outcome([{"jump": {"target": "mail"}}], mail=[[LIMIT, RETURN], [ACCEPT]]) == UNKNOWN


def test_a_loop_of_jumps_ends() -> None:
    assert outcome([{"jump": {"target": "output"}}]) == UNKNOWN


def test_verdict_maps() -> None:
    states = {"key": {"ct": {"key": "state"}}, "data": {"set": [["established", ACCEPT], ["invalid", DROP], ["new", {"jump": {"target": "new"}}]]}}
    assert outcome([{"vmap": states}], new=[[DPORT, ACCEPT]]) == PASS
    assert outcome([{"vmap": states}], policy="accept", new=[[DPORT, DROP]]) == STOP
    assert outcome([{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["invalid", DROP]]}}}], policy="accept") == PASS
    assert outcome([{"vmap": {"key": {"meta": {"key": "mark"}}, "data": {"set": [[1, DROP]]}}}], policy="accept") == UNKNOWN
    assert outcome([{"vmap": {"key": {"ct": {"key": "state"}}, "data": "@states"}}], policy="accept") == UNKNOWN


@pytest.mark.parametrize(
    ("family", "packet", "expected"),
    [("ip", V6, PASS), ("ip6", V4, PASS), ("ip", V4, STOP), ("ip6", V6, STOP), ("inet", V6, STOP)],
)
def test_a_chain_of_one_family_does_not_see_the_other(family: str, packet: Syn, expected: str) -> None:
    assert outcome(family=family, packet=packet) == expected


def chain(name: str, table: str = "filter", family: str = "inet", **base: t.Any) -> t.Dict[str, t.Any]:
    return {"family": family, "table": table, "name": name, **base}


def test_only_foreign_filters_on_the_way_out_are_looked_at() -> None:
    wanted = [
        chain("a", type="filter", hook="output"),
        chain("b", type="route", hook="output", family="ip"),
        chain("c", type="filter", hook="postrouting", family="ip6"),
        chain("d", table="outpost_smtp", type="filter", hook="output", family="ip"),
    ]
    others = [
        chain("e"),
        chain("f", type="filter", hook="input"),
        chain("g", type="nat", hook="output"),
        chain("h", type="filter", hook="output", family="bridge"),
        chain("i", table="outpost_smtp", type="filter", hook="output"),
    ]
    assert foreign.output_chains(wanted + others) == wanted


@pytest.mark.parametrize(
    ("chains", "expected"),
    [
        ([], "nftables"),
        ([chain("output")], "nftables"),
        ([chain("OUTPUT", family="ip")], "iptables"),
        ([chain("POSTROUTING", table="mangle", family="ip6")], "iptables"),
        ([chain("OUTPUT", table="netavark")], "nftables"),
        ([chain("output", family="ip")], "nftables"),
        ([chain("OUTPUT", family="ip"), chain("ufw-before-output", family="ip")], "ufw"),
        ([chain("OUTPUT", family="ip6"), chain("ufw6-before-output", family="ip6")], "ufw"),
        ([chain("OUTPUT", family="ip"), chain("filter_OUTPUT", table="firewalld")], "firewalld"),
    ],
)
def test_the_manager_is_told_by_its_chains(chains: t.List[t.Dict[str, t.Any]], expected: str) -> None:
    assert foreign.manager(chains) == expected
