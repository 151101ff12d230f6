# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Relays that log in with an OAuth 2.0 access token.

Postfix leaves SASL mechanisms to Cyrus SASL, which has no XOAUTH2 of its own. Such a relay is therefore reached through a
proxy on the loopback interface that does TLS and the login (package _oauth), and to Postfix it is a relay without either.
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._oauth import settings, stored_token
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.settings import DATA, OAuthError, RelaySettings
from ansible_collections.outpost.smtp.plugins.module_utils._smtp import relay_login, relay_trust
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import NONE, RelayError

FIRST_PORT = 288
"""The local port of the first relay with oauth in a list, unless it says another; each further one has the next. IANA has assigned
288 to 307 to nobody, and what takes any port of root's, such as a client of NFS, takes one from 512 up (bindresvport(3))."""
_FIRST_FOR_EVERYBODY = 1024
PROXY_ADDRESS = "127.0.0.1"

_NOT_BY_PROXY = ("srv", "fingerprints", "client_certificate")

Relay = t.Mapping[str, t.Any]


def behind_proxy(relays: t.Sequence[Relay], variable: str) -> t.List[t.Dict[str, t.Any]]:
    """Return the relays as Postfix has to know them. They are as ``normalise_relays`` gives them. Raises RelayError."""
    ports = {proxy.name: proxy.local_port for proxy in proxies(relays, variable)}
    return [{**relay, **_stand_in(ports[relay["name"]])} if relay["name"] in ports else dict(relay) for relay in relays]


def _stand_in(port: int) -> t.Dict[str, t.Any]:
    no_login = {**dict.fromkeys(relay_login.FIELDS), "mechanism": relay_login.AUTO}
    return {"host": PROXY_ADDRESS, "port": port, "tls": NONE, "family": "ipv4", **no_login, **relay_trust.UNSET}


def proxies(relays: t.Sequence[Relay], variable: str) -> t.List[RelaySettings]:
    """Return what the proxy has to know of those relays that need it. Raises RelayError for what it can not do."""
    found: t.List[RelaySettings] = []
    for index, relay in enumerate(relays):
        if relay["oauth"] is None:
            continue
        place = f"{variable}[{index}] ({relay['name']})"
        for field in _NOT_BY_PROXY:
            if relay[field]:
                raise RelayError(f"{place}.{field}", "can not be combined with 'oauth'")
        proxy = _proxy(relay, FIRST_PORT + len(found))
        if proxy.local_port >= _FIRST_FOR_EVERYBODY:
            reason = f"must be below {_FIRST_FOR_EVERYBODY}: any user could take another while the proxy does not run, and receive the mail"
            raise RelayError(f"{place}.oauth.local_port", reason)
        for earlier in found:
            if earlier.local_port == proxy.local_port:
                raise RelayError(f"{place}.oauth.local_port", f"{proxy.local_port} leads to relay {earlier.name} already; give each its own")
        found.append(proxy)
    return found


def _proxy(relay: Relay, port: int) -> RelaySettings:
    oauth = relay["oauth"]
    return RelaySettings(
        name=relay["name"],
        host=relay["host"],
        port=relay["port"],
        tls=relay["tls"],
        family=relay["family"],
        ca_file=relay["ca_file"],
        server_name=relay["server_name"],
        minimum_tls=relay["minimum_tls"],
        username=relay["username"],
        local_port=oauth["local_port"] or port,
        token_endpoint=oauth["token_endpoint"],
        client_id=oauth["client_id"],
        client_secret=oauth["client_secret"],
        refresh_token=oauth["refresh_token"],
        scope=oauth["scope"],
        token_ca_file=oauth["ca_file"],
    )


def service_at(host: str, port: int) -> str:
    """What logs in for Postfix at the other end of a connection to ``host``, in words; empty where that is not the proxy of this host."""
    if host != PROXY_ADDRESS:
        return ""
    try:
        found = [one for one in settings.read(f"{DATA}/settings.json") if one.local_port == port]
    except OAuthError:
        return ""
    return f"the proxy on {host}:{port}, which logs in to {found[0].host}:{found[0].port} as {found[0].username} by XOAUTH2" if found else ""


def with_access_token(relay: t.Dict[str, t.Any], place: str, data: str = DATA) -> t.Dict[str, t.Any]:
    """Return a relay with the access token that the proxy of this host has for it; itself if it is not one with oauth.

    ``place`` is what messages call the relay. Raises RelayError where there is no valid token.
    """
    if relay["oauth"] is None:
        return relay
    try:
        stored = stored_token.load(stored_token.path_of(f"{data}/tokens", _proxy(relay, FIRST_PORT)))
    except OAuthError as error:
        raise RelayError(f"{place}.oauth", str(error)) from None
    if not stored.access_token or stored.expires <= time.time():
        raise RelayError(f"{place}.oauth", "this host has no valid access token for the relay; role postfix_relay sets up the service that gets one")
    return {**relay, "oauth": None, "access_token": stored.access_token}
