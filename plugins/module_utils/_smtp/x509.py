# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the facts that matter to people from a certificate in DER (RFC 5280 section 4.1).

The standard library decodes a certificate only after it was verified; what went wrong is most interesting when it was
not. This reader is fed by hostile servers: every length is checked, nothing recurses, and sizes are bounded.
"""

from __future__ import annotations

import datetime
import ipaddress
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import printable

MAX_SIZE = 65536
MAX_NAMES = 100

_SEQUENCE, _OID, _OCTETS = 0x30, 0x06, 0x04
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87
_SUBJECT_ALT_NAME = bytes.fromhex("551d11")
_COMMON_NAME = bytes.fromhex("550403")
_ATTRIBUTES = {
    _COMMON_NAME: "CN",
    bytes.fromhex("550406"): "C",
    bytes.fromhex("550407"): "L",
    bytes.fromhex("550408"): "ST",
    bytes.fromhex("55040a"): "O",
    bytes.fromhex("55040b"): "OU",
    bytes.fromhex("0992268993f22c640119"): "DC",
    bytes.fromhex("2a864886f70d010901"): "emailAddress",
}
_ENCODINGS = {0x1E: "utf-16-be", 0x1C: "utf-32-be", 0x14: "latin-1"}


class Certificate(t.NamedTuple):
    """*names* are the DNS names and IP addresses of the subjectAltName, or the common name where there is none."""

    subject: str
    issuer: str
    names: list[str]
    not_before: datetime.datetime
    not_after: datetime.datetime


class _Element(t.NamedTuple):
    tag: int
    content: bytes


def parse(der: bytes) -> Certificate:
    """Read *der*. Raises :class:`ValueError` if it is not a certificate, whatever it is."""
    if len(der) > MAX_SIZE:
        raise ValueError(f"the certificate is larger than {MAX_SIZE} bytes")
    body = _elements(_sequence(_sequence(der)), 10)
    if body and body[0].tag == _VERSION:
        del body[0]
    if len(body) < 6:
        raise ValueError("the certificate is cut short")
    issuer, validity, subject = body[2:5]
    times = _elements(validity.content, 2)
    if len(times) != 2:
        raise ValueError("the validity is not two times")
    return Certificate(
        subject=_name(subject.content),
        issuer=_name(issuer.content),
        names=_alternative_names(body[6:]) or _common_names(subject.content),
        not_before=_time(times[0]),
        not_after=_time(times[1]),
    )


def parse_or_none(der: bytes) -> Certificate | None:
    """As :func:`parse`, None for what is not a certificate."""
    try:
        return parse(der)
    except ValueError:
        return None


def _elements(data: bytes, limit: int) -> list[_Element]:
    """The elements that follow each other in *data*, up to *limit* of them; the rest is ignored."""
    elements: list[_Element] = []
    at = 0
    while at < len(data) and len(elements) < limit:
        element, at = _element(data, at)
        elements.append(element)
    return elements


def _element(data: bytes, at: int) -> tuple[_Element, int]:
    """The element at *at*, and where the next one begins. Short form and long form up to four octets (X.690 8.1.3)."""
    if at + 2 > len(data):
        raise ValueError("an element is cut short")
    tag, length = data[at], data[at + 1]
    at += 2
    if length & 0x80:
        octets = length & 0x7F
        if not 1 <= octets <= 4 or at + octets > len(data):
            raise ValueError("an element has no proper length")
        length = int.from_bytes(data[at : at + octets], "big")
        at += octets
    if at + length > len(data):
        raise ValueError("an element is longer than what contains it")
    return _Element(tag, data[at : at + length]), at + length


def _sequence(data: bytes) -> bytes:
    """The content of the sequence that *data* begins with."""
    element, _end = _element(data, 0)
    if element.tag != _SEQUENCE:
        raise ValueError("this is not a certificate")
    return element.content


def _attributes(name: bytes) -> list[tuple[bytes, str]]:
    """Type and printable value of each attribute of a distinguished name, in the order of the certificate."""
    attributes = []
    for relative in _elements(name, MAX_NAMES):
        for pair in _elements(relative.content, 4):
            parts = _elements(pair.content, 2)
            if len(parts) == 2 and parts[0].tag == _OID:
                raw = parts[1].content.decode(_ENCODINGS.get(parts[1].tag, "utf-8"), "backslashreplace")
                attributes.append((parts[0].content, printable(raw)))
    return attributes


def _name(name: bytes) -> str:
    return ", ".join(f"{_ATTRIBUTES[kind]}={value}" for kind, value in _attributes(name) if kind in _ATTRIBUTES)


def _common_names(name: bytes) -> list[str]:
    return [value for kind, value in _attributes(name) if kind == _COMMON_NAME]


def _alternative_names(rest: list[_Element]) -> list[str]:
    """The names in the subjectAltName extension, which is somewhere in *rest* (what follows the public key)."""
    for extension in _extensions(rest):
        parts = _elements(extension.content, 3)
        if len(parts) >= 2 and parts[0] == _Element(_OID, _SUBJECT_ALT_NAME) and parts[-1].tag == _OCTETS:
            for sequence in _elements(parts[-1].content, 1):
                names = (_general_name(name) for name in _elements(sequence.content, MAX_NAMES))
                return [name for name in names if name]
    return []


def _extensions(rest: list[_Element]) -> list[_Element]:
    for element in rest:
        if element.tag == _EXTENSIONS:
            for sequence in _elements(element.content, 1):
                return _elements(sequence.content, MAX_NAMES)
    return []


def _general_name(name: _Element) -> str:
    """A DNS name or an IP address; an empty string for the other kinds, which do not name a server."""
    if name.tag == _DNS_NAME:
        return printable(name.content)
    if name.tag == _IP_ADDRESS and len(name.content) in (4, 16):
        return str(ipaddress.ip_address(name.content))
    return ""


def _time(element: _Element) -> datetime.datetime:
    """UTCTime has two digits of the year, 50 to 49 (RFC 5280 section 4.1.2.5); both forms end in Z."""
    text = element.content.decode("ascii")
    if element.tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif element.tag != _GENERALIZED_TIME:
        raise ValueError("a time is of no known kind")
    return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
