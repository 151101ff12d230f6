# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The diagnosis as the modules return it: the entry of the catalogue, filled in with what was seen, and the evidence."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis import providers, recognise_reply, recognise_tls
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.diagnoses import BY_CODE
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.provider_advice import advice_for
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.recognise import recognise
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings import alternatives
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import timestamp
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.x509 import Certificate

Show = t.Callable[[str], str]
"""Makes any text of a peer fit to print (see Transcript.show)."""

RELEASED = datetime.datetime(2026, 11, 1, tzinfo=datetime.timezone.utc)
"""No clock that is right shows an earlier time, since this file did not exist then."""
_TLS_REMEDIES = {
    "TLS 1.2 or later": "The provider must offer TLS 1.2 or later; older versions are not safe and are not used.",
    "TLS 1.3": "Set minimum_tls to 1.2 (which is safe), or ask the provider for TLS 1.3.",
    "TLS 1.2": "The mechanism that is set binds the login to TLS 1.2, which Python can not do with TLS 1.3: choose one without -plus.",
}
"""By what the endpoint was asked for (see Trust.wanted_tls)."""
_BY_CERTIFICATE = "With mechanism external it is the client certificate that must belong to the account."
_USUAL_LOGIN = "Many providers want the full mail address as user name, and an app password."


def diagnose(seen: Observation, show: Show) -> dict[str, t.Any]:
    """The diagnosis of a failure; ``provider`` is its id, None if it is none that is known."""
    return describe(recognise(seen), seen, show)


def describe(code: str, seen: Observation, show: Show) -> dict[str, t.Any]:
    """As :func:`diagnose`, for a *code* that is known already; what went wrong is in the words of the error of *seen*."""
    entry, provider = BY_CODE[code], recognise_reply.provider_of(seen)
    advice = advice_for(provider, code)
    facts = {name: show(value) for name, value in _facts(seen).items()}
    return {
        "code": code,
        "stage": seen.failure.stage,
        "provider": provider or None,
        "summary": _filled(entry.summary, facts),
        "evidence": [show(line) for line in _evidence(seen)],
        "remedy": _remedy(advice.remedy if advice else entry.remedy, facts),
        "who": advice.who if advice else entry.who,
        "retryable": entry.retryable,
    }


def _filled(template: str, facts: t.Mapping[str, str]) -> str:
    """A field may be empty, so the blanks around it are made one."""
    return " ".join(template.format_map(facts).split())


def _remedy(template: str, facts: t.Mapping[str, str]) -> str:
    """What works comes first, where the catalogue's text does not say where it belongs."""
    if "{switch}" not in template:
        template = "{works} " + template
    return _filled(template, facts)


def _facts(seen: Observation) -> dict[str, str]:
    """The fields that the texts of the catalogue may use."""
    return {**_endpoint_facts(seen), **_certificate_facts(seen), **_login_facts(seen), **_path_facts(seen)}


def _endpoint_facts(seen: Observation) -> dict[str, str]:
    error = seen.failure
    masked = seen.before_tls.starttls_masked if seen.before_tls else ""
    return {
        "where": where(seen.host, seen.port),
        "host": seen.host,
        "port": str(seen.port),
        "mode": seen.mode,
        "stage": error.stage,
        "detail": (masked or "it is missing") if error.kind == Kind.NO_STARTTLS else error.message,
        "reply": str(error.reply or "").rstrip(" ."),
        "sample": error.sample or (seen.greeting.text if seen.greeting else error.message),
        "now": timestamp(seen.now),
        "found": seen.found,
        "tls_wanted": seen.tls_wanted,
        "tls_remedy": _TLS_REMEDIES[seen.tls_wanted],
    }


def _certificate_facts(seen: Observation) -> dict[str, str]:
    expired, blamed = recognise_tls.blamed(seen)
    own = seen.certificate
    return {
        "asked": recognise_tls.asked_name(seen),
        "names": recognise_tls.names_to_use(own.names) if own and own.names else "another name",
        "issuer": own.issuer if own and own.issuer else "issuer not known",
        "fingerprint": f"sha256:{own.fingerprint_sha256}" if own and own.fingerprint_sha256 else "not known",
        "expired": expired,
        "not_before": timestamp(blamed.not_before) if blamed else "a later time",
        "not_after": timestamp(blamed.not_after) if blamed else "an earlier date",
        "clock": _clock(seen),
    }


def _clock(seen: Observation) -> str:
    if seen.now < RELEASED:
        return f"The clock of this server is wrong: it says {timestamp(seen.now)}. Set it (timedatectl)."
    return f"Check the clock of this server first: it says {timestamp(seen.now)}."


