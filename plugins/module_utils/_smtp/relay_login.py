# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The fields of a relay that say who logs in, where the secret is, and by which mechanism."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import Fields, RelayError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.secret_sources import check_credential_name

AUTO, XOAUTH2, EXTERNAL = "auto", "xoauth2", "external"
PASSWORD_MECHANISMS = ("plain", "login", "cram-md5", "digest-md5", "scram-sha-1", "scram-sha-256")
TOKEN_MECHANISMS = (XOAUTH2, "oauthbearer")
MECHANISMS = (AUTO, *PASSWORD_MECHANISMS, XOAUTH2, EXTERNAL)

SECRETS = ("password", "password_file", "password_credential", "oauth")
"""Where a secret can come from. A relay with a user name has exactly one of these."""
ACCESS_TOKEN = "access_token"
"""One more, for a test: an access token does not last, so a relay leads to one by ``oauth``."""
FIELDS = ("username", *SECRETS, "mechanism")
UNSET: t.Mapping[str, t.Any] = {**dict.fromkeys(FIELDS), "mechanism": AUTO}
OAUTH_FIELDS = ("token_endpoint", "client_id", "client_secret", "refresh_token", "scope", "ca_file", "local_port")

_ACCESS_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z")
"""RFC 6750 section 2.1, b68token."""

Login = t.Dict[str, t.Any]


def read(fields: Fields, mechanisms: t.Sequence[str] = MECHANISMS, with_access_token: bool = False) -> Login:
    """The fields of :data:`FIELDS`, and on request ``access_token``, checked. Raises :class:`RelayError`."""
    secrets = (*SECRETS, ACCESS_TOKEN) if with_access_token else SECRETS
    given = [name for name in secrets if fields.has(name)]
    if len(given) > 1:
        raise fields.refuse(given[1], f"contradicts '{given[0]}': a relay has one secret")
    secret = given[0] if given else ""
    found = {
        "username": _username(fields),
        "password": fields.credential("password"),
        "password_file": fields.path("password_file"),
        "password_credential": _credential_name(fields),
        "oauth": _oauth(fields),
        "mechanism": fields.choice("mechanism", mechanisms, AUTO),
    }
    if with_access_token:
        found[ACCESS_TOKEN] = _access_token(fields)
    _check_complete(fields, found, secret)
    if secret == "oauth" and found["mechanism"] == AUTO:
        found["mechanism"] = XOAUTH2
    return found


def has_secret(login: t.Mapping[str, t.Any]) -> bool:
    """Whether there is a secret, or a place that leads to one."""
    return any(login.get(name) is not None for name in (*SECRETS, ACCESS_TOKEN))


def _check_complete(fields: Fields, login: Login, secret: str) -> None:
    """Refuse a mechanism that has not what it needs, and half a login. *secret* is the field that has one, or empty."""
    mechanism = login["mechanism"]
    if secret and login["username"] is None:
        raise fields.refuse("username", f"is required because '{secret}' is given")
    if mechanism == EXTERNAL:
        if secret:
            raise fields.refuse("mechanism", f"'external' logs in with the client certificate; leave '{secret}' out")
        if not fields.has("client_certificate"):
            raise fields.refuse("client_certificate", "is required by mechanism 'external'")
        return
    if login["username"] is not None and not secret:
        raise fields.refuse("password", "is required because 'username' is given (or password_file, password_credential or oauth)")
    leads_to_token = secret in ("oauth", ACCESS_TOKEN)
    if secret and mechanism in TOKEN_MECHANISMS and not leads_to_token:
        raise fields.refuse("mechanism", f"'{mechanism}' takes an access token, not a password")
    if leads_to_token and mechanism not in (AUTO, *TOKEN_MECHANISMS):
        raise fields.refuse("mechanism", f"'{mechanism}' takes a password, not an access token")


def _username(fields: Fields) -> t.Optional[str]:
    username = fields.credential("username")
    if username is not None and ":" in username:
        raise fields.refuse("username", "holds a colon, which separates user name and password in Postfix's table")
    return username


def _access_token(fields: Fields) -> t.Optional[str]:
    token = fields.credential(ACCESS_TOKEN)
    if token is not None and not _ACCESS_TOKEN.match(token):
        raise fields.refuse(ACCESS_TOKEN, "is not an OAuth 2.0 access token (RFC 6750 section 2.1)")
    return token


def _credential_name(fields: Fields) -> t.Optional[str]:
    name = fields.text("password_credential")
    if name is not None:
        check_credential_name(name, f"{fields.place}.password_credential")
    return name


def _oauth(fields: Fields) -> t.Optional[t.Dict[str, t.Any]]:
    """How to get an access token (RFC 6749): by a refresh token, or without one by the client's own secret (section 4.4)."""
    given = fields.mapping("oauth")
    if given is None:
        return None
    inner = Fields(given, f"{fields.place}.oauth")
    inner.only(OAUTH_FIELDS, "oauth")
    found = {name: inner.credential(name) for name in ("client_id", "client_secret", "refresh_token", "scope")}
    if found["client_id"] is None:
        raise inner.refuse("client_id", "is required")
    if found["refresh_token"] is None and found["client_secret"] is None:
        raise inner.refuse("refresh_token", "or 'client_secret' is required: one of them must earn the access token")
    return {"token_endpoint": _https(inner), **found, "ca_file": inner.path("ca_file"), "local_port": inner.port("local_port")}


def _https(fields: Fields) -> str:
    """The URL of the token endpoint. RFC 6749 section 3.2: over TLS, without a fragment."""
    import urllib.parse  # here, as a login test that has no token endpoint must not wait for it

    url = fields.credential("token_endpoint")
    if url is None:
        raise fields.refuse("token_endpoint", "is required")
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        raise _no_url(fields) from None
    if not usable or parts.username is not None or "#" in url or not url.isascii() or any(char in url for char in ' "\\<>'):
        raise _no_url(fields)
    return url


def _no_url(fields: Fields) -> RelayError:
    return fields.refuse("token_endpoint", "must be an https URL without user name, password and fragment")
