# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the facts that matter to people from a certificate in DER (RFC 5280 section 4.1).

The standard library decodes a certificate only after it was verified; what went wrong is most interesting when it was
not. This reader is fed by hostile servers: every length is checked, nothing recurses, and sizes are bounded.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import printable

MAX_SIZE = 65536
MAX_NAMES = 100

_BOOLEAN, _INTEGER, _BITS, _SEQUENCE, _OID, _OCTETS = 0x01, 0x02, 0x03, 0x30, 0x06, 0x04
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z", re.ASCII)
_DNS_NAME, _IP_ADDRESS, _URI, _DIRECTORY_NAME = 0x82, 0x87, 0x86, 0xA4
_KEY_ID, _KEY_ISSUER = 0x80, 0xA1
"""The fields of an authority key identifier (RFC 5280 section 4.2.1.1)."""
_SUBJECT_KEY_IDENTIFIER = bytes.fromhex("551d0e")
_SUBJECT_ALT_NAME = bytes.fromhex("551d11")
_BASIC_CONSTRAINTS = bytes.fromhex("551d13")
_AUTHORITY_KEY_IDENTIFIER = bytes.fromhex("551d23")
_AUTHORITY_INFORMATION_ACCESS = bytes.fromhex("2b06010505070101")
_CA_ISSUERS = bytes.fromhex("2b06010505073002")
_COMMON_NAME = bytes.fromhex("550403")
_ORGANIZATION = bytes.fromhex("55040a")
_ATTRIBUTES = {
    _COMMON_NAME: "CN",
    bytes.fromhex("550406"): "C",
    bytes.fromhex("550407"): "L",
    bytes.fromhex("550408"): "ST",
    _ORGANIZATION: "O",
    bytes.fromhex("55040b"): "OU",
    bytes.fromhex("0992268993f22c640119"): "DC",
    bytes.fromhex("2a864886f70d010901"): "emailAddress",
}
_ENCODINGS = {0x1E: "utf-16-be", 0x1C: "utf-32-be", 0x14: "latin-1"}


_RSA = bytes.fromhex("2a864886f70d010101")
_EC = bytes.fromhex("2a8648ce3d0201")
_CURVES = {
    bytes.fromhex("2a8648ce3d030107"): ("EC P-256", 256),
    bytes.fromhex("2b81040022"): ("EC P-384", 384),
    bytes.fromhex("2b81040023"): ("EC P-521", 521),
}
_OTHER_KEYS = {
    bytes.fromhex("2a864886f70d01010a"): ("RSA-PSS", None),
    bytes.fromhex("2a8648ce380401"): ("DSA", None),
    bytes.fromhex("2b6570"): ("Ed25519", 256),
    bytes.fromhex("2b6571"): ("Ed448", 456),
}
_SIGNATURES = {
    bytes.fromhex("2a864886f70d010104"): "RSA with MD5",
    bytes.fromhex("2a864886f70d010105"): "RSA with SHA-1",
    bytes.fromhex("2a864886f70d01010a"): "RSA-PSS",
    bytes.fromhex("2a864886f70d01010b"): "RSA with SHA-256",
    bytes.fromhex("2a864886f70d01010c"): "RSA with SHA-384",
    bytes.fromhex("2a864886f70d01010d"): "RSA with SHA-512",
    bytes.fromhex("2a8648ce3d0401"): "ECDSA with SHA-1",
    bytes.fromhex("2a8648ce3d040302"): "ECDSA with SHA-256",
    bytes.fromhex("2a8648ce3d040303"): "ECDSA with SHA-384",
    bytes.fromhex("2a8648ce3d040304"): "ECDSA with SHA-512",
    bytes.fromhex("2b6570"): "Ed25519",
    bytes.fromhex("2b6571"): "Ed448",
}


