# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""TLS over a non-blocking socket, where no server can keep one call busy for longer than it takes to read a chunk.

In an :class:`ssl.SSLSocket` OpenSSL reads from the socket by itself, and goes on for as long as messages come that are no
data (HelloRequest, session tickets). A server that never stops to send them keeps it there, past any deadline. Here OpenSSL
gets what has arrived a chunk at a time.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import typing as t

_CHUNK = 16384

_Result = t.TypeVar("_Result")


class TlsSocket:
    """The client's end of TLS on *sock*, which belongs to it from now on. Has the methods of a socket that are used here.

    They raise what those of a non-blocking :class:`ssl.SSLSocket` raise. :attr:`tls` knows about the connection, and
    :attr:`answer` is the first chunk that came, before OpenSSL made anything of it.
    """

    def __init__(self, context: ssl.SSLContext, sock: socket.socket, server_name: str) -> None:
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._unsent = memoryview(b"")
        self._written = 0
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name.encode("ascii"))
        self.answer = b""

    def do_handshake(self) -> None:
        self._step(self.tls.do_handshake)
        self._flush()

    def recv(self, size: int) -> bytes:
        """At most *size* octets; empty at the end of the stream, also if the server did not announce it."""
        try:
            return self._step(lambda: self.tls.read(size))
        except ssl.SSLEOFError:
            return b""
        except ssl.SSLWantReadError:
            # A server that writes twice (session tickets, then its greeting) holds the second one back until the first is
            # acknowledged (Nagle's algorithm), and Linux delays that by 40 ms unless it is asked not to (tcp(7)).
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            raise

    def send(self, data: bytes | memoryview) -> int:
        """How much of *data* was sent. If it raises instead, the same data must be given again."""
        if not self._written:
            self._written = self._step(lambda: self.tls.write(data[:_CHUNK]))
        try:
            self._flush()
        except ConnectionError:
            self._heed_last_alert()
            raise
        written, self._written = self._written, 0
        return written

    def fileno(self) -> int:
        return self._sock.fileno()

    def getsockname(self) -> t.Any:
        return self._sock.getsockname()

    def close(self) -> None:
        self._sock.close()

    def _step(self, operation: t.Callable[[], _Result]) -> _Result:
        """Do *operation*, with what was there and, if that is not enough, one more chunk."""
        self._flush()
        try:
            return self._do(operation)
        except ssl.SSLWantReadError:
            self._pull()
        return self._do(operation)

    def _do(self, operation: t.Callable[[], _Result]) -> _Result:
        try:
            return operation()
        except ssl.SSLWantReadError:
            self._flush()
            raise
        except ssl.SSLError:
            with contextlib.suppress(OSError):
                self._flush()  # the alert that tells the server why
            raise

    def _heed_last_alert(self) -> None:
        """Raise what the server said before it hung up: with TLS 1.3 it may refuse after the handshake (RFC 8446 section 4.4.2.4)."""
        with contextlib.suppress(ConnectionError, ssl.SSLEOFError, ssl.SSLWantReadError):
            self._pull()
            self._do(lambda: self.tls.read(1))

    def _pull(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            raise ssl.SSLWantReadError from None
        self.answer = self.answer or data
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        while self._unsent or self._outgoing.pending:
            self._unsent = self._unsent or memoryview(self._outgoing.read())
            try:
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
            except BlockingIOError:
                raise ssl.SSLWantWriteError from None
