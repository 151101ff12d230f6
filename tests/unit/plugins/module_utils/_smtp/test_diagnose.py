# SPDX-License-Identifier: GPL-3.0-or-later
"""From what was seen to a diagnosis, other than by a reply (test_diagnose_replies.py): rules, texts, evidence, the whole catalogue."""

from __future__ import annotations

import datetime
import errno
import os
import re
import socket
import string
import typing as t

import pytest
from recorded_replies import CASES, ELSEWHERE, parsed

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import Attempt
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis import catalogue_postfix, diagnose, providers, recognise, recognise_tls
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.catalogue import WHO
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.diagnoses import AREAS, BY_CODE, CATALOGUE
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.provider_advice import ADVICE
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.ehlo import Capabilities
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Alternative, Interception, Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import chain
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.x509 import Certificate

UTC = datetime.timezone.utc
NOW = datetime.datetime(2026, 11, 23, 12, tzinfo=UTC)


def seen(kind: str, stage: str, message: str = "it did not go on", facts: t.Optional[t.Dict[str, t.Any]] = None, **error: t.Any) -> Observation:
    """A failure of *kind* at *stage*; *facts* are what else was seen."""
    given = {"host": "smtp.example.net", "port": 587, "mode": "starttls", "now": NOW, **(facts or {})}
    return Observation(error=SmtpError(kind, message, stage=stage, **error), **given)


def attempts(*outcomes: str) -> t.List[Attempt]:
    return [Attempt(Address(socket.AF_INET, (f"192.0.2.{number}", 587)), outcome) for number, outcome in enumerate(outcomes, 1)]


def offer(*lines: str) -> Capabilities:
    return Capabilities(parsed("\n".join([f"250-{line}" for line in ["smtp.example.net", *lines]] + ["250 HELP"])))


def certificate(subject: str, issuer: str, names: t.Sequence[str] = (), first: str = "2026-01-01", last: str = "2027-01-01") -> Certificate:
    dates = [datetime.datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC) for day in (first, last)]
    return Certificate(subject, issuer, list(names), dates[0], dates[1], fingerprint_sha256="ab" * 32)


LEAF = certificate("CN=smtp.example.net", "CN=Example Issuing CA", ["smtp.example.net", "*.mail.example.net"])
PROXY_LEAF = certificate("CN=smtp.gmail.com", "CN=Inspection Root, O=Fortinet", ["smtp.gmail.com"])
MASKED = Reply(220, ["*" * 40])
MISSING = chain.Explanation(chain.MISSING_INTERMEDIATE, ("the server sent 1 certificate", "its issuer was issued by CN=Root"))
UNKNOWN = chain.Explanation(chain.UNKNOWN_ROOT, ("the server sent 1 certificate",))
WORKS_465 = [Alternative(465, "implicit", True, "works", "192.0.2.1", 40)]
SILENT_ELSEWHERE = [Alternative(465, "implicit", False, "silent at tls", "192.0.2.1")]


def verdict(name: str, *evidence: str) -> t.Dict[str, t.Any]:
    return {"interception": Interception(name, evidence or ("something speaks for it",))}


def unverified(code: int, **facts: t.Any) -> Observation:
    given = {"certificate": LEAF, "chain": [LEAF], **facts}
    return seen(Kind.TLS, "tls", "certificate verification failed", given, verify_code=code, reason="CERTIFICATE_VERIFY_FAILED")


def tls_failure(reason: str) -> Observation:
    return seen(Kind.TLS, "tls", f"TLS failed: {reason}", reason=reason)


def refused(stage: str, text: str, **facts: t.Any) -> Observation:
    return seen(Kind.REPLY, stage, text, facts, reply=parsed(text), command=stage.upper())


