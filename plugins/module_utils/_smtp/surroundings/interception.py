# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether something between this server and the host interferes, and what that is seen by.

The verdict claims no more than the evidence does:

* ``clean``: TLS with a certificate that verified, not issued by an inspection product, was reached. What was done to the
  clear text before it is in the evidence all the same.
* ``captive_portal``: HTTP or HTML is the answer on a port of mail.
* ``stripped``: greeting or STARTTLS are overwritten; STARTTLS is offered but not understood; or it is missing here while
  the same host offers it on another address or port, or belongs to a provider that always offers it.
* ``terminated_by_proxy``: the certificate is that of an inspection product, or a provider's host shows one that is
  neither trusted nor of a public CA, or is for other names; or the greeting is that of a scanner, of this server itself,
  or not the provider's.
* ``tarpit``: silence after the connection on this port and all others that connect, or a greeting that does not come to
  its end in :data:`SLOW_MS`.
* ``filtered``: no answer at all from any address on this port, while others of the host answer.
* ``rejected``: a reset or an ICMP error is the answer; by whom is in the evidence as far as the kernel tells.
* ``unknown``: everything else. There may be evidence that is not enough for a verdict.
"""

from __future__ import annotations

import errno
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis import providers
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Interception, Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings import known_devices, refusal
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.alternatives import answering_ports, dropped

SLOW_MS = 10_000
"""A greeting may take its time: postscreen(8) delays it by 6 s, and RFC 5321 section 4.5.3.2.1 asks clients for 5 minutes."""
NEAR_MS = 2
"""A connection that opens within this time was answered nearby ..."""
FAR_MS = 20
"""... and a host that never answers a command in less than this time is far away. Both at once need something between."""

MAIL_PORTS = (25, 465, 587, 2465, 2525, 2587)
"""HTTP on another port is more likely a port that was mistaken than a portal."""
_HTTP = re.compile(r"HTTP/\d|<(!doctype|html|\?xml)", re.IGNORECASE)
_MASKED = re.compile(r"\*{4,}|X{8,}")
_UNTRUSTED = (18, 19, 20, 21)
"""X509_V_ERR_* for a certificate that leads to no trusted root."""
_WRONG_NAME = (62, 64)
_NOT_UNDERSTOOD = (500, 502)


def judge(seen: Observation, own_names: t.Sequence[str] = ()) -> Interception:
    """The verdict on *seen*, failed or not. *own_names*: what this server calls itself (own_name.py, EHLO)."""
    found = [(verdict, rule(seen)) for verdict, rule in _RULES]
    found.insert(2, ("terminated_by_proxy", _greets_as_this_server(seen, own_names)))
    evidence = [line for _verdict, lines in found for line in lines]
    if _proved(seen):
        return Interception("clean", (_proof(seen), *evidence))
    verdict = next((verdict for verdict, lines in found if lines), "unknown")
    return Interception(verdict, tuple(evidence))


def _proved(seen: Observation) -> bool:
    """Whether the host proved who it is, to somebody who does not trust an inspection product's CA."""
    return seen.session is not None and seen.session.verified and not _inspection(seen)


def _proof(seen: Observation) -> str:
    issuer = f", issued by {seen.certificate.issuer}" if seen.certificate else ""
    return f"TLS reaches {seen.host}: its certificate verified{issuer}"


def _captive(seen: Observation) -> list[str]:
    """A portal waits for a request, so an SMTP client that waits for a greeting gets it only by a ClientHello."""
    if seen.port not in MAIL_PORTS or seen.error is None:
        return []
    answers = [(seen.port, seen.error.sample), *((entry.port, entry.outcome) for entry in seen.alternatives)]
    portals = [(port, text) for port, text in answers if _HTTP.search(text)]
    here = any(port == seen.port for port, _text in portals)
    return [f"port {port} answers with HTTP: {text}" for port, text in portals] if here or seen.error.kind == Kind.TIMEOUT else []


def _masked(seen: Observation) -> list[str]:
    lines = []
    if _MASKED.search(_greeting(seen)):
        lines.append(f"a device overwrites the greeting: {_greeting(seen)}")
    if seen.before_tls is not None and seen.before_tls.starttls_masked and not seen.before_tls.starttls:
        lines.append(f"a device overwrites the offer of STARTTLS: {seen.before_tls.starttls_masked}")
    return lines


def _stripped(seen: Observation) -> list[str]:
    error = seen.error
    if error is None:
        return []
    if error.stage == "starttls" and error.reply is not None and error.reply.code in _NOT_UNDERSTOOD:
        return [f"STARTTLS is offered, but the answer to it is {error.reply}"]
    if error.kind != Kind.NO_STARTTLS or (seen.before_tls is not None and seen.before_tls.starttls_masked):
        return []
    lines = []
    for entry in seen.alternatives:
        # That a host has it on port 587 says nothing about a port that is for something of its own.
        if entry.works and entry.tls == "starttls" and (entry.port == seen.port or seen.port in MAIL_PORTS):
            where = f"address {entry.address}" if entry.port == seen.port else f"port {entry.port}"
            lines.append(f"STARTTLS is not offered here, but {where} of the same host offers it")
    provider = providers.BY_ID.get(providers.recognise(seen.host))
    if provider is not None and seen.port in MAIL_PORTS:
        lines.append(f"STARTTLS is not offered here; {provider.name} always offers it")
    return lines


