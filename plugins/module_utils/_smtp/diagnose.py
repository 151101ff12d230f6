# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what was seen to a diagnosis of the catalogue. Nothing is guessed: what no rule fits is ``unknown``."""

from __future__ import annotations

import datetime
import errno
import os
import re
import socket
import ssl
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnoses import BY_CODE
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.x509 import Certificate


class _ReplyRule(t.NamedTuple):
    """Fits if the stage's name begins with *stage*, the code matches, and *text* is found in the whole reply."""

    stage: str
    code: str
    text: str
    diagnosis: str

    def fits(self, stage: str, reply: Reply) -> bool:
        return (
            stage.startswith(self.stage)
            and re.fullmatch(self.code, str(reply.code)) is not None
            and re.search(self.text, str(reply), re.IGNORECASE) is not None
        )


# The first that fits is taken: particular before general. Enhanced codes alone decide nothing, they collide between
# providers (5.7.30 has three meanings), so they only ever stand beside a reply code.
_REPLY_RULES = (
    _ReplyRule("greeting", "4..", "", "greet_421"),
    _ReplyRule("greeting", "5..", "", "greet_554"),
    _ReplyRule("auth", "...", r"too many|rate limit|#AUTH005", "auth_too_many"),
    _ReplyRule("auth", "53[45]", r"application-specific password|InvalidSecondFactor", "auth_app_password_required"),
    _ReplyRule("auth", "534", r"web browser|5\.7\.14", "auth_web_login_required"),
    _ReplyRule("auth", "5..", r"SmtpClientAuthentication is disabled|basic authentication is", "auth_basic_disabled"),
    _ReplyRule("auth", "535", r"security defaults|did not meet the criteria", "auth_policy"),
    _ReplyRule("auth", "5[23]5", r"account (is )?(disabled|locked|suspended)", "auth_account_disabled"),
    _ReplyRule("auth", "525", r"unauthorized ip", "auth_ip_not_allowed"),
    _ReplyRule("auth", "525", "", "auth_account_disabled"),
    _ReplyRule("auth", "535", "", "auth_bad_credentials"),
    _ReplyRule("auth", "534", "", "auth_mech_too_weak"),
    _ReplyRule("auth", "538", "", "auth_encryption_required"),
    _ReplyRule("auth", "530", "starttls|encrypt", "auth_encryption_required"),
    _ReplyRule("auth", "504", "", "auth_mech_unknown"),
    _ReplyRule("auth", "501", r"decode|base64|5\.5\.2", "auth_bad_base64"),
    _ReplyRule("auth", "50[23]", "", "auth_not_enabled"),
    _ReplyRule("auth", "432", "transition|4\\.7\\.12", "auth_password_transition"),
    _ReplyRule("auth", "421", "", "service_closing"),
    _ReplyRule("auth", "4..", "", "auth_temporary"),
    _ReplyRule("auth", "[23]..", "", "auth_unexpected_reply"),
    _ReplyRule("", "421", "", "service_closing"),
    _ReplyRule("ehlo", "501", "", "ehlo_501_bad_name"),
    _ReplyRule("ehlo", "55.", "", "ehlo_550_policy"),
    _ReplyRule("ehlo", "50[024]", "", "ehlo_502"),
    _ReplyRule("starttls", "4..", "", "starttls_454"),
    _ReplyRule("starttls", "5..", "", "starttls_500_502"),
    _ReplyRule("", "4..", "", "reply_temporary"),
    _ReplyRule("", "...", "", "reply_refused"),
)

_RESOLVE_CODES = {
    socket.EAI_NONAME: "dns_nxdomain",
    socket.EAI_NODATA: "dns_no_address",
    socket.EAI_AGAIN: "dns_temporary",
    None: "dns_timeout",
}

# In the order in which they say most about the cause where addresses differ: what this server itself forbids comes
# first, and no route last, since it is what every IPv6 address gives on a host without IPv6.
_CONNECT_CODES = {
    "not_permitted": "tcp_eperm",
    "access_denied": "tcp_eacces",
    "refused": "tcp_refused",
    "reset": "tcp_reset_after_accept",  # a reset that answers the SYN is "refused", so the connection had been accepted
    "host_unreachable": "tcp_host_unreachable",
    "timeout": "tcp_timeout",
    "no_source_address": "tcp_eaddrnotavail",
    "net_unreachable": "tcp_net_unreachable",
}

