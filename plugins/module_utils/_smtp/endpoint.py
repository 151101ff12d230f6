# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One endpoint to test: a relay, and what only the test needs to know of it."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import relay, relay_login
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import Fields, RelayError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.route import FAMILIES, Proxy, Route
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust

PASSWORD_MECHANISMS = (*relay_login.PASSWORD_MECHANISMS, "scram-sha-1-plus", "scram-sha-256-plus")
TOKEN_MECHANISMS = (relay_login.XOAUTH2, "oauthbearer")
MECHANISMS = (relay_login.AUTO, *PASSWORD_MECHANISMS, *TOKEN_MECHANISMS, relay_login.EXTERNAL)
PROXY_TYPES = {"socks5": 1080, "http": 3128}
"""The kinds of proxies, and the port of each if none is given."""

DEFAULTS: t.Mapping[str, t.Any] = {
    "access_token": None,
    "allow_unencrypted": False,
    "source_address": None,
    "proxy": None,
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

_MAILBOX = re.compile(r"[^\s<>@\"(),:;\[\]\\]{1,64}@[^\s<>@\"(),;\\]{1,255}\Z")
UNSET: t.Mapping[str, t.Any] = {**relay.UNSET, **DEFAULTS, **ONLY_POSTFIX}
"""All fields, not set, but those that every endpoint has: name, host, port and tls."""

Endpoint = t.Dict[str, t.Any]
"""An entry with every key of :data:`FIELDS` and :data:`ONLY_POSTFIX`; what was not set is None, False or empty."""


def normalise_endpoints(entries: t.Any, variable: str = "relays") -> t.List[Endpoint]:
    """Return *entries* checked and completed. Raises :class:`RelayError` naming entry and field, and never shows a value."""
    if not isinstance(entries, (list, tuple)):
        raise RelayError(variable, "must be a list of relays")
    bare = [_without(entry, (*TEST_FIELDS, *relay_login.FIELDS)) for entry in entries]
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
        "dane": _dane(fields, tls),
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
    login = relay_login.read(fields, MECHANISMS, with_access_token=True)
    mechanism, allowed = login["mechanism"], fields.flag("allow_unencrypted")
    if mechanism.endswith("-plus") and fields.text("minimum_tls") == "1.3":
        raise fields.refuse("minimum_tls", f"'1.3' contradicts mechanism '{mechanism}': Python can bind a login to TLS 1.2 at most")
    if tls == relay.NONE and relay_login.has_secret(login) and not allowed:
        raise fields.refuse("tls", "'none' would send the password in clear text; use implicit or starttls, or set 'allow_unencrypted'")
    return {**login, "allow_unencrypted": allowed, "try_all_mechanisms": fields.flag("try_all_mechanisms")}


def _dane(fields: Fields, tls: str) -> bool:
    dane = fields.flag("dane")
    if dane and fields.texts("fingerprints"):
        raise fields.refuse("fingerprints", "can not be combined with 'dane': each of them decides alone whom to trust")
    if dane and tls == relay.NONE:
        raise fields.refuse("dane", "has no meaning with 'tls: none'")
    return dane


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
