# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever was seen of an endpoint."""

from __future__ import annotations

import base64
import errno
import json
import re
import socket
import typing as t

from source import Source
from target_tls import NOW, samples

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import Attempt
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.catalogue import WHO
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.diagnose import diagnose
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.diagnoses import BY_CODE
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.ehlo import Capabilities
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Alternative, Interception, Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl import oauth_token
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.refusal import Refusal
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import chain, x509
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.session import Session
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.transcript import Transcript

KINDS = sorted(value for name, value in vars(Kind).items() if name.isupper())
_STAGES = ("resolve", "connect", "greeting", "ehlo", "starttls", "tls", "ehlo_tls", "auth", "sender", "recipient", "data", "quit", "")
_COMMANDS = ("", "EHLO", "AUTH PLAIN", "MAIL FROM")
_OUTCOMES = ("connected", "refused", "timeout", "reset", "no_answer", "not_tried", "pending", "not_permitted", "host_unreachable", "failed")
_REASONS = ("", "WRONG_VERSION_NUMBER", "CERTIFICATE_REQUIRED", "expired", "not_yet_valid", "unusable", "mismatch", "auth", "refused", "protocol")
_ERRNOS = (None, 0, errno.ECONNRESET, errno.EPIPE, errno.EPERM, socket.EAI_NONAME, socket.EAI_AGAIN, -999)
_VERIFY_CODES = (None, None, 2, 9, 10, 18, 19, 20, 21, 62, 64, 66, 999)
_VERDICTS = ("clean", "stripped", "terminated_by_proxy", "captive_portal", "tarpit", "filtered", "rejected", "unknown")
_HOSTS = ("mx.provider.test", "smtp.gmail.com", "2001:db8::1", "smtp.office365.com", "email-smtp.eu-west-1.amazonaws.com", "{host}")
_PROVIDERS = ("", "", "gmail", "microsoft365", "ses", "no-such-provider")
_SAID = (
    *("535 5.7.8 Username and Password not accepted. p=BadCredentials", "535 5.7.139 SmtpClientAuthentication is disabled for the Tenant"),
    *("554 Message rejected: Email address is not verified in region EU-WEST-1", "451 greylisted, {reply}", "550 5.7.1 {0} {", '{"status":"400"}'),
)
_CLAIMS = {"exp": 1, "nbf": 1, "aud": "https://other.test", "scp": "Mail.Read", "upn": "other@provider.test"}
_FIELD = re.compile(r"\{[a-z_]+\}")


def diagnoses(data: bytes) -> None:
    """There is always a diagnosis of the catalogue, complete and printable, in which every field is filled in."""
    source = _Source(data)
    seen = _observation(source)
    found = diagnose(seen, Transcript().show)
    entry = BY_CODE[found["code"]]
    assert found["who"] in WHO and found["retryable"] is entry.retryable and found["stage"] == seen.failure.stage
    assert found["summary"] and found["remedy"] and all(line.isprintable() for line in [found["summary"], found["remedy"], *found["evidence"]])
    json.dumps(found)
    # A peer may say "{reply}": that is shown as it is, in the evidence or as the value of a field, and never filled in.
    said = set(_FIELD.findall(" ".join((*_HOSTS, *_SAID, *source.texts))))
    assert set(_FIELD.findall(found["summary"] + found["remedy"])) <= said


class _Source(Source):
    """Keeps what texts it has made."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.texts: t.List[str] = []

    def text(self, limit: int = 20) -> str:
        self.texts.append(super().text(limit))
        return self.texts[-1]


def _observation(source: _Source) -> Observation:
    own, issuer = (_certificate(source) for _count in range(2))
    certificates = [one for one in (own, issuer) if one]
    verdict = source.choice((None, *_VERDICTS))
    token = {name: value for name, value in _CLAIMS.items() if source.boolean()}
    return Observation(
        source.choice(_HOSTS),
        source.choice((25, 465, 587, 2525)),
        source.choice(("implicit", "starttls", "none")),
        source.choice(("auto", "plain", "xoauth2")),
        error=_error(source),
        attempts=source.some(lambda: _attempt(source), 2),
        greeting=_reply(source),
        before_tls=_offer(source),
        after_tls=_offer(source),
        mechanism=source.choice((None, "PLAIN", "XOAUTH2")),
        complaints=_complaints(token) if source.boolean() else [],
        provider=source.choice(_PROVIDERS),
        session=Session("TLSv1.3", "TLS_AES_256_GCM_SHA384", source.boolean(), b"") if source.boolean() else None,
        certificate=own,
        chain=certificates,
        explanation=chain.explain(source.choice((18, 19, 20)), certificates, []) if certificates and source.boolean() else None,
        found=source.choice(("", "SMTP in clear text at first")),
        alternatives=source.some(lambda: Alternative(465, source.choice(("implicit", "starttls", "none")), source.boolean(), source.text()), 2),
        interception=Interception(verdict, (source.text(),)) if verdict else None,
        blocked_by=source.some(source.text, 1),
        refusals=source.some(lambda: Refusal("192.0.2.25", source.text(), source.boolean(), source.text(), 5), 1),
        web=source.choice(("", "connected", "refused")),
        notes=source.some(source.text, 1),
        now=NOW,
    )


def _error(source: _Source) -> SmtpError:
    return SmtpError(
        source.choice(KINDS),
        source.text(),
        stage=source.choice(_STAGES),
        reply=_reply(source),
        command=source.choice(_COMMANDS),
        errno=source.choice(_ERRNOS),
        sample=source.choice((source.text(), *_SAID)),
        reason=source.choice((source.text(), *_REASONS)),
        verify_code=source.choice(_VERIFY_CODES),
    )


def _reply(source: _Source) -> t.Optional[Reply]:
    kind = source.number(3)
    if kind == 2:
        said = source.choice(_SAID)
        return Reply(int(said[:3]) if said[:3].isdigit() else 535, [said[4:]])
    return Reply(200 + source.number(400), [source.text(), *source.some(source.text, 2)]) if kind else None


def _offer(source: _Source) -> t.Optional[Capabilities]:
    reply = _reply(source)
    return Capabilities(reply) if reply else None


def _attempt(source: _Source) -> Attempt:
    attempt = Attempt(Address(socket.AF_INET, ("192.0.2.25", 587)), source.choice(_OUTCOMES))
    attempt.errno, attempt.elapsed_ms = source.choice((None, 111, 1)), source.choice((None, 0, 9000))
    return attempt


def _certificate(source: _Source) -> t.Optional[x509.Certificate]:
    if source.boolean():
        return None
    certificate = x509.parse(source.choice(samples()))
    return certificate._replace(subject=source.text(), names=source.some(source.text, 2)) if source.boolean() else certificate


def _complaints(claims: t.Dict[str, t.Any]) -> t.List[t.Tuple[str, str]]:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "none"}, claims))
    text = ".".join((*parts, "signature"))
    return oauth_token.complaints(oauth_token.inspect(text, NOW), "alerts@provider.test", "microsoft365")
