# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an OAuth 2.0 access token says of itself, if it is a JWT (RFC 7519), and what is wrong with that.

Nothing here is verified: that is the server's part. The token is only read, to explain why a server refuses it.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import printable, shorten

Facts = t.Dict[str, t.Any]

_MAX_PART = 65536
"""Characters of one part of a token that is read."""
_MAX_ENTRIES = 50
_LEEWAY = datetime.timedelta(minutes=5)
"""How far the clock of who issued a token may be ahead of this host's (RFC 7519 section 4.1.5)."""

_MICROSOFT_AUDIENCES = (
    "https://outlook.office365.com",
    "https://outlook.office.com",
    "https://outlook.office365.us",  # the clouds of the US government and of China
    "https://partner.outlook.cn",
    "00000002-0000-0ff1-ce00-000000000000",  # Office 365 Exchange Online, by its application id
)
_MICROSOFT_SCOPE, _MICROSOFT_ROLE = "SMTP.Send", "SMTP.SendAsApp"


def inspect(token: str, now: datetime.datetime) -> Facts:
    """What *token* says: never the token itself or a part of it that is worth anything.

    * ``kind``: ``jwt``, or ``opaque`` if it says nothing to anybody but its issuer (all other values are empty then)
    * ``issuer``, ``account``, ``application``: text or None; ``audience``, ``scopes``, ``roles``: lists of text
    * ``not_before``, ``expires``: ISO 8601 in UTC or None; ``expired``, ``not_yet_valid``: by the clock *now*
    """
    claims = _claims(token)
    expires, not_before = _moment(claims.get("exp")), _moment(claims.get("nbf"))
    return {
        "kind": "jwt" if claims else "opaque",
        "issuer": _text(claims.get("iss")),
        "audience": _texts(claims.get("aud")),
        "scopes": _texts(claims.get("scp", claims.get("scope"))),
        "roles": _texts(claims.get("roles")),
        "account": _first_text(claims, "upn", "preferred_username", "email", "unique_name"),
        "application": _first_text(claims, "appid", "azp", "client_id"),
        "not_before": _timestamp(not_before),
        "expires": _timestamp(expires),
        "expired": expires is not None and expires <= now,
        "not_yet_valid": not_before is not None and not_before > now + _LEEWAY,
    }


def refuse_unusable(facts: Facts) -> None:
    """Raise :class:`SmtpError` (``token``) if a token with these *facts* can not be accepted by anybody now."""
    if facts["expired"]:
        raise SmtpError(Kind.TOKEN, _EXPIRED.format(**facts), stage="auth", reason="expired")
    if facts["not_yet_valid"]:
        raise SmtpError(Kind.TOKEN, _NOT_YET_VALID.format(**facts), stage="auth", reason="not_yet_valid")


def complaints(facts: Facts, username: str | None, provider: str = "") -> list[tuple[str, str]]:
    """What is wrong with a token for logging in as *username* at *provider* (see providers.py): codes with a sentence each.

    The codes are those of the catalogue of diagnoses. What a token does not say is not held against it.
    """
    found = []
    if facts["expired"]:
        found.append(("oauth_token_expired", _EXPIRED.format(**facts)))
    if facts["not_yet_valid"]:
        found.append(("oauth_token_not_yet_valid", _NOT_YET_VALID.format(**facts)))
    if facts["kind"] == "jwt" and provider.startswith("microsoft"):
        found += _microsoft(facts)
    account = facts["account"]
    if username and account and account.lower() != username.lower():
        found.append(("oauth_wrong_account", f"the access token is for {account}, the user name is {username}"))
    return found


_EXPIRED = "the access token has expired at {expires}"
_NOT_YET_VALID = "the access token is not valid before {not_before}"


def _microsoft(facts: Facts) -> t.Iterator[tuple[str, str]]:
    audience = facts["audience"]
    if audience and not any(name.rstrip("/").lower() in _MICROSOFT_AUDIENCES for name in audience):
        yield "oauth_wrong_audience", f"the access token is for {', '.join(audience)}, not for {_MICROSOFT_AUDIENCES[0]}"
    if _MICROSOFT_SCOPE not in facts["scopes"] and _MICROSOFT_ROLE not in facts["roles"]:
        granted = ", ".join(facts["scopes"] + facts["roles"]) or "nothing"
        yield "oauth_missing_scope", f"the access token grants neither {_MICROSOFT_SCOPE} nor {_MICROSOFT_ROLE}, but {granted}"


def _claims(token: str) -> dict[str, t.Any]:
    """The claims of a signed JWT; empty if *token* is none (an encrypted one has five parts)."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    header, claims = _json_object(parts[0]), _json_object(parts[1])
    return claims if "alg" in header else {}


def _json_object(part: str) -> dict[str, t.Any]:
    if len(part) > _MAX_PART:
        return {}
    try:
        value = json.loads(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: t.Any) -> str | None:
    return shorten(printable(value)) if isinstance(value, str) and value else None


def _first_text(claims: dict[str, t.Any], *names: str) -> str | None:
    return next((text for text in (_text(claims.get(name)) for name in names) if text), None)


def _texts(value: t.Any) -> list[str]:
    """A claim that is one text, several in one text, or a list of texts."""
    entries = value.split() if isinstance(value, str) else value
    if not isinstance(entries, list):
        return []
    return [text for text in (_text(entry) for entry in entries[:_MAX_ENTRIES]) if text]


def _moment(value: t.Any) -> datetime.datetime | None:
    """A NumericDate (RFC 7519 section 2)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return datetime.datetime.fromtimestamp(value, datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None


def _timestamp(moment: datetime.datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
