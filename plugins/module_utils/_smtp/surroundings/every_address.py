# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dialogue up to the login on every address of a host, side by side, and in what the addresses differ."""

from __future__ import annotations

import functools
import hashlib
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import MAX_ADDRESSES
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.ehlo import Capabilities
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.look_around import outcome
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.parallel import Parallel, before
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.visitor import Visit, VisitorFactory

MAX_NAMED = 5
"""Addresses that one difference names."""


class AddressResult(t.NamedTuple):
    """One address. *ok*: everything but a login works there; otherwise it failed at *stage* by *detail*.

    *starttls* is None where it was not seen whether it is offered, *mechanisms* where the last EHLO was not reached.
    *fingerprint* is the SHA-256 of the certificate in DER, 64 hex digits, verified or not; empty without TLS.
    """

    address: str
    ok: bool
    stage: str
    detail: str
    fingerprint: str = ""
    starttls: t.Optional[bool] = None
    mechanisms: t.Optional[t.FrozenSet[str]] = None


def examine(addresses: t.Sequence[Address], tls: str, visitor: VisitorFactory, deadline: Deadline) -> list[AddressResult]:
    """Hold the dialogue without a login with each of *addresses* (:data:`connect.MAX_ADDRESSES` at most), in their order."""
    tried, end = list(addresses)[:MAX_ADDRESSES], before(deadline)
    found = Parallel([functools.partial(_examine, address, tls, visitor, end) for address in tried]).results(deadline)
    return [result if isinstance(result, AddressResult) else _unfinished(address, result) for address, result in zip(tried, found)]


def _unfinished(address: Address, result: Exception) -> AddressResult:
    detail = "it did not end in time" if isinstance(result, TimeoutError) else type(result).__name__
    return AddressResult(address.host, False, "connect", detail)


def _examine(address: Address, tls: str, visitor: VisitorFactory, deadline: Deadline) -> AddressResult:
    client = visitor(tls, addresses=[address], verify=True)
    client.deadline = deadline
    visit = client.look()
    error, ready = visit.error, visit.before_tls if tls == "none" else visit.after_tls
    return AddressResult(
        address.host,
        error is None,
        error.stage if error is not None else "",
        outcome(visit) if error is not None else "",
        _fingerprint(visit, address, tls, visitor, deadline),
        visit.before_tls.starttls if visit.before_tls is not None else None,
        _mechanisms(ready),
    )


def _mechanisms(capabilities: Capabilities | None) -> frozenset[str] | None:
    return None if capabilities is None else frozenset(capabilities.auth)


def _fingerprint(visit: Visit, address: Address, tls: str, visitor: VisitorFactory, deadline: Deadline) -> str:
    """Of the certificate that was shown; one that did not verify is read on a second connection."""
    session = visit.session
    if session is None and visit.error is not None and visit.error.stage == "tls" and visit.error.verify_code:
        with visitor(tls, addresses=[address]) as client:
            client.deadline = deadline
            try:
                client.reach_tls()
            except SmtpError:
                return ""
            session = client.session
    return hashlib.sha256(session.certificate).hexdigest() if session is not None and session.certificate else ""


def differences(results: t.Sequence[AddressResult]) -> list[str]:
    """In what the addresses differ, each difference as a sentence; empty if they are all alike."""
    sentences = []
    failed = [result for result in results if not result.ok]
    if failed and len(failed) < len(results):
        reasons = ", ".join(f"{result.address} ({result.stage}: {result.detail})" for result in failed[:MAX_NAMED])
        sentences.append(f"{len(failed)} of {len(results)} addresses do not work: {reasons}")
    sentences += _split("STARTTLS", {result.address: _offered(result.starttls) for result in results if result.starttls is not None})
    certificates = {result.address: f"sha256:{result.fingerprint}" for result in results if result.fingerprint}
    sentences += _split("the certificate", certificates)
    offers = {result.address: _listed(result.mechanisms) for result in results if result.mechanisms is not None}
    return sentences + _split("the offer of AUTH", offers)


def _offered(starttls: bool | None) -> str:
    return "is offered" if starttls else "is not offered"


def _listed(mechanisms: t.Collection[str] | None) -> str:
    return f"is {', '.join(sorted(mechanisms))}" if mechanisms else "is missing"


def _split(what: str, values: t.Mapping[str, str]) -> list[str]:
    """One sentence if the addresses do not all have the same value."""
    groups: dict[str, list[str]] = {}
    for address, value in values.items():
        groups.setdefault(value, []).append(address)
    if len(groups) < 2:
        return []
    parts = [f"{value} on {', '.join(addresses[:MAX_NAMED])}" for value, addresses in groups.items()]
    return [f"{what} differs between the addresses: {'; '.join(parts[:MAX_NAMED])}"]