def _login_facts(seen: Observation) -> dict[str, str]:
    capabilities = seen.after_tls or seen.before_tls
    provider = providers.BY_ID.get(recognise_reply.provider_of(seen))
    status, scope = recognise_reply.oauth_reason(seen)
    complaints = "; ".join(sentence for _code, sentence in seen.complaints)
    return {
        "wanted": "a mechanism for these credentials" if seen.wanted == "auto" else seen.wanted.upper(),
        "offered": ", ".join(capabilities.auth if capabilities else []) or "nothing",
        "mechanism": seen.mechanism or "the mechanism",
        "tries": _tries(seen.logins),
        "login": _BY_CERTIFICATE if seen.wanted == "external" else provider.login if provider and provider.login else _USUAL_LOGIN,
        "token": complaints or seen.failure.message,
        "status": status,
        "scope": scope,
        "region": recognise_reply.region(seen) or "of this host name",
    }


def _tries(logins: int) -> str:
    if logins > 1:
        return f"It was tried {logins} times (try_all_mechanisms), so the provider may have locked the account for a while."
    return "It was tried once only, so as not to lock the account."


def _path_facts(seen: Observation) -> dict[str, str]:
    works = alternatives.advice(seen)
    return {
        "switch": works or _other_mode(seen),
        "works": works,
        "blocked_by": "; ".join(seen.blocked_by),
        "interception": "; ".join(seen.interception.evidence) if seen.interception else "nothing more was seen",
    }


def _other_mode(seen: Observation) -> str:
    """How to follow what the port speaks; empty if that is not known."""
    if not seen.found:
        return ""
    if seen.mode == "implicit":
        return f"Set tls: starttls for port {seen.port}, or use port 465 with tls: implicit."
    return f"Set tls: implicit for port {seen.port}, or use port 587 with tls: starttls."


def _evidence(seen: Observation) -> list[str]:
    """What was seen, one fact a line."""
    error = seen.failure
    if error.kind == Kind.CONNECT:
        lines = [str(attempt) for attempt in seen.attempts if attempt.outcome != "not_tried"]
    elif error.reply is not None:
        lines = [f"reply to {error.command}: {error.reply}" if error.command else f"reply: {error.reply}"]
    else:
        lines = [f"{error.stage}: {error.message}"]
    if error.kind in (Kind.NO_STARTTLS, Kind.NO_AUTH, Kind.NO_MECHANISM):
        lines += _offers(seen)
    if error.verify_code:
        lines += [f"OpenSSL verify code {error.verify_code}", *_certificate_lines(seen)]
    if error.reply is not None and error.stage == "auth" and error.sample:
        lines.append(f"the server explains: {error.sample}")
    lines += [sentence for _code, sentence in seen.complaints]
    return lines + _surroundings(seen) + seen.notes


def _surroundings(seen: Observation) -> list[str]:
    lines = [f"firewall of this server: {rule}" for rule in seen.blocked_by]
    if seen.interception is not None:
        known = seen.interception.verdict not in ("clean", "unknown")
        lines += [f"verdict on the way there: {seen.interception.verdict.replace('_', ' ')}"] if known else []
        lines += seen.interception.evidence if seen.interception.verdict != "clean" else ()
    return lines


def _offers(seen: Observation) -> list[str]:
    offers = []
    for label, capabilities in (("before TLS", seen.before_tls), ("after TLS", seen.after_tls)):
        if capabilities is not None:
            offers.append(f"offered {label}: {'; '.join(capabilities.lines) or 'nothing'}")
    return offers


def _certificate_lines(seen: Observation) -> list[str]:
    lines = [line for certificate in (seen.certificate,) if certificate for line in _described(certificate)]
    expired, blamed = recognise_tls.blamed(seen)
    if blamed is not None and blamed is not seen.certificate:
        lines.append(f"{expired} is valid from {timestamp(blamed.not_before)} to {timestamp(blamed.not_after)}")
    if seen.explanation is not None:
        lines += seen.explanation.evidence
    if seen.failure.verify_code in (9, 10):
        lines.append(f"local clock: {timestamp(seen.now)}")
    return lines


def _described(certificate: Certificate) -> list[str]:
    return [
        f"certificate for {', '.join(certificate.names) or certificate.subject or 'nobody'}",
        f"issued by {certificate.issuer or 'nobody'}",
        f"valid from {timestamp(certificate.not_before)} to {timestamp(certificate.not_after)}",
    ]


def where(host: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets; the host alone if there is no port."""
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