def _terminated(seen: Observation) -> list[str]:
    lines = _inspection(seen)
    scanner = known_devices.scanner(_greeting(seen))
    if scanner:
        lines.append(f"the greeting names a mail scanner ({scanner}): {_greeting(seen)}")
    provider = providers.recognise(seen.host)
    name = providers.BY_ID[provider].name if provider else ""
    if _greeting(seen) and not _MASKED.search(_greeting(seen)) and providers.greeting_is_foreign(provider, _greeting(seen)):
        lines.append(f"the greeting is not one of {name}: {_greeting(seen)}")
    code = seen.error.verify_code if seen.error is not None else None
    certificate = seen.certificate
    if certificate is None or not code or not provider:
        return lines
    if code in _UNTRUSTED and not known_devices.is_public_authority(certificate.issuer):
        lines.append(f"{name} uses certificates of public CAs; this one is issued by {certificate.issuer or 'nobody'}")
    if code in _WRONG_NAME and providers.certificate_is_foreign(provider, certificate.names):
        lines.append(f"the certificate is not one of {name}: it is for {', '.join(certificate.names) or certificate.subject}")
    return lines


def _inspection(seen: Observation) -> list[str]:
    issuers = [certificate.issuer for certificate in (seen.certificate, *seen.chain) if certificate is not None]
    known = {issuer: known_devices.inspection_product(issuer) for issuer in issuers}
    return [f"the certificate comes from an inspection product ({product}): {issuer}" for issuer, product in known.items() if product]


def _greets_as_this_server(seen: Observation, own_names: t.Sequence[str]) -> list[str]:
    greeted = _greeting(seen).split(" ")[0].lower().rstrip(".")
    own = {name.lower().rstrip(".") for name in own_names if name}
    if not greeted or greeted not in own - {seen.host.lower().rstrip("."), "localhost"}:
        return []
    if not seen.peer or refusal.is_own(seen.peer):
        return []
    return [f"{seen.peer} greets with the name of this server, {greeted}: the connection is redirected to it"]


def _tarpit(seen: Observation) -> list[str]:
    error = seen.error
    if error is None or error.kind != Kind.TIMEOUT or error.stage not in ("greeting", "tls") or seen.found:
        return []
    waited = seen.elapsed_ms.get(error.stage, 0)
    if error.sample and waited >= SLOW_MS:
        return [f"in {waited} ms no more came than {error.sample}"]
    silent = [entry.port for entry in seen.alternatives if entry.port != seen.port and entry.outcome.startswith("silent")]
    others = [entry for entry in seen.alternatives if entry.port != seen.port and entry.address]
    if error.sample or not silent or len(silent) < len(others):
        return []
    return [f"port {seen.port} and all others that connect are silent: {', '.join(map(str, silent))}"]


def _filtered(seen: Observation) -> list[str]:
    ports = answering_ports(seen)
    if not dropped(seen) or not ports:
        return []
    tried = len([attempt for attempt in seen.attempts if attempt.outcome == "timeout"])
    what = "the address" if tried == 1 else f"any of {tried} addresses"
    others = ", ".join(map(str, ports))
    return [f"port {seen.port} gets no answer from {what}, while port {others} of the same host answers"]


def _rejected(seen: Observation) -> list[str]:
    error = seen.error
    if error is None:
        return []
    if error.kind == Kind.OS_ERROR and error.errno == errno.ECONNRESET:
        return [f"the connection was opened and then reset at {error.stage}"]
    if error.kind != Kind.CONNECT:
        return []
    told = {found.address for found in seen.refusals}
    lines = [str(found) for found in seen.refusals if not found.is_neighbour_missing]
    return lines + [str(attempt) for attempt in seen.attempts if attempt.outcome == "refused" and attempt.address.host not in told]


def _hints(seen: Observation) -> list[str]:
    """What is worth knowing, but may have harmless causes."""
    lines = [str(found) for found in seen.refusals if found.is_neighbour_missing]
    if dropped(seen) and seen.alternatives and not answering_ports(seen):
        lines.append("no port of the host answers: it is down, or this server is cut off, or all of it is filtered")
    if seen.error is not None and seen.error.verify_code:
        lines += [
            f"the certificate on port {entry.port} verifies, that on port {seen.port} does not"
            for entry in seen.alternatives
            if entry.works and entry.port != seen.port
        ]
    if seen.error is not None and seen.error.verify_code in _WRONG_NAME and seen.certificate is not None:
        greeted = _greeting(seen).split(" ")[0].lower()
        if greeted in (name.lower() for name in seen.certificate.names):
            lines.append(f"greeting and certificate agree that this is {greeted}")
    return lines + _answered_nearby(seen)


def _answered_nearby(seen: Observation) -> list[str]:
    """A connection that opens much faster than any command is answered ends at something between here and the host."""
    connecting = [entry.elapsed_ms for entry in seen.attempts if entry.address.host == seen.peer and entry.outcome == "connected"]
    answers = [seen.elapsed_ms[stage] for stage in ("greeting", "ehlo", "starttls", "ehlo_tls") if stage in seen.elapsed_ms]
    if not connecting or connecting[0] is None or len(answers) < 2 or connecting[0] > NEAR_MS or min(answers) < FAR_MS:
        return []
    return [f"the connection opens in {connecting[0]} ms, but no answer comes in less than {min(answers)} ms"]


def _greeting(seen: Observation) -> str:
    """The text of the greeting, also of one that refuses."""
    reply = seen.greeting
    if reply is None and seen.error is not None and seen.error.stage == "greeting":
        reply = seen.error.reply
    return reply.text if reply is not None else ""


_RULES: tuple[tuple[str, t.Callable[[Observation], list[str]]], ...] = (
    ("captive_portal", _captive),
    ("stripped", _masked),
    ("terminated_by_proxy", _terminated),
    ("stripped", _stripped),
    ("tarpit", _tarpit),
    ("filtered", _filtered),
    ("rejected", _rejected),
    ("unknown", _hints),
)
"""The first that has evidence gives the verdict; the evidence of all is told."""
