# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Chains that somebody wrote by hand: a chain of ours in their table lets mail out, and is asked first.

An accept ends the way of a packet through one base chain only, so the accept must be where the drop is. In each table with a
base chain that stops mail there is chain ``outpost_smtp``, and at the head of that base chain a jump to it. Both bear our mark
as their comment. What the tables' own rules are stays as it is, in its order and with its handles.

Tables that are called like those of iptables may be written by hand, too (iptables-translate makes such). In these the rules are
made by iptables-nft where that is installed: iptables-save 1.8.7 prints ``tcp dport 465 accept`` of nft's as ``-p tcp -j ACCEPT``.

Nothing of this is in the administrator's files. What a reload takes away, :meth:`Nftables.reopen` puts back.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import foreign, iptables_save, nft
from ansible_collections.outpost.smtp.plugins.module_utils._egress.change import Change
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.iptables import Iptables
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Manager, Way
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Json, Nft, Run

#: Our chain in the tables of others, and the comment on each rule of ours there.
CHAIN = MARK = "outpost_smtp"
_VERSIONS = {"inet": (4, 6), "ip": (4,), "ip6": (6,)}
#: Names that nft takes without quotes; it writes others, too, but does not read them.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")


class Nftables(Manager):
    """The tables of nft that neither firewalld nor ufw keeps."""

    name = "nftables"
    services = ("nftables.service",)

    def __init__(self, run: Run, root: str = "") -> None:
        super().__init__(run, root)
        command = nft.find()
        self._nft = Nft(command, run) if command else None
        self._iptables = Iptables(run, root, by_hand=True)
        self._seen: t.Optional[t.Tuple[t.List[Json], t.List[_Table]]] = None

    def opened(self) -> t.Set[Way]:
        chains = self._nft.chains() if self._nft else []
        found = self._iptables.opened() if _like_iptables(chains) else set()
        if any(chain["name"] == CHAIN for chain in chains):
            # What is asked next is mostly a plan, for which it need not be read again.
            self._seen = chains, self._tables(chains)
            found |= {way for table in self._seen[1] for way in table.opened}
        return found

    def plan(self, ways: t.Collection[Way]) -> t.List[Change]:
        seen, self._seen = self._seen, None
        if seen is None:
            chains = self._nft.chains() if self._nft else []
            seen = chains, self._tables(chains) if ways or any(chain["name"] == CHAIN for chain in chains) else []
        chains, tables = seen
        return [
            Change(f"nftables {table}", "".join(table.lines), "".join(after))
            for table, after in ((table, table.wanted(ways)) for table in tables)
            if after != table.lines
        ] + (self._iptables.plan(ways) if _like_iptables(chains) else [])

    def apply(self, ways: t.Collection[Way]) -> None:
        self._seen = None
        chains = self._nft.chains() if self._nft else []
        script = "".join(table.script(ways) for table in self._tables(chains) if table.wanted(ways) != table.lines)
        if script and self._nft:
            self._nft.check(script)
            self._nft.load(script)
        if _like_iptables(chains):
            self._iptables.apply(ways)

    def reopen(self, ways: t.Collection[Way]) -> None:
        self.apply(ways)

    def _tables(self, chains: t.Sequence[Json]) -> t.List[_Table]:
        """The tables of others where packets of this host may be stopped, or where something of ours is."""
        if self._nft is None:
            return []
        by_table: t.Dict[t.Tuple[str, str], t.List[Json]] = {}
        for chain in foreign.output_chains(chains):
            by_table.setdefault((chain["family"], chain["table"]), []).append(chain)
        for chain in chains:
            if chain["name"] == CHAIN and chain["family"] in _VERSIONS:
                by_table.setdefault((chain["family"], chain["table"]), [])  # what stopped mail may be gone, and ours still there
        kept = {name: bases for name, bases in by_table.items() if self._keeps(_keeper(chains, *name), name[0])}
        return [_Table(name, kept[name], listed) for name, listed in self._nft.tables(kept).items()]

    def _keeps(self, keeper: str, family: str) -> bool:
        """Whether rules of nft's own are made in a table."""
        return keeper == self.name or (keeper == "iptables" and not iptables_save.program(iptables_save.NFT, 4 if family == "ip" else 6))


def _like_iptables(chains: t.Sequence[Json]) -> bool:
    return any(_keeper(chains, family, "filter") == "iptables" for family in ("ip", "ip6"))


def _keeper(chains: t.Sequence[Json], family: str, table: str) -> str:
    return foreign.manager(chain for chain in chains if (chain["family"], chain["table"]) == (family, table))


