# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to do where a provider has its own answer to a diagnosis: it takes the place of the remedy in the catalogue.

The same fields as in the catalogue can be used. Page names change: each is written so that the page is found by it.
"""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.catalogue import ACCOUNT_OWNER, ADMINISTRATOR, OPERATOR


class Advice(t.NamedTuple):
    """For one provider and one code of the catalogue; *who* must act there (one of catalogue.WHO)."""

    provider: str
    code: str
    remedy: str
    who: str


_EXCHANGE_RIGHTS = (
    "For a token of an application: an administrator runs New-ServicePrincipal with the Object ID of the enterprise "
    "application (not of the app registration) and Add-MailboxPermission -AccessRights FullAccess for the mailbox. For a "
    "token of a user: the user name is the mailbox of the token. SMTP AUTH must be on: 'Set-CASMailbox -Identity MAILBOX "
    "-SmtpClientAuthenticationDisabled $false'."
)

ADVICE: tuple[Advice, ...] = (
    # -- Gmail and Google Workspace ------------------------------------------------------------------------------------
    Advice(
        "gmail",
        "auth_app_password_required",
        "Sign in as this account at https://myaccount.google.com/apppasswords, create an app password, and use its 16 "
        "letters as password (blanks left out). An account of an organisation may need its administrator to allow them.",
        ACCOUNT_OWNER,
    ),
    Advice(
        "gmail",
        "auth_web_login_required",
        "Sign in as this account with a browser, if possible from the network of this server, and confirm that it was you; "
        "then use an app password (https://myaccount.google.com/apppasswords), which is not asked for that.",
        ACCOUNT_OWNER,
    ),
    Advice(
        "gmail",
        "greet_421",
        "Wait: Google slows down addresses that connect too often. Send over fewer connections, and set ehlo_name to the "
        "name of this server if you use smtp-relay.gmail.com.",
        OPERATOR,
    ),
    Advice(
        "gmail",
        "relay_ip_not_registered",
        "In the Google Admin console (Apps, Google Workspace, Gmail, Routing, SMTP relay service) add the public address of "
        "this server, or require SMTP authentication there and log in. The sender's domain must be one of the organisation.",
        ADMINISTRATOR,
    ),
    Advice(
        "gmail",
        "oauth_rejected",
        "Get a new access token of exactly this account with the scope https://mail.google.com/ (a refresh token of an "
        "application whose consent screen is in testing ends after 7 days).",
        ACCOUNT_OWNER,
    ),
    # -- Microsoft 365 and Outlook.com ---------------------------------------------------------------------------------
    Advice(
        "microsoft365",
        "auth_bad_credentials",
        "Check the password; if it is right, this reply hides the reason. An administrator looks at the sign-in log of the "
        "account (entra.microsoft.com, Monitoring, Sign-in logs), and runs 'Get-CASMailbox -Identity MAILBOX | "
        "Format-List SmtpClientAuthenticationDisabled' (it must be False, or empty while 'Get-TransportConfig' says False).",
        ADMINISTRATOR,
    ),
    Advice(
        "microsoft365",
        "auth_mech_unknown",
        "SMTP AUTH is switched off, so that no mechanism is known: an administrator runs 'Set-CASMailbox -Identity MAILBOX "
        "-SmtpClientAuthenticationDisabled $false', or 'Set-TransportConfig -SmtpClientAuthenticationDisabled $false' for all.",
        ADMINISTRATOR,
    ),
    Advice("microsoft365", "oauth_rejected", "Get a new access token for this mailbox. " + _EXCHANGE_RIGHTS, ADMINISTRATOR),
    Advice(
        "microsoft365",
        "oauth_wrong_audience",
        "Ask for the scope https://outlook.office.com/SMTP.Send (a user's token) or https://outlook.office365.com/.default (an "
        "application's): a token for Microsoft Graph does not open SMTP.",
        OPERATOR,
    ),
    Advice(
        "microsoft365",
        "oauth_missing_scope",
        "Give the application the delegated permission SMTP.Send, or the application permission SMTP.SendAsApp of Office 365 "
        "Exchange Online, have an administrator consent, and get a new token.",
        ADMINISTRATOR,
    ),
    Advice(
        "microsoft365",
        "sender_not_owned",
        "Send as the mailbox that logs in (in Postfix: smtp_generic_maps), or have an administrator run "
        "'Add-RecipientPermission -Identity SENDER -Trustee LOGIN -AccessRights SendAs'.",
        ADMINISTRATOR,
    ),
    Advice(
        "microsoft365",
        "sender_unverified",
        "Add and verify the sender's domain in the Microsoft 365 admin center (Settings, Domains), and make the account that sends part of it.",
        ADMINISTRATOR,
    ),
    Advice(
        "microsoft365",
        "account_sending_blocked",
        "The account was caught sending spam. Secure it (new password, sessions ended), then an administrator releases it in "
        "the Microsoft Defender portal (Email & collaboration, Review, Restricted entities).",
        ADMINISTRATOR,
    ),
    Advice(
        "microsoft365",
        "limit_daily",
        "A mailbox may send to 10,000 recipients in 24 hours: wait, and use High Volume Email or a bulk sender for more.",
        OPERATOR,
    ),
    Advice(
        "microsoft365",
        "limit_rate",
        "A mailbox may send 30 messages a minute: in Postfix set smtp_destination_rate_delay = 2s for this transport. Postfix "
        "repeats what was put off.",
        OPERATOR,
    ),
    Advice(
        "microsoft365",
        "limit_concurrency",
        "A mailbox may have three connections at a time: in Postfix set smtp_destination_concurrency_limit = 2 for this "
        "transport, and look for other hosts that use the same mailbox.",
        OPERATOR,
    ),
    Advice(
        "outlook",
        "auth_basic_disabled",
        "Outlook.com has taken no passwords since September 2024 and nobody can switch that back on: use OAuth (access_token, "
        "mechanism xoauth2, a token of the consumers tenant), or another provider.",
        ACCOUNT_OWNER,
    ),
    # -- mailboxes -----------------------------------------------------------------------------------------------------
    Advice(
        "yahoo",
        "auth_too_many",
        "Yahoo says so for the password of the account itself, too: generate an app password on the account's security page, "
        "wait 30 minutes, and use that.",
        ACCOUNT_OWNER,
    ),
    Advice(
        "icloud",
        "sender_not_owned",
        "Send as the iCloud address or one of its aliases (in Postfix: smtp_generic_maps), or add the custom domain to the account.",
        ACCOUNT_OWNER,
    ),
    Advice(
        "fastmail",
        "sender_not_owned",
        "Add the address that the message has in From as an alias or sending identity (Settings, My email addresses), or have "
        "Postfix rewrite it (smtp_generic_maps).",
        ACCOUNT_OWNER,
    ),
    Advice(
        "zoho",
        "sender_not_owned",
        "The sender must be the address that logs in or one of its aliases: rewrite it (smtp_generic_maps), or add it as an "
        "alias (Settings, Mail Accounts, Send Mail As).",
        ACCOUNT_OWNER,
    ),
    Advice(
        "zoho",
        "account_sending_blocked",
        "Sign in at https://mail.zoho.com/UnblockMe (the page of your data centre), say what was sent, and lift the block.",
        ACCOUNT_OWNER,
    ),
    Advice("tencent", "auth_too_many", "The account refuses the right password, too, while it is locked: stop all logins and wait.", OPERATOR),
    # -- bulk senders --------------------------------------------------------------------------------------------------
    Advice(
        "ses",
        "sender_unverified",
        "Open the SES console in region {region}, Configuration, Identities, and verify the address or domain that the reply "
        "names: identities belong to one region. If it is the recipient that it names, the account is still in the sandbox "
        "there: ask for production access (Account dashboard).",
        ACCOUNT_OWNER,
    ),
    Advice(
        "ses",
        "account_not_permitted",
        "Give the IAM user of these SMTP credentials the permission ses:SendRawEmail on the identity that the reply names "
        "(IAM, Users, Permissions), and look at the identity's own sending authorization policy.",
        ADMINISTRATOR,
    ),
    Advice(
        "ses",
        "limit_daily",
        "Wait: the quota counts the last 24 hours. 'aws sesv2 get-account' shows it; ask for a larger one in Service Quotas. In "
        "the sandbox it can not be raised: ask for production access.",
        ACCOUNT_OWNER,
    ),
    Advice(
        "sendgrid",
        "sender_unverified",
        "Verify the sender at https://app.sendgrid.com/settings/sender_auth (the domain, or this single sender).",
        ACCOUNT_OWNER,
    ),
    Advice(
        "mailgun",
        "recipient_restricted_plan",
        "Add the recipient to the authorized recipients of the sandbox domain (Sending, Overview), or add a domain of your own and a plan.",
        ACCOUNT_OWNER,
    ),
    Advice(
        "brevo",
        "auth_ip_not_allowed",
        "Add the public address of this server to the authorized IPs in the account's security settings, or switch the "
        "blocking of unknown addresses off there (it is on by default in accounts made after 16 May 2024).",
        ACCOUNT_OWNER,
    ),
    Advice(
        "brevo",
        "account_not_activated",
        "Fill in the account's profile and ask Brevo's support to activate SMTP; login and addresses pass before that, and the "
        "message is refused at its end.",
        ACCOUNT_OWNER,
    ),
    Advice(
        "sparkpost",
        "sender_unverified",
        "Add and verify the domain of the sender at Configuration, Sending Domains (an account in the EU has its own pages).",
        ACCOUNT_OWNER,
    ),
    Advice(
        "zeptomail",
        "sender_unverified",
        "Verify the sender's domain in the mail agent whose token is used; a token sends for the domains of its own agent only.",
        ACCOUNT_OWNER,
    ),
)
_BY_PROVIDER = {(advice.provider, advice.code): advice for advice in ADVICE}


def advice_for(provider: str, code: str) -> Advice | None:
    """The provider's own answer to *code*, None if there is none."""
    return _BY_PROVIDER.get((provider, code))
