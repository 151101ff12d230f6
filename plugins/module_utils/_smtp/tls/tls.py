# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""TLS for a mail client: which contexts are used, and a handshake that ends at a deadline."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import ssl
import stat
import threading
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import printable
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import client_certificate, sent_chain
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.tls_socket import TlsSocket
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_PARTIAL_CHAIN = 0x80000
"""X509_V_FLAG_PARTIAL_CHAIN: a trusted certificate need not be a root. The module has a name for it from Python 3.10 on."""
_SAMPLE = 1024
"""Octets of an answer that is not TLS."""
_HANDSHAKE = 0x16
_ALERT = 0x15


def verifying_context(trust: Trust) -> ssl.SSLContext:
    """A context that demands a certificate for the right name, from the system's roots or those of *trust*.

    Not :func:`ssl.create_default_context`: from Python 3.13 on it also sets X509_STRICT, which refuses private CAs that
    Postfix (and any other OpenSSL client) accepts. Raises :class:`SmtpError` (``ca_file``, ``client_certificate``).
    """
    context = _context(trust)
    if trust.system_roots:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if trust.ca_path:
        context.load_verify_locations(capath=trust.ca_path)
    if trust.ca_file:
        try:
            with client_certificate.readable(trust.ca_file) as path:
                kind = os.stat(path).st_mode
                if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                    # Reading a named pipe may never end, and all tests of a run wait for it.
                    raise SmtpError(Kind.CA_FILE, f"{trust.ca_file} is no regular file", stage="tls")
                context.load_verify_locations(cafile=path)
        except ssl.SSLError as exc:
            message = f"{trust.ca_file} holds no certificate in PEM form"
            raise SmtpError(Kind.CA_FILE, message, stage="tls", reason=exc.reason or "") from exc
        except OSError as exc:
            raise SmtpError(Kind.CA_FILE, f"{trust.ca_file}: {exc.strerror}", stage="tls", errno=exc.errno) from exc
    return context


def inspecting_context(trust: Trust = Trust()) -> ssl.SSLContext:  # noqa: B008  # immutable
    """A context that accepts any certificate, in order to look at it.

    Whoever uses it must compare the certificate with something before it sends anything, or send nothing that matters.
    Raises :class:`SmtpError` (``client_certificate``).
    """
    context = _context(trust)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def anchored_context(trust: Trust, anchors: t.Sequence[bytes]) -> ssl.SSLContext:
    """A context that trusts nothing but *anchors* (certificates in DER, self-signed or not). It looks at no name."""
    context = _context(trust)
    context.check_hostname = False
    context.verify_flags |= _PARTIAL_CHAIN
    for anchor in anchors:
        with contextlib.suppress(ssl.SSLError):  # OpenSSL does not take it for a certificate: nothing leads to it
            context.load_verify_locations(cadata=anchor)
    return context


class Contexts:
    """The contexts of clients that share: reading the system's roots takes tens of milliseconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contexts: dict[tuple[bool, Trust], ssl.SSLContext] = {}

    def verifying(self, trust: Trust) -> ssl.SSLContext:
        """As :func:`verifying_context`."""
        return self._get(verifying_context, trust, True)

    def inspecting(self, trust: Trust) -> ssl.SSLContext:
        """As :func:`inspecting_context`."""
        return self._get(inspecting_context, trust._replace(ca_file=None, ca_path=None, system_roots=True), False)

    def _get(self, make: t.Callable[[Trust], ssl.SSLContext], trust: Trust, verify: bool) -> ssl.SSLContext:
        # What is not part of a context must not make another one.
        key = (verify, trust._replace(server_name=None, fingerprints=(), dane=False))
        with self._lock:
            if key not in self._contexts:
                self._contexts[key] = make(trust)
            return self._contexts[key]


def _context(trust: Trust) -> ssl.SSLContext:
    """What all contexts have in common. It demands a certificate for the right name, and trusts no root."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[trust.minimum_version]
    if trust.maximum_version:
        context.maximum_version = _VERSIONS[trust.maximum_version]
    sent_chain.prepare(context)
    if trust.client_certificate:
        client_certificate.load(context, trust.client_certificate, trust.client_key)
    return context


def handshake(context: ssl.SSLContext, sock: socket.socket, host: str, deadline: Deadline) -> TlsSocket:
    """Do the handshake on the non-blocking *sock* and return the socket that replaces it, non-blocking as well.

    *host* is sent as SNI (unless it is an IP address) and is what the certificate must be for. *sock* belongs to this
    function from the call on: it is closed if this fails. Raises :class:`SmtpError` (``tls``, ``not_tls``, ``timeout``,
    ``closed``, ``os_error``).
    """
    try:
        tls = TlsSocket(context, sock, host.rstrip("."))
        _shake(tls, deadline)
    except BaseException:
        sock.close()
        raise
    return tls


def wait(sock: socket.socket | TlsSocket, event: int, deadline: Deadline) -> bool:
    """Wait until *sock* is ready for *event* (EVENT_READ, EVENT_WRITE); False if the deadline came first."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, event)
        return bool(selector.select(deadline.remaining()))


def _shake(tls: TlsSocket, deadline: Deadline) -> None:
    while True:
        try:
            tls.do_handshake()
            return
        except ssl.SSLWantReadError:
            event = selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            event = selectors.EVENT_WRITE
        except OSError as exc:
            _refuse_other_protocols(tls.answer, exc)
            raise translate(exc) from exc
        # A server that keeps sending is ready each time, so the deadline is looked at before as well.
        if deadline.expired or not wait(tls, event, deadline):
            raise SmtpError(Kind.TIMEOUT, "the TLS handshake was not finished in time", stage="tls")


def _refuse_other_protocols(answer: bytes, exc: OSError) -> None:
    """Tell what *answer* to the ClientHello was where OpenSSL takes it for no TLS."""
    if isinstance(exc, ssl.SSLError) and exc.reason == "WRONG_VERSION_NUMBER" and answer and answer[0] not in (_HANDSHAKE, _ALERT):
        sample = printable(answer.split(b"\n")[0].rstrip(b"\r")[:_SAMPLE])
        raise SmtpError(Kind.NOT_TLS, f"the answer to the TLS ClientHello was {sample!r}", stage="tls", sample=sample) from exc


def translate(exc: OSError, stage: str = "tls") -> SmtpError:
    """What an exception of a socket, with or without TLS, says about the peer."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return SmtpError(
            Kind.TLS,
            f"certificate verification failed: {printable(exc.verify_message)}",
            stage=stage,
            reason=exc.reason or "",
            verify_code=exc.verify_code,
        )
    if isinstance(exc, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return SmtpError(Kind.CLOSED, "the server closed the connection", stage=stage)
    if isinstance(exc, ssl.SSLError):
        reason = exc.reason or ""
        # No reason at all is what close_notify in the middle of the handshake comes to, or an alert without a name.
        if reason in ("UNEXPECTED_EOF_WHILE_READING", ""):
            return SmtpError(Kind.CLOSED, "the server closed the connection", stage=stage)
        return SmtpError(Kind.TLS, f"TLS failed: {reason}", stage=stage, reason=reason)
    if not exc.errno:
        # CPython up to 3.9 reports an end of file during the handshake as errno 0.
        return SmtpError(Kind.CLOSED, "the server closed the connection", stage=stage)
    return SmtpError(Kind.OS_ERROR, f"the connection broke: {exc.strerror}", stage=stage, errno=exc.errno)
