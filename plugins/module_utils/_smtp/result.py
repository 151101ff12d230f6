# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of one endpoint, as module smtp_auth_info documents it."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import Attempt
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnose import diagnose, timestamp
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.ehlo import Capabilities
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.x509 import Certificate

Show = t.Callable[[str], str]
"""Makes any text of a peer fit to print (see Transcript.show)."""


def facts(seen: Observation, show: Show) -> dict[str, t.Any]:
    """What was seen, by the keys of RETURN; what only the probe knows (name, stages, transcript) is left to it."""
    return {
        "host": seen.host,
        "port": seen.port,
        "tls_mode": seen.mode,
        "ok": seen.error is None,
        "diagnosis": diagnose(seen, show) if seen.error else None,
        "addresses": [_address(attempt) for attempt in seen.attempts],
        "tls": _tls(seen, show),
        "capabilities": {"before_tls": _lines(seen.before_tls, show), "after_tls": _lines(seen.after_tls, show)},
    }


def reply_facts(reply: Reply | None, show: Show) -> dict[str, t.Any]:
    """A reply as ``code``, ``enhanced_code`` and ``text``, each None if there was none."""
    if reply is None:
        return {"code": None, "enhanced_code": None, "text": None}
    return {"code": reply.code, "enhanced_code": reply.enhanced, "text": show(reply.text)}


def offered(seen: Observation, show: Show) -> list[str]:
    """The SASL mechanisms that are offered where the login takes place."""
    capabilities = seen.before_tls if seen.mode == "none" else seen.after_tls
    return [show(name) for name in capabilities.auth] if capabilities else []


def _address(attempt: Attempt) -> dict[str, t.Any]:
    return {
        "address": attempt.address.host,
        "family": attempt.address.family_name,
        "outcome": attempt.outcome,
        "elapsed_ms": attempt.elapsed_ms,
    }


def _tls(seen: Observation, show: Show) -> dict[str, t.Any] | None:
    error = seen.error.message if seen.error is not None and seen.error.kind == Kind.TLS else None
    session, certificate = seen.session, seen.certificate
    if session is None and error is None:
        return None
    return {
        "version": session.version if session else None,
        "cipher": session.cipher if session else None,
        "verified": session.verified if session else False,
        "names": [show(name) for name in certificate.names] if certificate else [],
        "issuer": show(certificate.issuer) if certificate else None,
        "not_after": timestamp(certificate.not_after) if certificate else None,
        "days_left": _days_left(certificate, seen.now) if certificate else None,
        "error": show(error) if error else None,
    }


def _days_left(certificate: Certificate, now: datetime.datetime) -> int:
    """Whole days until the certificate expires; negative if it has."""
    return (certificate.not_after - now).days


def _lines(capabilities: Capabilities | None, show: Show) -> list[str] | None:
    return None if capabilities is None else [show(line) for line in capabilities.lines]
