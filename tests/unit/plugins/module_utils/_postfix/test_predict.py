# SPDX-License-Identifier: GPL-3.0-or-later
"""What Postfix would do. That predictions are true is shown by tests/system/test_from_postfix.py; here is every branch."""

from __future__ import annotations

import pytest
from postfix_instance import Instance

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.predict import of_message, predict

HOST = "smtp.example.net"
LOGIN = f"relayhost = [{HOST}]:587\nsmtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = hash:/p\nsmtp_sasl_tls_security_options = noanonymous\n"
TABLES = {"hash:/p": {HOST: "user:pass word"}}
ENCRYPT, MAY = "smtp_tls_security_level = encrypt\n", "smtp_tls_security_level = may\n"
CLEAR = "smtp_sasl_security_options = noanonymous\n"


def result(stage="", code="", before=("STARTTLS",), after=("AUTH PLAIN LOGIN",), tried=True, auth=235, **more):
    """What the test of a relay saw; with a stage, where it failed."""
    diagnosis = {"code": code, "stage": stage, "summary": "It is broken."} if stage else None
    return {
        "ok": not stage,
        "diagnosis": diagnosis,
        "capabilities": {"before_tls": list(before), "after_tls": None if after is None else list(after)},
        "tls": {"verified": not stage, "names": [HOST], "days_left": 10},
        "auth": {"tried": tried, "code": auth if tried else None, "enhanced_code": None, "text": "text"},
        "sender": {"code": None},
        "recipient": {"code": None},
        "transcript": [],
        **more,
    }


def verdict(main, seen, tables=None, plugins=("plain", "login")):
    relay = Instance(main, tables=TABLES if tables is None else tables).relays(plugins)[0]
    found = predict(relay, seen)
    assert set(found) == {"action", "dsn", "text", "because"} and "pass word" not in str(found)
    assert found["text"].endswith(".") and found["text"].count("Postfix") + found["text"].count("smtp(8)") + found["text"].count("relay")
    return found["action"], found["dsn"]


FAILED_TLS = result("tls", "tls_handshake_failed", after=None, tried=False)
EXPIRED = result("tls", "tls_cert_expired", after=None, tried=False)
NO_STARTTLS = result("starttls", "cap_starttls_absent", before=("AUTH PLAIN",), after=None, tried=False)


@pytest.mark.parametrize(
    ("main", "seen", "expected"),
    [
        (ENCRYPT, result(), ("sends", None)),
        (ENCRYPT, EXPIRED, ("sends", None)),
        (ENCRYPT, FAILED_TLS, ("defers", "4.7.5")),
        (ENCRYPT, NO_STARTTLS, ("defers", "4.7.4")),
        (ENCRYPT, result(after=("SIZE 1",), tried=False), ("sends_unauthenticated", None)),
        (ENCRYPT, result(after=("AUTH=PLAIN",)), ("sends", None)),
        (ENCRYPT, result(after=("AUTH XOAUTH2",), tried=False), ("defers", "4.7.0")),
        (ENCRYPT, result("auth", "auth_bad_credentials", auth=535), ("defers", "4.0.0")),
        (ENCRYPT, result("auth", "auth_temporary", auth=454), ("defers", "4.0.0")),
        (ENCRYPT + "smtp_sasl_auth_soft_bounce = no\n", result("auth", "x", auth=535), ("bounces", "5.0.0")),
        (ENCRYPT + "smtp_sasl_auth_soft_bounce = no\n", result("auth", "x", auth=454), ("defers", "4.0.0")),
        (ENCRYPT, result("auth", "auth_dropped", auth=None), ("defers", "4.4.2")),
        (ENCRYPT + "smtp_discard_ehlo_keywords = AUTH\n", result(), ("sends_unauthenticated", None)),
        (ENCRYPT + "smtp_discard_ehlo_keywords = starttls\n", result(), ("defers", "4.7.4")),
        (ENCRYPT + "smtp_sasl_auth_enable = no\n", result(tried=False), ("sends_unauthenticated", None)),
        (ENCRYPT + "smtp_sasl_password_maps = hash:/none\n", result(tried=False), ("defers", "4.3.0")),
        (ENCRYPT + "smtp_tls_CAfile = /nonexistent\n", result(), ("defers", "4.7.5")),
        (ENCRYPT + "smtp_tls_CAfile = /nonexistent\n", NO_STARTTLS, ("defers", "4.7.4")),
        (MAY, result(), ("sends", None)),
        (MAY, FAILED_TLS, ("defers", "4.7.5")),
        (MAY + CLEAR, NO_STARTTLS, ("sends_password_in_clear", None)),
        (MAY, NO_STARTTLS, ("defers", "4.7.0")),
        (MAY + CLEAR, result("starttls", "starttls_454", before=("STARTTLS", "AUTH LOGIN"), after=None), ("sends_password_in_clear", None)),
        (MAY + CLEAR + "smtp_tls_CAfile = /nonexistent\n", result(before=("STARTTLS", "AUTH PLAIN")), ("sends_password_in_clear", None)),
        (CLEAR, result(before=("AUTH PLAIN",), after=None, tried=False), ("sends_password_in_clear", None)),
        ("", result(before=("AUTH PLAIN",), after=None, tried=False), ("defers", "4.7.0")),
        ("", result(before=("STARTTLS",), after=None, tried=False), ("sends_unauthenticated", None)),
        ("smtp_tls_security_level = dane\nsmtp_dns_support_level = dnssec\n", NO_STARTTLS, ("unknown", None)),
        ("smtp_tls_security_level = dane\nsmtp_dns_support_level = dnssec\n", result("tls", "tls_dane_mismatch"), ("defers", "4.7.5")),
        ("smtp_tls_security_level = dane-only\nsmtp_dns_support_level = dnssec\n", result("tls", "tls_dane_unusable"), ("defers", "4.7.5")),
        ("smtp_tls_policy_maps = static:nonsense\n", result(), ("defers", "4.7.5")),
        ("defer_transports = smtp\n", result(), ("defers", "4.3.2")),
        ("smtp_sasl_password_maps =\n", result(), ("crashes", None)),
        (ENCRYPT, None, ("unknown", None)),
        (ENCRYPT + "smtp_tls_per_site = hash:/x\n", result(), ("unknown", None)),
        (ENCRYPT, result("quit", "internal_error"), ("unknown", None)),
    ],
)
def test_verdicts(main, seen, expected):
    assert verdict(LOGIN + main, seen) == expected


