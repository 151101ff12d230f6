# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""TLS for a mail client: which contexts are used, and a handshake that ends at a deadline."""

from __future__ import annotations

import selectors
import socket
import ssl
import threading

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import printable

_PEEK = 1024
_HANDSHAKE = 0x16
_ALERT = 0x15


def verifying_context(ca_file: str | None) -> ssl.SSLContext:
    """A context that demands a certificate for the right name, from the system's roots or *ca_file*; TLS 1.2 or later.

    Not :func:`ssl.create_default_context`: from Python 3.13 on it also sets X509_STRICT, which refuses private CAs that
    Postfix (and any other OpenSSL client) accepts. Raises :class:`SmtpError` (``ca_file``).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if ca_file:
        try:
            context.load_verify_locations(cafile=ca_file)
        except ssl.SSLError as exc:
            raise SmtpError(Kind.CA_FILE, f"{ca_file} holds no certificate in PEM form", stage="tls", reason=exc.reason or "") from exc
        except OSError as exc:
            raise SmtpError(Kind.CA_FILE, f"{ca_file}: {exc.strerror}", stage="tls", errno=exc.errno) from exc
    return context


class Contexts:
    """Verifying contexts, one for each CA file: reading the system's roots takes tens of milliseconds, so clients share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contexts: dict[str | None, ssl.SSLContext] = {}

    def verifying(self, ca_file: str | None) -> ssl.SSLContext:
        """As :func:`verifying_context`."""
        with self._lock:
            if ca_file not in self._contexts:
                self._contexts[ca_file] = verifying_context(ca_file)
            return self._contexts[ca_file]


def inspecting_context() -> ssl.SSLContext:
    """A context that accepts any certificate, to look at it. A client that uses it refuses to authenticate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def handshake(context: ssl.SSLContext, sock: socket.socket, host: str, deadline: Deadline) -> ssl.SSLSocket:
    """Do the handshake on the non-blocking *sock* and return the socket that replaces it, non-blocking as well.

    *host* is sent as SNI (unless it is an IP address) and is what the certificate must be for. *sock* belongs to this
    function from the call on: it is closed if this fails. Raises :class:`SmtpError` (``tls``, ``not_tls``, ``timeout``,
    ``closed``, ``os_error``).
    """
    try:
        tls = context.wrap_socket(sock, server_hostname=host.rstrip("."), do_handshake_on_connect=False)
    except OSError as exc:
        sock.close()
        raise translate(exc) from exc  # the connection was reset before it could be used
    try:
        _shake(tls, deadline)
    except BaseException:
        tls.close()
        raise
    return tls


def wait(sock: socket.socket, event: int, deadline: Deadline) -> bool:
    """Wait until *sock* is ready for *event* (EVENT_READ, EVENT_WRITE); False if the deadline came first."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, event)
        return bool(selector.select(deadline.remaining()))


def _shake(tls: ssl.SSLSocket, deadline: Deadline) -> None:
    answer: bytes | None = None
    while True:
        try:
            tls.do_handshake()
            return
        except ssl.SSLWantReadError:
            event = selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            event = selectors.EVENT_WRITE
        except OSError as exc:
            _refuse_other_protocols(answer or b"", exc)
            raise translate(exc) from exc
        # A server that keeps sending is ready each time, so the deadline is looked at before as well.
        if deadline.expired or not wait(tls, event, deadline):
            raise SmtpError(Kind.TIMEOUT, "the TLS handshake was not finished in time", stage="tls")
        if event == selectors.EVENT_READ and answer is None:
            answer = _peek(tls)


def _peek(tls: ssl.SSLSocket) -> bytes:
    """Look at the answer to the ClientHello before OpenSSL does, which would not tell what it was."""
    try:
        # SSLSocket.recv() takes no flags, but the socket beneath does.
        return socket.socket.recv(tls, _PEEK, socket.MSG_PEEK)
    except OSError as exc:
        raise translate(exc) from exc


def _refuse_other_protocols(answer: bytes, exc: OSError) -> None:
    """Tell what the answer was where OpenSSL takes it for no TLS.

    Its word is needed: it may have read the beginning of the answer before anybody could look.
    """
    if isinstance(exc, ssl.SSLError) and exc.reason == "WRONG_VERSION_NUMBER" and answer and answer[0] not in (_HANDSHAKE, _ALERT):
        sample = printable(answer.split(b"\n")[0].rstrip(b"\r"))
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
        if reason == "UNEXPECTED_EOF_WHILE_READING":
            return SmtpError(Kind.CLOSED, "the server closed the connection", stage=stage)
        return SmtpError(Kind.TLS, f"TLS failed: {reason or printable(str(exc))}", stage=stage, reason=reason)
    if not exc.errno:
        # CPython up to 3.9 reports an end of file during the handshake as errno 0.
        return SmtpError(Kind.CLOSED, "the server closed the connection", stage=stage)
    return SmtpError(Kind.OS_ERROR, f"the connection broke: {exc.strerror}", stage=stage, errno=exc.errno)
