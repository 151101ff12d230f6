# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Finds the foreign chains that stop mail to the relays, and says in whose language the hole must be made."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import foreign, probe
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Json, Nft

#: Lists the tables of the legacy iptables, whose rules nft does not see at all.
_LEGACY = {4: "/proc/net/ip_tables_names", 6: "/proc/net/ip6_tables_names"}


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
            "remedy": remedy(self.manager, self.packets),
        }


def possible(chains: t.Sequence[Json]) -> bool:
    """Whether anything but our own table sees outgoing packets; mostly nothing does, and then nothing need be read."""
    return bool(foreign.output_chains(chains)) or any(_holds_text(path) for path in _LEGACY.values())


def find(nft: Nft, chains: t.Sequence[Json], packets: t.Sequence[foreign.Syn]) -> t.List[Blocked]:
    """The chains that do not let every packet pass for certain. Reads each table that has an output chain once."""
    tables: t.Dict[t.Tuple[str, str], t.List[Json]] = {}
    blocked = [
        Blocked("iptables-legacy", "iptables", 0, foreign.UNKNOWN, "nft can not see its rules", on)
        for on in _legacy(packets)
        if on
    ]
    for base in foreign.output_chains(chains):
        table = base["family"], base["table"]
        if table not in tables:
            tables[table] = nft.table(*table) or []
        verdicts = [(packet, foreign.verdict(base, tables[table], packet)) for packet in packets]
        kept_by = foreign.manager(chain for chain in chains if (chain["family"], chain["table"]) == table)
        for outcome in (foreign.STOP, foreign.UNKNOWN):
            affected = [(packet, verdict.why) for packet, verdict in verdicts if verdict.outcome == outcome]
            if affected:
                packets_affected = [packet for packet, _why in affected]
                blocked.append(
                    Blocked(
                        foreign.name(base), kept_by, foreign.priority(base), outcome, affected[0][1], packets_affected
                    )
                )
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
        how = remedy(entry.manager, entry.packets)
        if entry.manager == "nftables":
            advice = f"It is not ours and was not edited; add before what stops it: {'; and '.join(how)}"
        else:
            advice = f"{entry.manager} keeps it, and opening a way through {entry.manager} is left to you: {'; and '.join(how)}"
        sentences.append(f"chain '{entry.chain}' stops mail to {where} ({entry.why}). {advice}")
    return ". ".join(sentences)


def _legacy(packets: t.Sequence[foreign.Syn]) -> t.List[t.List[foreign.Syn]]:
    """The packets that pass through legacy tables, per address family."""
    return [
        [packet for packet in packets if packet.version == version]
        for version, path in _LEGACY.items()
        if _holds_text(path)
    ]


def _holds_text(path: str) -> bool:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return bool(file.read().strip())
    except OSError:
        return False
