# SPDX-License-Identifier: GPL-3.0-or-later
"""What replies mean, by the provider they come from; the replies are in recorded_replies.py."""

from __future__ import annotations

import time
import typing as t

import pytest
from recorded_replies import (
    ANY,
    BEHIND_AN_ALIAS,
    BREVO,
    CASES,
    ELSEWHERE,
    GMAIL,
    ICLOUD,
    M365,
    OUTLOOK,
    SENDGRID,
    SES,
    UNVERIFIED,
    YAHOO,
    Case,
    parsed,
)

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis import recognise_reply
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.catalogue import WHO
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.diagnose import diagnose
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.diagnoses import BY_CODE
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.provider_rules import PROVIDER_RULES
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.reply_rules import first_that_fits
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply


def observed(case: Case, **facts: t.Any) -> Observation:
    reply = parsed(case.reply)
    error = SmtpError(Kind.REPLY, str(reply), stage=case.stage, reply=reply, command=case.stage.upper())
    return Observation(case.host, 587, "starttls", error=error, **facts)


@pytest.mark.parametrize("case", CASES + ELSEWHERE, ids=lambda case: f"{case.host}-{case.stage}-{case.reply[:40]}")
def test_reply(case: Case) -> None:
    diagnosis = diagnose(observed(case, mechanism="PLAIN"), str)

    assert diagnosis["code"] == case.code, diagnosis
    assert diagnosis["stage"] == case.stage and case.stage in BY_CODE[case.code].stages + ("quit",)
    assert diagnosis["who"] in WHO and "{" not in diagnosis["summary"] + diagnosis["remedy"]
    assert str(parsed(case.reply)) in diagnosis["evidence"][0]
    assert "  " not in diagnosis["remedy"] and diagnosis["remedy"][-1] in ".)"


@pytest.mark.parametrize(("provider", "case"), BEHIND_AN_ALIAS)
def test_words_of_a_provider_behind_an_alias(provider: str, case: Case) -> None:
    diagnosis = diagnose(observed(case), str)

    assert (diagnosis["code"], diagnosis["provider"]) == (case.code, provider)


def test_the_same_enhanced_code_has_the_meaning_of_its_provider() -> None:
    """5.7.30 is RFC 8689's, Microsoft's and Google's; elsewhere it says nothing."""
    meanings = {diagnose(observed(case), str)["code"] for case in CASES + ELSEWHERE if "5.7.30" in case.reply}

    assert {"sender_requiretls", "auth_basic_disabled_retired", "data_policy_dkim", "sender_refused"} <= meanings
    assert (
        diagnose(observed(Case(ICLOUD, "auth", "535 5.7.8 Error: authentication failed:", "")), str)["code"]
        != (diagnose(observed(Case("smtp.sparkpostmail.com", "auth", "535 5.7.8 Sorry.", "")), str)["code"])
    )


# -- rules -----------------------------------------------------------------------------------------------------------------


def _first(rules: t.Sequence[t.Any], case: Case) -> int:
    seen = observed(case)
    rule = first_that_fits(rules, recognise_reply._by_server(seen), case.stage, parsed(case.reply))
    return next(index for index, other in enumerate(rules) if other is rule)


def test_every_rule_decides_a_case() -> None:
    """And none stands behind a more general one that takes everything from it."""
    rules = recognise_reply.RULES
    deciding = {_first(rules, case) for case in CASES + ELSEWHERE}

    assert [rule for index, rule in enumerate(rules) if index not in deciding] == []


def test_no_provider_rule_can_be_left_out() -> None:
    rules = recognise_reply.RULES
    whole = [rules[_first(rules, case)].diagnosis for case in CASES]
    for left_out in PROVIDER_RULES:
        rest = [rule for rule in rules if rule is not left_out]
        assert [rest[_first(rest, case)].diagnosis for case in CASES] != whole, left_out


@pytest.mark.parametrize("words", ["domain of sender ", "not authorized to perform ", "too many ", "in region eu", "smtp.gmail.com ESMTP "])
def test_a_reply_made_to_keep_the_rules_busy(words: str) -> None:
    line = (words * 100)[:990]
    reply = Reply(550, [line] * 64)
    error = SmtpError(Kind.REPLY, "refused", stage="sender", reply=reply)
    started = time.monotonic()
    diagnose(Observation(ANY, 587, "starttls", error=error, greeting=reply), str)

    assert time.monotonic() - started < 1


def test_a_rule_by_code_alone_is_never_a_providers() -> None:
    for rule in PROVIDER_RULES:
        assert rule.text, rule
        assert not rule.alone or len(rule.text) >= 12, "too little to know a provider by"


# -- OAuth -----------------------------------------------------------------------------------------------------------------

