# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One endpoint to test: a relay, and what only the test needs to know of it."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import relay
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import Fields, RelayError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.route import FAMILIES, Proxy, Route
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import TLS_VERSIONS, Trust

PASSWORD_MECHANISMS = (
    "plain",
    "login",
    "cram-md5",
    "digest-md5",
    "scram-sha-1",
    "scram-sha-256",
    "scram-sha-1-plus",
    "scram-sha-256-plus",
)
TOKEN_MECHANISMS = ("xoauth2", "oauthbearer")
MECHANISMS = ("auto", *PASSWORD_MECHANISMS, *TOKEN_MECHANISMS, "external")
PROXY_TYPES = {"socks5": 1080, "http": 3128}
"""The kinds of proxies, and the port of each if none is given."""

DEFAULTS: t.Mapping[str, t.Any] = {
    "access_token": None,
    "allow_unencrypted": False,
    "family": "any",
    "source_address": None,
    "proxy": None,
    "server_name": None,
    "minimum_tls": "1.2",
    "client_certificate": None,
    "client_key": None,
    "fingerprints": (),
    "dane": False,
    "sender": None,
    "recipient": None,
    "every_address": False,
    "try_all_mechanisms": False,
}
"""The fields that only the test has, and what they are if they are not set."""
TEST_FIELDS = tuple(DEFAULTS)
ONLY_POSTFIX: t.Mapping[str, t.Any] = {"ca_path": None, "system_roots": True, "ehlo_name": None}
"""What only the settings of a Postfix can say of an endpoint (see Trust; the name by which Postfix introduces itself)."""
FIELDS = (*relay.FIELDS, *TEST_FIELDS)