_VERIFY_CODES = {
    2: "tls_cert_untrusted_issuer",
    9: "tls_cert_not_yet_valid",
    10: "tls_cert_expired",
    18: "tls_cert_self_signed",
    19: "tls_cert_self_signed_in_chain",
    20: "tls_cert_untrusted_issuer",
    21: "tls_cert_untrusted_issuer",
    23: "tls_cert_revoked",
    26: "tls_purpose",
    62: "tls_name_mismatch",
    64: "tls_name_mismatch",
    66: "tls_weak_key",
    67: "tls_weak_key",
    68: "tls_weak_key",
}
"""By X509_V_ERR_* (X509_STORE_CTX_get_error(3))."""

_UNTRUSTED = ("tls_cert_untrusted_issuer", "tls_cert_self_signed", "tls_cert_self_signed_in_chain")

_TLS_REASONS = (
    (r"PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|WRONG_SSL_VERSION", "tls_protocol_too_old"),
    (r"WRONG_VERSION_NUMBER", "tls_not_tls"),
    (r"CERTIFICATE_REQUIRED", "tls_client_cert_required"),
    (r"KEY_TOO_SMALL|MD_TOO_WEAK|DH_KEY", "tls_weak_key"),
    (r"HANDSHAKE_FAILURE|NO_SHARED_CIPHER|INSUFFICIENT_SECURITY", "tls_no_shared_cipher"),
)

_KINDS = {
    Kind.CA_FILE: "cfg_ca_file",
    Kind.CREDENTIALS: "cfg_credentials",
    Kind.INJECTION: "starttls_injection",
    Kind.LINE_TOO_LONG: "line_too_long",
    Kind.REPLY_TOO_LARGE: "reply_too_large",
    Kind.NOT_TLS: "tls_not_tls",
    Kind.NO_MECHANISM: "cap_no_common_mech",
    Kind.CHALLENGE: "auth_unexpected_challenge",
    Kind.UNPROTECTED: "auth_unprotected",
    Kind.INTERNAL: "internal_error",
}


def diagnose(seen: Observation, show: t.Callable[[str], str]) -> dict[str, t.Any]:
    """The diagnosis as the modules return it. *show* makes any text of a peer fit to print (see Transcript)."""
    entry = BY_CODE[recognise(seen)]
    facts = {name: show(value) for name, value in _facts(seen).items()}
    return {
        "code": entry.code,
        "stage": seen.failure.stage,
        "summary": entry.summary.format_map(facts),
        "evidence": [show(line) for line in _evidence(seen)],
        "remedy": entry.remedy.format_map(facts),
        "retryable": entry.retryable,
    }


def recognise(seen: Observation) -> str:
    """The code of the diagnosis that fits what was seen."""
    error = seen.failure
    if seen.found:
        return "tls_wrong_mode"
    if error.kind in _KINDS:
        return _KINDS[error.kind]
    rule = _BY_KIND.get(error.kind)
    return rule(seen) if rule else "unknown"


def _resolve(seen: Observation) -> str:
    return _RESOLVE_CODES.get(seen.failure.errno, "dns_failed")


def _connect(seen: Observation) -> str:
    outcomes = {attempt.outcome for attempt in seen.attempts}
    return next((code for outcome, code in _CONNECT_CODES.items() if outcome in outcomes), "tcp_failed")


def _timeout(seen: Observation) -> str:
    if seen.failure.stage == "greeting" and not seen.failure.sample:
        return "greet_timeout"
    return "tls_handshake_timeout" if seen.failure.stage == "tls" else "deadline_exceeded"


def _closed(seen: Observation) -> str:
    codes = {"greeting": "greet_closed", "tls": "tls_eof", "auth": "auth_dropped"}
    return codes.get(seen.failure.stage, "connection_closed")


def _broken(seen: Observation) -> str:
    if seen.failure.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.ECONNABORTED):
        return "unknown"
    codes = {"greeting": "tcp_reset_after_accept", "tls": "tls_reset", "auth": "auth_dropped"}
    return codes.get(seen.failure.stage, "connection_reset")


def _malformed(seen: Observation) -> str:
    if seen.failure.stage != "greeting":
        return "reply_malformed"
    if re.match(r"HTTP/|<(!doctype|html|\?xml)", seen.failure.sample, re.IGNORECASE):
        return "greet_not_smtp_http"
    return "greet_not_smtp_other"


def _unsolicited(seen: Observation) -> str:
    reply = seen.failure.reply
    return "service_closing" if reply is not None and reply.code == 421 else "reply_unsolicited"


def _reply(seen: Observation) -> str:
    reply = seen.failure.reply
    if reply is None:
        return "unknown"
    return next((rule.diagnosis for rule in _REPLY_RULES if rule.fits(seen.failure.stage, reply)), "unknown")


def _no_starttls(seen: Observation) -> str:
    masked = seen.before_tls is not None and seen.before_tls.starttls_masked
    return "cap_starttls_stripped" if masked else "cap_starttls_absent"


