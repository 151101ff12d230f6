# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the replies of the providers mean, one table; the form of a rule is in reply_rules.py.

Only texts that were recorded from servers or that the providers document are here. Those of Mailgun, Postmark, Mailjet,
OVHcloud, IONOS, Proton and Fastmail for a wrong password are not known word by word: they get the generic diagnosis, with
what the provider wants as user name and password (providers.py).
"""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.reply_rules import ReplyRule

_AUTH = ("auth",)
_EHLO = ("ehlo", "ehlo_tls")
_BEFORE_LOGIN = ("greeting", "ehlo", "ehlo_tls")
_AFTER_LOGIN = ("sender", "recipient", "data")
_LOGIN_OR_LATER = ("auth", "sender", "recipient", "data")


class _Table:
    """Makes the rules of one provider."""

    def __init__(self, provider: str) -> None:
        self._provider = provider

    def __call__(self, stages: tuple[str, ...], code: str, text: str, diagnosis: str, enhanced: str = "", alone: bool = False) -> ReplyRule:
        return ReplyRule(stages, code, text, diagnosis, enhanced, self._provider, alone)


def _gmail() -> t.Iterator[ReplyRule]:
    rule = _Table("gmail")
    yield rule(_AUTH, "53[45]", r"p=BadCredentials|username and password not accepted", "auth_bad_credentials_app_password", alone=True)
    yield rule(_AFTER_LOGIN, "[45]..", "daily (user sending|SMTP relay) (limit|quota) exceeded", "limit_daily", alone=True)
    yield rule(_AFTER_LOGIN, "4..", "peak SMTP relay limit exceeded", "limit_rate", alone=True)
    yield rule((*_EHLO, *_AFTER_LOGIN), "55.", "invalid credentials for relay|mail relay denied", "relay_ip_not_registered")
    yield rule(_AFTER_LOGIN, "550", "mail sending denied", "account_sending_blocked", enhanced=r"5\.7\.0")
    yield rule(("data",), "[45]..", "dkim", "data_policy_dkim", enhanced=r"[45]\.7\.30")


def _microsoft() -> t.Iterator[ReplyRule]:
    rule = _Table("microsoft365")
    disabled = "SmtpClientAuthentication is disabled for the "
    yield rule(_AUTH, "535", disabled + "tenant", "auth_basic_disabled_tenant", alone=True)
    yield rule(_AUTH, "535", disabled + "mailbox", "auth_basic_disabled_mailbox", alone=True)
    yield rule(_LOGIN_OR_LATER, "550", "basic authentication is not supported for client submission", "auth_basic_disabled_retired", alone=True)
    yield rule(_AUTH, "535", "organization's security defaults", "auth_policy_security_defaults", alone=True)
    yield rule(_AUTH, "535", "did not meet the criteria to be authenticated", "auth_policy_conditional_access", alone=True)
    yield rule(_AUTH, "535", "account locked", "auth_account_disabled_lockout", enhanced=r"5\.7\.139")
    yield rule(_AUTH, "501", "token will expire soon", "oauth_token_expiring", alone=True)
    yield rule(_AFTER_LOGIN, "55.", "SendAsDenied", "sender_not_owned", alone=True)
    yield rule(_AFTER_LOGIN, "550", "bad outbound sender", "account_sending_blocked", enhanced=r"5\.1\.8", alone=True)
    yield rule(_LOGIN_OR_LATER, "4..", "sender thread limit exceeded|concurrent connections limit exceeded", "limit_concurrency", alone=True)
    yield rule(_AFTER_LOGIN, "55.", "SubmissionQuotaExceeded", "limit_daily", alone=True)
    yield rule(_AFTER_LOGIN, "55.", "daily limit", "limit_daily", enhanced=r"5\.1\.90")
    yield rule(_AFTER_LOGIN, "4..", "message submission rate for this client has exceeded", "limit_rate", alone=True)
    yield rule(_AFTER_LOGIN, "55.", r"TenantAttribution|RestrictDomainsTo(IPAddresses|Certificate)", "relay_connector_mismatch", alone=True)
    yield rule(_AFTER_LOGIN, "55.", "client blocked from sending from unregistered domain", "sender_unverified", enhanced=r"5\.7\.750")
    yield rule(_AFTER_LOGIN, "55.", "access denied", "account_sending_blocked", enhanced=r"5\.7\.50[1-3]")
    blocked = r"5\.7\.(60[6-9]|6[1-4]\d|708)"
    yield rule((*_BEFORE_LOGIN, *_AFTER_LOGIN), "55.", "access denied|banned sending ip", "ip_blocked", enhanced=blocked)
    yield rule((*_BEFORE_LOGIN, *_AFTER_LOGIN), "4..", "access denied", "ip_blocked_for_now", enhanced=r"4\.7\.[56]\d\d")


def _outlook() -> t.Iterator[ReplyRule]:
    rule = _Table("outlook")
    yield rule(_AUTH, "535", "account locked", "auth_account_disabled_lockout", enhanced=r"5\.7\.139")


def _yahoo() -> t.Iterator[ReplyRule]:
    rule = _Table("yahoo")
    yield rule((*_BEFORE_LOGIN, *_AFTER_LOGIN), "4..", r"\[TSS?04\]", "ip_blocked_for_now")
    yield rule((*_BEFORE_LOGIN, *_AFTER_LOGIN), "553", r"\[BL21\]|\[TSS(09|11)\]", "ip_blocked")


def _amazon() -> t.Iterator[ReplyRule]:
    rule = _Table("ses")
    yield rule(_AUTH, "535", "authentication credentials invalid", "auth_bad_credentials_smtp_secret")
    yield rule(_AFTER_LOGIN, "554", "email address is not verified|failed the check in region", "sender_unverified", alone=True)
    yield rule(_AFTER_LOGIN, "554", "not authorized to perform [`']?ses:", "account_not_permitted", alone=True)
    yield rule(_LOGIN_OR_LATER, "454", "maximum SigV2 SMTP sending rate exceeded", "limit_rate_old_credentials", alone=True)
    yield rule(_LOGIN_OR_LATER, "454", "daily message quota exceeded", "limit_daily", alone=True)
    yield rule(_LOGIN_OR_LATER, "454", "throttling failure|maximum sending rate exceeded", "limit_rate", alone=True)


def _senders_of_bulk_mail() -> t.Iterator[ReplyRule]:
    sendgrid, mailgun, brevo, sparkpost = _Table("sendgrid"), _Table("mailgun"), _Table("brevo"), _Table("sparkpost")
    yield sendgrid(_AUTH, "451", "maximum credits exceeded", "limit_plan", alone=True)
    yield sendgrid(_AFTER_LOGIN, "55.", "does not match a verified sender identity", "sender_unverified", alone=True)
    yield sendgrid(_AFTER_LOGIN, "452", "too many recipients received this hour", "limit_rate", alone=True)
    yield mailgun(_AFTER_LOGIN, "55.", "free accounts are for test purposes only", "recipient_restricted_plan", alone=True)
    yield brevo(_AUTH, "535", "authentication failed", "auth_bad_credentials_smtp_secret", enhanced=r"5\.7\.8")
    yield brevo(_AFTER_LOGIN, "502", "SMTP account is not yet activated", "account_not_activated", alone=True)
    yield sparkpost(_AUTH, "535", r"Sorry\.", "auth_bad_credentials_smtp_secret", enhanced=r"5\.7\.8")
    yield sparkpost(_AFTER_LOGIN, "550", "unconfigured sending domain", "sender_unverified", alone=True)


def _mailboxes() -> t.Iterator[ReplyRule]:
    icloud, zoho, zeptomail = _Table("icloud"), _Table("zoho"), _Table("zeptomail")
    yandex, tencent = _Table("yandex"), _Table("tencent")
    yield icloud(_AUTH, "535", "authentication failed", "auth_bad_credentials_app_password", enhanced=r"5\.7\.8")
    yield icloud(_AFTER_LOGIN, "550", "from address is not one of your addresses", "sender_not_owned", alone=True)
    yield zeptomail(_AFTER_LOGIN, "55[23]", "relaying disallowed", "sender_unverified")
    yield zoho(_AFTER_LOGIN, "553", "relaying disallowed as", "sender_not_owned", alone=True)
    yield zoho(_AFTER_LOGIN, "550", "unusual sending activity", "account_sending_blocked", enhanced=r"5\.4\.6", alone=True)
    yield zoho(_AFTER_LOGIN, "554", "sender address blocked", "account_sending_blocked", enhanced=r"5\.1\.8")
    yield yandex(_AUTH, "535", "does not have access rights to this service", "auth_client_access_off", alone=True)
    yield tencent(_AUTH, "535", "system busy", "auth_too_many")


PROVIDER_RULES: tuple[ReplyRule, ...] = (
    *_gmail(),
    *_microsoft(),
    *_outlook(),
    *_yahoo(),
    *_amazon(),
    *_senders_of_bulk_mail(),
    *_mailboxes(),
)
