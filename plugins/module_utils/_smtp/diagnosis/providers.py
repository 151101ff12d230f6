# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which provider a server belongs to, and what its servers call themselves.

This serves explanations only: nothing is trusted because of it. Host names are those that the providers document; the
greetings were compared with recorded dialogues, and one that was not is left empty, so that no verdict is built on it.
"""

from __future__ import annotations

import re
import typing as t


class Provider(t.NamedTuple):
    """*hosts* and *certificates* are domains (``*`` stands for one label); a name below one of them belongs to it.

    *greeting* is a regular expression for the text after 220, empty if it is not known. *login* says in one sentence
    what the provider wants as user name and password, empty if that is nothing special.
    """

    id: str
    name: str
    hosts: tuple[str, ...]
    certificates: tuple[str, ...] = ()
    greeting: str = ""
    login: str = ""


PROVIDERS: tuple[Provider, ...] = (
    Provider(
        "gmail",
        "Gmail and Google Workspace",
        ("gmail.com", "googlemail.com", "google.com"),
        ("gmail.com", "googlemail.com", "google.com"),
        r"^(smtp|smtp-relay|mx)\.(gmail|google|googlemail)\.com ESMTP .*gsmtp",
        "Use the full mail address and a 16-letter app password (https://myaccount.google.com/apppasswords, needs 2-step "
        "verification), or OAuth; the password of the account itself is never accepted.",
    ),
    Provider(
        "outlook",
        "Outlook.com",
        ("smtp-mail.outlook.com",),
        ("outlook.com", "office365.com"),
        r"^\S+\.(outlook|office365)\.com Microsoft ESMTP MAIL Service",
        "Use OAuth (mechanism: xoauth2 and an access token): Outlook.com has taken no passwords since September 2024.",
    ),
    Provider(
        "microsoft365",
        "Microsoft 365",
        ("office365.com", "protection.outlook.com", "office365.us", "partner.outlook.cn"),
        ("office365.com", "outlook.com", "office365.us"),
        r"^\S+\.(outlook|office365)\.com Microsoft ESMTP MAIL Service",
        "Use the mailbox's full address (user principal name) and its password, or OAuth.",
    ),
    Provider(
        "yahoo",
        "Yahoo, AOL or AT&T Mail",
        ("mail.yahoo.com", "smtp.aol.com", "mail.att.net", "outbound.att.net"),
        ("yahoo.com", "aol.com", "att.net"),
        "",
        "Use the full mail address and an app password (account page, Security, 'Generate app password'; AT&T calls it "
        "secure mail key); the password of the account itself is never accepted.",
    ),
    Provider(
        "icloud",
        "iCloud Mail",
        ("mail.me.com", "mail.icloud.com"),
        ("me.com", "icloud.com"),
        "",
        "Use the full mail address and an app-specific password (https://account.apple.com, Sign-In and Security); the "
        "password of the account itself is never accepted.",
    ),
    Provider(
        "ses",
        "Amazon SES",
        ("email-smtp.*.amazonaws.com", "email-smtp-fips.*.amazonaws.com", "email-smtp.*.amazonaws.com.cn"),
        ("email-smtp.*.amazonaws.com", "email-smtp-fips.*.amazonaws.com", "email-smtp.amazonaws.com", "email-smtp.*.amazonaws.com.cn"),
        r"^email-smtp(-fips)?\.(\S+\.)?amazonaws\.com(\.cn)? ESMTP",
        "Use the SMTP user name (AKIA...) and the SMTP password of this region (SES console, 'SMTP settings'); the SMTP "
        "password is derived from the secret access key, which itself is refused. A new one works after some minutes.",
    ),
    Provider(
        "sendgrid",
        "SendGrid",
        ("sendgrid.net",),
        ("sendgrid.net",),
        r"^SG ESMTP|sendgrid\.net",
        "The user name is the word apikey, the same for everybody; the password is an API key with the permission Mail Send.",
    ),
    Provider(
        "mailgun",
        "Mailgun",
        ("mailgun.org",),
        ("mailgun.org",),
        r"^Mailgun Influx",
        "Use the SMTP login of the domain (postmaster@the.domain) and its SMTP password (Sending, Domain settings, SMTP "
        "credentials), not an API key; a domain in the EU needs the host smtp.eu.mailgun.org.",
    ),
    Provider(
        "postmark",
        "Postmark",
        ("postmarkapp.com",),
        ("postmarkapp.com",),
        "",
        "User name and password are both the Server API token (server, API Tokens), not the account's token; SMTP must be "
        "switched on for that server.",
    ),
    Provider(
        "sparkpost",
        "SparkPost",
        ("sparkpostmail.com",),
        ("sparkpostmail.com",),
        r"sparkpostmail\.com ESMTP",
        "The user name is SMTP_Injection, the password an API key with the permission 'Send via SMTP' (accounts in the EU: "
        "host smtp.eu.sparkpostmail.com).",
    ),
    Provider(
        "brevo",
        "Brevo",
        ("smtp-relay.brevo.com", "smtp-relay.sendinblue.com"),
        ("brevo.com", "sendinblue.com"),
        "",
        "Use the SMTP login of the account and an SMTP key (xsmtpsib-..., page 'SMTP & API', tab SMTP), not an API key.",
    ),
    Provider(
        "mailjet",
        "Mailjet",
        ("mailjet.com",),
        ("mailjet.com",),
        "",
        "The user name is the API key, the password the secret key (account page, 'SMTP and SEND API settings').",
    ),
    Provider(
        "fastmail",
        "Fastmail",
        ("fastmail.com", "messagingengine.com"),
        ("fastmail.com", "messagingengine.com"),
        r"^smtp\.(fastmail|messagingengine)\.com ESMTP",
        "Use the full mail address and an app password with access to SMTP (Settings, Privacy & Security, Manage app "
        "passwords); the password of the account itself is never accepted.",
    ),
    Provider(
        "zoho",
        "Zoho Mail",
        ("zoho.com", "zoho.eu", "zoho.in", "zoho.jp", "zoho.com.au", "zohocloud.ca"),
        ("zoho.com", "zoho.eu", "zoho.in", "zoho.jp", "zoho.com.au", "zohocloud.ca", "zohomail.com"),
        r"^mx\.zohomail\.\S+ |^mx\.zoho\.\S+ ",
        "Use the host of the data centre where the account lives (smtp.zoho.com, .eu, .in, .jp, .com.au; smtppro.zoho.* for "
        "paid plans), the full mail address, and an app password if two-factor login is on.",
    ),
    Provider(
        "zeptomail",
        "ZeptoMail",
        ("zeptomail.com",),
        ("zeptomail.com",),
        "",
        "Use the send-mail token of the mail agent as password (agent, SMTP/API); it is refused, too, when credits are used up.",
    ),
    Provider(
        "gmx",
        "GMX or WEB.DE",
        ("gmx.com", "gmx.net", "web.de"),
        ("gmx.com", "gmx.net", "web.de"),
        r"^(gmx\.(com|net)|web\.de) \(\S+\) Nemesis ESMTP",
        "First switch on 'POP3 & IMAP access' in the mailbox's settings in the web; with two-factor login use an app password.",
    ),
    Provider(
        "ionos",
        "IONOS",
        ("smtp.ionos.*", "smtp.ionos.co.uk", "smtp.1und1.de", "smtp.1and1.*"),
        login="Use the mail address and the password of the mailbox, not the customer number and password of the contract.",
    ),
    Provider(
        "proton",
        "Proton Mail",
        ("protonmail.ch", "proton.me"),
        ("protonmail.ch", "proton.me"),
        "",
        "Use an SMTP token, made for exactly this address of a custom domain (Settings, IMAP/SMTP, SMTP tokens; some plans "
        "only); addresses @proton.me can not send by SMTP.",
    ),
    Provider(
        "yandex",
        "Yandex Mail",
        ("smtp.yandex.com", "smtp.yandex.ru"),
        login="Allow mail clients in the mailbox's settings and use an app password.",
    ),
    Provider(
        "tencent",
        "Tencent QQ Mail",
        ("smtp.qq.com", "smtp.exmail.qq.com"),
        login="Use the authorisation code that the mailbox's settings give out for SMTP, not the account's password.",
    ),
    Provider("godaddy", "GoDaddy Workspace", ("secureserver.net",)),
    Provider("mailboxorg", "mailbox.org", ("mailbox.org",)),
    Provider("ovh", "OVHcloud", ("ovh.net",), login="Use the full mail address as user name and the mailbox's password."),
    Provider("hetzner", "Hetzner", ("mail.your-server.de",), login="Use the full mail address as user name and the mailbox's password."),
    Provider("strato", "STRATO", ("smtp.strato.de",), login="Use the full mail address as user name and the mailbox's password."),
    Provider(
        "mailtrap", "Mailtrap", ("smtp.mailtrap.io",), login="The user name is the word api (for sandboxes the inbox's own), the password a token."
    ),
    Provider("mandrill", "Mailchimp Transactional", ("mandrillapp.com",), login="The password is an API key; any user name does."),
    Provider("smtp2go", "SMTP2GO", ("smtp2go.com",)),
)
BY_ID: dict[str, Provider] = {provider.id: provider for provider in PROVIDERS}


def recognise(host: str, names: t.Sequence[str] = (), greeting: str = "") -> str:
    """The provider's id by the name of the server, else by *names* of its certificate, else by its *greeting*; or "".

    The host name comes first since it is what the operator meant, whoever answers.
    """
    for provider in PROVIDERS:
        if _below(host, provider.hosts):
            return provider.id
    for provider in reversed(PROVIDERS):  # Outlook.com and Microsoft 365 share certificate and greeting: the second is meant
        if any(_below(name, provider.certificates) for name in names):
            return provider.id
    for provider in reversed(PROVIDERS):
        if provider.greeting and re.search(provider.greeting, greeting, re.IGNORECASE):
            return provider.id
    return ""


def greeting_is_foreign(provider_id: str, greeting: str) -> bool:
    """Whether *greeting* (its text after 220) is not what this provider's servers say. False if that is not known."""
    provider = BY_ID.get(provider_id)
    return bool(provider and provider.greeting and not re.search(provider.greeting, greeting, re.IGNORECASE))


def certificate_is_foreign(provider_id: str, names: t.Sequence[str]) -> bool:
    """Whether no one of *names* belongs to this provider. False if its certificates are not known."""
    provider = BY_ID.get(provider_id)
    return bool(provider and provider.certificates and not any(_below(name, provider.certificates) for name in names))


def ses_region(host: str) -> str:
    """The AWS region that the name of an SES endpoint holds, or an empty string."""
    labels = host.lower().rstrip(".").split(".")
    return labels[1] if _below(host, BY_ID["ses"].hosts) else ""


def _below(name: str, domains: t.Sequence[str]) -> bool:
    """Whether *name* (a wildcard name of a certificate as well) is one of *domains* or below one of them."""
    labels = name.lower().rstrip(".").split(".")
    return any(_ends_with(labels, domain.split(".")) for domain in domains)


def _ends_with(labels: t.Sequence[str], domain: t.Sequence[str]) -> bool:
    tail = labels[-len(domain) :]
    return len(tail) == len(domain) and all(wanted in ("*", label) for wanted, label in zip(domain, tail))
