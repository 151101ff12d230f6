# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Finds the foreign chains that stop mail to the relays, and says in whose language the hole must be made."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import foreign, iptables_save, probe
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Json, Nft

_LEGACY = iptables_save.LEGACY_TABLES


class Blocked(t.NamedTuple):
    """A chain that stops, or may stop, some packets. ``chain`` is its name in nft's words, ``manager`` who keeps it.

    ``priority`` is its place among the output chains, from the first to the last.
    """

    chain: str
    manager: str
    priority: float
    outcome: str
    why: str
    packets: t.List[foreign.Syn]

    def facts(self) -> t.Dict[str, t.Any]:
        return {
            "chain": self.chain,
            "manager": self.manager,
            "certain": self.outcome == foreign.STOP,
            "why": self.why,
            "destinations": [f"{packet.address} port {packet.port}" for packet in self.packets],
            "remedy": self.remedy(),
        }

    @property
    def legacy(self) -> bool:
        """Whether it is a chain of the legacy iptables, which nft does not see."""
        return "tables-legacy" in self.chain

    def opened_by(self, manager: str) -> bool:
        """Whether a way through it can be opened by that manager. Chains called like those of iptables-nft may as well be written by hand
        in nftables.conf, and belong to that then.
        """
        return manager == self.manager or (manager == "nftables" and self.manager == "iptables" and not self.legacy)

    def remedy(self) -> t.List[str]:
        commands = remedy(self.manager, self.packets)
        if self.manager == "iptables" and self.legacy:
            return [command.replace("tables ", "tables-legacy ", 1) for command in commands]
        return commands


def possible(chains: t.Sequence[Json]) -> bool:
    """Whether anything but our own table sees outgoing packets; mostly nothing does, and then nothing need be read."""
    return bool(foreign.output_chains(chains)) or any(iptables_save.legacy_tables(path) for path in _LEGACY.values())


def find(nft: Nft, chains: t.Sequence[Json], packets: t.Sequence[foreign.Syn]) -> t.List[Blocked]:
    """The chains that do not let every packet pass for certain, those of the legacy iptables included."""
    bases = foreign.output_chains(chains)
    tables = nft.tables({(base["family"], base["table"]) for base in bases}) if bases else {}
    blocked = _legacy(nft, packets)
    for base in bases:
        family, name = base["family"], base["table"]
        kept_by = foreign.manager(chain for chain in chains if (chain["family"], chain["table"]) == (family, name))
        found = _judged(base, tables[family, name], packets, kept_by, foreign.name(base))
        if any(entry.outcome == foreign.UNKNOWN for entry in found) and _has_matches_of_iptables(family, tables[family, name]):
            tables[family, name] = _understood(nft, family, name, tables[family, name])
            found = _judged(base, tables[family, name], packets, kept_by, foreign.name(base))
        if any(entry.outcome == foreign.UNKNOWN for entry in found):
            sets = _Sets(nft, family, name)
            doubtful = [packet for entry in found if entry.outcome == foreign.UNKNOWN for packet in entry.packets]
            found = [entry for entry in found if entry.outcome != foreign.UNKNOWN]
            for packet in doubtful:
                found += _judged(base, sets.looked_up(tables[family, name], packet), [packet], kept_by, foreign.name(base))
        blocked += _merged(found)
    return blocked


def _judged(base: Json, table: t.Sequence[Json], packets: t.Sequence[foreign.Syn], kept_by: str, name: str) -> t.List[Blocked]:
    verdicts = [(packet, foreign.verdict(base, table, packet)) for packet in packets]
    blocked = []
    for outcome in (foreign.STOP, foreign.UNKNOWN):
        affected = [(packet, verdict.why) for packet, verdict in verdicts if verdict.outcome == outcome]
        if affected:
            stopped = [packet for packet, _why in affected]
            blocked.append(Blocked(name, kept_by, foreign.priority(base), outcome, affected[0][1], stopped))
    return blocked