class Certificate(t.NamedTuple):
    """Names are printable, but not redacted or cut; identifiers and fingerprints are lower-case hex digits.

    * *names*: the DNS names and IP addresses of the subjectAltName, or the common name where there is none
    * *key_type*: such as ``RSA``, ``EC P-256``, ``Ed25519``; ``unknown`` with its object identifier in hex if it is none
      that is known; *key_bits*: its size, None where it is not known
    * *signature_algorithm*: such as ``RSA with SHA-256``
    * *der*, *public_key*: the certificate and its SubjectPublicKeyInfo; *fingerprint_sha256*, *public_key_sha256*: of them
    * *ca_issuers*: where the CA publishes its own certificate (RFC 5280 section 4.2.2.1); empty if it does not say
    * *subject_key_id*, *authority_key_id*: the key of this certificate, and of the one that signed it; empty if not given
    * *authority_issuer*: who has issued the certificate of the issuer (RFC 5280 section 4.2.1.1); empty if not given
    * *issuer_organizations*, *subject_organizations*: the values of O
    """

    subject: str
    issuer: str
    names: list[str]
    not_before: datetime.datetime
    not_after: datetime.datetime
    serial: str = ""
    key_type: str = ""
    key_bits: t.Optional[int] = None
    signature_algorithm: str = ""
    fingerprint_sha256: str = ""
    public_key_sha256: str = ""
    der: bytes = b""
    public_key: bytes = b""
    is_ca: bool = False
    ca_issuers: str = ""
    subject_key_id: str = ""
    authority_key_id: str = ""
    authority_issuer: str = ""
    subject_organizations: t.Tuple[str, ...] = ()
    issuer_organizations: t.Tuple[str, ...] = ()

    @property
    def self_issued(self) -> bool:
        """Whether subject and issuer are the same, as in every root (RFC 5280 section 3.2)."""
        return self.subject == self.issuer

    @property
    def weak_signature(self) -> bool:
        """Whether it is signed over a hash that can be forged. A root's signature says nothing and does not count."""
        return not self.self_issued and self.signature_algorithm.endswith((" MD5", " SHA-1"))


class _Element(t.NamedTuple):
    tag: int
    content: bytes
    whole: bytes
    """With tag and length."""