SIGHTINGS: t.List[t.Tuple[str, Observation]] = [
    # -- this host, names, addresses -----------------------------------------------------------------------------------
    ("cfg_ca_file", seen(Kind.CA_FILE, "tls", "/etc/x.pem: No such file or directory")),
    ("cfg_client_certificate", seen(Kind.CLIENT_CERTIFICATE, "tls", "/etc/x.key: Permission denied")),
    ("cfg_credentials", seen(Kind.CREDENTIALS, "auth", "the password holds a NUL")),
    ("dns_nxdomain", seen(Kind.RESOLVE, "resolve", errno=socket.EAI_NONAME)),
    ("dns_no_address", seen(Kind.RESOLVE, "resolve", errno=socket.EAI_NODATA)),
    ("dns_no_address_of_family", seen(Kind.RESOLVE, "resolve", errno=socket.EAI_NODATA, reason="family")),
    ("dns_temporary", seen(Kind.RESOLVE, "resolve", errno=socket.EAI_AGAIN)),
    ("dns_failed", seen(Kind.RESOLVE, "resolve", errno=socket.EAI_FAIL)),
    ("dns_timeout", seen(Kind.RESOLVE, "resolve")),
    ("tcp_refused", seen(Kind.CONNECT, "connect", facts={"attempts": attempts("net_unreachable", "refused")})),
    ("tcp_timeout", seen(Kind.CONNECT, "connect", facts={"attempts": attempts("timeout", "net_unreachable")})),
    ("tcp_net_unreachable", seen(Kind.CONNECT, "connect", facts={"attempts": attempts("net_unreachable")})),
    ("tcp_host_unreachable", seen(Kind.CONNECT, "connect", facts={"attempts": attempts("timeout", "host_unreachable")})),
    ("tcp_eperm", seen(Kind.CONNECT, "connect", facts={"attempts": attempts("refused", "not_permitted")})),
    ("tcp_eacces", seen(Kind.CONNECT, "connect", facts={"attempts": attempts("access_denied")})),
    ("tcp_eaddrnotavail", seen(Kind.CONNECT, "connect", facts={"attempts": attempts("no_source_address")})),
    ("tcp_reset_after_accept", seen(Kind.CONNECT, "connect", facts={"attempts": attempts("reset")})),
    ("tcp_failed", seen(Kind.CONNECT, "connect", facts={"attempts": attempts("failed")})),
    ("egress_blocked_local", seen(Kind.CONNECT, "connect", facts={"attempts": attempts("timeout"), "blocked_by": ["inet outpost_smtp out: reject"]})),
    ("egress_blocked_local", seen(Kind.CONNECT, "connect", facts={"attempts": attempts("refused"), "blocked_by": ["a"], "web": "connected"})),
    ("egress_blocked_upstream", seen(Kind.CONNECT, "connect", facts={"attempts": attempts("timeout", "timeout"), "web": "connected"})),
    ("egress_blocked_upstream", seen(Kind.CONNECT, "connect", facts={"attempts": attempts("timeout"), "alternatives": WORKS_465})),
    ("tcp_timeout", seen(Kind.CONNECT, "connect", facts={"attempts": attempts("timeout"), "web": "timeout"})),
    ("tcp_refused", seen(Kind.CONNECT, "connect", facts={"attempts": attempts("timeout", "refused"), "web": "connected"})),
    ("proxy_unreachable", seen(Kind.PROXY, "connect", "proxy.example.net: refused", reason="unreachable")),
    ("proxy_auth", seen(Kind.PROXY, "connect", "407 Proxy Authentication Required", reason="auth")),
    ("proxy_refused", seen(Kind.PROXY, "connect", "403 Forbidden", reason="refused")),
    ("proxy_protocol", seen(Kind.PROXY, "connect", "the answer was no SOCKS5", reason="protocol")),
    # -- greeting to STARTTLS ------------------------------------------------------------------------------------------
    ("tls_wrong_mode", seen(Kind.TIMEOUT, "greeting", facts={"found": "TLS from the first byte (implicit TLS)"})),
    ("greet_timeout", seen(Kind.TIMEOUT, "greeting")),
    ("deadline_exceeded", seen(Kind.TIMEOUT, "greeting", sample="220 mx")),
    ("greet_tarpit", seen(Kind.TIMEOUT, "greeting", facts={**verdict("tarpit"), "alternatives": SILENT_ELSEWHERE})),
    ("greet_tarpit", seen(Kind.TIMEOUT, "greeting", facts=verdict("tarpit"), sample="2")),
    ("greet_closed", seen(Kind.CLOSED, "greeting")),
    ("tcp_reset_after_accept", seen(Kind.OS_ERROR, "greeting", errno=errno.ECONNRESET)),
    ("greet_421", refused("greeting", "421 4.7.0 Too busy")),
    ("greet_554", refused("greeting", "554 5.7.1 No service for you")),
    ("greet_not_smtp_http", seen(Kind.MALFORMED, "greeting", sample="HTTP/1.1 400 Bad Request")),
    ("greet_not_smtp_http", seen(Kind.MALFORMED, "greeting", sample="<!DOCTYPE html>")),
    ("greet_not_smtp_other", seen(Kind.MALFORMED, "greeting", sample="SSH-2.0-OpenSSH_9.2p1")),
    ("greet_captive", seen(Kind.MALFORMED, "greeting", facts=verdict("captive_portal"), sample="HTTP/1.1 302 Found")),
    ("greet_captive", seen(Kind.NOT_TLS, "tls", facts=verdict("captive_portal"), sample="HTTP/1.1 302 Found")),
    ("greet_masked", seen(Kind.NO_STARTTLS, "starttls", facts={"greeting": MASKED, "before_tls": offer("8BITMIME"), **verdict("stripped")})),
    ("greet_masked", refused("ehlo", "500 5.5.1 unrecognized command", greeting=MASKED)),
    ("service_closing", refused("ehlo", "421 4.3.2 Closing", greeting=MASKED)),
    ("ehlo_502", refused("ehlo", "502 5.5.2 unrecognized command", greeting=Reply(220, ["mx.example.net ESMTP"]))),
    ("cap_starttls_absent", seen(Kind.NO_STARTTLS, "starttls", facts={"before_tls": offer("8BITMIME")})),
    ("cap_starttls_stripped", seen(Kind.NO_STARTTLS, "starttls", facts={"before_tls": offer("8BITMIME", "XXXXXXXA"), "greeting": MASKED})),
    ("cap_starttls_stripped", seen(Kind.NO_STARTTLS, "starttls", facts={"before_tls": offer("8BITMIME"), **verdict("stripped")})),
    ("starttls_500_502", refused("starttls", "502 5.5.1 Not implemented", **verdict("stripped"))),
    ("starttls_454", refused("starttls", "454 4.7.0 TLS not available", greeting=MASKED)),
    ("starttls_injection", seen(Kind.INJECTION, "starttls")),
    # -- TLS -----------------------------------------------------------------------------------------------------------
    ("tls_not_tls", seen(Kind.NOT_TLS, "tls", sample="HTTP/1.1 400 Bad Request")),
    ("tls_handshake_timeout", seen(Kind.TIMEOUT, "tls")),
    ("tls_reset", seen(Kind.OS_ERROR, "tls", errno=errno.ECONNRESET)),
    ("tls_eof", seen(Kind.CLOSED, "tls")),
    ("tls_not_tls", tls_failure("WRONG_VERSION_NUMBER")),
    ("tls_protocol_too_old", tls_failure("TLSV1_ALERT_PROTOCOL_VERSION")),
    ("tls_protocol_too_old", tls_failure("UNSUPPORTED_PROTOCOL")),
    ("tls_client_cert_required", tls_failure("TLSV13_ALERT_CERTIFICATE_REQUIRED")),
    ("tls_weak_key", tls_failure("DH_KEY_TOO_SMALL")),
    ("tls_no_shared_cipher", tls_failure("SSLV3_ALERT_HANDSHAKE_FAILURE")),
    ("tls_handshake_failed", tls_failure("TLSV1_ALERT_INTERNAL_ERROR")),
    ("tls_cert_untrusted_issuer", unverified(2)),
    ("tls_cert_untrusted_issuer", unverified(20)),
    ("tls_cert_untrusted_issuer", unverified(20, explanation=UNKNOWN)),
    ("tls_cert_missing_intermediate", unverified(20, explanation=MISSING)),
    ("tls_cert_missing_intermediate", unverified(21, explanation=MISSING)),
    ("tls_cert_self_signed", unverified(18, explanation=UNKNOWN)),
    ("tls_cert_self_signed_in_chain", unverified(19)),
    ("tls_intercepted", unverified(19, certificate=PROXY_LEAF, **verdict("terminated_by_proxy"))),
    ("tls_intercepted", unverified(62, certificate=PROXY_LEAF, **verdict("terminated_by_proxy"))),
    ("tls_cert_expired", unverified(10, **verdict("terminated_by_proxy"))),
    ("tls_cert_not_yet_valid", unverified(9)),
    ("tls_name_mismatch", unverified(62)),
    ("tls_name_mismatch", unverified(64)),
    ("tls_cert_revoked", unverified(23)),
    ("tls_purpose", unverified(26)),
    ("tls_weak_key", unverified(66)),
    ("tls_weak_key", unverified(67)),
    ("tls_weak_key", unverified(68)),
    ("tls_dane_mismatch", unverified(65)),
    ("tls_cert_invalid", unverified(33)),
    ("tls_fingerprint_mismatch", seen(Kind.FINGERPRINT, "tls", facts={"certificate": LEAF})),
    ("tls_dane_mismatch", seen(Kind.DANE, "tls", "no TLSA record matches", reason="mismatch")),
    ("tls_dane_unusable", seen(Kind.DANE, "tls", "all TLSA records are unusable", reason="unusable")),
    # -- login ---------------------------------------------------------------------------------------------------------
    ("cap_auth_absent_plain", seen(Kind.NO_AUTH, "auth", facts={"mode": "none", "before_tls": offer("8BITMIME")})),
    ("cap_auth_absent_after_tls", seen(Kind.NO_AUTH, "auth", facts={"before_tls": offer("STARTTLS"), "after_tls": offer("8BITMIME")})),
    ("cap_auth_only_in_clear", seen(Kind.NO_AUTH, "auth", facts={"before_tls": offer("AUTH PLAIN"), "after_tls": offer("8BITMIME")})),
    ("cap_no_common_mech", seen(Kind.NO_MECHANISM, "auth", facts={"after_tls": offer("AUTH XOAUTH2")})),
    ("auth_mech_unusable", seen(Kind.NO_MECHANISM, "auth", reason="unusable", facts={"after_tls": offer("AUTH SCRAM-SHA-1-PLUS")})),
    ("auth_unprotected", seen(Kind.UNPROTECTED, "auth")),
    ("auth_dropped", seen(Kind.CLOSED, "auth")),
    ("auth_dropped", seen(Kind.OS_ERROR, "auth", errno=errno.EPIPE)),
    ("auth_unexpected_challenge", seen(Kind.CHALLENGE, "auth", facts={"mechanism": "LOGIN"})),
    ("auth_server_signature", seen(Kind.SERVER_SIGNATURE, "auth", facts={"mechanism": "SCRAM-SHA-256"})),
    ("oauth_token_expired", seen(Kind.TOKEN, "auth", "the access token has expired at 2026-11-23T11:00:00Z", reason="expired")),
    ("oauth_token_not_yet_valid", seen(Kind.TOKEN, "auth", "the access token is not valid before 2026-11-24T11:00:00Z", reason="not_yet_valid")),
    ("oauth_rejected", refused("auth", "535 5.7.8 Bad token", mechanism="OAUTHBEARER")),
    ("oauth_wrong_audience", refused("auth", "535 5.7.3 No", mechanism="XOAUTH2", complaints=[("oauth_wrong_audience", "for Graph")])),
    ("oauth_missing_scope", refused("auth", "535 5.7.3 No", mechanism="XOAUTH2", complaints=[("oauth_missing_scope", "no SMTP.Send")])),
    ("oauth_wrong_account", refused("auth", "535 5.7.3 No", mechanism="XOAUTH2", complaints=[("oauth_wrong_account", "for a@example.org")])),
    # -- anywhere ------------------------------------------------------------------------------------------------------
    ("reply_malformed", seen(Kind.MALFORMED, "ehlo", sample="hello")),
    ("reply_too_large", seen(Kind.REPLY_TOO_LARGE, "ehlo")),
    ("line_too_long", seen(Kind.LINE_TOO_LONG, "greeting")),
    ("reply_unsolicited", seen(Kind.UNSOLICITED, "ehlo", reply=Reply(250, ["ok"]))),
    ("reply_unsolicited", seen(Kind.UNSOLICITED, "ehlo")),
    ("service_closing", seen(Kind.UNSOLICITED, "ehlo", reply=Reply(421, ["4.4.2 idle"]))),
    ("connection_closed", seen(Kind.CLOSED, "ehlo")),
    ("connection_reset", seen(Kind.OS_ERROR, "ehlo_tls", errno=errno.ECONNRESET)),
    ("deadline_exceeded", seen(Kind.TIMEOUT, "data")),
    ("unknown", seen(Kind.OS_ERROR, "ehlo", errno=errno.EIO)),
    ("unknown", seen("something new", "ehlo")),
    ("unknown", seen(Kind.REPLY, "ehlo")),
    ("unknown", seen(Kind.PROXY, "connect", reason="something new")),
    ("internal_error", seen(Kind.INTERNAL, "auth", "ValueError in client.py, line 1")),
]