def _merged(found: t.Iterable[Blocked]) -> t.List[Blocked]:
    """One entry for all packets of which the same is to be said."""
    merged: t.Dict[t.Tuple[str, str], Blocked] = {}
    for entry in found:
        known = merged.get((entry.outcome, entry.why))
        merged[entry.outcome, entry.why] = entry._replace(packets=known.packets + entry.packets) if known else entry
    return list(merged.values())


class _Sets:
    """The named sets of a table, in so far as its rules ask them for a packet's destination. Each question is one process."""

    #: So many questions at most; with a large set anywhere on the host, each may take a second.
    LIMIT = 12

    def __init__(self, nft: Nft, family: str, table: str) -> None:
        self._nft = nft
        self._place = family, table
        self._known: t.Dict[t.Tuple[str, t.Union[str, int]], t.Optional[bool]] = {}

    def looked_up(self, table: t.Sequence[Json], packet: foreign.Syn) -> t.List[Json]:
        """The table with each match against a named set as one that holds for the packet, or does not."""
        return [{"rule": {**entry["rule"], "expr": [self._told(one, packet) for one in entry["rule"]["expr"]]}} for entry in table if "rule" in entry]

    def _told(self, expression: Json, packet: foreign.Syn) -> Json:
        match = expression.get("match") or {}
        right, value = match.get("right"), _destination(match.get("left"), packet)
        if not isinstance(right, str) or not right.startswith("@") or value is None:
            return expression
        held = self._holds(right[1:], value)
        return expression if held is None else {"match": {**match, "right": value if held else {"set": []}}}

    def _holds(self, name: str, value: t.Union[str, int]) -> t.Optional[bool]:
        if (name, value) not in self._known and len(self._known) < self.LIMIT:
            self._known[name, value] = self._nft.holds(*self._place, name, value)
        return self._known.get((name, value))


def _destination(left: t.Any, packet: foreign.Syn) -> t.Union[str, int, None]:
    """The packet's address or port, where that is what a match looks at."""
    if left == {"payload": {"protocol": "ip" if packet.version == 4 else "ip6", "field": "daddr"}}:
        return packet.address
    if left in ({"payload": {"protocol": "tcp", "field": "dport"}}, {"payload": {"protocol": "th", "field": "dport"}}):
        return packet.port
    return None


def _has_matches_of_iptables(family: str, table: t.Sequence[Json]) -> bool:
    """Whether iptables-save may tell more of the table than nft does."""
    of_iptables = family in iptables_save.FAMILIES.values()
    return of_iptables and any("xt" in expression for entry in table for expression in entry.get("rule", {}).get("expr", ()))


def _understood(nft: Nft, family: str, name: str, table: t.List[Json]) -> t.List[Json]:
    """A table of iptables-nft, with those rules told as iptables-save tells them of which nft does not tell all.

    Where the two do not list the same chains and numbers of rules, or rules were put there by nft itself, of which iptables-save
    leaves out what it does not know, nothing is taken over.
    """
    version = next(number for number, text in iptables_save.FAMILIES.items() if text == family)
    saved = (iptables_save.read(nft.run, iptables_save.NFT, version) or {}).get(name)
    if saved is None:
        return table
    rules = {chain: iter(listed) for chain, listed in saved.rules.items()}
    told = []
    for entry in table:
        rule = entry.get("rule")
        words = next(rules.get(rule["chain"], iter(())), None) if rule else None
        if rule and words is None:
            return table
        if rule and words is not None and any("xt" in expression for expression in rule["expr"]):
            entry = {"rule": {**rule, "expr": iptables_save.expressions(version, words)}}
        told.append(entry)
    return table if any(next(remaining, None) is not None for remaining in rules.values()) else told


