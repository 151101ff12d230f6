# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Whether somebody else's rules stop the mail that ours let pass.

An accept in one table does not undo a drop in another, so every base chain on a packet's way out must let it pass. The
chains of other tables are only read. What their rules do to the first packet (SYN) of a connection to a relay is worked
out from nft's JSON listing, libnftables-json(5), with three answers: it passes, it is stopped, or it can not be told (a
named set, a rate limit, a match of iptables' own).
"""

from __future__ import annotations

import ipaddress
import math
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Json
from ansible_collections.outpost.smtp.plugins.module_utils._egress.ruleset import FAMILY, TABLE

PASS, STOP, UNKNOWN = "pass", "stop", "unknown"
#: firewalld's own, and the one by which it drops everything new while it reloads, and stays so where that fails.
FIREWALLD_TABLES = ("firewalld", "firewalld_policy_drop")
#: How the names of ufw's chains begin, for IPv4 and IPv6.
UFW_CHAINS = ("ufw-", "ufw6-")
#: Rules nested deeper than this are not followed; the kernel's own limit is 16 jumps.
_DEPTH = 16


class Syn(t.NamedTuple):
    """The first packet of a connection from this host. ``users`` are the names of its sender: user id and login name; none if any user."""

    address: str
    port: int
    users: t.Tuple[t.Union[int, str], ...]

    @property
    def version(self) -> int:
        return ipaddress.ip_address(self.address).version


#: Addresses that nobody has (RFC 5737, RFC 3849): what rules do to them, they do to any address.
_ANYBODY = {4: "198.51.100.1", 6: "2001:db8::1"}


def samples(version: int, network: str, port: int) -> t.List[Syn]:
    """Packets of any user that stand for all those to `port` of a network: to its first and its last address. "" is any address."""
    if not network:
        return [Syn(_ANYBODY[version], port, ())]
    parsed = ipaddress.ip_network(network)
    return [Syn(str(address), port, ()) for address in dict.fromkeys((parsed[0], parsed[-1]))]


class Verdict(t.NamedTuple):
    """What a base chain does to a packet, and by which rule or policy."""

    outcome: str
    why: str


def output_chains(chains: t.Iterable[Json]) -> t.List[Json]:
    """The base chains other than ours that a packet from this host must pass: filters, of the families that see IP."""
    return [
        chain
        for chain in chains
        if chain.get("hook") in ("output", "postrouting")
        and chain.get("type") in ("filter", "route")
        and chain.get("family") in ("inet", "ip", "ip6")
        and (chain["family"], chain["table"]) != (FAMILY, TABLE)
    ]


def priority(chain: Json) -> float:
    """Its place among the output chains, from the first to the last; all postrouting chains come behind them."""
    return math.inf if chain["hook"] == "postrouting" else int(chain["prio"])


def name(chain: Json) -> str:
    """The chain as nft commands call it, such as ``inet filter output``."""
    return f"{chain['family']} {chain['table']} {chain['name']}"


def manager(chains: t.Iterable[Json]) -> str:
    """Who keeps the firewall of this host, told by the names of its chains: firewalld, ufw, iptables, else nftables."""
    found = list(chains)
    if any(chain["table"] in FIREWALLD_TABLES for chain in found):
        return "firewalld"
    if any(chain["name"].startswith(UFW_CHAINS) for chain in found):
        return "ufw"
    if any(_of_iptables(chain) for chain in found):
        return "iptables"
    return "nftables"


def _of_iptables(chain: Json) -> bool:
    """Whether it is a base chain of iptables-nft, which keeps its tables by these names and its chains in capitals."""
    return (
        chain["family"] in ("ip", "ip6")
        and chain["table"] in ("filter", "mangle", "raw", "security", "nat")
        and chain["name"] in ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
    )


def verdict(base: Json, table: t.Iterable[Json], packet: Syn) -> Verdict:
    """What base chain `base`, whose table is listed in `table`, does to `packet`."""
    if base["family"] == "ip" and packet.version == 6 or base["family"] == "ip6" and packet.version == 4:
        return Verdict(PASS, "sees the other address family only")
    rules: t.Dict[str, t.List[Json]] = {}
    for entry in table:
        if "rule" in entry:
            rules.setdefault(entry["rule"]["chain"], []).append(entry["rule"])
    walk = _Walk(rules, packet)
    end = walk.chain(base["name"], 0) or Verdict(
        STOP if base.get("policy") == "drop" else PASS, f"its policy is {base.get('policy', 'accept')}"
    )
    if any(doubt.outcome != end.outcome for doubt in walk.doubts):
        return Verdict(UNKNOWN, next(doubt.why for doubt in walk.doubts if doubt.outcome != end.outcome))
    return end


#: Statements after which the packet always goes on with the rest of the rule.
_PASSING = {"counter", "log", "mangle", "notrack"}


class _Walk:
    """One packet's way through the rules of a table. ``doubts`` are the verdicts it may have met before its end."""

    def __init__(self, rules: t.Mapping[str, t.Sequence[Json]], packet: Syn) -> None:
        self.rules = rules
        self.packet = packet
        self.doubts: t.List[Verdict] = []

    def chain(self, chain: str, depth: int) -> t.Optional[Verdict]:
        """The verdict of a chain, or None where the packet leaves it without one."""
        for rule in self.rules.get(chain, ()):
            certain, statement = self._match(rule.get("expr", ()))
            if statement is None:
                continue
            found = self._statement(statement, rule, depth)
            if found is _RETURN:
                if certain:
                    return None
                self.doubts.append(Verdict(UNKNOWN, _rule_name(rule)))
            elif found is not None and certain:
                return found
            elif found is not None:
                self.doubts.append(found)
        return None

    def _match(self, expressions: t.Sequence[Json]) -> t.Tuple[bool, t.Optional[Json]]:
        """Whether the rule matches for certain, and its verdict statement; None for the latter where it does not apply."""
        certain = True
        target = None
        for expression in expressions:
            kind = next(iter(expression), "")
            if kind == "match":
                result = _matches(expression["match"], self.packet)
                if result is False:
                    return True, None
                certain = certain and result is True
            elif kind in ("accept", "drop", "reject", "jump", "goto", "return", "queue", "vmap"):
                return certain, expression
            elif kind == "xt":
                certain = False
                target = expression
            elif kind not in _PASSING:
                certain = False  # it may end the rule, as a limit, a quota, a count of connections or a full set does
        # Matches and targets of iptables' own are both "xt". One that ends a rule may be a target, such as REJECT.
        return certain, target

    def _statement(self, statement: Json, rule: Json, depth: int) -> t.Optional[Verdict]:
        kind, value = next(iter(statement.items()))
        if kind == "vmap":
            return self._verdict_map(value, rule, depth)
        if kind == "accept":
            return Verdict(PASS, _rule_name(rule))
        if kind in ("drop", "reject"):
            return Verdict(STOP, _rule_name(rule))
        if kind == "return":
            return _RETURN
        if kind in ("jump", "goto") and depth < _DEPTH:
            found = self.chain(value["target"], depth + 1)
            return _RETURN if kind == "goto" and found is None else found
        return None if kind == "continue" else Verdict(UNKNOWN, _rule_name(rule))

    def _verdict_map(self, vmap: Json, rule: Json, depth: int) -> t.Optional[Verdict]:
        """Such as ``ct state vmap { established : accept, invalid : drop }``."""
        pairs = vmap["data"].get("set") if isinstance(vmap.get("data"), dict) else None
        for key, statement in pairs or ():
            result = _matches({"op": "==", "left": vmap["key"], "right": key}, self.packet)
            if result is None:
                return Verdict(UNKNOWN, _rule_name(rule))
            if result:
                return self._statement(statement, rule, depth)
        return None if pairs else Verdict(UNKNOWN, _rule_name(rule))