@pytest.mark.parametrize(("code", "sighting"), SIGHTINGS, ids=lambda value: value if isinstance(value, str) else "")
def test_sighting(code: str, sighting: Observation) -> None:
    diagnosis = diagnose.diagnose(sighting, str)

    assert diagnosis["code"] == code, diagnosis
    assert diagnosis["evidence"] and diagnosis["who"] in WHO
    assert "{" not in diagnosis["summary"] + diagnosis["remedy"] and "  " not in diagnosis["summary"] + diagnosis["remedy"]
    assert diagnosis["summary"].startswith("smtp.example.net:587")


def test_no_roots_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: t.Any) -> None:
    for name, value in (("SSL_CERT_FILE", tmp_path / "none.pem"), ("SSL_CERT_DIR", tmp_path)):
        monkeypatch.setenv(name, str(value))

    assert recognise.recognise(unverified(20, explanation=MISSING)) == "tls_ca_store_missing"
    assert recognise.recognise(unverified(62)) == "tls_name_mismatch"


def test_every_entry_is_reached() -> None:
    """By the cases here, those of the replies, and for Postfix's own configuration by test_smtp_client.py and its kin."""
    reached = {code for code, _sighting in SIGHTINGS} | {case.code for case in CASES + ELSEWHERE} | {"tls_ca_store_missing"}

    assert set(BY_CODE) - reached == {entry.code for entry in catalogue_postfix.POSTFIX}
    assert reached <= set(BY_CODE)


