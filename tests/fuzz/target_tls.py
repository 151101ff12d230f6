# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates and chains of them, and the message of the handshake that carries them."""

from __future__ import annotations

import datetime
import functools
import hashlib
import tempfile
import typing as t
from pathlib import Path

from pki import AIA, Pki
from source import Source

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import timestamp
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import certnames, chain, sent_chain, x509

NOW = datetime.datetime(2026, 11, 23, tzinfo=datetime.timezone.utc)
_CAUSES = (chain.MISSING_INTERMEDIATE, chain.UNKNOWN_ROOT, chain.SELF_SIGNED, chain.SELF_SIGNED_IN_CHAIN)
_VERIFY_CODES = (2, 10, 18, 19, 20, 21, 27, 62)
_NAMES = "DNS:mx.provider.test,DNS:*.provider.test,IP:192.0.2.1,IP:2001:db8::1,email:a@b.test"


@functools.lru_cache(maxsize=None)
def samples() -> t.Tuple[bytes, ...]:
    """Real certificates, which have everything that is read: a server's, of each kind of key, its issuer and the root."""
    with tempfile.TemporaryDirectory() as directory:
        pki = Pki(Path(directory))
        root = pki.root("root", "/C=XX/O=Provider/CN=Root", key="rsa")
        issuer = pki.intermediate("issuer", root, "/O=Provider/CN=Issuer", "authorityKeyIdentifier=keyid,issuer")
        servers = [
            pki.server("server", issuer, AIA, "authorityKeyIdentifier=keyid,issuer:always", names=_NAMES),
            pki.server("other", issuer, key="ed25519"),
        ]
        return tuple(pki.der(name) for name in (*servers, issuer, root))


def certificates(data: bytes) -> None:
    """A certificate is parsed or is none, and what is read of it can be shown."""
    try:
        certificate = x509.parse(data)
    except ValueError:
        assert x509.parse_or_none(data) is None
        return
    assert x509.parse(data + b"more") == certificate
    _check(certificate, data)


def chains(data: bytes) -> None:
    """Real certificates with damage, in any order and number, can be read and explained."""
    source = Source(data)
    sent = source.some(lambda: _damaged(source), 5)
    found = chain.read(sent)
    assert len(found) <= len(sent)
    for certificate, der in zip(found, sent):
        _check(certificate, der)
    if not found:
        return
    path = chain.ordered(found)
    assert path[0] == found[0] and len(path) <= len(found) and all(certificate in found for certificate in path)
    roots = chain.read([_damaged(source)])
    explanation = chain.explain(source.choice(_VERIFY_CODES), found, roots)
    assert explanation.cause in _CAUSES and explanation.evidence and all(line.isprintable() for line in explanation.evidence)
    for index in (chain.expired(found, NOW), chain.not_yet_valid(found, NOW)):
        assert index is None or 0 <= index < len(found)
    host = source.choice(("mx.provider.test", "192.0.2.1", "2001:db8::1", "", "*.test", source.text()))
    matching = certnames.names_that_match(host, found[0].names)
    assert set(matching) <= set(found[0].names)


def _damaged(source: Source) -> bytes:
    der = bytearray(source.choice(samples()))
    for _change in range(source.number(4)):
        at, octets = source.number(len(der)), source.octets(8)
        der[at : at + len(octets)] = octets
    return bytes(der[: source.number(len(der))]) if not source.number(16) else bytes(der)


def _check(certificate: x509.Certificate, data: bytes) -> None:
    assert data.startswith(certificate.der) and certificate.public_key in certificate.der
    assert certificate.fingerprint_sha256 == hashlib.sha256(certificate.der).hexdigest()
    shown = (certificate.subject, certificate.issuer, certificate.ca_issuers, certificate.key_type, certificate.signature_algorithm)
    assert all(text.isprintable() for text in (*shown, certificate.authority_issuer, *certificate.names))
    assert len(certificate.names) <= 4 * x509.MAX_NAMES
    assert certificate.key_bits is None or certificate.key_bits >= 0
    assert timestamp(certificate.not_before).endswith("Z") and timestamp(certificate.not_after).endswith("Z")


def messages(data: bytes) -> None:
    """The certificates of a message are those that were put into it; anything else is refused or bounded."""
    source = Source(data)
    tls_1_3 = source.boolean()
    sent = source.some(lambda: source.octets(40), 12)
    message = _message(sent, tls_1_3, source)
    assert sent_chain.certificate_message(message, tls_1_3) == sent[: sent_chain.MAX_CERTIFICATES]
    damaged = bytearray(message)
    for _change in range(source.number(4)):
        damaged[source.number(len(damaged))] = source.number(256)
    for text in (bytes(damaged), source.take(len(data))):
        try:
            found = sent_chain.certificate_message(text, source.boolean())
        except ValueError:
            continue
        assert len(found) <= sent_chain.MAX_CERTIFICATES and sum(map(len, found)) <= len(text)


def _message(sent: t.List[bytes], tls_1_3: bool, source: Source) -> bytes:
    """RFC 5246 section 7.4.2, RFC 8446 section 4.4.2."""
    extensions = _vector(source.octets(5), 2) if tls_1_3 else b""
    entries = b"".join(_vector(certificate, 3) + extensions for certificate in sent)
    context = _vector(source.octets(5), 1) if tls_1_3 else b""
    return b"\x0b" + _vector(context + _vector(entries, 3), 3)


def _vector(content: bytes, size: int) -> bytes:
    return len(content).to_bytes(size, "big") + content
