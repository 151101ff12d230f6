# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a reply that refuses to a code of the catalogue, by rules that are data: the first that fits is taken.

Enhanced codes alone decide nothing, since they collide between providers (5.7.30 has three meanings): a rule always names
the reply code, and one that names an enhanced code or a text of one provider fits that provider's servers only. The
exception are texts that nobody else writes (``alone``): they are recognised behind an alias of the provider, too.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply

_MAX_WORDS = 4096
"""Characters of a reply that are searched, so that one made for it can not keep the regular expressions busy."""


class ReplyRule(t.NamedTuple):
    """Fits if all of it does. *stages*: any of these, or any stage if empty. *code*, *enhanced*: regular expressions for
    the whole code. *text*: one that is found anywhere in the reply, upper and lower case alike.
    """

    stages: tuple[str, ...]
    code: str
    text: str
    diagnosis: str
    enhanced: str = ""
    provider: str = ""
    alone: bool = False
    """Whether the text says which provider it is, so that a server that is not recognised may say it as well."""

    def fits(self, provider: str, stage: str, reply: Reply, words: str) -> bool:
        """Whether *reply* is meant, of which *words* are what people read."""
        if self.provider and self.provider != provider and (provider or not self.alone):
            return False
        return (
            (not self.stages or stage in self.stages)
            and re.fullmatch(self.code, str(reply.code)) is not None
            and (not self.enhanced or re.fullmatch(self.enhanced, reply.enhanced or "") is not None)
            and re.search(self.text, words, re.IGNORECASE) is not None
        )


def first_that_fits(rules: t.Iterable[ReplyRule], provider: str, stage: str, reply: Reply) -> ReplyRule | None:
    """The rule that decides; None if there is none, which can not be where *rules* end with one for everything."""
    words = str(reply)[:_MAX_WORDS]
    return next((rule for rule in rules if rule.fits(provider, stage, reply, words)), None)


_GREETING = ("greeting",)
_EHLO = ("ehlo", "ehlo_tls")
_STARTTLS = ("starttls",)
_AUTH = ("auth",)
_SENDER = ("sender",)
_RECIPIENT = ("recipient",)
_DATA = ("data",)
_ADDRESSES = ("sender", "recipient")
_AFTER_LOGIN = ("sender", "recipient", "data")

