# SPDX-License-Identifier: GPL-3.0-or-later
"""Replies of mail servers as they were recorded or documented, with the diagnosis that a person would give for each.

They were written down without a look at the rules, so that the rules can be tested with them.
"""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply, ReplyParser

GMAIL, RELAY, M365 = "smtp.gmail.com", "smtp-relay.gmail.com", "smtp.office365.com"
OUTLOOK, YAHOO, ICLOUD = "smtp-mail.outlook.com", "smtp.mail.yahoo.com", "smtp.mail.me.com"
SES, SENDGRID, BREVO = "email-smtp.eu-west-1.amazonaws.com", "smtp.sendgrid.net", "smtp-relay.brevo.com"
ZOHO, ANY = "smtp.zoho.eu", "mail.example.net"

UNVERIFIED = "554 Message rejected: Email address is not verified. The following identities failed the check in region {}: a@example.org"


class Case(t.NamedTuple):
    """One reply, and the host and stage where it came."""

    host: str
    stage: str
    reply: str
    code: str


CASES = [
    # -- Gmail ---------------------------------------------------------------------------------------------------------
    Case(
        GMAIL,
        "auth",
        "535-5.7.8 Username and Password not accepted. For more information, go to\n"
        "535 5.7.8  https://support.google.com/mail/?p=BadCredentials 5b1f17b1804b1-4538f4c3c7sm - gsmtp",
        "auth_bad_credentials_app_password",
    ),
    Case(GMAIL, "auth", "535-5.7.1 Username and Password not accepted. Learn more at\n535 5.7.1 gsmtp", "auth_bad_credentials_app_password"),
    Case(
        GMAIL,
        "auth",
        "534-5.7.9 Application-specific password required. For more information, go to\n"
        "534 5.7.9  https://support.google.com/mail/?p=InvalidSecondFactor x - gsmtp",
        "auth_app_password_required",
    ),
    Case(GMAIL, "auth", "535 5.7.9 Application-specific password required. Learn more at", "auth_app_password_required"),
    Case(
        GMAIL,
        "auth",
        "534-5.7.14 <https://accounts.google.com/signin/continue?sarp=1&scc=1&plt=AKgnsb\n"
        "534-5.7.14 Please log in via your web browser and then try again.\n534 5.7.14  Learn more at - gsmtp",
        "auth_web_login_required",
    ),
    Case(GMAIL, "auth", "534 5.7.9 Please log in with your web browser and then try again.", "auth_web_login_required"),
    Case(GMAIL, "auth", "454 4.7.0 Too many login attempts, please try again later. - gsmtp", "auth_too_many"),
    Case(
        GMAIL,
        "sender",
        "530-5.7.0 Authentication Required. For more information, go to\n530 5.7.0  https://support.google.com/mail/?p=WantAuthError - gsmtp",
        "sender_auth_required",
    ),
    Case(GMAIL, "sender", "530 5.5.1 Authentication Required. Learn more at - gsmtp", "sender_auth_required"),
    Case(GMAIL, "sender", "530 5.7.0 Must issue a STARTTLS command first. - gsmtp", "sender_starttls_first"),
    Case(GMAIL, "data", "550 5.4.5 Daily user sending limit exceeded. For more information - gsmtp", "limit_daily"),
    Case(RELAY, "recipient", "550 5.4.5 Daily SMTP relay limit exceeded for user. - gsmtp", "limit_daily"),
    Case(
        RELAY,
        "sender",
        "550-5.7.1 Invalid credentials for relay [192.0.2.7]. The IP address you've\n550 5.7.1 registered in your G Suite SMTP Relay service",
        "relay_ip_not_registered",
    ),
    Case(RELAY, "recipient", "550 5.7.0 Mail relay denied [192.0.2.7]. Invalid credentials for relay. - gsmtp", "relay_ip_not_registered"),
    Case(RELAY, "recipient", "450 4.2.1 Peak SMTP relay limit exceeded for customer. - gsmtp", "limit_rate"),
    Case(GMAIL, "data", "550 5.7.0 Mail Sending denied. - gsmtp", "account_sending_blocked"),
    Case(GMAIL, "data", "552 5.2.3 Your message exceeded Google's message size limits. - gsmtp", "data_too_large"),
    Case(GMAIL, "data", "550 5.7.1 This message is not RFC 5322 compliant. - gsmtp", "data_not_compliant"),
    Case(GMAIL, "data", "550 5.7.30 DKIM does not pass for this message. - gsmtp", "data_policy_dkim"),
    Case(GMAIL, "ehlo_tls", "421 4.7.0 Try again later, closing connection. (EHLO) - gsmtp", "service_closing"),
    Case(GMAIL, "greeting", "421 4.7.0 Try again later, closing connection. - gsmtp", "greet_421"),
    Case(GMAIL, "data", "550-5.7.1 [192.0.2.7] Our system has detected that this message is\n550 5.7.1 likely unsolicited mail.", "data_policy"),
    # -- Microsoft 365 and Outlook.com ---------------------------------------------------------------------------------
    Case(
        M365,
        "auth",
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. "
        "Visit https://aka.ms/smtp_auth_disabled for more information. [FR0P281CA0001.DEUP281.PROD.OUTLOOK.COM]",
        "auth_basic_disabled_tenant",
    ),
    Case(
        M365,
        "auth",
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. Visit https://aka.ms/smtp_auth_disabled",
        "auth_basic_disabled_mailbox",
    ),
    Case(M365, "auth", "535 5.7.139 Authentication unsuccessful, basic authentication is disabled. [X]", "auth_basic_disabled"),
    Case(OUTLOOK, "auth", "535 5.7.139 Authentication unsuccessful, basic authentication is disabled. [X]", "auth_basic_disabled"),
    Case(
        M365,
        "auth",
        "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy. Contact your administrator.",
        "auth_policy_security_defaults",
    ),
    Case(
        M365,
        "auth",
        "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated successfully. "
        "Contact your administrator.",
        "auth_policy_conditional_access",
    ),
    Case(ANY, "auth", "535 5.7.139 This login did not meet the criteria of the house.", "auth_policy"),
    Case(M365, "auth", "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect. [X]", "auth_bad_credentials"),
    Case(M365, "auth", "535 5.7.139 Authentication unsuccessful, account locked. [X]", "auth_account_disabled_lockout"),
    Case(OUTLOOK, "auth", "535 5.7.139 Authentication unsuccessful, account locked. [X]", "auth_account_disabled_lockout"),
    Case(M365, "auth", "535 5.7.3 Authentication unsuccessful [AM0PR10CA0100.EURPRD10.PROD.OUTLOOK.COM]", "auth_bad_credentials"),
    Case(M365, "auth", "504 5.7.4 Unrecognized authentication type [AM0PR10CA0100]", "auth_mech_unknown"),
    Case(M365, "auth", "550 5.7.30 Basic authentication is not supported for Client Submission.", "auth_basic_disabled_retired"),
    Case(M365, "data", "550 5.7.30 Basic authentication is not supported for Client Submission.", "auth_basic_disabled_retired"),
    Case(M365, "auth", "501 5.5.127 Invalid XOAUTH2 auth data - Token will expire soon error", "oauth_token_expiring"),
    Case(M365, "sender", "530 5.7.57 SMTP; Client was not authenticated to send anonymous mail during MAIL FROM [X]", "sender_auth_required"),
    Case(M365, "sender", "550 5.7.1 Client was not authenticated", "sender_auth_required"),
    Case(M365, "data", "550 5.7.60 SMTP; Client does not have permissions to send as this sender", "sender_not_owned"),
    Case(
        M365,
        "data",
        "554 5.2.252 SendAsDenied; app@example.org not allowed to send as root@example.org; STOREDRV.Submission.Exception:"
        "SendAsDeniedException.MapiExceptionSendAsDenied",
        "sender_not_owned",
    ),
    Case(M365, "data", "550 5.1.8 Access denied, bad outbound sender AS(42004)", "account_sending_blocked"),
    Case(M365, "data", "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded [Hostname=X]", "limit_concurrency"),
    Case(M365, "sender", "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending", "limit_concurrency"),
    Case(
        M365, "data", "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException.MapiExceptionSubmissionQuotaExceeded", "limit_daily"
    ),
    Case(M365, "data", "554 5.1.90 The message can't be submitted because the sender's daily limit was reached", "limit_daily"),
    Case(M365, "data", "421 4.4.2 Message submission rate for this client has exceeded the configured limit", "limit_rate"),
    Case(M365, "recipient", "550 5.7.64 TenantAttribution; Relay Access Denied SMTP", "relay_connector_mismatch"),
    Case(M365, "recipient", "550 5.7.51 TenantInboundAttribution; RestrictDomainsToIPAddresses", "relay_connector_mismatch"),
    Case(M365, "recipient", "451 4.7.500 Server busy. Access denied, please try again later", "ip_blocked_for_now"),
    Case(M365, "recipient", "550 5.7.501 Access denied, spam abuse detected", "account_sending_blocked"),
    Case(M365, "sender", "550 5.7.606 Access denied, banned sending IP [192.0.2.7]", "ip_blocked"),
    Case(M365, "sender", "550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP", "ip_blocked"),
    Case(M365, "ehlo", "550 5.7.506 Access Denied, Bad HELO", "ehlo_550_policy"),
    Case(M365, "data", "550 5.7.750 Service unavailable. Client blocked from sending from unregistered domains", "sender_unverified"),
    # -- mailboxes -----------------------------------------------------------------------------------------------------
    Case(YAHOO, "auth", "535 5.7.0 (#AUTH005) Too many bad auth attempts.", "auth_too_many"),
    Case(YAHOO, "data", "550 5.7.9 This mail has been blocked because the sender is unauthenticated.", "data_policy"),
    Case(YAHOO, "data", "554 5.7.9 Message not accepted for policy reasons.", "data_policy"),
    Case(YAHOO, "greeting", "421 4.7.0 [TSS04] Messages from 192.0.2.7 temporarily deferred", "ip_blocked_for_now"),
    Case(YAHOO, "sender", "553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.7", "ip_blocked"),
    Case(YAHOO, "sender", "553 5.7.2 [TSS09] All messages from 192.0.2.7 will be permanently deferred", "ip_blocked"),
    Case(ICLOUD, "auth", "535 5.7.8 Error: authentication failed:", "auth_bad_credentials_app_password"),
    Case(ICLOUD, "sender", "550 5.7.0 From address is not one of your addresses", "sender_not_owned"),
    Case("smtp.fastmail.com", "auth", "535 5.7.8 Authentication failed", "auth_bad_credentials"),
    Case("smtp.fastmail.com", "data", "551 5.7.1 Not authorised to send from this header address", "sender_not_owned"),
    Case("mail.gmx.net", "auth", "535 Authentication credentials invalid", "auth_bad_credentials"),
    Case("mail.gmx.net", "data", "554-Transaction failed\n554 Unauthorized sender address.", "sender_not_owned"),
    Case("smtp.ionos.de", "data", "554 Transaction failed. Unauthorized sender address.", "sender_not_owned"),
    Case(
        "smtp.yandex.com",
        "auth",
        "535 5.7.8 Error: authentication failed: This user does not have access rights to this service",
        "auth_client_access_off",
    ),
    Case("smtp.exmail.qq.com", "auth", "535 Error: authentication failed, system busy", "auth_too_many"),
    Case("smtpout.secureserver.net", "auth", "535 Authentication failed: account disabled", "auth_account_disabled"),
    Case(ZOHO, "auth", "535 Authentication Failed", "auth_bad_credentials"),
    Case(ZOHO, "sender", "553 Relaying disallowed as root@host.example.org", "sender_not_owned"),
    Case(ZOHO, "data", "550 5.4.6 Unusual sending activity detected. Please try after sometime", "account_sending_blocked"),
    Case(ZOHO, "data", "554 5.1.8 Sender Address Blocked", "account_sending_blocked"),
    Case("smtp.zeptomail.com", "sender", "553 Relaying disallowed. Invalid Domain - example.org", "sender_unverified"),
    # -- bulk senders --------------------------------------------------------------------------------------------------
    Case(SES, "auth", "535 Authentication Credentials Invalid", "auth_bad_credentials_smtp_secret"),
    Case(SES, "data", UNVERIFIED.format("EU-WEST-1"), "sender_unverified"),
    Case(SES, "data", UNVERIFIED.format("US-EAST-1"), "sender_unverified_region"),
    Case(
        SES,
        "data",
        "554 Access denied: User `arn:aws:iam::123456789012:user/ses' is not authorized to perform `ses:SendRawEmail' on resource `arn:aws:ses'",
        "account_not_permitted",
    ),
    Case(SES, "data", "454 Throttling failure: Maximum sending rate exceeded.", "limit_rate"),
    Case(SES, "sender", "454 Throttling failure: Maximum sending rate exceeded.", "limit_rate"),
    Case(SES, "data", "454 Throttling failure: Daily message quota exceeded.", "limit_daily"),
    Case(SES, "auth", "454 Throttling failure: Maximum SigV2 SMTP sending rate exceeded.", "limit_rate_old_credentials"),
    Case(SES, "sender", "530 Must issue a STARTTLS command first", "sender_starttls_first"),
    Case(SES, "sender", "530 Authentication required", "sender_auth_required"),
    Case(SES, "sender", "501 Invalid MAIL FROM address provided", "sender_syntax"),
    Case(SENDGRID, "sender", "550 Unauthenticated senders not allowed", "sender_auth_required"),
    Case(SENDGRID, "auth", "451 Authentication failed: Maximum credits exceeded", "limit_plan"),
    Case(SENDGRID, "data", "550 The from address does not match a verified Sender Identity. Mail cannot be sent", "sender_unverified"),
    Case(SENDGRID, "recipient", "452 Too many recipients received this hour (throttled)", "limit_rate"),
    Case("smtp.mailgun.org", "auth", "535 5.7.0 Mailgun is not loving your login or password", "auth_bad_credentials"),
    Case(
        "smtp.mailgun.org",
        "data",
        "550 5.7.1 Domain sandbox1.mailgun.org is not allowed to send: Free accounts are for test purposes only. Please upgrade or "
        "add the address to authorized recipients",
        "recipient_restricted_plan",
    ),
    Case(BREVO, "auth", "535 5.7.8 Authentication failed", "auth_bad_credentials_smtp_secret"),
    Case(BREVO, "auth", "525 5.7.1 Unauthorized IP address", "auth_ip_not_allowed"),
    Case(BREVO, "data", "502 5.7.0 Your SMTP account is not yet activated. Contact us at contact@brevo.com", "account_not_activated"),
    Case("smtp.sparkpostmail.com", "auth", "535 5.7.8 Sorry.", "auth_bad_credentials_smtp_secret"),
    Case("smtp.sparkpostmail.com", "data", "550 5.7.1 Unconfigured Sending Domain <example.org>", "sender_unverified"),
    # -- any server ----------------------------------------------------------------------------------------------------
    Case(ANY, "greeting", "421 4.3.2 Too many concurrent SMTP connections", "greet_421"),
    Case(ANY, "greeting", "554 5.7.1 Service unavailable; client [192.0.2.7] blocked", "greet_554"),
    Case(ANY, "ehlo", "501 5.5.4 HELO/EHLO argument is invalid", "ehlo_501_bad_name"),
    Case(ANY, "ehlo_tls", "502 5.5.1 Command not implemented", "ehlo_502"),
    Case(ANY, "starttls", "454 4.7.0 TLS not available due to local problem", "starttls_454"),
    Case(ANY, "starttls", "502 5.5.1 Command not implemented", "starttls_500_502"),
    Case(ANY, "auth", "535 5.7.8 Error: authentication failed: UGFzc3dvcmQ6", "auth_bad_credentials"),
    Case(ANY, "auth", "535 Incorrect authentication data", "auth_bad_credentials"),
    Case(ANY, "auth", "534 5.7.9 Authentication mechanism is too weak", "auth_mech_too_weak"),
    Case(ANY, "auth", "538 5.7.11 Encryption required for requested authentication mechanism", "auth_encryption_required"),
    Case(ANY, "auth", "530 5.7.0 Must issue a STARTTLS command first", "auth_encryption_required"),
    Case(ANY, "auth", "432 4.7.12 A password transition is needed", "auth_password_transition"),
    Case(ANY, "auth", "454 4.7.0 Temporary authentication failure", "auth_temporary"),
    Case(ANY, "auth", "504 5.5.4 Unrecognized authentication type", "auth_mech_unknown"),
    Case(ANY, "auth", "501 5.5.2 Cannot Decode response", "auth_bad_base64"),
    Case(ANY, "auth", "503 5.5.1 Error: authentication not enabled", "auth_not_enabled"),
    Case(ANY, "auth", "503 AUTH command used when not advertised", "auth_not_enabled"),
    Case(ANY, "auth", "525 5.7.13 User Account Disabled", "auth_account_disabled"),
    Case(ANY, "auth", "525 5.7.13 Mailbox of a former customer", "auth_account_disabled"),
    Case(ANY, "auth", "421 4.3.2 Service shutting down", "service_closing"),
    Case(ANY, "auth", "250 2.0.0 Ok", "auth_unexpected_reply"),
    Case(ANY, "sender", "553 5.7.1 <root@host>: Sender address rejected: not owned by user app@example.org", "sender_not_owned"),
    Case(ANY, "sender", "501 5.1.7 Bad sender address syntax", "sender_syntax"),
    Case(ANY, "sender", "553 5.1.7 Address is odd", "sender_syntax"),
    Case(ANY, "sender", "504 5.5.2 <root>: Sender address rejected: need fully-qualified address", "sender_syntax"),
    Case(ANY, "sender", "450 4.1.8 <a@nowhere.invalid>: Sender address rejected: Domain not found", "sender_syntax"),
    Case(ANY, "sender", "553 5.1.8 Domain of sender address a@nowhere.invalid does not resolve", "sender_syntax"),
    Case(ANY, "sender", "450 4.7.1 Rate limit reached, slow down", "sender_rate"),
    Case(ANY, "sender", "452 4.3.1 Insufficient system storage", "sender_temporary"),
    Case(ANY, "sender", "550 5.7.1 We do not like you", "sender_refused"),
    Case(ANY, "sender", "550 5.7.30 REQUIRETLS support required", "sender_requiretls"),
    Case(ANY, "recipient", "554 5.7.1 <a@example.com>: Relay access denied", "recipient_relay_denied"),
    Case(ANY, "recipient", "550 5.7.1 Relaying denied", "recipient_relay_denied"),
    Case(ANY, "recipient", "550 relay not permitted", "recipient_relay_denied"),
    Case(ANY, "recipient", "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain", "recipient_relay_denied"),
    Case(ANY, "recipient", "550 5.1.1 <a@example.com>: Recipient address rejected: User unknown", "recipient_unknown"),
    Case(ANY, "recipient", "550 No such user here", "recipient_unknown"),
    Case(ANY, "recipient", "556 5.1.10 Recipient address has null MX", "recipient_unknown"),
    Case(ANY, "recipient", "452 4.5.3 Too many recipients", "recipient_rate"),
    Case(ANY, "recipient", "451 4.7.1 Throttled, try later", "recipient_rate"),
    Case(ANY, "recipient", "450 4.7.1 <a@example.com>: Recipient address rejected: Greylisted for 5 minutes", "recipient_greylisted"),
    Case(ANY, "recipient", "550 5.7.1 Not today", "recipient_refused"),
    Case(ANY, "recipient", "451 4.3.0 Lookup failure", "reply_temporary"),
    Case(ANY, "recipient", "421 4.7.0 Too many concurrent SMTP connections", "limit_concurrency"),
    Case(ANY, "data", "552 5.3.4 Message size exceeds fixed limit", "data_too_large"),
    Case(ANY, "data", "552 Message too large", "data_too_large"),
    Case(ANY, "data", "550 5.7.26 This mail is unauthenticated by policy: SPF did not pass", "data_policy"),
    Case(ANY, "data", "451 4.7.0 Sending rate is throttled", "limit_rate"),
    Case(ANY, "data", "554 Transaction failed", "reply_refused"),
    Case(ANY, "quit", "421 4.3.2 Closing", "service_closing"),
]
"""Wordings as in recorded sessions and in the providers' documents."""