SECURE = "smtp_tls_security_level = secure\n"


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (result(), "sends"),
        (EXPIRED, "defers"),
        (result("tls", "tls_name_mismatch", after=None, tried=False, tls={"verified": False, "names": ["mx.example.net"], "days_left": 1}), "defers"),
        (result("tls", "tls_name_mismatch", after=None, tried=False, tls={"verified": False, "names": [f"a.{HOST}"], "days_left": 1}), "sends"),
        (result("tls", "tls_name_mismatch", after=None, tried=False, tls={"verified": False, "names": [f"a.{HOST}"], "days_left": -1}), "defers"),
        (result(tls={"verified": True, "names": ["other.example"], "days_left": 1}), "defers"),
        (result(tls={"verified": True, "names": ["*.example.net"], "days_left": 1}), "sends"),
    ],
)
def test_who_is_trusted(seen, expected):
    action, dsn = verdict(LOGIN + SECURE, seen)
    assert action == expected and dsn == ("4.7.5" if expected == "defers" else None)


def test_fingerprints_decide_alone():
    main = LOGIN + f"smtp_tls_security_level = fingerprint\nsmtp_tls_fingerprint_digest = sha256\nsmtp_tls_fingerprint_cert_match = {'AB' * 32}\n"
    assert verdict(main, result())[0] == "sends"
    assert verdict(main, result("tls", "tls_fingerprint_mismatch", after=None)) == ("defers", "4.7.5")


WRAPPER = "smtp_tls_wrappermode = yes\n"


@pytest.mark.parametrize(
    ("main", "seen", "expected"),
    [
        (WRAPPER + ENCRYPT, result(before=()), ("sends", None)),
        (WRAPPER + ENCRYPT, FAILED_TLS, ("defers", "4.7.5")),
        (WRAPPER + MAY, result(before=()), ("defers", "4.3.0")),
        (WRAPPER + ENCRYPT + "smtp_tls_CAfile = /nonexistent\n", result(before=()), ("crashes", None)),
        (WRAPPER + ENCRYPT, result("greeting", "greet_timeout", before=(), after=None), ("defers", "4.4.2")),
    ],
)
def test_wrappermode(main, seen, expected):
    assert verdict(LOGIN + main, seen) == expected


@pytest.mark.parametrize(
    ("stage", "code", "transcript", "expected"),
    [
        ("connect", "tcp_refused", [], ("defers", "4.4.1")),
        ("resolve", "dns_temporary", [], ("defers", "4.4.3")),
        ("resolve", "dns_nxdomain", [], ("defers", "4.3.5")),
        ("greeting", "greet_timeout", [], ("defers", "4.4.2")),
        ("greeting", "greet_554", ["S: 554 5.7.1 no"], ("defers", "4.7.1")),
        ("greeting", "greet_554", ["S: 554 no"], ("defers", "4.0.0")),
        ("greeting", "greet_421", ["S: 421 4.3.2 busy"], ("defers", "4.3.2")),
        ("ehlo", "ehlo_550_policy", ["S: 220 hello", "C: EHLO x", "S: 550 5.7.0 no"], ("bounces", "5.7.0")),
        ("starttls", "starttls_454", ["S: 454 4.7.0 not now"], ("defers", "4.7.0")),
        ("starttls", "starttls_500_502", ["S: 502 5.5.1 no"], ("bounces", "5.5.1")),
        ("starttls", "connection_closed", ["S: 250 STARTTLS"], ("defers", "4.4.2")),
    ],
)
def test_a_server_that_does_not_talk(stage, code, transcript, expected):
    assert verdict(LOGIN + ENCRYPT, result(stage, code, after=None, tried=False, transcript=transcript)) == expected