def _legacy(nft: Nft, packets: t.Sequence[foreign.Syn]) -> t.List[Blocked]:
    """The chains of the legacy iptables that do not let every packet pass for certain."""
    blocked: t.List[Blocked] = []
    for version, path in _LEGACY.items():
        on_the_way = [packet for packet in packets if packet.version == version]
        if not on_the_way or not iptables_save.legacy_tables(path):
            continue
        name = "iptables-legacy" if version == 4 else "ip6tables-legacy"
        saved = iptables_save.read(nft.run, iptables_save.LEGACY, version)
        if saved is None:
            why = f"nft can not see its rules, and {name}-save can not be run"
            blocked.append(Blocked(name, "iptables", 0, foreign.UNKNOWN, why, on_the_way))
            continue
        for table_name, table in saved.items():
            listed = iptables_save.in_words_of_nft(version, table_name, table)
            kept_by = "ufw" if any(chain.startswith(foreign.UFW_CHAINS) for chain in table.rules) else "iptables"
            for base in foreign.output_chains(entry["chain"] for entry in listed if "chain" in entry):
                blocked += _judged(base, listed, on_the_way, kept_by, f"{name} {table_name} {base['name']}")
    return blocked


def require_open(blocked: t.Sequence[Blocked], *, changed: bool) -> None:
    """Raise :class:`EgressError`, naming chain and remedy, when a packet is stopped for certain.

    ``changed`` says whether the host has been changed already.
    """
    stopping = [entry for entry in blocked if entry.outcome == foreign.STOP]
    if stopping:
        raise EgressError(_complaint(stopping), changed=changed, blocking_chains=[entry.facts() for entry in stopping])


#: The reason given for a chain whose rules do not tell.
_SEEN = "a packet sent to try it did not get out"


def settle(
    blocked: t.Sequence[Blocked], uid: int, counter: t.Callable[[], int], priority: float
) -> t.List[Blocked]:
    """Decide what could not be told from the rules by sending those packets. Returns the chains under suspicion.

    Our own chain, of that `priority`, counts what the chains before it let pass; those behind it stay in doubt.
    """
    behind = [entry for entry in blocked if entry.priority >= priority]
    before = [entry for entry in blocked if entry.priority < priority]
    doubtful = {packet for entry in before for packet in entry.packets}
    stopped = {packet for packet in doubtful if not probe.leaves(packet.address, packet.port, uid, counter)}
    return behind + [
        entry._replace(
            outcome=foreign.STOP, why=_SEEN, packets=[packet for packet in entry.packets if packet in stopped]
        )
        for entry in before
        if stopped.intersection(entry.packets)
    ]


def remedy(manager: str, packets: t.Sequence[foreign.Syn]) -> t.List[str]:
    """What opens the way for the packets: commands for a manager, lines to add to a chain that was written by hand."""
    if manager == "nftables":
        return _lines(packets)
    command = _COMMANDS[manager]
    return [
        command.format(
            iptables="iptables" if packet.version == 4 else "ip6tables", **packet._asdict(), version=packet.version
        )
        for packet in packets
    ]


#: One command per address; nft's own language can say it in one line per port and family.
_COMMANDS = {
    "ufw": "ufw allow out proto tcp to {address} port {port}",
    "iptables": "{iptables} -I OUTPUT -p tcp -d {address} --dport {port} -j ACCEPT",
    "firewalld": "firewall-cmd --permanent --policy POLICY --add-rich-rule "
    "'rule family=ipv{version} destination address={address} port port={port} protocol=tcp accept' "
    "(POLICY: one with ingress zone HOST), then firewall-cmd --reload",
}


def _lines(packets: t.Sequence[foreign.Syn]) -> t.List[str]:
    goals: t.Dict[t.Tuple[str, int], t.List[str]] = {}
    for packet in packets:
        goals.setdefault(("ip" if packet.version == 4 else "ip6", packet.port), []).append(packet.address)
    return [
        f"{family} daddr {{ {', '.join(found)} }} tcp dport {port} accept" for (family, port), found in goals.items()
    ]


def _complaint(stopping: t.Sequence[Blocked]) -> str:
    sentences = []
    for entry in stopping:
        where = ", ".join(f"{packet.address} port {packet.port}" for packet in entry.packets)
        how = entry.remedy()
        if entry.manager == "nftables":
            advice = f"It is not ours and was not edited; add before what stops it: {'; and '.join(how)}"
        else:
            advice = f"{entry.manager} keeps it, and opening a way through {entry.manager} is left to you: {'; and '.join(how)}"
        sentences.append(f"chain '{entry.chain}' stops mail to {where} ({entry.why}). {advice}")
    return ". ".join(sentences)
