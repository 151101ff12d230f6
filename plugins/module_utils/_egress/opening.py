# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""What is opened, and through whom: where the rules of the active manager stop mail, or may, and nowhere else."""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import blocking, foreign, nft, ways
from ansible_collections.outpost.smtp.plugins.module_utils._egress.change import Change
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers import detect
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Manager, Way
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Json, Run
from ansible_collections.outpost.smtp.plugins.module_utils._egress.request import AUTO, NONE, Request

Make = t.Callable[[str], Manager]


class Opening(t.NamedTuple):
    """``manager`` has ``former`` ways of ours open, and is to have ``ways`` (none of both for NONE). ``leaving`` is a manager that we
    opened ways through before. ``blocked`` are the chains that nothing is opened in.
    """

    manager: str
    evidence: t.Dict[str, str]
    former: t.Tuple[Way, ...]
    ways: t.Tuple[Way, ...]
    leaving: str
    changes: t.List[Change]
    services: t.Optional[t.Sequence[str]]
    blocked: t.List[blocking.Blocked]


class Opener:
    """Plans and opens ways on one host. ``command`` is None where nft is missing."""

    def __init__(self, command: t.Optional[nft.Nft], run: Run, make: Make, root: str = "") -> None:
        self._nft = command
        self._run = run
        # The manager that has planned is the one to apply, so that it need not find out twice what it found out once.
        self._make = functools.lru_cache(maxsize=None)(make)
        self._root = root

    def plan(
        self, request: Request, resolved: ways.Resolved, formerly: str, chains: t.Sequence[Json], remembered: t.Collection[Way] = ()
    ) -> Opening:
        """What to open for `request`; `formerly` is the manager through which an earlier run opened the ways `remembered`.

        Raises :class:`EgressError` where managers fight, and where a chain that is not the manager's stops mail for certain.
        """
        asked = ways.packets(request, resolved) if self._nft and blocking.possible(chains) else {}
        blocked = self.blocked(asked, chains)
        name, evidence = self._manager(request.manager, chains, blocked, formerly)
        ours = [entry for entry in blocked if entry.opened_by(name)]
        others = [entry for entry in blocked if not entry.opened_by(name)]
        blocking.require_open(others, changed=False)
        changes: t.List[Change] = []
        former: t.Tuple[Way, ...] = ()
        target: t.Tuple[Way, ...] = ()
        services: t.Optional[t.Sequence[str]] = None
        if name != NONE:
            manager = self._make(name)
            former = tuple(sorted(manager.opened()))
            stopped = {packet for entry in ours for packet in entry.packets}
            needed = {way for way, packets in asked.items() if stopped.intersection(packets)}
            # A service that is stopped just now stops nothing, and will again: what we reopen for it is not forgotten meanwhile.
            kept = set(former).union(remembered if name == formerly and manager.services else ())
            target = tuple(sorted(needed.union(kept.intersection(ways.wanted(request, resolved)))))
            changes = manager.plan(target)
            if not changes:
                # All that it can open is open, and something of its own comes before that.
                blocking.require_open(_to_relays(ours, request, resolved), changed=False)
            services = manager.services if target and manager.services else None
        leaving = formerly if formerly != name else ""
        if leaving:
            # Tables like those of iptables are of two managers, and what the one has opened there may stay.
            shared = {change.what for change in self._make(name).plan([])} if target else set()
            changes = changes + [change for change in self._make(leaving).plan([]) if change.what not in shared]
        return Opening(name, evidence, former, target, leaving, changes, services, others)

    def apply(self, opening: Opening) -> None:
        """Open what is to be opened, and close what is not any more."""
        if opening.changes and opening.manager != NONE:
            self._make(opening.manager).apply(opening.ways)
        if opening.leaving:
            self._make(opening.leaving).apply([])
            if opening.ways:
                self._make(opening.manager).apply(opening.ways)  # where both open in the same table

    def blocked(self, asked: t.Mapping[Way, t.Sequence[foreign.Syn]], chains: t.Sequence[Json]) -> t.List[blocking.Blocked]:
        """The foreign chains that stop any of the packets, or may."""
        packets = list(dict.fromkeys(packet for packets in asked.values() for packet in packets))
        return blocking.find(self._nft, chains, packets) if self._nft and packets else []

    def _manager(
        self, wanted: str, chains: t.Sequence[Json], blocked: t.Sequence[blocking.Blocked], formerly: str
    ) -> t.Tuple[str, t.Dict[str, str]]:
        if wanted == NONE:
            return NONE, {}
        if wanted != AUTO:
            return wanted, {wanted: "named by the option manager"}
        found = detect.look(self._run, self._root, chains)
        former = formerly if len(found.active) > 1 and formerly in found.active and self._make(formerly).opened() else ""
        return detect.choose(found, blocked, former), dict(found.evidence)


def _to_relays(
    blocked: t.Sequence[blocking.Blocked], request: Request, resolved: ways.Resolved
) -> t.List[blocking.Blocked]:
    """Of what is stopped, that to the relays' own addresses: of others, only as much need be open as somebody lets through."""
    addresses = {way.network for way in ways.single(request, resolved)}
    kept = [entry._replace(packets=[packet for packet in entry.packets if packet.address in addresses]) for entry in blocked]
    return [entry for entry in kept if entry.packets]
