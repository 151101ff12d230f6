# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the fields of one entry that a user wrote, and says which field is wrong."""

from __future__ import annotations

import ipaddress
import re
import typing as t

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")
_PORT = re.compile(r"[1-9][0-9]{0,4}\Z")
_DIGITS = re.compile(r"(?:0|[1-9][0-9]{0,8})\Z")


def credential_fault(value: str) -> t.Optional[str]:
    """What keeps a text from surviving Postfix's tables and SASL unchanged (RFC 4616 section 2: no NUL), or None."""
    if not value:
        return "is empty; leave it out for a relay that asks for no login"
    if any(ord(char) < 0x20 or ord(char) == 0x7F or char in "\x85\u2028\u2029\ufeff" for char in value):
        return "holds a line break or another control character; after a lookup that adds a line break use | trim"
    if value != value.strip():
        return "starts or ends with a blank, which a lookup table can not hold"
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return "is not valid Unicode text"
    return None


class RelayError(ValueError):
    """An entry that can not be used. ``field`` is the path of what is wrong, such as ``outpost_smtp_relays[0].port``."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class Fields:
    """The fields of *given*, an entry that messages call *place*. Each method raises :class:`RelayError`.

    A field that is None counts as not set. Messages never show a value.
    """

    def __init__(self, given: t.Dict[str, t.Any], place: str) -> None:
        self._given = given
        self.place = place

    def refuse(self, field: str, reason: str) -> RelayError:
        """The error to raise for *field*."""
        return RelayError(f"{self.place}.{field}", reason)

    def has(self, field: str) -> bool:
        return self._given.get(field) is not None

    def only(self, known: t.Sequence[str], what: str) -> None:
        """Refuse any field that is not one of *known*."""
        unknown = sorted(str(key) for key in self._given if key not in known)
        if unknown:
            raise self.refuse(unknown[0], f"is not a field of {what}; the fields are {', '.join(known)}")

    def text(self, field: str) -> t.Optional[str]:
        """The field as text, or None; anything but a string is refused, so YAML's 1e3 or yes is not guessed at."""
        value = self._given.get(field)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.refuse(field, f"must be text, not {type(value).__name__}; quote it in YAML")
        return str(value)

    def texts(self, field: str) -> t.List[str]:
        """The field as a list of texts, empty if it is not set."""
        values = self._given.get(field)
        if values is None:
            return []
        if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) for value in values):
            raise self.refuse(field, "must be a list of texts")
        return list(values)

    def flag(self, field: str) -> bool:
        """The field as a boolean, False if it is not set."""
        value = self._given.get(field, False)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise self.refuse(field, "must be true or false")

    def plain(self, field: str) -> t.Optional[str]:
        """The field as text, be it written as text or as a whole number in YAML, or None."""
        value = self._given.get(field)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return self.text(field)

    def number(self, field: str, least: int, most: int) -> t.Optional[int]:
        """The field as a whole number within these limits, or None."""
        text = self.plain(field)
        if text is None:
            return None
        if not _DIGITS.match(text) or not least <= int(text) <= most:
            raise self.refuse(field, f"must be a whole number from {least} to {most}")
        return int(text)

    def mapping(self, field: str) -> t.Optional[t.Dict[str, t.Any]]:
        """The field as a dictionary, or None."""
        value = self._given.get(field)
        if value is not None and not isinstance(value, dict):
            raise self.refuse(field, "must be a dictionary")
        return value

    def choice(self, field: str, choices: t.Sequence[str], default: str) -> str:
        value = self.text(field)
        if value is None:
            return default
        if value not in choices:
            raise self.refuse(field, f"must be one of {', '.join(choices)}")
        return value

    def host(self, field: str = "host", example: str = "the provider's submission server, such as smtp.example.net") -> str:
        """A host name or an IP address, without brackets and without a port. RFC 1123 section 2.1, RFC 5321 section 4.1.3."""
        host = self.text(field)
        if not host:
            raise self.refuse(field, f"is required: {example}")
        address = self._address(host)
        if address.endswith(":"):
            raise self.refuse(field, "is the address of a network, not of a server")  # RFC 4291 section 2.6.1; nor a key of a lookup table
        if address:
            return address
        name = host[:-1] if host.endswith(".") else host
        if len(name) > 253 or not all(_LABEL.match(label) for label in name.split(".")):
            message = "is not a host name or an IP address (write it without brackets, without a port, and IDN names in their xn-- form)"
            raise self.refuse(field, message)
        if name.replace(".", "").isdigit():
            raise self.refuse(field, "looks like an IPv4 address but is none")
        return name.lower()

    def address(self, field: str) -> t.Optional[str]:
        """An IP address in its canonical form, or None."""
        value = self.text(field)
        if value is None:
            return None
        address = self._address(value)
        if not address:
            raise self.refuse(field, "must be an IP address")
        return address

    @staticmethod
    def _address(value: str) -> str:
        # A zone (fe80::1%eth0) names an interface of one machine; it has no place in a list for many.
        try:
            address = ipaddress.ip_address("" if "%" in value else value)
        except ValueError:
            return ""
        # What is mapped to IPv6 goes by IPv4 all the same (RFC 4291 section 2.5.5.2), and Python's releases write it in different ways.
        return str(getattr(address, "ipv4_mapped", None) or address)

    def port(self, field: str = "port") -> t.Optional[int]:
        port = self._given.get(field)
        if port is None:
            return None
        if isinstance(port, str) and _PORT.match(port):
            port = int(port)
        if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
            raise self.refuse(field, "must be a number from 1 to 65535, such as 465 or 587")
        return int(port)

    def credential(self, field: str) -> t.Optional[str]:
        """The text of a credential, or None."""
        value = self.text(field)
        if value is None:
            return None
        fault = credential_fault(value)
        if fault:
            raise self.refuse(field, fault)
        return value

    def path(self, field: str) -> t.Optional[str]:
        """An absolute path, or None."""
        path = self.text(field)
        if path is None:
            return None
        plain = path.isprintable() and not any(char in path for char in " ,$") and path.count("@") < 2  # @name@ is a placeholder to our templates
        if not plain or not path.startswith("/") or ".." in path.split("/"):
            raise self.refuse(field, "must be an absolute path on the managed host, without blanks, commas, '$', a second '@', or '..'")
        return path
