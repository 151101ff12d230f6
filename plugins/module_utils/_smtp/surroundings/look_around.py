# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""After a failure: the other ports and addresses of the host, looked at side by side and without any credential.

The number of connections is bounded: a dialogue on each of :data:`SIBLINGS` and on up to :data:`MAX_OTHER_ADDRESSES`
addresses, and where nothing could be connected to, one TCP connection to :data:`WEB_PORT` and up to
:data:`MAX_REFUSALS` to ask who refuses. Each dialogue ends at the EHLO after TLS.
"""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import Attempt
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Alternative, Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings import refusal
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.alternatives import WORKS, advice, failure_in_words, in_words
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.parallel import Parallel, before
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.visitor import Visit, VisitorFactory

SECONDS = 4.0
"""For all looks together. A SYN that is lost is sent again after 1 and 3 seconds (tcp(7)), so two losses are survived."""
SIBLINGS = ((465, "implicit"), (587, "starttls"), (2525, "starttls"))
"""Where providers take mail from their customers: RFC 8314, RFC 6409, and the usual port for those who block both."""
WEB_PORT = 443
MAX_OTHER_ADDRESSES = 3
MAX_REFUSALS = 2

_NEARER = 5
"""A reset that comes in less than a fifth of the time in which the same address opens another port is not its own..."""
_FAR_MS = 20
"""... provided that this time is long enough to compare (milliseconds)."""

_STAGES = ("connect", "greeting", "ehlo", "starttls", "tls", "ehlo_tls")
_OF_THIS_HOST = (Kind.CA_FILE, Kind.CLIENT_CERTIFICATE, Kind.INTERNAL)
_Way = t.Tuple[int, str, t.Optional[t.Sequence[Address]]]
"""Port, TLS mode and addresses (None: that of the first connection)."""
_REFUSING = ("refused", "host_unreachable", "net_unreachable", "access_denied")


def worthwhile(error: SmtpError) -> bool:
    """Whether another way may explain the failure: not if the endpoint was right (a refused login), or nothing was sent."""
    if error.kind == Kind.PROXY:
        return error.reason == "refused"
    return error.kind == Kind.NO_AUTH or (error.stage in _STAGES and error.kind not in _OF_THIS_HOST)


def other_addresses(seen: Observation) -> list[Address]:
    """Where the dialogue failed on one address: the others that did not refuse to be connected to."""
    if not seen.peer:
        return []
    others = [entry.address for entry in seen.attempts if entry.outcome in ("connected", "no_answer") and entry.address.host != seen.peer]
    return others[:MAX_OTHER_ADDRESSES]


class Surroundings:
    """The looks of one failure: they begin at once, and :meth:`report` adds what they found to *seen*."""

    def __init__(self, seen: Observation, visitor: VisitorFactory, deadline: Deadline) -> None:
        self._seen = seen
        self._visitor = visitor
        self._deadline = deadline.within(SECONDS)
        self._looks_end = before(self._deadline)
        connecting = seen.failure.kind == Kind.CONNECT
        addresses = [attempt.address for attempt in seen.attempts]
        self._ways: list[_Way] = [
            *((port, tls, [address.at_port(port) for address in addresses]) for port, tls in SIBLINGS if port != seen.port),
            *((seen.port, seen.mode, [address]) for address in other_addresses(seen)),
        ]
        self._visits = Parallel([functools.partial(self._look, *way) for way in self._ways])
        self._web = Parallel([functools.partial(self._knock, addresses)] if connecting else [])
        self._refusals = Parallel([functools.partial(self._ask, attempt) for attempt in self._refused()])

    def report(self) -> None:
        """Wait for the looks, until the deadline at most."""
        seen = self._seen
        # The port speaks the other mode: whether a login is offered there is seen only by one who follows it.
        others: list[_Way] = [(seen.port, "starttls" if seen.mode == "implicit" else "implicit", None)] if seen.found else []
        followed = Parallel([functools.partial(self._look, *way) for way in others])
        visits = self._visits.results(self._deadline)
        visits[:0] = followed.results(self._deadline)
        seen.alternatives += [_alternative(way, visit) for way, visit in zip(others + self._ways, visits)]
        seen.web = next((found for found in self._web.results(self._deadline) if isinstance(found, str)), "")
        refusals = [found for found in self._refusals.results(self._deadline) if isinstance(found, refusal.Refusal)]
        seen.refusals += [found._replace(remark=nearer(found, visits)) for found in refusals]
        found = advice(seen)
        if found or seen.failure.kind == Kind.CONNECT:
            seen.notes[:0] = [line for line in (found, self._looked()) if line]

    def _refused(self) -> list[Attempt]:
        if self._seen.failure.kind != Kind.CONNECT:
            return []
        return [attempt for attempt in self._seen.attempts if attempt.outcome in _REFUSING][:MAX_REFUSALS]

    def _look(self, port: int, tls: str, addresses: t.Sequence[Address] | None) -> Visit:
        client = self._visitor(tls, port, addresses, verify=True)
        client.deadline = self._looks_end
        return client.look()

    def _knock(self, addresses: t.Sequence[Address]) -> str:
        with self._visitor("none", WEB_PORT, [address.at_port(WEB_PORT) for address in addresses]) as client:
            client.deadline = self._looks_end
            try:
                client.connect()
            except SmtpError:
                return _outcomes(client.attempts)
            return "connected"

    def _ask(self, attempt: Attempt) -> refusal.Refusal | None:
        return refusal.ask(attempt.address, self._looks_end, self._visitor("none").route.source_address)

    def _looked(self) -> str:
        """What was tried, in one line for the evidence."""
        seen = self._seen
        parts = []
        for entry in seen.alternatives:
            where = f"{entry.address} port {entry.port}" if entry.port == seen.port and entry.address else f"port {entry.port}"
            parts.append(f"{where} ({entry.tls}): {entry.outcome}")
        if seen.web:
            parts.append(f"port {WEB_PORT}: {in_words(seen.web)}")
        return f"looked around without credentials: {'; '.join(parts)}" if parts else ""


def _alternative(way: _Way, visit: Visit | Exception) -> Alternative:
    port, tls, _addresses = way
    if isinstance(visit, TimeoutError):
        return Alternative(port, tls, False, "timeout")
    if isinstance(visit, Exception):
        return Alternative(port, tls, False, "failed")
    return Alternative(port, tls, visit.offers_login, outcome(visit), visit.address, visit.elapsed_ms)


def outcome(visit: Visit) -> str:
    """What came of a look, in a few words."""
    error = visit.error
    if error is None:
        return WORKS if visit.offers_login else "no login offered" if visit.after_tls is not None else "no TLS"
    if error.kind == Kind.CONNECT:
        return _outcomes(visit.attempts)
    return failure_in_words(error)


def _outcomes(attempts: t.Sequence[Attempt]) -> str:
    """What became of the addresses, each outcome once."""
    return ", ".join(dict.fromkeys(in_words(attempt.outcome) for attempt in attempts if attempt.outcome != "not_tried"))


def nearer(refused: refusal.Refusal, visits: t.Sequence[Visit | Exception]) -> str:
    """What the time of a reset tells about who sent it."""
    for visit in visits:
        if refused.by or not isinstance(visit, Visit) or visit.address != refused.address or visit.connect_ms is None:
            continue
        if visit.connect_ms >= _FAR_MS and refused.elapsed_ms * _NEARER < visit.connect_ms:
            return f"; another port of it took {visit.connect_ms} ms to connect, so something nearer sent the reset"
    return ""
