# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of one endpoint, as module smtp_auth_info documents it."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import known_words
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import Attempt
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.ehlo import Capabilities
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Interception, Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import timestamp
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.x509 import Certificate

if t.TYPE_CHECKING:
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.login import Login
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.every_address import AddressResult

_TLS_KINDS = (Kind.TLS, Kind.FINGERPRINT, Kind.DANE)

Show = t.Callable[[str], str]
"""Makes any text of a peer fit to print (see Transcript.show)."""


def assemble(
    name: str,
    seen: Observation,
    show: Show,
    *,
    every: t.Sequence[AddressResult] = (),
    stages: t.Sequence[dict[str, t.Any]] = (),
    logins: t.Sequence[Login] = (),
    answers: t.Mapping[str, Reply] | None = None,
    warnings: t.Sequence[str] = (),
    transcript: t.Sequence[str] = (),
) -> dict[str, t.Any]:
    """The whole result. *answers* are the replies that decided, by stage; what is not given did not take place."""
    answers = answers or {}
    return {
        "name": name,
        **_facts(seen, show),
        "addresses": _addresses(seen, every, show),
        "stages": list(stages),
        "auth": _auth(seen, logins, answers.get("auth"), show),
        "sender": _reply(answers.get("sender"), show),
        "recipient": _reply(answers.get("recipient"), show),
        "warnings": [show(text) for text in warnings],
        "transcript": list(transcript),
    }


def _facts(seen: Observation, show: Show) -> dict[str, t.Any]:
    return {
        "host": seen.host,
        "port": seen.port,
        "tls_mode": seen.mode,
        "ok": seen.error is None,
        "diagnosis": _diagnosis(seen, show) if seen.error else None,
        "provider": seen.provider or None,
        "tls": _tls(seen, show),
        "capabilities": {"before_tls": _lines(seen.before_tls, show), "after_tls": _lines(seen.after_tls, show)},
        "interception": _interception(seen.interception, show),
        "alternatives": [{**entry._asdict(), "outcome": show(entry.outcome)} for entry in seen.alternatives],
    }


def overall(results: t.Sequence[dict[str, t.Any]]) -> dict[str, t.Any]:
    """The results of all endpoints, as the module returns them: ``ok``, the first ``diagnosis``, and ``results``."""
    failed = [result for result in results if not result["ok"]]
    return {"ok": not failed, "diagnosis": failed[0]["diagnosis"] if failed else None, "results": list(results)}


def _diagnosis(seen: Observation, show: Show) -> dict[str, t.Any]:
    # Imported here, as in late.py: a login that works does not wait for the catalogue.
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.diagnose import diagnose

    return diagnose(seen, show)


def _reply(reply: Reply | None, show: Show) -> dict[str, t.Any]:
    """A reply as ``code``, ``enhanced_code`` and ``text``, each None if there was none."""
    if reply is None:
        return {"code": None, "enhanced_code": None, "text": None}
    return {"code": reply.code, "enhanced_code": reply.enhanced, "text": show(reply.text)}


def _auth(seen: Observation, logins: t.Sequence[Login], answer: Reply | None, show: Show) -> dict[str, t.Any]:
    """The login: *logins* are those that were tried, *answer* is the reply that decided."""
    return {
        "offered": _offered(seen, show),
        "tried": bool(logins),
        "mechanism": logins[-1].mechanism if logins else None,
        "attempts": [{"mechanism": login.mechanism, **_reply(login.reply, show)} for login in logins],
        "token": _shown(seen.token, show),
        **_reply(answer, show),
    }


def _addresses(seen: Observation, every: t.Sequence[AddressResult], show: Show) -> list[dict[str, t.Any]]:
    """What became of each address; *every* adds what a dialogue with each of them came to."""
    examined = {entry.address: entry for entry in every}
    return [{**_address(attempt), **_examined(examined.get(attempt.address.host), show)} for attempt in seen.attempts]


def _address(attempt: Attempt) -> dict[str, t.Any]:
    return {
        "address": attempt.address.host,
        "family": attempt.address.family_name,
        "outcome": attempt.outcome,
        "elapsed_ms": attempt.elapsed_ms,
    }


def _examined(found: AddressResult | None, show: Show) -> dict[str, t.Any]:
    if found is None:
        return {}
    return {"ok": found.ok, "stage": found.stage, "detail": show(found.detail), "fingerprint_sha256": found.fingerprint or None}


def _offered(seen: Observation, show: Show) -> list[str]:
    """The SASL mechanisms that are offered where the login takes place."""
    capabilities = seen.before_tls if seen.mode == "none" else seen.after_tls
    return [known_words.mechanism(name, show) for name in capabilities.auth] if capabilities else []


def _interception(found: Interception | None, show: Show) -> dict[str, t.Any]:
    verdict, evidence = found or Interception("unknown")
    return {"verdict": verdict, "evidence": [show(line) for line in evidence]}


def _shown(value: t.Any, show: Show) -> t.Any:
    """The same structure with every text in it made fit to print."""
    if isinstance(value, str):
        return show(value)
    if isinstance(value, list):
        return [_shown(one, show) for one in value]
    if isinstance(value, dict):
        return {name: _shown(one, show) for name, one in value.items()}
    return value


def _tls(seen: Observation, show: Show) -> dict[str, t.Any] | None:
    error = seen.error.message if seen.error is not None and seen.error.kind in _TLS_KINDS else None
    session, certificate = seen.session, seen.certificate
    if session is None and error is None:
        return None
    return {
        "version": session.version if session else None,
        "cipher": session.cipher if session else None,
        "verified": session.verified if session else False,
        "names": [known_words.certificate_name(name, seen.server_name or seen.host, show) for name in certificate.names] if certificate else [],
        **(_certificate(certificate, show) if certificate else dict.fromkeys(_CERTIFICATE)),
        "days_left": _days_left(certificate, seen.now) if certificate else None,
        "chain": [_certificate(one, show) for one in seen.chain],
        "dane": session.dane if session else None,
        "error": show(error) if error else None,
    }


_CERTIFICATE = ("subject", "issuer", "key_type", "key_bits", "not_before", "not_after", "fingerprint_sha256")


def _certificate(certificate: Certificate, show: Show) -> dict[str, t.Any]:
    return {
        "subject": show(certificate.subject),
        "issuer": show(certificate.issuer),
        "key_type": certificate.key_type,
        "key_bits": certificate.key_bits,
        "not_before": timestamp(certificate.not_before),
        "not_after": timestamp(certificate.not_after),
        "fingerprint_sha256": certificate.fingerprint_sha256,
    }


def _days_left(certificate: Certificate, now: datetime.datetime) -> int:
    """Whole days until the certificate expires; negative if it has."""
    return (certificate.not_after - now).days


def _lines(capabilities: Capabilities | None, show: Show) -> list[str] | None:
    return None if capabilities is None else [known_words.capability(line, show) for line in capabilities.lines]