def _no_auth(seen: Observation) -> str:
    if seen.after_tls is None:
        return "cap_auth_absent_plain"
    offered_before = seen.before_tls is not None and "AUTH" in seen.before_tls
    return "cap_auth_only_in_clear" if offered_before else "cap_auth_absent_after_tls"


def _tls(seen: Observation) -> str:
    if seen.failure.verify_code:
        code = _VERIFY_CODES.get(seen.failure.verify_code, "tls_cert_invalid")
        return "tls_ca_store_missing" if code in _UNTRUSTED and not _has_roots() else code
    reason = seen.failure.reason
    return next((code for pattern, code in _TLS_REASONS if re.search(pattern, reason)), "tls_handshake_failed")


def _has_roots() -> bool:
    """Whether the system has any root certificate; a directory of them is read by OpenSSL only when it is needed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    directory = ssl.get_default_verify_paths().capath
    return bool(context.cert_store_stats()["x509_ca"]) or bool(directory and os.listdir(directory))


_BY_KIND: dict[str, t.Callable[[Observation], str]] = {
    Kind.RESOLVE: _resolve,
    Kind.CONNECT: _connect,
    Kind.TIMEOUT: _timeout,
    Kind.CLOSED: _closed,
    Kind.OS_ERROR: _broken,
    Kind.MALFORMED: _malformed,
    Kind.UNSOLICITED: _unsolicited,
    Kind.REPLY: _reply,
    Kind.NO_STARTTLS: _no_starttls,
    Kind.NO_AUTH: _no_auth,
    Kind.TLS: _tls,
}


def _facts(seen: Observation) -> dict[str, str]:
    """The fields that the texts of the catalogue may use."""
    error, certificate = seen.failure, seen.certificate
    capabilities = seen.after_tls or seen.before_tls
    masked = seen.before_tls.starttls_masked if seen.before_tls else ""
    return {
        "where": where(seen.host, seen.port),
        "host": seen.host,
        "port": str(seen.port),
        "mode": seen.mode,
        "stage": error.stage,
        "detail": masked if error.kind == Kind.NO_STARTTLS else error.message,
        "reply": str(error.reply or "").rstrip(" ."),
        "sample": error.sample or error.message,
        "wanted": "PLAIN or LOGIN" if seen.wanted == "auto" else seen.wanted.upper(),
        "offered": ", ".join(capabilities.auth if capabilities else []) or "nothing",
        "mechanism": seen.mechanism or "",
        "names": ", ".join(certificate.names) if certificate and certificate.names else "another name",
        "issuer": certificate.issuer if certificate else "issuer not known",
        "not_before": timestamp(certificate.not_before) if certificate else "a later time",
        "not_after": timestamp(certificate.not_after) if certificate else "an earlier date",
        "now": timestamp(seen.now),
        "found": seen.found,
        "switch": _switch(seen),
    }


def _switch(seen: Observation) -> str:
    if seen.mode == "implicit":
        return f"Set tls: starttls for port {seen.port}, or use port 465 with tls: implicit."
    return f"Set tls: implicit for port {seen.port}, or use port 587 with tls: starttls."


def _evidence(seen: Observation) -> list[str]:
    """What was seen, one fact a line."""
    error = seen.failure
    if error.kind == Kind.CONNECT:
        return [*(str(attempt) for attempt in seen.attempts if attempt.outcome != "not_tried"), *seen.notes]
    if error.reply is not None:
        lines = [f"reply to {error.command}: {error.reply}" if error.command else f"reply: {error.reply}"]
    else:
        lines = [f"{error.stage}: {error.message}"]
    if error.kind in (Kind.NO_STARTTLS, Kind.NO_AUTH, Kind.NO_MECHANISM):
        lines += _offers(seen)
    if error.verify_code:
        lines.append(f"OpenSSL verify code {error.verify_code}")
        lines += _certificate_lines(seen.certificate) if seen.certificate else []
    if error.verify_code in (9, 10):
        lines.append(f"local clock: {timestamp(seen.now)}")
    return lines + seen.notes


def _offers(seen: Observation) -> list[str]:
    offers = []
    for label, capabilities in (("before TLS", seen.before_tls), ("after TLS", seen.after_tls)):
        if capabilities is not None:
            offers.append(f"offered {label}: {'; '.join(capabilities.lines) or 'nothing'}")
    return offers


def _certificate_lines(certificate: Certificate) -> list[str]:
    return [
        f"certificate for {', '.join(certificate.names) or certificate.subject or 'nobody'}",
        f"issued by {certificate.issuer or 'nobody'}",
        f"valid from {timestamp(certificate.not_before)} to {timestamp(certificate.not_after)}",
    ]


def where(host: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def timestamp(moment: datetime.datetime) -> str:
    """ISO 8601 in UTC, to the second."""
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
