# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The certificates as the server sent them, also where they were not verified.

Python has a method for that from 3.13 on, and the object beneath has it from 3.10 on. For 3.8 and 3.9, which do not change
any more, the Certificate message of the handshake is read where they show all messages to debuggers.
"""

from __future__ import annotations

import contextlib
import ssl
import sys
import typing as t

MAX_CERTIFICATES = 10
"""A chain that verifies has 2 to 4 certificates; the rest of a longer one is not kept."""
MAX_SIZE = 65536
"""Octets of all certificates that are kept. OpenSSL itself refuses a chain of more than 100 KiB."""

_DER = 2
"""ENCODING_DER of the module beneath ssl."""
_HANDSHAKE = 22
_CERTIFICATE = 11
"""Content type and message type (RFC 8446 sections 5.1 and 4)."""
_TLS_1_3 = "TLSv1.3"


def prepare(context: ssl.SSLContext) -> None:
    """Make sure that :func:`sent` knows the chain of every connection that *context* is used for."""
    if sys.version_info < (3, 10):
        context.sslobject_class = _Listening
        context._msg_callback = _listen


def sent(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """What the server sent, in DER, its own certificate first; cut to :data:`MAX_CERTIFICATES` and :data:`MAX_SIZE`.

    Empty if there is no way to know it.
    """
    chain: list[bytes] = []
    if sys.version_info >= (3, 13):
        chain = tls.get_unverified_chain()
    elif sys.version_info >= (3, 10):
        with contextlib.suppress(AttributeError, TypeError):  # not a documented method
            beneath = tls._sslobj  # type: ignore[attr-defined]  # it has no other name
            chain = [certificate.public_bytes(_DER) for certificate in beneath.get_unverified_chain() or ()]
    elif isinstance(tls, _Listening):
        with contextlib.suppress(ValueError):
            chain = certificate_message(tls.certificate_message, tls.version() == _TLS_1_3)
    return _bounded(chain)


def certificate_message(message: bytes, tls_1_3: bool) -> list[bytes]:
    """The certificates in a Certificate message of the handshake, header included (RFC 5246 7.4.2, RFC 8446 4.4.2).

    Raises ValueError if it is not one.
    """
    if not message:
        return []
    body, end = _vector(message, 1, 3)
    if message[0] != _CERTIFICATE or end != len(message):
        raise ValueError("this is not a Certificate message")
    at = 0
    if tls_1_3:
        _context, at = _vector(body, 0, 1)
    entries, _end = _vector(body, at, 3)
    chain: list[bytes] = []
    at = 0
    while at < len(entries) and len(chain) < MAX_CERTIFICATES:
        certificate, at = _vector(entries, at, 3)
        if tls_1_3:
            _extensions, at = _vector(entries, at, 2)
        chain.append(certificate)
    return chain


def _vector(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    """What follows a length of *size* octets at *at*, and where it ends."""
    start = at + size
    end = start + int.from_bytes(data[at:start], "big")
    if start > len(data) or end > len(data):
        raise ValueError("the message is cut short")
    return data[start:end], end


def _bounded(chain: t.Sequence[bytes]) -> tuple[bytes, ...]:
    kept: list[bytes] = []
    for certificate in chain[:MAX_CERTIFICATES]:
        if sum(map(len, kept)) + len(certificate) > MAX_SIZE:
            break
        kept.append(certificate)
    return tuple(kept)


class _Listening(ssl.SSLObject):
    """Remembers the Certificate message of the server."""

    certificate_message = b""


def _listen(tls: object, direction: str, _version: object, content_type: object, message_type: object, data: bytes) -> None:
    if isinstance(tls, _Listening) and (direction, content_type, message_type) == ("read", _HANDSHAKE, _CERTIFICATE):
        tls.certificate_message = data