class _Table:
    """A table of others: what of it is ours, and what should be."""

    def __init__(self, name: t.Tuple[str, str], bases: t.Sequence[Json], listed: t.Sequence[Json]) -> None:
        self.family, self.name = name
        self._bases = sorted(bases, key=lambda base: str(base["name"]))
        self._rules = [entry["rule"] for entry in listed if "rule" in entry]
        self._ours = [rule for rule in self._rules if rule["chain"] == CHAIN]
        self._jumps = [rule for rule in self._rules if rule["chain"] != CHAIN and _is_jump(rule)]
        self._theirs = [{"rule": rule} for rule in self._rules if rule["chain"] != CHAIN]
        self._exists = any(entry.get("chain", {}).get("name") == CHAIN for entry in listed)
        self._strange = bool(self._ours) and not any(rule.get("comment") == MARK for rule in self._ours)

    def __str__(self) -> str:
        return f"{self.family} {self.name}"

    @property
    def opened(self) -> t.Set[Way]:
        """The ways that our chain opens, if it is asked."""
        return {way for way in (_way(rule, self.family) for rule in self._ours) if way is not None} if self._jumps else set()

    @property
    def lines(self) -> t.List[str]:
        """What is ours, for people; the order of what has none is sorted. A rule that is not as we make them is told as it is."""
        ways = [_way(rule, self.family) for rule in self._ours]
        found = [_line(CHAIN, _rule(way, self.family) if way is not None else "(a rule that is not as this module makes it)") for way in ways]
        jumps = [_line(rule["chain"], f"jump {CHAIN}" + ("" if self._suffices(rule) else " (behind what stops mail)")) for rule in self._jumps]
        return sorted(found) + sorted(jumps) + ([_line(CHAIN, "(no rules)")] if self._exists and not self._ours else [])

    def wanted(self, ways: t.Collection[Way]) -> t.List[str]:
        """What :attr:`lines` would be if these ways, and no others, were opened where something stops them."""
        bases = self._stopping(ways)
        if self._strange:
            if bases:
                raise EgressError(
                    f"nftables: chain '{self} {CHAIN}' was not made by this module, and was left alone; rename it, or open the way by hand"
                )
            return self.lines
        if not bases:
            return []
        opened = sorted(_line(CHAIN, _rule(way, self.family)) for way in self._mine(ways))
        return opened + [_line(base["name"], f"jump {CHAIN}") for base in bases]

    def script(self, ways: t.Collection[Way]) -> str:
        """For nft -f: to open these ways and no others. What is inserted last comes first."""
        bases = self._stopping(ways)
        for name in (self.name, *(rule["chain"] for rule in self._jumps), *(base["name"] for base in bases)):
            if not _NAME.fullmatch(name):
                raise EgressError(f"nftables: nothing can be opened in table '{self}': nft does not take the name {name!r}; open the way by hand")
        lines = [f"delete rule {self} {rule['chain']} handle {int(rule['handle'])}" for rule in self._jumps]
        if bases:
            lines += [f"add chain {self} {CHAIN}", f"flush chain {self} {CHAIN}"]
            lines += [f'add rule {self} {CHAIN} {_rule(way, self.family)} comment "{MARK}"' for way in sorted(self._mine(ways))]
            lines += [f'insert rule {self} {base["name"]} jump {CHAIN} comment "{MARK}"' for base in bases]
        elif self._exists:
            lines += [f"flush chain {self} {CHAIN}", f"delete chain {self} {CHAIN}"]
        return "".join(f"{line}\n" for line in lines)

    def _mine(self, ways: t.Collection[Way]) -> t.Set[Way]:
        return {way for way in ways if way.version in _VERSIONS[self.family]}

    def _stopping(self, ways: t.Collection[Way]) -> t.List[Json]:
        """The base chains that stop any of the ways by their own rules, or may."""
        return [base for base in self._bases if not _passes(base, self._theirs, self._mine(ways))]

    def _suffices(self, jump: Json) -> bool:
        """Whether a jump of ours comes before all that stops what our chain opens."""
        base = next((base for base in self._bases if base["name"] == jump["chain"]), None)
        return base is not None and _passes(base, [{"rule": rule} for rule in self._rules], self.opened)


def _passes(base: Json, rules: t.Sequence[Json], ways: t.Iterable[Way]) -> bool:
    packets = (packet for way in ways for packet in foreign.samples(*way))
    return all(foreign.verdict(base, rules, packet).outcome == foreign.PASS for packet in packets)


def _is_jump(rule: Json) -> bool:
    return rule.get("comment") == MARK and rule.get("expr") == [{"jump": {"target": CHAIN}}]


def _line(chain: str, text: str) -> str:
    return f"chain {chain}: {text}\n"


def _rule(way: Way, family: str) -> str:
    """The rule of a way, without its comment. Everything in it has been through ipaddress and int()."""
    if way.network:
        to = f"{'ip' if way.version == 4 else 'ip6'} daddr {way.network} "
    else:
        to = f"meta nfproto ipv{way.version} " if family == "inet" else ""
    return f"{to}tcp dport {int(way.port)} accept"


def _way(rule: Json, family: str) -> t.Optional[Way]:
    """The way of a rule of ours as nft lists it; None for a rule that is not as we make them."""
    network, version = "", 4 if family == "ip" else 6 if family == "ip6" else 0
    port: t.Any = None
    matches = [expression.get("match", {}) for expression in rule["expr"][:-1]]
    for match in matches:
        left, right = match.get("left"), match.get("right")
        if match.get("op") != "==":
            return None
        if left == {"meta": {"key": "nfproto"}} and right in ("ipv4", "ipv6"):
            version = 4 if right == "ipv4" else 6
        elif left in ({"payload": {"protocol": "ip", "field": "daddr"}}, {"payload": {"protocol": "ip6", "field": "daddr"}}):
            prefix = right.get("prefix") if isinstance(right, dict) else None
            network = f"{prefix['addr']}/{prefix['len']}" if prefix else right
        elif left == {"payload": {"protocol": "tcp", "field": "dport"}}:
            port = right
        else:
            return None
    if rule["expr"][-1:] != [{"accept": None}] or rule.get("comment") != MARK or not isinstance(port, int):
        return None
    try:
        return Way.to(network, port) if network else Way(version, "", port) if version else None
    except (ValueError, TypeError):
        return None
