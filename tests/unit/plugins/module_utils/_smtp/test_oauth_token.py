# SPDX-License-Identifier: GPL-3.0-or-later
"""What access tokens say of themselves, what is wrong with it, and that hostile ones do no harm."""

from __future__ import annotations

import base64
import datetime
import json
import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.oauth_token import complaints, inspect, refuse_unusable

NOW = datetime.datetime(2026, 11, 23, 12, 0, 0, tzinfo=datetime.timezone.utc)
SECONDS = int(NOW.timestamp())
SIGNATURE = "c2lnbmF0dXJlIG9mIHRoZSBpc3N1ZXI"
OPAQUE = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"
MICROSOFT = {
    "aud": "https://outlook.office.com",
    "iss": "https://sts.windows.net/5a5b/",
    "nbf": SECONDS - 300,
    "exp": SECONDS + 3600,
    "appid": "11111111-2222-3333-4444-555555555555",
    "scp": "IMAP.AccessAsUser.All SMTP.Send",
    "upn": "Alerts@Example.net",
}


def token_of(claims: t.Any, header: t.Any = None) -> str:
    """A JWT as RFC 7519 section 3 writes it."""
    parts = [json.dumps(part).encode() for part in ({"typ": "JWT", "alg": "RS256"} if header is None else header, claims)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "." + SIGNATURE


def raw(claims: bytes) -> str:
    """A JWT whose claims are any octets."""
    return f"{token_of({}).partition('.')[0]}.{base64.urlsafe_b64encode(claims).decode()}.{SIGNATURE}"


def microsoft(**claims: t.Any) -> t.Dict[str, t.Any]:
    """Facts of a token that is right but for *claims*; None takes one away."""
    merged = {name: value for name, value in {**MICROSOFT, **claims}.items() if value is not None}
    return inspect(token_of(merged), NOW)


def codes(facts: t.Dict[str, t.Any], username: str = "alerts@example.net", provider: str = "microsoft365") -> t.List[str]:
    return [code for code, _text in complaints(facts, username, provider)]


def test_a_token_tells_everything_but_itself() -> None:
    token = token_of(MICROSOFT)
    facts = inspect(token, NOW)

    assert facts == {
        "kind": "jwt",
        "issuer": "https://sts.windows.net/5a5b/",
        "audience": ["https://outlook.office.com"],
        "scopes": ["IMAP.AccessAsUser.All", "SMTP.Send"],
        "roles": [],
        "account": "Alerts@Example.net",
        "application": "11111111-2222-3333-4444-555555555555",
        "not_before": "2026-11-23T11:55:00Z",
        "expires": "2026-11-23T13:00:00Z",
        "expired": False,
        "not_yet_valid": False,
    }
    assert not any(part in json.dumps(facts) for part in token.split("."))


def test_the_example_of_the_rfc() -> None:
    """RFC 7519 section 3.1."""
    header = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
    claims = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    facts = inspect(f"{header}.{claims}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", NOW)

    assert (facts["issuer"], facts["expires"], facts["expired"]) == ("joe", "2011-03-22T18:43:00Z", True)


@pytest.mark.parametrize(
    ("claims", "key", "value"),
    [
        ({"scope": "a b"}, "scopes", ["a", "b"]),
        ({"scp": ["a", "b", 3]}, "scopes", ["a", "b"]),
        ({"roles": ["SMTP.SendAsApp"]}, "roles", ["SMTP.SendAsApp"]),
        ({"aud": ["a", "b"]}, "audience", ["a", "b"]),
        ({"preferred_username": "p", "email": "e"}, "account", "p"),
        ({"upn": "", "email": "e"}, "account", "e"),
        ({"azp": "z"}, "application", "z"),
    ],
)
def test_claims_in_other_forms(claims: t.Dict[str, t.Any], key: str, value: t.Any) -> None:
    assert inspect(token_of(claims), NOW)[key] == value


@pytest.mark.parametrize(
    "token",
    [
        "",
        OPAQUE,
        "a.b.c",
        "..",
        "a.b.c.d.e",
        "\u00e4.\u00f6.\u00fc",
        token_of(MICROSOFT, {"typ": "JWT"}),
        token_of(MICROSOFT, []),
        token_of([]),
        token_of("text"),
        token_of({}),
        token_of(MICROSOFT).replace(".", "!.", 1),
        raw(b"[" * 40000),
        raw(b'{"iss": "x"' + b" " * 70000 + b"}"),
        raw(bytes(range(256))),
    ],
)
def test_what_is_no_jwt_is_opaque(token: str) -> None:
    facts = inspect(token, NOW)

    assert facts["kind"] == "opaque" and not any(value for key, value in facts.items() if key != "kind")
    assert codes(facts) == []
    refuse_unusable(facts)


@pytest.mark.parametrize("value", [None, True, "soon", [], {}, 1e400, float("nan"), 10**400, -(10**18), "1763899200"])
def test_dates_that_are_none(value: t.Any) -> None:
    facts = inspect(token_of({"iss": "x", "exp": value, "nbf": value}), NOW)

    assert (facts["kind"], facts["expires"], facts["not_before"], facts["expired"], facts["not_yet_valid"]) == ("jwt", None, None, False, False)


def test_hostile_claims_are_bounded_and_printable() -> None:
    text = "\x1b[31m\u202e{{ 7*7 }}" + "x" * 400
    facts = inspect(token_of({"iss": text, "aud": [text] * 90, "scp": "s " * 900, "upn": {"a": 1}, "roles": {"b": 2}}), NOW)

    assert len(json.dumps(facts)) < 50 * 400 + 1000 and len(facts["scopes"]) == 50 and facts["roles"] == [] and facts["account"] is None
    assert all(entry.isprintable() for entry in [facts["issuer"], *facts["audience"]])


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": SECONDS}, "expired"),
        ({"exp": SECONDS + 1}, ""),
        ({"exp": SECONDS - 86400.5}, "expired"),
        ({"nbf": SECONDS + 301}, "not_yet_valid"),
        ({"nbf": SECONDS + 300}, ""),  # clocks differ
        ({"exp": None, "nbf": None}, ""),
    ],
)
def test_only_the_dates_stop_a_login(claims: t.Dict[str, t.Any], reason: str) -> None:
    facts = microsoft(**claims)
    if not reason:
        refuse_unusable(facts)
        assert codes(facts) == []
        return
    with pytest.raises(SmtpError) as caught:
        refuse_unusable(facts)

    assert (caught.value.kind, caught.value.reason, caught.value.stage) == (Kind.TOKEN, reason, "auth")
    assert codes(facts) == [f"oauth_token_{reason}"] and str(facts["expires" if reason == "expired" else "not_before"]) in str(caught.value)


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        ({}, []),
        ({"aud": "https://outlook.office365.com/"}, []),
        ({"aud": ["https://graph.microsoft.com", "https://Outlook.Office.com"]}, []),
        ({"aud": "00000002-0000-0ff1-ce00-000000000000"}, []),
        ({"aud": "https://partner.outlook.cn"}, []),
        ({"aud": None}, []),
        ({"aud": "https://graph.microsoft.com"}, ["oauth_wrong_audience"]),
        ({"aud": "https://outlook.office.com.evil.test"}, ["oauth_wrong_audience"]),
        ({"scp": "IMAP.AccessAsUser.All"}, ["oauth_missing_scope"]),
        ({"scp": "SMTP.SendAsApp"}, ["oauth_missing_scope"]),
        ({"scp": None}, ["oauth_missing_scope"]),
        ({"scp": None, "roles": ["SMTP.SendAsApp"], "upn": None}, []),
        ({"scp": None, "roles": ["SMTP.Send"]}, ["oauth_missing_scope"]),
        ({"upn": "admin@example.net"}, ["oauth_wrong_account"]),
        ({"upn": None, "email": "alerts@example.net"}, []),
        (
            {"exp": 1, "aud": "x", "scp": "y", "upn": "z"},
            ["oauth_token_expired", "oauth_wrong_audience", "oauth_missing_scope", "oauth_wrong_account"],
        ),
    ],
)
def test_complaints_about_tokens_for_microsoft(claims: t.Dict[str, t.Any], found: t.List[str]) -> None:
    assert codes(microsoft(**claims)) == found


def test_audience_and_scope_are_known_of_microsoft_only() -> None:
    facts = microsoft(aud="mail", scp="https://mail.example.net/")

    assert codes(facts, provider="") == codes(facts, provider="gmail") == []
    assert codes(facts, "somebody@example.net", "") == ["oauth_wrong_account"]


def test_complaints_are_sentences_that_name_both_sides() -> None:
    facts = microsoft(aud="https://graph.microsoft.com", scp="Mail.Send", upn="admin@example.net")
    texts = dict(complaints(facts, "alerts@example.net", "microsoft365"))

    assert "https://graph.microsoft.com" in texts["oauth_wrong_audience"] and "https://outlook.office365.com" in texts["oauth_wrong_audience"]
    assert "SMTP.Send nor SMTP.SendAsApp" in texts["oauth_missing_scope"] and "Mail.Send" in texts["oauth_missing_scope"]
    assert "admin@example.net" in texts["oauth_wrong_account"] and "alerts@example.net" in texts["oauth_wrong_account"]