REFUSED = Case(M365, "auth", "535 5.7.3 Authentication unsuccessful [X]", "")


@pytest.mark.parametrize(
    ("complaints", "code"),
    [
        ([], "oauth_rejected"),
        ([("oauth_wrong_audience", "the access token is for https://graph.microsoft.com")], "oauth_wrong_audience"),
        ([("oauth_missing_scope", "the access token grants neither SMTP.Send nor SMTP.SendAsApp")], "oauth_missing_scope"),
        ([("oauth_wrong_account", "the access token is for a@example.org, the user name is b@example.org")], "oauth_wrong_account"),
    ],
)
def test_a_refused_token(complaints: t.List[t.Tuple[str, str]], code: str) -> None:
    diagnosis = diagnose(observed(REFUSED, mechanism="XOAUTH2", complaints=complaints), str)

    assert diagnosis["code"] == code
    assert all(sentence in diagnosis["evidence"] and sentence in diagnosis["summary"] for _code, sentence in complaints)


def test_a_complaint_about_a_token_is_nothing_where_a_password_was_sent() -> None:
    seen = observed(REFUSED, mechanism="LOGIN", complaints=[("oauth_wrong_audience", "x")])

    assert diagnose(seen, str)["code"] == "auth_bad_credentials"


def test_a_token_is_not_blamed_for_what_the_server_says_itself() -> None:
    seen = observed(CASES[0]._replace(host=M365, reply="454 4.7.0 Temporary authentication failure"), mechanism="XOAUTH2")

    assert diagnose(seen, str)["code"] == "auth_temporary"


@pytest.mark.parametrize(
    ("sample", "status", "scope"),
    [
        ('{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}', "400", "https://mail.google.com/"),
        ('{"status":"invalid_token","schemes":"bearer mac"}', "invalid_token", "not given"),
        ("[]", "not given", "not given"),
        ("(no reason given)", "not given", "not given"),
        ('{"status":' * 200, "not given", "not given"),
    ],
)
def test_why_a_server_refuses_a_token(sample: str, status: str, scope: str) -> None:
    seen = observed(CASES[0], mechanism="OAUTHBEARER")
    seen.failure.sample = sample
    diagnosis = diagnose(seen, str)

    assert diagnosis["code"] == "oauth_rejected" and f"the server explains: {sample}" in diagnosis["evidence"]
    assert f"(status {status}, scope wanted: {scope})" in diagnosis["summary"]


# -- remedies --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "reply", "words"),
    [
        (GMAIL, CASES[0].reply, "https://myaccount.google.com/apppasswords"),
        (GMAIL, "534 5.7.9 Application-specific password required.", "https://myaccount.google.com/apppasswords"),
        (M365, CASES[22].reply, "Set-TransportConfig -SmtpClientAuthenticationDisabled $false"),
        (M365, CASES[23].reply, "Set-CASMailbox -Identity MAILBOX -SmtpClientAuthenticationDisabled $false"),
        (M365, "550 5.7.30 Basic authentication is not supported for Client Submission.", "second half of 2027"),
        (OUTLOOK, "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.", "since September 2024"),
        (YAHOO, "535 5.7.0 (#AUTH005) Too many bad auth attempts.", "app password"),
        (SES, "535 Authentication Credentials Invalid", "derived from the secret access key"),
        (SENDGRID, "535 Authentication failed: Bad username / password", "the word apikey"),
        ("smtp.postmarkapp.com", "535 5.7.8 Error: authentication failed", "Server API token"),
        ("in-v3.mailjet.com", "535 5.7.8 Error: authentication failed", "secret key"),
        (BREVO, "525 5.7.1 Unauthorized IP address", "authorized IPs"),
        (ANY, "535 5.7.8 Error: authentication failed", "full mail address"),
    ],
)
def test_the_remedy_is_the_providers(host: str, reply: str, words: str) -> None:
    assert words in diagnose(observed(Case(host, "auth", reply, "")), str)["remedy"]


def test_the_region_is_in_the_remedy() -> None:
    same, other = (diagnose(observed(Case(SES, "data", UNVERIFIED.format(name), "")), str) for name in ("EU-WEST-1", "US-EAST-1"))

    assert "in region eu-west-1" in same["remedy"] and "sandbox" in same["remedy"]
    assert "email-smtp.us-east-1.amazonaws.com" in other["remedy"]


def test_codes_that_begin_with_another_are_particular_cases_of_it() -> None:
    """Alerts are set on the beginning, so the area of both is the same, and so are the stages at least in part."""
    for code, entry in BY_CODE.items():
        for other in (BY_CODE[prefix] for prefix in BY_CODE if code.startswith(prefix + "_")):
            assert set(entry.stages) & set(other.stages), code