#: The packet goes back to the calling chain.
_RETURN = Verdict("return", "")


def _rule_name(rule: Json) -> str:
    """The rule as an administrator finds it: ``nft --handle list chain`` shows the handles. The legacy iptables has none."""
    if "text" in rule:
        return f"rule '{rule['text']}'"
    return f"rule with handle {rule['handle']} in chain {rule['chain']}"


def _matches(match: Json, packet: Syn) -> t.Optional[bool]:
    """Whether one expression holds for the packet; None where it can not be told."""
    values = _values(match["left"], packet)
    if values is None:
        return _flags_match(match)
    if not values:
        return False  # the packet has no such field, such as a UDP port; nft then goes on with the next rule
    if match["op"] in ("==", "in", "!="):
        result = _member(values, match["right"])
        return (not result if match["op"] == "!=" else result) if result is not None else None
    return None


def _flags_match(match: Json) -> t.Optional[bool]:
    """``tcp flags & (fin | syn | rst | ack) == syn`` and the like, for a packet whose only flag is SYN (and those of ECN, perhaps)."""
    both = match["left"].get("&") if isinstance(match["left"], dict) else None
    if not isinstance(both, list) or both[0] != {"payload": {"protocol": "tcp", "field": "flags"}} or match["op"] not in ("==", "!="):
        return None
    looked_at, wanted = _names_of_flags(both[1]), _names_of_flags(match["right"])
    if looked_at is None or wanted is None or looked_at & {"ecn", "cwr"}:
        return None
    return (looked_at & {"syn"} == wanted) is (match["op"] == "==")