def test_every_rule_is_reached() -> None:
    deciding = {next((rule for rule in recognise.SEEN_RULES if rule.fits(sighting)), None) for _code, sighting in SIGHTINGS}

    assert set(recognise.SEEN_RULES) <= deciding


# -- texts -----------------------------------------------------------------------------------------------------------------


def test_codes_are_unique_and_named_alike() -> None:
    assert len(BY_CODE) == len(CATALOGUE) >= 70
    assert all(re.fullmatch(r"[a-z][a-z0-9_]+", code) for code in BY_CODE)
    for entry in CATALOGUE:
        assert entry.source and entry.who in WHO and entry.summary.startswith("{where}") and entry.summary.endswith("."), entry.code
        assert entry.remedy.endswith((".", "}", ")")), entry.code


def test_texts_use_known_fields_only() -> None:
    known = set(diagnose._facts(seen("unknown", "ehlo")))
    texts = [text for entry in CATALOGUE for text in (entry.summary, entry.remedy)] + [advice.remedy for advice in ADVICE]
    used = {name for text in texts for _literal, name, _spec, _conversion in string.Formatter().parse(text) if name}

    assert used <= known and known - used <= {"works", "stage", "found", "mode"} | used


def test_advice_is_for_what_there_is() -> None:
    for advice in ADVICE:
        assert advice.provider in providers.BY_ID and advice.code in BY_CODE and advice.who in WHO, advice
        assert advice.remedy != BY_CODE[advice.code].remedy and advice.remedy.endswith("."), advice
    assert len({(advice.provider, advice.code) for advice in ADVICE}) == len(ADVICE)


