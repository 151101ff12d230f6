# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the other ways to a host (other ports, other TLS modes, other addresses) say about the one that failed."""

from __future__ import annotations

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Alternative, Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.refusal import is_own

WORKS = "works"

_UNANSWERED = {"timeout", "no answer", "net unreachable", "no source address", "family not supported"}
"""Outcomes of a connection that nothing on the way answered."""
_BLOCKED = _UNANSWERED | {"host unreachable", "not permitted", "access denied", "not tried", "failed"}
"""Outcomes of a connection that the host itself did not answer."""
_MODES = {"implicit": "implicit TLS", "starttls": "STARTTLS", "none": "no TLS"}


def in_words(outcome: str) -> str:
    """An outcome of connect.py as the results of looks have it."""
    return outcome.replace("_", " ")


def failure_in_words(error: SmtpError) -> str:
    """How a look failed after it was connected, in a few words."""
    if error.kind == Kind.TIMEOUT and not error.sample:
        return f"silent at {error.stage}"
    if error.kind == Kind.NO_STARTTLS:
        return "no STARTTLS offered"
    return error.message


def dropped(seen: Observation) -> bool:
    """Whether nothing at all answered the connection: silence from every address that there is a route to.

    This host itself is not meant: there is nothing on the way to it that could drop anything.
    """
    if seen.error is None or seen.error.kind != Kind.CONNECT:
        return False
    outcomes = {in_words(attempt.outcome) for attempt in seen.attempts} - {"not tried"}
    silent = [attempt.address.host for attempt in seen.attempts if attempt.outcome == "timeout"]
    return outcomes <= _UNANSWERED and any(not is_own(address) for address in silent)


def answered(outcome: str) -> bool:
    """Whether the host answered on that way, with whatever; a reset counts, since only what is up can send one."""
    return bool(outcome) and not set(outcome.split(", ")) <= _BLOCKED


def answering_ports(seen: Observation) -> list[int]:
    """The other ports on which the host answers."""
    ports = {entry.port for entry in seen.alternatives if entry.port != seen.port and answered(entry.outcome)}
    return sorted(ports | ({443} if answered(seen.web) else set()))


def advice(seen: Observation) -> str:
    """What to set so that the endpoint works, with the reason, in one sentence; empty if nothing else works."""
    if seen.error is None:
        return ""
    found = next((entry for entry in seen.alternatives if entry.works and _way(entry) != (seen.port, seen.mode)), None)
    if found is None:
        return ""
    where = "it" if found.port == seen.port else f"port {found.port}"
    return f"Port {seen.port} {_failure(seen)}; {where} answers with {_MODES[found.tls]}: set {_settings(seen, found)}."


def _way(entry: Alternative) -> tuple[int, str]:
    return entry.port, entry.tls


def _settings(seen: Observation, found: Alternative) -> str:
    port = [] if found.port == seen.port else [f"port: {found.port}"]
    mode = [] if found.tls == seen.mode else [f"tls: {found.tls}"]
    return " and ".join(port + mode)


def _failure(seen: Observation) -> str:
    """How the endpoint failed, as what follows "Port 587"."""
    error = seen.failure
    if seen.found:
        return f"speaks {seen.found}"
    if error.kind == Kind.CONNECT:
        if dropped(seen):
            return "is dropped on all addresses"
        refused = {attempt.outcome for attempt in seen.attempts} == {"refused"}
        return "is refused on all addresses" if refused else "can not be connected to"
    if error.verify_code:
        return "shows a certificate that does not verify"
    if error.kind == Kind.TIMEOUT:
        return f"is silent at {error.stage}"
    return _FAILURES.get(error.kind, f"fails at {error.stage}")


_FAILURES = {
    Kind.NO_AUTH: "offers no login",
    Kind.NO_STARTTLS: "offers no STARTTLS",
    Kind.PROXY: "is refused by the proxy",
}