def _names_of_flags(value: t.Any) -> t.Optional[t.Set[str]]:
    """The flags of ``fin | syn``, which nft lists in three ways; None for numbers."""
    if isinstance(value, str):
        return {value}
    members = value.get("|") if isinstance(value, dict) else value
    if not isinstance(members, list):
        return None
    found: t.Set[str] = set()
    for inner in map(_names_of_flags, members):
        if inner is None:
            return None
        found |= inner
    return found


def _values(left: t.Any, packet: Syn) -> t.Optional[t.Tuple[t.Any, ...]]:
    """The packet's value for the left side of a match, in each spelling that nft may use; None if it is not known here."""
    if not isinstance(left, dict):
        return None
    kind, field = next(iter(left.items()))
    if kind == "payload" and "protocol" in field:
        return _payload(field["protocol"], field["field"], packet)
    if kind == "ct" and field.get("key") in ("state", "status"):
        return ("new",) if field["key"] == "state" else ("sent as it is",)  # to no address that is translated, which no relay's is
    if kind == "meta":
        version = packet.version
        return {
            "l4proto": ("tcp", 6),
            "nfproto": (f"ipv{version}", {4: 2, 6: 10}[version]),
            "protocol": ("ip" if version == 4 else "ip6",),
            "skuid": packet.users or None,
        }.get(field["key"], ("an interface other than lo",) if field["key"] in ("oifname", "oif") else None)
    return None


def _payload(protocol: str, field: str, packet: Syn) -> t.Optional[t.Tuple[t.Any, ...]]:
    if protocol in ("ip", "ip6"):
        if protocol != ("ip" if packet.version == 4 else "ip6"):
            return ()
        return {"daddr": (packet.address,), "protocol": ("tcp", 6), "nexthdr": ("tcp", 6)}.get(field)
    if protocol in ("tcp", "th"):
        return (packet.port,) if field == "dport" else None
    return ()


def _member(values: t.Tuple[t.Any, ...], right: t.Any) -> t.Optional[bool]:
    """Whether one of `values` is `right` or in it; None where `right` is not spelled out in the rule (a named set)."""
    if isinstance(right, list) or isinstance(right, dict) and "set" in right:
        results = [_member(values, inner) for inner in (right if isinstance(right, list) else right["set"])]
        return True if True in results else None if None in results else False
    if isinstance(right, dict) and "elem" in right:
        return _member(values, right["elem"]["val"])
    if isinstance(right, dict) and "prefix" in right:
        network = ipaddress.ip_network(f"{right['prefix']['addr']}/{right['prefix']['len']}", strict=False)
        return any(ipaddress.ip_address(value) in network for value in values)
    if isinstance(right, dict) and "range" in right:
        low, high = (_comparable(bound) for bound in right["range"])
        return any(low <= _comparable(value) <= high for value in values if type(_comparable(value)) is type(low))
    if isinstance(right, dict) or isinstance(right, str) and right.startswith("@"):
        return None
    if values == ("an interface other than lo",):
        return False if right == "lo" else None
    return right in values


def _comparable(value: t.Any) -> t.Any:
    """A number, or an address as something that can be put in order."""
    if isinstance(value, int):
        return value
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        return str(value)