def test_text_of_a_server_is_no_template() -> None:
    sighting = refused("auth", "535 {host} {0} {{x}} %s {{ lookup('pipe', 'id') }}")

    assert "535 {host} {0} {{x}} %s {{ lookup('pipe', 'id') }}" in diagnose.diagnose(sighting, str)["summary"]


def test_all_that_a_peer_says_goes_through_show() -> None:
    """Names, issuers, replies and notes: a password that comes back in any of them is masked by it."""
    hostile = certificate("CN=s3cret", "CN=s3cret CA", ["s3cret.example.net"])
    facts = {"certificate": hostile, "chain": [hostile], "notes": ["s3cret"], "blocked_by": ["s3cret"], **verdict("terminated_by_proxy", "s3cret")}
    for sighting in (
        unverified(62, **facts),
        refused("auth", "535 s3cret", complaints=[("oauth_wrong_account", "s3cret")], mechanism="XOAUTH2", **facts),
        seen(Kind.CONNECT, "connect", "s3cret", {"attempts": attempts("timeout"), **facts}),
    ):
        diagnosis = diagnose.diagnose(sighting, lambda text: text.replace("s3cret", "********"))
        assert "s3cret" not in repr(diagnosis) and "********" in repr(diagnosis)


def test_describe_gives_a_diagnosis_that_is_known_already() -> None:
    for entry in catalogue_postfix.POSTFIX:
        given = diagnose.describe(entry.code, seen("postfix", "auth", "no line for [smtp.example.net]:587"), str)
        assert given["code"] == entry.code and "no line for [smtp.example.net]:587" in given["summary"]
        assert given["who"] == "operator" and given["retryable"] is False and "{" not in given["summary"] + given["remedy"]


