# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""One entry of ``outpost_smtp_relays``: what is allowed, what follows from what, and what contradicts.

Every role and module reads relays through :func:`normalise_relays`, so an entry means the same everywhere and a
wrong one is refused before anything is touched. Messages name the entry and the field and never show a secret.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

IMPLICIT, STARTTLS, NONE = "implicit", "starttls", "none"
TLS_MODES = (IMPLICIT, STARTTLS, NONE)
MECHANISMS = ("auto", "plain", "login")

#: The TLS mode that a well-known port stands for: RFC 8314 section 7.3 (465 is "submissions"), RFC 6409 section 3.1
#: (587 is "submission"), RFC 5321 (25). 2525 is the alternative that providers offer where 25 is blocked.
PORT_TLS = {465: IMPLICIT, 25: STARTTLS, 587: STARTTLS, 2525: STARTTLS}
DEFAULT_PORT = {IMPLICIT: 465, STARTTLS: 587}

FIELDS = ("name", "host", "port", "tls", "username", "password", "mechanism", "ca_file")

_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,30}[a-z0-9])?\Z")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")
_PORT = re.compile(r"[1-9][0-9]{0,4}\Z")


class RelayError(ValueError):
    """An entry that can not be used. ``field`` is the path of what is wrong, such as ``outpost_smtp_relays[0].port``."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


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
        relay = _normalise(entry, _place(entry, variable, index))
        for earlier in normalised:
            if earlier["name"] == relay["name"]:
                place = _place(entry, variable, index)
                raise RelayError(f"{place}.name", f"another relay is called {relay['name']!r} already; give each its own name")
        normalised.append(relay)
    return normalised


def _place(entry: t.Any, variable: str, index: int) -> str:
    """How messages call the entry: by its position and, where it has a printable one, its name or host."""
    label = ""
    if isinstance(entry, dict):
        label = next((entry[key] for key in ("name", "host") if _printable(entry.get(key))), "")
    return f"{variable}[{index}]" + (f" ({label})" if label else "")


def _printable(value: t.Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 80 and value.isprintable()


def _normalise(entry: t.Any, place: str) -> t.Dict[str, t.Any]:
    if not isinstance(entry, dict):
        raise RelayError(place, "must be a dictionary with at least 'host'")
    unknown = sorted(str(key) for key in entry if key not in FIELDS)
    if unknown:
        raise RelayError(f"{place}.{unknown[0]}", f"is not a field of a relay; the fields are {', '.join(FIELDS)}")
    given = {key: value for key, value in entry.items() if value is not None}

    host = _host(given, place)
    port, tls = _port_and_tls(given, place)
    username = _credential(given, "username", place)
    password = _credential(given, "password", place)
    _check_credentials(username, password, tls, place)
    return {
        "name": _name(given, host, place),
        "host": host,
        "port": port,
        "tls": tls,
        "username": username,
        "password": password,
        "mechanism": _choice(given, "mechanism", MECHANISMS, "auto", place),
        "ca_file": _ca_file(given, place),
    }


def _text(given: t.Dict[str, t.Any], field: str, place: str) -> t.Optional[str]:
    """Return the field as text, or None; anything but a string is refused, so YAML's 1e3 or yes is not guessed at."""
    value = given.get(field)
    if value is None:
        return None
    if not isinstance(value, str):
        raise RelayError(f"{place}.{field}", f"must be text, not {type(value).__name__}; quote it in YAML")
    return str(value)


def _choice(given: t.Dict[str, t.Any], field: str, choices: t.Sequence[str], default: str, place: str) -> str:
    value = _text(given, field, place)
    if value is None:
        return default
    if value not in choices:
        raise RelayError(f"{place}.{field}", f"must be one of {', '.join(choices)}")
    return value


