# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""After a change: does mail get out, and is everybody else kept in? What packets say decides whether the change may stay."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import blame, blocking, nft, probe, proof, users, ways
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.own_table import OwnTable
from ansible_collections.outpost.smtp.plugins.module_utils._egress.proof import Proof
from ansible_collections.outpost.smtp.plugins.module_utils._egress.request import Request

Prove = t.Callable[..., t.List[Proof]]
#: Seconds to find out what stops mail, once it is known that something does.
BLAME_TIME = 3.0


class Prover:
    """Tries the ways of one host. ``prove`` is proof.prove(), ``table`` our own table, whose counters it reads."""

    def __init__(self, table: OwnTable, run: nft.Run, root: str = "", prove: Prove = proof.prove) -> None:
        self._table = table
        self._run = run
        self._root = root
        self._prove = prove

    def settle(self, request: Request, blocked: t.Sequence[blocking.Blocked]) -> t.List[blocking.Blocked]:
        """Send what could not be judged from the rules. Returns the chains that this can not judge either.

        Raises :class:`EgressError` when a packet does not get out.
        """
        if not blocked:
            return []
        priority = nft.output_priority(self._table.listed())
        suspects = blocking.settle(blocked, users.sender(request), lambda: self._table.counters()["accepted"], priority)
        blocking.require_open(suspects, changed=True)
        return suspects

    def prove(self, request: Request, resolved: ways.Resolved, seconds: int) -> t.List[Proof]:
        """Connect to every relay. Raises :class:`EgressError` for one that is not reached, and where others are not kept in."""
        if seconds == 0:
            return []
        # Those that are let through for a while only may be gone already.
        leaving = {address for found in resolved.values() for address in found.leaving}
        tried = [way for way in ways.single(request, resolved) if way.network not in leaving]
        uid, other = users.sender(request), proof.other_than(users.let_out(request))
        proofs = self._prove(tried, uid, users.kept_in(request), seconds, self._table.counters, other)
        complaints = _unreached(request, resolved, proofs) + _not_kept_in(proofs)
        if complaints:
            blamed = self._blame(proofs, uid)
            why = f". {blamed.detail}: {blamed.remedy}" if blamed else ""
            facts = {"proof": [one.facts() for one in proofs], "blocked_by": blamed.facts() if blamed else None}
            raise EgressError("; ".join(complaints) + why, changed=True, **facts)
        return proofs

    def _blame(self, proofs: t.Sequence[Proof], uid: int) -> t.Optional[blame.BlockedBy]:
        """What stops the first relay that was not reached; None where they all were."""
        lost = [one for one in proofs if one.mta != probe.REACHED]
        port = lost[0].port if lost else 0
        return blame.find([one.address for one in lost if one.port == port], port, uid, BLAME_TIME, self._run, self._root) if lost else None


def _unreached(request: Request, resolved: ways.Resolved, proofs: t.Sequence[Proof]) -> t.List[str]:
    """The relays that were reached at none of their addresses."""
    found = []
    for relay in request.relays:
        addresses = resolved[relay.host].ipv4 + resolved[relay.host].ipv6
        own = [one for one in proofs if one.port == relay.port and one.address in addresses]
        if own and not any(one.mta == probe.REACHED for one in own):
            seen = ", ".join(f"{one.address} port {one.port}: {one.mta} after {one.mta_ms} ms" for one in own)
            found.append(f"user {request.user} does not reach relay {relay.name} ({seen})")
    return found


def _not_kept_in(proofs: t.Sequence[Proof]) -> t.List[str]:
    """The addresses from which another user was not kept, or was without its being counted."""
    return [
        f"another user is not kept from {one.address} port {one.port}: {one.others}"
        + ("" if one.counted else ", and our table did not count it")
        for one in proofs
        if one.others and not (one.others == "refused" and one.counted)
    ]