def test_a_diagnosis_has_the_documented_keys() -> None:
    given = diagnose.diagnose(seen(Kind.CLOSED, "greeting"), str)

    assert list(given) == ["code", "stage", "provider", "summary", "evidence", "remedy", "who", "retryable"]
    assert given["provider"] is None
    assert diagnose.diagnose(seen(Kind.CLOSED, "greeting", facts={"host": "SMTP.gmail.com."}), str)["provider"] == "gmail"


# -- certificates ----------------------------------------------------------------------------------------------------------

EXPIRED_CA = certificate("CN=Example Issuing CA", "CN=Example Root", first="2016-05-01", last="2026-05-01")


def test_the_certificate_that_expired_is_named() -> None:
    own = certificate("CN=smtp.example.net", "CN=Example Issuing CA", first="2025-01-01", last="2026-02-03")
    leaf, intermediate = (diagnose.diagnose(unverified(10, certificate=given[0], chain=given), str) for given in ([own], [LEAF, EXPIRED_CA]))

    assert "the certificate expired on 2026-02-03T00:00:00Z" in leaf["summary"]
    assert "the intermediate certificate CN=Example Issuing CA expired on 2026-05-01T00:00:00Z" in intermediate["summary"]
    assert "2016-05-01" in intermediate["summary"] and "2027-01-01" not in intermediate["summary"]
    for diagnosis in (leaf, intermediate):
        assert "it says 2026-11-23T12:00:00Z" in diagnosis["remedy"] and "local clock: 2026-11-23T12:00:00Z" in diagnosis["evidence"]


def test_the_clock_is_a_suspect() -> None:
    suspect = diagnose.diagnose(unverified(9, now=datetime.datetime(2026, 11, 22, tzinfo=UTC)), str)
    guilty = diagnose.diagnose(unverified(9, now=datetime.datetime(1970, 1, 2, tzinfo=UTC)), str)

    assert suspect["remedy"].startswith("Check the clock of this server first: it says 2026-11-22T00:00:00Z.")
    assert guilty["remedy"].startswith("The clock of this server is wrong: it says 1970-01-02T00:00:00Z.")
    assert "valid from 2026-01-01T00:00:00Z only" in guilty["summary"]