# Particular before general.
GENERIC_RULES: tuple[ReplyRule, ...] = (
    ReplyRule(_GREETING, "4..", "", "greet_421"),
    ReplyRule(_GREETING, "5..", "", "greet_554"),
    # -- login ---------------------------------------------------------------------------------------------------------
    ReplyRule(_AUTH, "...", r"too many|rate limit|#AUTH005", "auth_too_many"),
    ReplyRule(_AUTH, "53[45]", r"application-specific password|InvalidSecondFactor", "auth_app_password_required"),
    ReplyRule(_AUTH, "534", r"web browser|5\.7\.14", "auth_web_login_required"),
    ReplyRule(_AUTH, "5..", r"SmtpClientAuthentication is disabled|basic authentication is", "auth_basic_disabled"),
    ReplyRule(_AUTH, "535", r"security defaults|did not meet the criteria", "auth_policy"),
    ReplyRule(_AUTH, "5[23]5", r"account (is )?(disabled|locked|suspended)", "auth_account_disabled"),
    ReplyRule(_AUTH, "525", r"unauthorized ip", "auth_ip_not_allowed"),
    ReplyRule(_AUTH, "525", "", "auth_account_disabled"),
    ReplyRule(_AUTH, "535", "", "auth_bad_credentials"),
    ReplyRule(_AUTH, "534", "", "auth_mech_too_weak"),
    ReplyRule(_AUTH, "538", "", "auth_encryption_required"),
    ReplyRule(_AUTH, "530", "starttls|encrypt", "auth_encryption_required"),
    ReplyRule(_AUTH, "504", "", "auth_mech_unknown"),
    ReplyRule(_AUTH, "501", r"decode|base64|5\.5\.2", "auth_bad_base64"),
    ReplyRule(_AUTH, "50[23]", "", "auth_not_enabled"),
    ReplyRule(_AUTH, "432", r"transition|4\.7\.12", "auth_password_transition"),
    ReplyRule(_AUTH, "421", "", "service_closing"),
    ReplyRule(_AUTH, "4..", "", "auth_temporary"),
    ReplyRule(_AUTH, "[23]..", "", "auth_unexpected_reply"),
    # -- sender, recipient, message ------------------------------------------------------------------------------------
    ReplyRule(_AFTER_LOGIN, "[45]..", r"greylist|graylist|grey-list", "recipient_greylisted"),
    ReplyRule(_AFTER_LOGIN, "4..", r"too many (concurrent|simultaneous|open)? ?(smtp )?connections", "limit_concurrency"),
    ReplyRule((), "421", "", "service_closing"),
    ReplyRule(_AFTER_LOGIN, "530", "starttls|encrypt", "sender_starttls_first"),
    ReplyRule(_AFTER_LOGIN, "530", "", "sender_auth_required"),
    ReplyRule(_AFTER_LOGIN, "5..", r"authentication (is )?required|client (was )?not authenticated|unauthenticated senders", "sender_auth_required"),
    ReplyRule(
        _AFTER_LOGIN,
        "55.",
        r"not owned by user|not authori[sz]ed to send|permissions? to send as|unauthorized sender",
        "sender_not_owned",
    ),
    ReplyRule(_ADDRESSES, "5..", r"relay(ing)?( access)?( is)? (denied|not permitted|prohibited|not allowed)", "recipient_relay_denied"),
    ReplyRule(_ADDRESSES, "5..", r"(unable|not permitted|not allowed) to relay", "recipient_relay_denied"),
    ReplyRule(_SENDER, "55.", "requiretls", "sender_requiretls", enhanced=r"5\.7\.30"),
    ReplyRule(_SENDER, "50[134]|55[03]", "", "sender_syntax", enhanced=r"5\.1\.7"),
    ReplyRule(
        _SENDER,
        "[45]..",
        r"fully-qualified|domain (of sender .*)?(not found|does not (exist|resolve))|invalid (mail from|sender|address)|bad sender address syntax",
        "sender_syntax",
    ),
    ReplyRule(_SENDER, "4..", r"rate|throttl|too (many|much|fast)|limit", "sender_rate"),
    ReplyRule(_SENDER, "4..", "", "sender_temporary"),
    ReplyRule(_SENDER, "5..", "", "sender_refused"),
    ReplyRule(_RECIPIENT, "5..", "", "recipient_unknown", enhanced=r"5\.1\.(1|10)"),
    ReplyRule(_RECIPIENT, "55.", r"user unknown|unknown user|no such (user|recipient|mailbox)", "recipient_unknown"),
    ReplyRule(_RECIPIENT, "4..", "", "recipient_rate", enhanced=r"4\.5\.3"),
    ReplyRule(_RECIPIENT, "4..", r"too many|throttl|\brate\b|limit", "recipient_rate"),
    ReplyRule(_RECIPIENT, "5..", "", "recipient_refused"),
    ReplyRule(_DATA, "5..", r"size|too (large|big)", "data_too_large", enhanced=r"5\.[23]\.[34]"),
    ReplyRule(_DATA, "552", "size|too (large|big)", "data_too_large"),
    ReplyRule(_DATA, "55.", r"RFC 5?5?[23]22", "data_not_compliant"),
    ReplyRule(_DATA, "55.", r"spam|unsolicited|policy|\b(SPF|DKIM|DMARC)\b|unauthenticated", "data_policy"),
    ReplyRule(_DATA, "4..", r"throttl|\brate\b|quota", "limit_rate"),
    # -- greeting to STARTTLS, then anything ---------------------------------------------------------------------------
    ReplyRule(_EHLO, "501", "", "ehlo_501_bad_name"),
    ReplyRule(_EHLO, "55.", "", "ehlo_550_policy"),
    ReplyRule(_EHLO, "50[024]", "", "ehlo_502"),
    ReplyRule(_STARTTLS, "4..", "", "starttls_454"),
    ReplyRule(_STARTTLS, "5..", "", "starttls_500_502"),
    ReplyRule((), "4..", "", "reply_temporary"),
    ReplyRule((), "...", "", "reply_refused"),
)
