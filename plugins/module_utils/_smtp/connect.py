# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connects to all addresses of a host at once and keeps what became of each.

Every address is tried in parallel, so one that is dead costs no time. The first that answers is taken, except that
an address the system prefers to it gets a short head start (the idea of RFC 8305, without its staggering).
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address

HEAD_START = 0.05
"""Seconds that a preferred address may be slower than another one and still be taken."""
MAX_ADDRESSES = 16
"""Addresses that are tried; the outcome of the others is ``not_tried``."""

_OUTCOMES = {
    0: "connected",
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timeout",
    errno.ENETUNREACH: "net_unreachable",
    errno.EHOSTUNREACH: "host_unreachable",
    errno.ECONNRESET: "reset",
    errno.EPERM: "not_permitted",
    errno.EACCES: "access_denied",
    errno.EADDRNOTAVAIL: "no_source_address",
    errno.EADDRINUSE: "no_source_address",
    errno.EAFNOSUPPORT: "family_not_supported",
}


class Attempt:
    """One address and what came of it. *outcome* is ``pending`` until it is known, ``no_answer`` if it never was."""

    def __init__(self, address: Address, outcome: str = "pending") -> None:
        self.address = address
        self.outcome = outcome
        self.errno: int | None = None
        self.elapsed_ms: int | None = None

    def __str__(self) -> str:
        reason = f" ({os.strerror(self.errno)})" if self.errno else ""
        after = "" if self.elapsed_ms is None else f" after {self.elapsed_ms} ms"
        return f"{self.address.host}: {self.outcome.replace('_', ' ')}{reason}{after}"


class Connector:
    """The race. :meth:`connect` returns the winner; :meth:`finish` must be called and closes all other sockets.

    Connections go out from *source_address*, an address of this host, if it is given.
    """

    def __init__(self, addresses: t.Sequence[Address], source_address: str | None = None) -> None:
        self.attempts = [Attempt(address) for address in addresses]
        self._source_address = source_address
        self._sockets: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._started = time.monotonic()
        self._finished = False

    def connect(self, deadline: Deadline) -> tuple[socket.socket, Address]:
        """The connected, non-blocking socket of the best address. Raises :class:`SmtpError` (``connect``) if none."""
        self._start()
        winner = self._race(deadline)
        if winner is None:
            self._close_pending("timeout")
            raise SmtpError(Kind.CONNECT, "; ".join(str(attempt) for attempt in self.attempts), stage="connect")
        sock = self._sockets.pop(winner)
        return sock, self.attempts[winner].address

    def poll(self) -> None:
        """Take note of the addresses that have answered by now, without waiting."""
        self._collect(0.0)

    def finish(self) -> None:
        """Take note of late answers, then close everything but the winner."""
        if self._finished:
            return
        self._finished = True
        self.poll()
        self._close_pending("no_answer")
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        self._selector.close()

    def _start(self) -> None:
        self._started = time.monotonic()
        for index, attempt in enumerate(self.attempts):
            if index >= MAX_ADDRESSES:
                attempt.outcome = "not_tried"
                continue
            try:
                sock = self._sockets[index] = socket.socket(attempt.address.family, socket.SOCK_STREAM)
                self._bind(sock)
            except OSError as exc:
                self._settle(index, exc.errno or errno.EIO)
                continue
            sock.setblocking(False)
            result = sock.connect_ex(attempt.address.sockaddr)
            if result == errno.EINPROGRESS:
                self._selector.register(sock, selectors.EVENT_WRITE, index)
            else:
                self._settle(index, result)

    def _bind(self, sock: socket.socket) -> None:
        if self._source_address:
            # Not bind() with the text: a link-local address has an interface, which getaddrinfo(3) takes out of it.
            numeric = socket.getaddrinfo(self._source_address, 0, sock.family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
            sock.bind(numeric[0][4])

    def _race(self, deadline: Deadline) -> int | None:
        """Index of the attempt to take, or None when all have failed or the deadline has passed."""
        head_start: Deadline | None = None
        while True:
            best = self._first("connected", "pending")
            if best is None:
                return None
            if self.attempts[best].outcome == "connected":
                return best
            connected = self._first("connected")
            if connected is not None and head_start is None:
                head_start = deadline.within(HEAD_START)
            limit = head_start or deadline
            if limit.expired:
                return connected
            self._collect(limit.remaining())

    def _first(self, *outcomes: str) -> int | None:
        return next((index for index, attempt in enumerate(self.attempts) if attempt.outcome in outcomes), None)

    def _collect(self, seconds: float) -> None:
        for key, _events in self._selector.select(seconds):
            sock = t.cast(socket.socket, key.fileobj)
            self._selector.unregister(sock)
            self._settle(key.data, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _settle(self, index: int, error: int) -> None:
        attempt = self.attempts[index]
        attempt.outcome = _OUTCOMES.get(error, "failed")
        attempt.errno = error or None
        attempt.elapsed_ms = round((time.monotonic() - self._started) * 1000)
        if error and index in self._sockets:
            self._sockets.pop(index).close()

    def _close_pending(self, outcome: str) -> None:
        for key in list(self._selector.get_map().values()):
            sock = t.cast(socket.socket, key.fileobj)
            self._selector.unregister(sock)
            self._settle_unanswered(key.data, outcome)
            sock.close()

    def _settle_unanswered(self, index: int, outcome: str) -> None:
        attempt = self.attempts[index]
        attempt.outcome = outcome
        attempt.elapsed_ms = round((time.monotonic() - self._started) * 1000)
        self._sockets.pop(index, None)
