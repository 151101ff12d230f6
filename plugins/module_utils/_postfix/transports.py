# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""What an entry of ``outpost_smtp_relays`` becomes in Postfix: a transport of its own in master.cf, with its settings."""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import IMPLICIT, NONE, RelayError

#: With "auto" Postfix may take any mechanism that uses a password. The others must be kept out: an installed plug-in
#: for one of them is preferred by libsasl2 and takes the password for something else, such as the name of a token file.
_PASSWORD_MECHANISMS = "!external, !gssapi, !gss-spnego, !oauthbearer, !xoauth2, static:all"


def transports(relays: t.Sequence[t.Mapping[str, t.Any]], variable: str) -> t.List[t.Dict[str, t.Any]]:
    """Return each relay, as ``normalise_relays`` gives it, with what the templates need beside it.

    Raises RelayError for what Postfix in particular can not do.
    """
    return [_transport(relay, f"{variable}[{index}] ({relay['name']})") for index, relay in enumerate(relays)]


def _transport(relay: t.Mapping[str, t.Any], place: str) -> t.Dict[str, t.Any]:
    tls = relay["tls"] != NONE
    if tls and _is_address(relay["host"]):
        raise RelayError(f"{place}.host", "is an IP address, for which Postfix can not verify a certificate; give the host name")
    service = f"outpost_{relay['name']}"
    return {
        **relay,
        "service": service,
        "prefix": service.replace("-", "_"),  # names of parameters have no hyphen
        "nexthop": f"[{relay['host']}]:{relay['port']}",
        "wrappermode": "yes" if relay["tls"] == IMPLICIT else "no",
        "security_level": "secure" if tls else "none",
        "sasl": "yes" if relay["username"] is not None else "no",
        "mechanisms": _PASSWORD_MECHANISMS if relay["mechanism"] == "auto" else relay["mechanism"],
    }


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
