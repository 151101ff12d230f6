# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a reply that refuses means: by the rules, and for OAuth and verified senders by what else was seen."""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis import providers
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.provider_rules import PROVIDER_RULES
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.reply_rules import GENERIC_RULES, ReplyRule, first_that_fits
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Observation

_BEARER = ("XOAUTH2", "OAUTHBEARER")
_REGION = re.compile(r"in region ([a-z]{2}(?:-[a-z]+)+-\d)\b", re.IGNORECASE)


RULES = (*PROVIDER_RULES, *GENERIC_RULES)


def _by_token(seen: Observation) -> bool:
    """the login was by an access token (XOAUTH2 or OAUTHBEARER)"""
    return (seen.mechanism or "").upper() in _BEARER


def _complaint(seen: Observation, code: str) -> bool:
    return _by_token(seen) and code in (found for found, _sentence in seen.complaints)


def _wrong_audience(seen: Observation) -> bool:
    """the access token names another service as its audience"""
    return _complaint(seen, "oauth_wrong_audience")


def _missing_scope(seen: Observation) -> bool:
    """the access token names its scopes, and the one for SMTP is not among them"""
    return _complaint(seen, "oauth_missing_scope")


def _wrong_account(seen: Observation) -> bool:
    """the access token names another account than the user name"""
    return _complaint(seen, "oauth_wrong_account")


def _other_region(seen: Observation) -> bool:
    """the region in the reply is not that of the host name, or of the certificate behind an alias"""
    names = [seen.host, *(seen.certificate.names if seen.certificate else ())]
    own = {providers.ses_region(name) for name in names} - {""}
    return bool(own) and bool(region(seen)) and region(seen) not in own


_REFUSED = ("auth_bad_credentials", "auth_bad_credentials_app_password", "auth_bad_credentials_smtp_secret")

REFINED: tuple[tuple[tuple[str, ...], str, t.Callable[[Observation], bool]], ...] = (
    (_REFUSED, "oauth_wrong_audience", _wrong_audience),
    (_REFUSED, "oauth_missing_scope", _missing_scope),
    (_REFUSED, "oauth_wrong_account", _wrong_account),
    (_REFUSED, "oauth_rejected", _by_token),
    (("sender_unverified",), "sender_unverified_region", _other_region),
)
"""What a diagnosis by reply becomes where the condition holds; the first that fits."""


def provider_of(seen: Observation) -> str:
    """The provider's id, by its servers or by words that only it writes; empty if it is none that is known."""
    provider = _by_server(seen)
    rule = None if provider else _rule(seen, "")
    return rule.provider if rule else provider


def _by_server(seen: Observation) -> str:
    names = seen.certificate.names if seen.certificate else ()
    return seen.provider or providers.recognise(seen.host, names, seen.greeting.text if seen.greeting else "")


def _rule(seen: Observation, provider: str) -> ReplyRule | None:
    error = seen.failure
    return first_that_fits(RULES, provider, error.stage, error.reply) if error.reply is not None else None


def recognise(seen: Observation) -> str:
    """The code of the diagnosis for a failure of kind ``reply``."""
    rule = _rule(seen, _by_server(seen))
    if rule is None:
        return "unknown"
    code = rule.diagnosis
    return next((particular for general, particular, condition in REFINED if code in general and condition(seen)), code)


def region(seen: Observation) -> str:
    """The AWS region that the reply names, in lower case; empty if it names none."""
    match = _REGION.search(str(seen.failure.reply or ""))
    return match.group(1).lower() if match else ""


def oauth_reason(seen: Observation) -> tuple[str, str]:
    """Status and scope of the JSON object by which a server refuses a token (RFC 7628 section 3.2.2), in words."""
    try:
        said = json.loads(seen.failure.sample)
    except (ValueError, RecursionError):
        said = {}
    said = said if isinstance(said, dict) else {}
    return str(said.get("status") or seen.failure.reason or "not given"), str(said.get("scope") or "not given")
