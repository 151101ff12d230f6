# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Proof by packet: the mail server's user reaches the relays; in mode guard another user is refused at once, and counted.

Connections are made and closed. Nothing is said to the relays, so there is no mail, no SMTP, and nothing about logins.
"""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import probe
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Way

#: Stands for all other users: "nobody" on every Linux. A socket needs no account.
NOBODY = 65534
#: The ports that the guard keeps to the mail server's user (RFC 5321, RFC 6409, RFC 8314); a relay's port may be another one.
GUARDED_PORTS = frozenset({25, 465, 587})
#: The address is of a family, or in a network, that this host has no route to.
NO_ROUTE = "no_route"


class Proof(t.NamedTuple):
    """What became of a connection to ``port`` of ``address``: by the mail server's user, and by another user.

    ``mta`` is ``reached`` or why not (``refused``, ``timeout``, ``net_unreachable``...), ``no_route`` where nothing was
    tried. ``others`` is the same for the other user; empty where nobody is kept out. ``counted`` tells whether our own
    table counted that user's attempt, None where there was none. Times are in milliseconds.
    """

    address: str
    port: int
    version: int
    mta: str
    mta_ms: int
    others: str
    others_ms: int
    counted: t.Optional[bool]

    @property
    def ok(self) -> bool:
        """Whether nothing here speaks against the rules. An address without a route is missed by nobody while there are others."""
        return self.mta in (probe.REACHED, NO_ROUTE) and (not self.others or self.others == "refused" and self.counted is True)

    def facts(self) -> t.Dict[str, t.Any]:
        return {**self._asdict(), "ok": self.ok}


def other_than(uids: t.Collection[int]) -> int:
    """A user whom the guard must keep out: not one of `uids`, the mail server's and the exempt ones."""
    return next(uid for uid in range(NOBODY, 0, -1) if uid not in uids)


def prove(
    ways: t.Sequence[Way],
    uid: int,
    guarded: bool,
    deadline: float,
    counters: t.Callable[[], t.Dict[str, int]],
    other: int = NOBODY,
) -> t.List[Proof]:
    """Try the ways that are single addresses, all at once; an answer that takes longer than `deadline` seconds is none.

    ``counters`` reads those of our own table. Where `guarded`, user `other` tries those with a guarded port, too. Raises what
    `counters` raises.
    """
    single = [way for way in dict.fromkeys(ways) if _is_address(way.network)]
    tried = [way for way in single if probe.route(way.network) == 0]
    # Nobody is kept away from this host itself: our table lets loopback pass.
    kept = [way for way in tried if guarded and way.port in GUARDED_PORTS and not probe.here(way.network)]
    before = _refused(counters) if kept else 0
    outcomes = probe.connect(
        [probe.Try(way.network, way.port, uid) for way in tried] + [probe.Try(way.network, way.port, other) for way in kept], deadline
    )
    mta = dict(zip(tried, outcomes))
    others = dict(zip(kept, outcomes[len(tried) :]))
    if kept and _refused(counters) - before >= len(kept):
        counted = dict.fromkeys(kept, True)
    else:
        counted = {way: _is_counted(way, other, counters) for way in kept}
    return [_proof(way, mta.get(way), others.get(way), counted.get(way)) for way in single]


def _proof(way: Way, mta: t.Optional[probe.Outcome], others: t.Optional[probe.Outcome], counted: t.Optional[bool]) -> Proof:
    return Proof(
        way.network,
        way.port,
        way.version,
        mta.word if mta else NO_ROUTE,
        mta.ms if mta else 0,
        others.word if others else "",
        others.ms if others else 0,
        counted,
    )


def _is_counted(way: Way, uid: int, counters: t.Callable[[], t.Dict[str, int]]) -> bool:
    """Whether one more attempt moves the counter. The kernel's chains have all seen it when connect(2) returns."""
    return probe.leaves(way.network, way.port, uid, lambda: _refused(counters))


def _refused(counters: t.Callable[[], t.Dict[str, int]]) -> int:
    return counters().get("refused", 0)


def _is_address(network: str) -> bool:
    try:
        ipaddress.ip_address(network)
    except ValueError:
        return False
    return True