_FINGERPRINT = re.compile(r"(?:sha256:)?([0-9a-f]{2}(?::?[0-9a-f]{2}){31})\Z", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z")
"""RFC 6750 section 2.1, b68token."""
_MAILBOX = re.compile(r"[^\s<>@\"(),:;\[\]\\]{1,64}@[^\s<>@\"(),;\\]{1,255}\Z")
UNSET: t.Mapping[str, t.Any] = {**DEFAULTS, **ONLY_POSTFIX}
"""All fields that a relay does not have, not set."""

Endpoint = t.Dict[str, t.Any]
"""An entry with every key of :data:`FIELDS` and :data:`ONLY_POSTFIX`; what was not set is None, False or empty."""


def normalise_endpoints(entries: t.Any, variable: str = "relays") -> t.List[Endpoint]:
    """Return *entries* checked and completed. Raises :class:`RelayError` naming entry and field, and never shows a value."""
    if not isinstance(entries, (list, tuple)):
        raise RelayError(variable, "must be a list of relays")
    bare = [_without(entry, (*TEST_FIELDS, "username", "password", "mechanism")) for entry in entries]
    relays = relay.normalise_relays(bare, variable)
    places = [relay.place_of(entry, variable, index) for index, entry in enumerate(entries)]
    return [{**one, **ONLY_POSTFIX, **_test_fields(entry, one["tls"], place)} for entry, one, place in zip(entries, relays, places)]


def credentials(endpoint: Endpoint) -> t.Optional[Credentials]:
    """What to log in with, or None where no login is asked for."""
    if endpoint["password"] is None and endpoint["access_token"] is None and endpoint["mechanism"] != "external":
        return None
    return Credentials(endpoint["username"], endpoint["password"], endpoint["access_token"])


def trust(endpoint: Endpoint) -> Trust:
    """What makes the server of *endpoint* trusted."""
    return Trust(
        ca_file=endpoint["ca_file"],
        ca_path=endpoint["ca_path"],
        system_roots=endpoint["system_roots"],
        server_name=endpoint["server_name"],
        minimum_version=endpoint["minimum_tls"],
        # Python can bind a login to a connection up to this version only (see sasl_scram.py).
        maximum_version="1.2" if endpoint["mechanism"].endswith("-plus") else None,
        client_certificate=endpoint["client_certificate"],
        client_key=endpoint["client_key"],
        fingerprints=tuple(endpoint["fingerprints"]),
        dane=endpoint["dane"],
    )


def route(endpoint: Endpoint) -> Route:
    """The way to *endpoint*."""
    proxy = endpoint["proxy"]
    by = Proxy(proxy["type"], proxy["host"], proxy["port"], proxy["username"], proxy["password"]) if proxy else None
    return Route(endpoint["family"], endpoint["source_address"], by)


def _without(entry: t.Any, names: t.Sequence[str]) -> t.Any:
    return {key: value for key, value in entry.items() if key not in names} if isinstance(entry, dict) else entry


def _test_fields(entry: t.Dict[str, t.Any], tls: str, place: str) -> t.Dict[str, t.Any]:
    fields = Fields(entry, place)
    found = {
        **_login(fields, tls),
        **_certificates(fields, tls),
        "family": fields.choice("family", FAMILIES, "any"),
        "source_address": _source_address(fields),
        "proxy": _proxy(entry.get("proxy"), f"{place}.proxy"),
        "sender": _mailbox(fields, "sender"),
        "recipient": _mailbox(fields, "recipient"),
        "every_address": fields.flag("every_address"),
    }
    if found["recipient"] is not None and found["sender"] is None:
        raise fields.refuse("sender", "is required because 'recipient' is given (RFC 5321: MAIL comes before RCPT)")
    if found["proxy"] and (found["every_address"] or found["dane"]):
        raise fields.refuse("proxy", "can not be combined with 'every_address' or 'dane': the proxy resolves the name")
    return found


def _login(fields: Fields, tls: str) -> t.Dict[str, t.Any]:
    mechanism = fields.choice("mechanism", MECHANISMS, "auto")
    username, password, token = fields.credential("username"), fields.credential("password"), fields.credential("access_token")
    relay.check_username(fields, username)
    if password is not None and token is not None:
        raise fields.refuse("access_token", "can not be combined with 'password'; give the one that the relay wants")
    if token is not None and not _TOKEN.match(token):
        raise fields.refuse("access_token", "is not an OAuth 2.0 access token (RFC 6750 section 2.1)")
    _match_mechanism(fields, mechanism, username, password, token)
    if mechanism.endswith("-plus") and fields.text("minimum_tls") == "1.3":
        raise fields.refuse("minimum_tls", f"'1.3' contradicts mechanism '{mechanism}': Python can bind a login to TLS 1.2 at most")
    allowed = fields.flag("allow_unencrypted")
    if tls == relay.NONE and (password or token) and not allowed:
        raise fields.refuse("tls", "'none' would send the password in clear text; use implicit or starttls, or set 'allow_unencrypted'")
    return {
        "username": username,
        "password": password,
        "access_token": token,
        "mechanism": mechanism,
        "allow_unencrypted": allowed,
        "try_all_mechanisms": fields.flag("try_all_mechanisms"),
    }


def _match_mechanism(fields: Fields, mechanism: str, username: t.Optional[str], password: t.Optional[str], token: t.Optional[str]) -> None:
    """Refuse a mechanism that has not what it needs, and credentials that are not complete."""
    if username is None and (password or token):
        raise fields.refuse("username", f"is required because '{'password' if password else 'access_token'}' is given")
    if mechanism == "external":
        if password or token:
            raise fields.refuse("mechanism", "'external' logs in with the client certificate; leave password and access_token out")
        if not fields.has("client_certificate"):
            raise fields.refuse("client_certificate", "is required by mechanism 'external'")
        return
    if username is not None and not (password or token):
        raise fields.refuse("password", "is required because 'username' is given")
    if mechanism in TOKEN_MECHANISMS and password:
        raise fields.refuse("mechanism", f"'{mechanism}' takes an access_token, not a password")
    if mechanism in PASSWORD_MECHANISMS and token:
        raise fields.refuse("mechanism", f"'{mechanism}' takes a password, not an access_token")


def _certificates(fields: Fields, tls: str) -> t.Dict[str, t.Any]:
    found = {
        "server_name": fields.host("server_name") if fields.has("server_name") else None,
        "minimum_tls": fields.choice("minimum_tls", TLS_VERSIONS, TLS_VERSIONS[0]),
        "client_certificate": fields.path("client_certificate"),
        "client_key": fields.path("client_key"),
        "fingerprints": _fingerprints(fields),
        "dane": fields.flag("dane"),
    }
    if found["client_key"] and not found["client_certificate"]:
        raise fields.refuse("client_certificate", "is required because 'client_key' is given")
    if found["fingerprints"] and found["dane"]:
        raise fields.refuse("fingerprints", "can not be combined with 'dane': each of them decides alone whom to trust")
    if tls == relay.NONE:
        for name in ("server_name", "client_certificate", "fingerprints", "dane"):
            if found[name]:
                raise fields.refuse(name, "has no meaning with 'tls: none'")
    return found


def _fingerprints(fields: Fields) -> t.List[str]:
    """As ``sha256:`` and lower-case hex, from the forms that openssl and Postfix print (with colons, with or without prefix)."""
    found = []
    for value in fields.texts("fingerprints"):
        match = _FINGERPRINT.match(value)
        if match is None:
            raise fields.refuse("fingerprints", "must be SHA-256 fingerprints of a certificate or of its public key: 64 hex digits, colons allowed")
        found.append("sha256:" + match.group(1).replace(":", "").lower())
    return found


def _source_address(fields: Fields) -> t.Optional[str]:
    address = fields.address("source_address")
    family = "ipv6" if address and ":" in address else "ipv4"
    if address and fields.choice("family", FAMILIES, "any") not in ("any", family):
        raise fields.refuse("source_address", f"is an {family} address, which contradicts 'family'")
    return address


def _proxy(given: t.Any, place: str) -> t.Optional[t.Dict[str, t.Any]]:
    if given is None:
        return None
    if not isinstance(given, dict):
        raise RelayError(place, "must be a dictionary with 'type' and 'host'")
    fields = Fields(given, place)
    fields.only(("type", "host", "port", "username", "password"), "a proxy")
    kind = fields.choice("type", tuple(PROXY_TYPES), "socks5")
    username, password = fields.credential("username"), fields.credential("password")
    if (username is None) != (password is None):
        raise fields.refuse("password" if password is None else "username", "is required because the other one is given")
    for name, value in (("username", username), ("password", password)):
        if value is not None and len(value.encode("utf-8")) > 255:
            raise fields.refuse(name, "is longer than the 255 octets that a proxy takes (RFC 1929)")
    if kind == "http" and username is not None and ":" in username:
        raise fields.refuse("username", "holds a colon, which Basic authentication can not carry (RFC 7617)")
    host = fields.host(example="the name or address of the proxy")
    return {"type": kind, "host": host, "port": fields.port() or PROXY_TYPES[kind], "username": username, "password": password}


def _mailbox(fields: Fields, field: str) -> t.Optional[str]:
    """An address that goes into MAIL or RCPT unquoted, so one without blanks, quotes and controls. RFC 5321 section 4.1.2."""
    value = fields.text(field)
    if value is None:
        return None
    if not (value.isascii() and value.isprintable() and _MAILBOX.match(value)):
        raise fields.refuse(field, "must be a plain mail address in ASCII, such as alerts@example.net")
    return value