def parse(der: bytes) -> Certificate:
    """Read *der*. Raises :class:`ValueError` if it is not a certificate, whatever it is."""
    if len(der) > MAX_SIZE:
        raise ValueError(f"the certificate is larger than {MAX_SIZE} bytes")
    outer, _end = _element(der, 0)
    body = _elements(_sequence(_sequence(der)), 10)
    if body and body[0].tag == _VERSION:
        del body[0]
    if len(body) < 6:
        raise ValueError("the certificate is cut short")
    serial, algorithm, issuer, validity, subject, key = body[:6]
    times = _elements(validity.content, 2)
    if len(times) != 2:
        raise ValueError("the validity is not two times")
    extensions = _extensions(body[6:])
    key_type, key_bits = _key(key.content)
    key_id, authority_issuer = _authority(extensions.get(_AUTHORITY_KEY_IDENTIFIER, b""))
    return Certificate(
        subject=_name(subject.content),
        issuer=_name(issuer.content),
        names=_alternative_names(extensions.get(_SUBJECT_ALT_NAME, b"")) or _values(subject.content, _COMMON_NAME),
        not_before=_time(times[0]),
        not_after=_time(times[1]),
        serial=serial.content.hex(),
        key_type=key_type,
        key_bits=key_bits,
        signature_algorithm=_known(_SIGNATURES, algorithm.content),
        fingerprint_sha256=hashlib.sha256(outer.whole).hexdigest(),
        public_key_sha256=hashlib.sha256(key.whole).hexdigest(),
        der=outer.whole,
        public_key=key.whole,
        is_ca=_is_ca(extensions.get(_BASIC_CONSTRAINTS, b"")),
        ca_issuers=_ca_issuers(extensions.get(_AUTHORITY_INFORMATION_ACCESS, b"")),
        subject_key_id=_first_content(extensions.get(_SUBJECT_KEY_IDENTIFIER, b"")).hex(),
        authority_key_id=key_id,
        authority_issuer=authority_issuer,
        subject_organizations=tuple(_values(subject.content, _ORGANIZATION)),
        issuer_organizations=tuple(_values(issuer.content, _ORGANIZATION)),
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
    start, tag, length = at, data[at], data[at + 1]
    at += 2
    if length & 0x80:
        octets = length & 0x7F
        if not 1 <= octets <= 4 or at + octets > len(data):
            raise ValueError("an element has no proper length")
        length = int.from_bytes(data[at : at + octets], "big")
        at += octets
    if at + length > len(data):
        raise ValueError("an element is longer than what contains it")
    return _Element(tag, data[at : at + length], data[start : at + length]), at + length


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


def _values(name: bytes, wanted: bytes) -> list[str]:
    return [value for kind, value in _attributes(name) if kind == wanted]


def _extensions(rest: list[_Element]) -> dict[bytes, bytes]:
    """The value of each extension by its object identifier; they are somewhere in *rest*, what follows the public key."""
    found: dict[bytes, bytes] = {}
    for element in rest:
        if element.tag == _EXTENSIONS:
            for extension in _elements(_sequence(element.content), MAX_NAMES):
                parts = _elements(extension.content, 3)
                if len(parts) >= 2 and parts[0].tag == _OID and parts[-1].tag == _OCTETS:
                    found.setdefault(parts[0].content, parts[-1].content)
    return found


def _first_content(data: bytes) -> bytes:
    """The content of the first element in *data*; empty if there is none."""
    return _element(data, 0)[0].content if data else b""


def _known(names: t.Mapping[bytes, str], algorithm: bytes) -> str:
    """The name of an AlgorithmIdentifier, of which *algorithm* is the content."""
    identifier = _first_content(algorithm)
    return names.get(identifier, f"unknown ({identifier[:32].hex()})")


def _key(info: bytes) -> tuple[str, int | None]:
    """Type and size in bits of a SubjectPublicKeyInfo (RFC 3279, RFC 5480, RFC 8410)."""
    parts = _elements(info, 2)
    if len(parts) != 2 or parts[1].tag != _BITS:
        raise ValueError("the public key is not one")
    algorithm = _elements(parts[0].content, 2)
    identifier = algorithm[0].content if algorithm else b""
    if identifier == _RSA:
        # The bit string holds a sequence of modulus and exponent after the octet that counts unused bits.
        modulus = _elements(_sequence(parts[1].content[1:]), 1)
        return "RSA", int.from_bytes(_first_integer(modulus), "big").bit_length()
    if identifier == _EC:
        curve = algorithm[1].content if len(algorithm) > 1 else b""
        return _CURVES.get(curve, (f"EC ({curve[:32].hex()})", None))
    return _OTHER_KEYS.get(identifier, (f"unknown ({identifier[:32].hex()})", None))


def _first_integer(elements: list[_Element]) -> bytes:
    if not elements or elements[0].tag != _INTEGER:
        raise ValueError("there is no number where one belongs")
    return elements[0].content


def _is_ca(constraints: bytes) -> bool:
    """Whether the basic constraints say so (RFC 5280 section 4.2.1.9)."""
    fields = _elements(_first_content(constraints), 2)
    return bool(fields) and fields[0].tag == _BOOLEAN and any(fields[0].content)


def _ca_issuers(access: bytes) -> str:
    """The first address of the issuer's certificate."""
    for description in _elements(_first_content(access), MAX_NAMES):
        parts = _elements(description.content, 2)
        if len(parts) == 2 and parts[0].content == _CA_ISSUERS and parts[1].tag == _URI:
            return printable(parts[1].content)
    return ""


def _authority(identifier: bytes) -> tuple[str, str]:
    """Key identifier and issuer of the certificate that signed this one; each empty if it is not given."""
    key_id = issuer = ""
    for field in _elements(_first_content(identifier), 3):
        if field.tag == _KEY_ID:
            key_id = field.content.hex()
        elif field.tag == _KEY_ISSUER:
            names = [name for name in _elements(field.content, MAX_NAMES) if name.tag == _DIRECTORY_NAME]
            issuer = _name(_first_content(names[0].content)) if names else ""
    return key_id, issuer


def _alternative_names(names: bytes) -> list[str]:
    """The DNS names and IP addresses of a subjectAltName."""
    known = (_general_name(name) for name in _elements(_first_content(names), MAX_NAMES))
    return [name for name in known if name]


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
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("a time is not written as it must be")
    # Not strptime(), which imports 4 ms worth of calendars and locales at its first use.
    year, month, day, hour, minute, second = map(int, match.groups())
    return datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.timezone.utc)