def test_names_that_would_match() -> None:
    message = "certificate verification failed: Hostname mismatch, certificate is not valid for 'relay.example.org'."
    sighting = seen(Kind.TLS, "tls", message, {"certificate": LEAF}, verify_code=62)
    diagnosis = diagnose.diagnose(sighting, str)

    assert "not for relay.example.org" in diagnosis["summary"], "the name that was asked for, which server_name may have set"
    assert "smtp.example.net, *.mail.example.net (any one word for the *)" in diagnosis["remedy"]
    many = certificate("CN=x", "CN=y", [f"h{number}.example.net" for number in range(60)])
    assert "and 50 more" in diagnose.diagnose(unverified(62, certificate=many), str)["summary"]


def test_why_the_chain_ends_is_in_the_evidence() -> None:
    assert "its issuer was issued by CN=Root" in diagnose.diagnose(unverified(20, explanation=MISSING), str)["evidence"]


def test_all_verify_codes_lead_somewhere() -> None:
    assert set(recognise_tls.VERIFY_CODES.values()) <= set(BY_CODE)
    assert {particular for _general, particular, _condition in recognise_tls.REFINED} <= set(BY_CODE)


# -- what works instead ----------------------------------------------------------------------------------------------------


def test_the_way_that_works_comes_first() -> None:
    facts = {"attempts": attempts("timeout", "timeout"), "alternatives": WORKS_465, **verdict("filtered", "port 587 gets no answer")}
    diagnosis = diagnose.diagnose(seen(Kind.CONNECT, "connect", facts=facts), str)

    assert diagnosis["code"] == "egress_blocked_upstream" and "port 587 gets no answer" in diagnosis["summary"]
    assert "set port: 465 and tls: implicit" in diagnosis["remedy"]
    assert "verdict on the way there: filtered" in diagnosis["evidence"]


@pytest.mark.parametrize(("kind", "stage"), [(Kind.CLOSED, "greeting"), (Kind.NO_STARTTLS, "starttls"), (Kind.NO_AUTH, "auth")])
def test_the_way_that_works_is_told_with_any_diagnosis(kind: str, stage: str) -> None:
    diagnosis = diagnose.diagnose(seen(kind, stage, facts={"alternatives": WORKS_465, "after_tls": offer("8BITMIME")}), str)

    assert re.match(r"Port 587 .*: set port: 465 and tls: implicit\. \S", diagnosis["remedy"])
    assert "set port" not in diagnose.diagnose(seen(kind, stage, facts={"after_tls": offer("8BITMIME")}), str)["remedy"]


def test_addresses_that_were_not_tried_are_no_evidence() -> None:
    sighting = seen(Kind.CONNECT, "connect", facts={"attempts": attempts("refused", *["not_tried"] * 3000)})

    assert diagnose.diagnose(sighting, str)["evidence"] == ["192.0.2.1: refused"]


def test_what_no_rule_fits_is_unknown_with_its_evidence() -> None:
    diagnosis = diagnose.diagnose(seen("something new", "ehlo", "odd"), str)

    assert diagnosis["code"] == "unknown" and diagnosis["evidence"] == ["ehlo: odd"]


