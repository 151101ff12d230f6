# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""One entry of ``outpost_smtp_relays``: what is allowed, what follows from what, and what contradicts.

Every role and module reads relays through :func:`normalise_relays`, so an entry means the same everywhere and a
wrong one is refused before anything is touched. Messages name the entry and the field and never show a secret.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import relay_limits, relay_login, relay_trust
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import Fields, RelayError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.route import FAMILIES

IMPLICIT, STARTTLS, NONE = "implicit", "starttls", "none"
TLS_MODES = (IMPLICIT, STARTTLS, NONE)

#: The TLS mode that a well-known port stands for: RFC 8314 section 7.3 (465 is "submissions"), RFC 6409 section 3.1
#: (587 is "submission"), RFC 5321 (25). 2525 is the alternative that providers offer where 25 is blocked.
PORT_TLS = {465: IMPLICIT, 25: STARTTLS, 587: STARTTLS, 2525: STARTTLS}
DEFAULT_PORT = {IMPLICIT: 465, STARTTLS: 587}
#: The service whose SRV records are asked for: RFC 8314 section 5.1, RFC 6186 section 3.1.
SRV_SERVICE = {IMPLICIT: "submissions", STARTTLS: "submission"}

FIELDS = (
    "name",
    "host",
    "port",
    "tls",
    "srv",
    "family",
    *relay_login.FIELDS,
    *relay_trust.FIELDS,
    *relay_limits.FIELDS,
)

#: All fields but the first four, which every relay has, as they are if they are not set.
UNSET: t.Mapping[str, t.Any] = {"srv": False, "family": FAMILIES[0], **relay_login.UNSET, **relay_trust.UNSET, **relay_limits.UNSET}

_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,30}[a-z0-9])?\Z")


def normalise_relays(relays: t.Any, variable: str = "outpost_smtp_relays") -> t.List[t.Dict[str, t.Any]]:
    """Return ``relays`` checked and completed: a list of dicts that have every key of :data:`FIELDS`.

    ``variable`` is what the user calls the list; it starts every message. Raises :class:`RelayError` for the first
    thing that is wrong.
    """
    if not isinstance(relays, (list, tuple)):
        raise RelayError(variable, "must be a list of relays")
    if not relays:
        raise RelayError(variable, "is empty; give at least one relay")
    normalised: t.List[t.Dict[str, t.Any]] = []
    for index, entry in enumerate(relays):
        place = place_of(entry, variable, index)
        relay = _normalise(entry, place)
        for earlier in normalised:
            _check_apart(earlier, relay, place)
        normalised.append(relay)
    return normalised


def place_of(entry: t.Any, variable: str, index: int) -> str:
    """How messages call the entry: by its position and, where it has a printable one, its name or host."""
    label = ""
    if isinstance(entry, dict):
        label = next((entry[key] for key in ("name", "host") if _printable(entry.get(key))), "")
    return f"{variable}[{index}]" + (f" ({label})" if label else "")


def srv_service(relay: t.Mapping[str, t.Any]) -> str:
    """The service of a normalised relay with ``srv``, as its SRV records call it."""
    return SRV_SERVICE[relay["tls"]]


def _printable(value: t.Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 80 and value.isprintable()


def _normalise(entry: t.Any, place: str) -> t.Dict[str, t.Any]:
    if not isinstance(entry, dict):
        raise RelayError(place, "must be a dictionary with at least 'host'")
    fields = Fields(entry, place)
    fields.only(FIELDS, "a relay")
    host = fields.host()
    port, tls = _port_and_tls(fields)
    trust = relay_trust.read(fields, with_tls=tls != NONE)
    login = relay_login.read(fields)
    if tls == NONE and relay_login.has_secret(login):
        raise fields.refuse("tls", "'none' would send the password in clear text; use implicit or starttls")
    return {
        "name": _name(fields, host),
        "host": host,
        "port": port,
        "tls": tls,
        "srv": _srv(fields, host, port, tls),
        "family": fields.choice("family", FAMILIES, FAMILIES[0]),
        **login,
        **trust,
        **relay_limits.read(fields),
    }


def _port_and_tls(fields: Fields) -> t.Tuple[int, str]:
    """Each follows from the other where only one is given; a well-known port with the other's mode is a contradiction."""
    port = fields.port()
    tls = fields.choice("tls", TLS_MODES, STARTTLS) if fields.has("tls") else None
    if port is None:
        if tls == NONE:
            raise fields.refuse("port", "is required with 'tls: none'")
        port = DEFAULT_PORT[tls or STARTTLS]
    if tls is None:
        return port, PORT_TLS.get(port, STARTTLS)
    expected = PORT_TLS.get(port)
    if expected is not None and tls not in (expected, NONE) or (port == 465 and tls == NONE):
        raise fields.refuse("tls", f"'{tls}' contradicts port {port}, which speaks '{expected}' TLS (RFC 8314); leave out one of the two")
    return port, tls


def _srv(fields: Fields, host: str, port: int, tls: str) -> bool:
    """Whether SRV records of the domain ``host`` tell server and port. ``port`` is then that of the service itself."""
    if not fields.flag("srv"):
        return False
    if tls == NONE:
        raise fields.refuse("srv", "needs 'tls: implicit' or 'tls: starttls': it asks for the service submissions or submission (RFC 8314)")
    if port != DEFAULT_PORT[tls]:
        raise fields.refuse("port", "contradicts 'srv', by which SRV records tell the port; leave out one of the two")
    if is_address(host):
        raise fields.refuse("srv", "needs a domain as 'host', not an IP address")
    return True


def is_address(host: str) -> bool:
    """Whether a normalised host is an IP address."""
    return ":" in host or host.replace(".", "").isdigit()


def _name(fields: Fields, host: str) -> str:
    """The label of the relay in reports and in master.cf; the host where none is given."""
    name = fields.text("name")
    if name is None:
        return re.sub(r"[^a-z0-9]+", "-", host).strip("-")[:32].strip("-")
    if not _NAME.match(name):
        raise fields.refuse("name", "must be 1 to 32 of a-z, 0-9, '-' and '_', starting and ending with a letter or digit")
    return name


def _check_apart(earlier: t.Mapping[str, t.Any], relay: t.Mapping[str, t.Any], place: str) -> None:
    """Refuse a relay that could not be told from an earlier one."""
    if earlier["name"] == relay["name"]:
        raise RelayError(f"{place}.name", f"another relay is called {relay['name']!r} already; give each its own name")
    if earlier["name"].replace("-", "_") == relay["name"].replace("-", "_"):
        raise RelayError(f"{place}.name", f"{relay['name']!r} and {earlier['name']!r} are one name to Postfix, which knows no '-' there")