def _host(given: t.Dict[str, t.Any], place: str) -> str:
    """A host name or an IP address, without brackets and without a port. RFC 1123 section 2.1, RFC 5321 section 4.1.3."""
    host = _text(given, "host", place)
    if not host:
        raise RelayError(f"{place}.host", "is required: the provider's submission server, such as smtp.example.net")
    try:
        # A zone (fe80::1%eth0) names an interface of one machine; it has no place in a list for many.
        if "%" not in host:
            return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    name = host[:-1] if host.endswith(".") else host
    if len(name) > 253 or not all(_LABEL.match(label) for label in name.split(".")):
        raise RelayError(
            f"{place}.host", "is not a host name or an IP address (write it without brackets, without a port, and IDN names in their xn-- form)"
        )
    if name.replace(".", "").isdigit():
        raise RelayError(f"{place}.host", "looks like an IPv4 address but is none")
    return name.lower()


def _port_and_tls(given: t.Dict[str, t.Any], place: str) -> t.Tuple[int, str]:
    """Each follows from the other where only one is given; a well-known port with the other's mode is a contradiction."""
    port = _port(given, place)
    tls = given.get("tls")
    if tls is not None:
        tls = _choice(given, "tls", TLS_MODES, STARTTLS, place)
    if port is None:
        if tls == NONE:
            raise RelayError(f"{place}.port", "is required with 'tls: none'")
        port = DEFAULT_PORT[tls or STARTTLS]
    if tls is None:
        return port, PORT_TLS.get(port, STARTTLS)
    expected = PORT_TLS.get(port)
    if expected is not None and tls not in (expected, NONE) or (port == 465 and tls == NONE):
        raise RelayError(f"{place}.tls", f"'{tls}' contradicts port {port}, which speaks '{expected}' TLS (RFC 8314); leave out one of the two")
    return port, tls


def _port(given: t.Dict[str, t.Any], place: str) -> t.Optional[int]:
    port = given.get("port")
    if port is None:
        return None
    if isinstance(port, str) and _PORT.match(port):
        port = int(port)
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise RelayError(f"{place}.port", "must be a number from 1 to 65535, such as 465 or 587")
    return int(port)


def _credential(given: t.Dict[str, t.Any], field: str, place: str) -> t.Optional[str]:
    """The text of a credential that survives Postfix's tables and SASL unchanged (RFC 4616 section 2: no NUL)."""
    value = _text(given, field, place)
    if value is None:
        return None
    if not value:
        raise RelayError(f"{place}.{field}", "is empty; leave it out for a relay that asks for no login")
    if any(ord(char) < 0x20 or ord(char) == 0x7F or char in "\x85\u2028\u2029" for char in value):
        raise RelayError(f"{place}.{field}", "holds a line break or another control character; after a lookup that adds a line break use | trim")
    if value != value.strip():
        raise RelayError(f"{place}.{field}", "starts or ends with a blank, which a lookup table can not hold")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise RelayError(f"{place}.{field}", "is not valid Unicode text") from None
    return value


def _check_credentials(username: t.Optional[str], password: t.Optional[str], tls: str, place: str) -> None:
    if (username is None) != (password is None):
        missing, given = ("password", "username") if password is None else ("username", "password")
        raise RelayError(f"{place}.{missing}", f"is required because '{given}' is given")
    if username is not None and ":" in username:
        raise RelayError(f"{place}.username", "holds a colon, which separates user name and password in Postfix's table")
    if password is not None and tls == NONE:
        raise RelayError(f"{place}.tls", "'none' would send the password in clear text; use implicit or starttls")


def _ca_file(given: t.Dict[str, t.Any], place: str) -> t.Optional[str]:
    path = _text(given, "ca_file", place)
    if path is None:
        return None
    if not path.startswith("/") or not path.isprintable() or any(char in path for char in " ,$") or "/../" in path:
        raise RelayError(f"{place}.ca_file", "must be an absolute path on the managed host, without blanks, commas or '$'")
    return path


def _name(given: t.Dict[str, t.Any], host: str, place: str) -> str:
    """The label of the relay in reports and in master.cf; the host where none is given."""
    name = _text(given, "name", place)
    if name is None:
        return re.sub(r"[^a-z0-9]+", "-", host).strip("-")[:32].strip("-")
    if not _NAME.match(name):
        raise RelayError(f"{place}.name", "must be 1 to 32 of a-z, 0-9, '-' and '_', starting and ending with a letter or digit")
    return name