# -- providers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "names", "greeting", "provider"),
    [
        ("smtp.gmail.com", (), "", "gmail"),
        ("SMTP-RELAY.GMAIL.COM.", (), "", "gmail"),
        ("smtp.office365.com", (), "", "microsoft365"),
        ("example-org.mail.protection.outlook.com", (), "", "microsoft365"),
        ("smtp-mail.outlook.com", (), "", "outlook"),
        ("smtp.aol.com", (), "", "yahoo"),
        ("smtp.mail.me.com", (), "", "icloud"),
        ("email-smtp.us-east-1.amazonaws.com", (), "", "ses"),
        ("email-smtp-fips.us-gov-west-1.amazonaws.com", (), "", "ses"),
        ("ec2-192-0-2-1.compute-1.amazonaws.com", (), "", ""),
        ("smtp.eu.mailgun.org", (), "", "mailgun"),
        ("smtp.ionos.de", (), "", "ionos"),
        ("notgmail.com", (), "", ""),
        ("gmail.com.example.net", (), "", ""),
        ("", (), "", ""),
        ("relay.example.org", ("*.smtp.sendgrid.net",), "", "sendgrid"),
        ("relay.example.org", ("outlook.com", "*.outlook.com"), "", "microsoft365"),
        ("relay.example.org", ("email-smtp.eu-west-1.amazonaws.com",), "", "ses"),
        ("relay.example.org", (), "email-smtp.amazonaws.com ESMTP SimpleEmailService-d-X", "ses"),
        ("relay.example.org", (), "smtp.gmail.com ESMTP 5b1f17b1804b1-45 - gsmtp", "gmail"),
        ("relay.example.org", (), "FR0P281CA0001.outlook.office365.com Microsoft ESMTP MAIL Service ready at Mon, 23 Nov 2026", "microsoft365"),
        ("relay.example.org", (), "ex01.example.org Microsoft ESMTP MAIL Service ready at Mon, 23 Nov 2026", ""),
        ("relay.example.org", (), "gmx.com (mrgmx103) Nemesis ESMTP Service ready", "gmx"),
        ("relay.example.org", (), "SG ESMTP service ready at ismtpd0013p1las1.sendgrid.net", "sendgrid"),
        ("smtp.gmail.com", ("*.smtp.sendgrid.net",), "gmx.com (mrgmx103) Nemesis ESMTP Service ready", "gmail"),
    ],
)
def test_provider(host: str, names: t.Tuple[str, ...], greeting: str, provider: str) -> None:
    assert providers.recognise(host, names, greeting) == provider


def test_what_is_not_the_providers() -> None:
    assert providers.greeting_is_foreign("gmail", "fortigate.example.net ESMTP") is True
    assert providers.greeting_is_foreign("gmail", "smtp.gmail.com ESMTP x - gsmtp") is False
    assert providers.greeting_is_foreign("postmark", "anything") is False, "how Postmark greets is not known"
    assert providers.greeting_is_foreign("", "anything") is False
    assert providers.certificate_is_foreign("gmail", ["smtp.example.net"]) is True
    assert providers.certificate_is_foreign("ses", ["email-smtp.eu-west-1.amazonaws.com"]) is False
    assert providers.certificate_is_foreign("ovh", ["x"]) is False


def test_region_of_an_endpoint() -> None:
    assert providers.ses_region("email-smtp.eu-west-1.amazonaws.com") == "eu-west-1"
    assert providers.ses_region("smtp.example.net") == ""


def test_providers_are_told_apart() -> None:
    assert len(providers.BY_ID) == len(providers.PROVIDERS)
    for provider in providers.PROVIDERS:
        host = provider.hosts[0].replace("*", "x")
        assert providers.recognise(host) == provider.id and re.fullmatch("[a-z0-9]+", provider.id)


# -- the page --------------------------------------------------------------------------------------------------------------


def test_areas_hold_all() -> None:
    assert sum(len(entries) for _title, entries in AREAS) == len(CATALOGUE)


def test_conditions_say_what_they_ask() -> None:
    conditions = [rule.condition for rule in recognise.SEEN_RULES] + [condition for _g, _p, condition in recognise_tls.REFINED]

    assert all(condition.__doc__ and not condition.__doc__.endswith(".") for condition in conditions if condition)


def test_codes_in_the_code_are_in_the_catalogue() -> None:
    areas = {code.split("_")[0] for code in BY_CODE}
    directory = os.path.dirname(diagnose.__file__)
    for name in ("recognise.py", "recognise_tls.py", "recognise_reply.py", "reply_rules.py", "provider_rules.py"):
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            quoted = set(re.findall(r'"([a-z]+(?:_[a-z0-9]+)+)"', file.read())) - NO_CODES
        assert {word for word in quoted if word.split("_")[0] in areas} <= set(BY_CODE), name


NO_CODES = {"ehlo_tls"}


@pytest.mark.parametrize(("wanted", "advice"), [("external", "the client certificate"), ("auto", "app password")])
def test_what_to_check_after_a_refused_login(wanted: str, advice: str) -> None:
    assert advice in diagnose.diagnose(refused("auth", "535 5.7.8 no", wanted=wanted), str)["remedy"]