def test_skipping_a_refusing_server_can_be_turned_off():
    main = LOGIN + ENCRYPT + "smtp_skip_5xx_greeting = no\n"
    assert verdict(main, result("greeting", "greet_554", transcript=["S: 554 5.7.1 no"])) == ("bounces", "5.7.1")


def test_a_host_without_address_is_fatal_where_it_is_not_relayhost():
    main = f"default_transport = smtp:[{HOST}]:587\n"
    assert verdict(main, result("resolve", "dns_nxdomain", after=None)) == ("bounces", "5.4.4")


def test_a_fallback_relay_without_address_keeps_the_mail():
    main = f"default_transport = smtp:[{HOST}]:587\nsmtp_fallback_relay = [fallback.example.net]\n"
    first, fallback = Instance(main, tables=TABLES).relays()
    found = predict(fallback, result("resolve", "dns_nxdomain", after=None))
    assert fallback.host == "fallback.example.net" and (found["action"], found["dsn"]) == ("defers", "4.3.5")
    assert predict(first, result("resolve", "dns_nxdomain", after=None))["action"] == "bounces"


@pytest.mark.parametrize(
    ("main", "expected"),
    [
        ("default_transport = error:5.7.1 no\n", ("bounces", "5.7.1")),
        ("default_transport = error:no\n", ("bounces", "5.0.0")),
        ("default_transport = nowhere:\n", ("defers", "4.3.0")),
        ("default_transport = lmtp:[x]\n", ("unknown", None)),
        ("", ("unknown", None)),
    ],
)
def test_without_a_relay(main, expected):
    assert verdict(main, None) == expected


def test_a_relay_that_refuses_sender_or_recipient():
    assert verdict(LOGIN + ENCRYPT, result("sender", "x", sender={"code": 553, "enhanced_code": "5.7.1"})) == ("bounces", "5.7.1")
    assert verdict(LOGIN + ENCRYPT, result("recipient", "x", recipient={"code": 450, "enhanced_code": None})) == ("defers", "4.0.0")


def test_credentials_that_are_not_there_or_empty():
    assert verdict(LOGIN + ENCRYPT, result(tried=False), {"hash:/p": {"other": "u:p"}}) == ("sends_unauthenticated", None)
    assert verdict(LOGIN + ENCRYPT, result(tried=False), {"hash:/p": {HOST: "user"}}) == ("defers", None)


def test_why_auth_is_overlooked():
    relay = Instance(LOGIN + ENCRYPT + "smtp_discard_ehlo_keywords = auth\n", tables=TABLES).relays()[0]
    assert "smtp_discard_ehlo_keywords" in predict(relay, result())["text"]
    assert "smtp_discard_ehlo_keywords" not in predict(Instance(LOGIN + ENCRYPT, tables=TABLES).relays()[0], result(after=()))["text"]


def test_mechanisms():
    assert verdict(LOGIN + ENCRYPT, result(after=("AUTH CRAM-MD5",)), plugins=("plain",)) == ("defers", "4.7.0")
    assert verdict(LOGIN + ENCRYPT, result(after=("AUTH PLAIN XOAUTH2",)), plugins=("plain", "xoauth2")) == ("unknown", None)
    assert verdict(LOGIN + ENCRYPT + "smtp_sasl_mechanism_filter = cram-md5\n", result(), plugins=("plain", "crammd5")) == ("defers", "4.7.0")
    # CRAM-MD5 does not show the password to whoever reads along.
    in_clear = result(before=("AUTH CRAM-MD5 PLAIN",), after=None, tried=False)
    assert verdict(LOGIN + MAY, in_clear, plugins=("crammd5", "plain")) == ("sends", None)
    # A verified certificate has options of its own.
    verified = LOGIN + SECURE + "smtp_sasl_tls_security_options = noplaintext\nsmtp_sasl_tls_verified_security_options = noanonymous\n"
    assert verdict(verified, result()) == ("sends", None)


def test_one_message_for_several_servers():
    def one(action, dsn=None):
        return {"action": action, "dsn": dsn}

    assert of_message([one("defers", "4.4.1"), one("bounces", "5.4.4"), one("sends")]) == one("sends")
    assert of_message([one("bounces", "5.7.8"), one("sends")]) == one("bounces", "5.7.8")
    assert of_message([one("crashes"), one("sends")]) == one("crashes")
    assert of_message([one("defers", "4.4.1")]) == one("defers", "4.4.1")