# -- the same reply elsewhere: what collides, and what does not ----------------------------------------------------------------

ELSEWHERE = [
    Case(ANY, "auth", "550 5.7.30 Refused", "reply_refused"),
    Case(ANY, "sender", "550 5.7.30 Refused", "sender_refused"),
    Case(ANY, "auth", "535 5.7.139 Refused", "auth_bad_credentials"),
    Case(ANY, "auth", "535 5.7.3 Authentication unsuccessful", "auth_bad_credentials"),
    Case(ANY, "auth", "535 5.7.8 Sorry.", "auth_bad_credentials"),
    Case(ANY, "auth", "535 Authentication Credentials Invalid", "auth_bad_credentials"),
    Case(ANY, "auth", "535 5.7.8 Error: authentication failed:", "auth_bad_credentials"),
    Case(ANY, "auth", "535 Error: authentication failed, system busy", "auth_bad_credentials"),
    Case(ANY, "auth", "535 5.7.139 Authentication unsuccessful, account locked.", "auth_account_disabled"),
    Case(ANY, "sender", "554 5.1.8 Sender Address Blocked", "sender_refused"),
    Case(ANY, "sender", "550 5.1.8 Domain is odd", "sender_refused"),
    Case(ANY, "sender", "553 Relaying disallowed", "sender_refused"),
    Case(ANY, "sender", "550 5.7.606 Access denied, banned sending IP [192.0.2.7]", "sender_refused"),
    Case(ANY, "data", "550 5.7.30 DKIM does not pass for this message", "data_policy"),
    Case(ANY, "recipient", "550 5.7.0 Mail relay denied [192.0.2.7]", "recipient_relay_denied"),
    Case(SENDGRID, "auth", "535 Authentication Credentials Invalid", "auth_bad_credentials"),
    Case(SES, "auth", "535 5.7.8 Sorry.", "auth_bad_credentials"),
    Case(GMAIL, "auth", "535 5.7.139 Authentication unsuccessful, account locked.", "auth_account_disabled"),
    Case(GMAIL, "auth", "550 5.7.30 Basic authentication is not supported for Client Submission.", "auth_basic_disabled"),
    Case(M365, "data", "550 5.7.30 DKIM does not pass for this message.", "data_policy"),
    Case(SES, "auth", "451 Authentication failed: Maximum credits exceeded", "auth_temporary"),
]

# Whoever comes to a provider by an alias gets the provider's explanation where the words are its own.
BEHIND_AN_ALIAS = [
    ("gmail", CASES[0]._replace(host=ANY)),
    ("microsoft365", Case(ANY, "auth", "550 5.7.30 Basic authentication is not supported for Client Submission.", "auth_basic_disabled_retired")),
    ("ses", Case(ANY, "data", UNVERIFIED.format("US-EAST-1"), "sender_unverified")),
    ("sendgrid", Case(ANY, "auth", "451 Authentication failed: Maximum credits exceeded", "limit_plan")),
    ("brevo", Case(ANY, "data", "502 5.7.0 Your SMTP account is not yet activated", "account_not_activated")),
]


def parsed(text: str) -> Reply:
    """The reply as the client reads it."""
    parser = ReplyParser()
    parser.feed(text.replace("\n", "\r\n").encode() + b"\r\n")
    reply = parser.take()
    assert reply is not None and parser.take() is None
    return reply
