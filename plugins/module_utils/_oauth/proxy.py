# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The proxy of one relay: smtp(8) connects to a port of the loopback interface, and finds the relay with the login done.

Up to the answer to EHLO the proxy speaks for both sides. From then on it passes every octet on unchanged, so that
pipelining, delivery status notifications and the relay's own replies reach smtp(8) and its log as they are. What goes wrong before
is told as 421, for which smtp(8) keeps the mail and tries the next relay.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import threading
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._oauth.peer import uid_of
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.settings import OAuthError, RelaySettings
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.token_keeper import TokenKeeper
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.upstream import Refused, Upstream

ADDRESS = "127.0.0.1"
MAX_CONNECTIONS = 100
"""At once for one relay; default_process_limit of Postfix."""
IDLE = 1200.0
"""Seconds without an octet in either direction; twice what smtp(8) waits for the answer to the end of a message."""
PAUSE = 1.0
"""Seconds until the next attempt to take a connection, where there are no descriptors left."""
_CHUNK = 65536
_MAX_COMMAND = 2048
_EHLO = re.compile(r"(?:EHLO|HELO) ([A-Za-z0-9._:\[\]-]{1,255})\Z", re.IGNORECASE)


class Proxy:
    """Listens for one relay. ``allowed`` are the users whose programs may connect."""

    def __init__(self, relay: RelaySettings, keeper: TokenKeeper, allowed: t.Container[t.Optional[int]], log: t.Callable[[str], None]) -> None:
        """Raises OAuthError where the port is taken."""
        self._relay, self._keeper, self._allowed, self._log = relay, keeper, allowed, log
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._threads: t.Set[threading.Thread] = set()
        self._closing = threading.Event()
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind((ADDRESS, relay.local_port))
        except OSError as error:
            self._listener.close()
            place = f"{ADDRESS}:{relay.local_port}"
            raise OAuthError(f"{place}, which is to lead to {relay.name}, can not be used: {error.strerror}; set another 'local_port'") from None
        self._listener.listen(MAX_CONNECTIONS)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def run(self) -> None:
        """Serve until ``close`` is called."""
        while not self._closing.is_set():
            self._slots.acquire()
            try:
                connection, _address = self._listener.accept()
            except OSError as error:
                self._slots.release()
                if not self._closing.is_set():
                    self._log(f"{self._relay.name}: no connection can be taken: {error.strerror}")
                    self._closing.wait(PAUSE)
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.add(thread)
            thread.start()

    def close(self, seconds: float) -> None:
        """Take no more connections, and give those that there are some time to end."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends accept()
        self._listener.close()
        share = seconds / max(1, len(self._threads))
        for thread in list(self._threads):
            thread.join(share)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with contextlib.closing(connection):
                connection.settimeout(IDLE)
                self._welcome(connection)
        except OSError:
            pass  # smtp(8) went away; it knows why
        finally:
            self._threads.discard(threading.current_thread())
            self._slots.release()

    def _welcome(self, client: socket.socket) -> None:
        """Bring the connection to where the relay may have it, or say why not."""
        if uid_of(client) not in self._allowed:
            client.sendall(b"554 5.7.1 Only Postfix may send here\r\n")
            return
        try:
            token = self._keeper.token()
            upstream = Upstream(self._relay)
        except OAuthError as error:
            self._give_up(client, error)
            return
        with contextlib.closing(upstream.socket):
            client.sendall(_reply(220, upstream.greeting.lines))
            name = _ehlo(client)
            if name is None:
                client.sendall(b"421 4.5.1 EHLO was expected\r\n")
                return
            try:
                offered = upstream.log_in(name, token)
            except OAuthError as error:
                if isinstance(error, Refused):
                    self._keeper.refused(token)
                self._give_up(client, error)
                return
            client.sendall(_reply(250, offered) + upstream.early())
            with contextlib.suppress(OSError):
                pass_on(client, upstream.encrypted())

    def _give_up(self, client: socket.socket, error: OAuthError) -> None:
        self._log(f"{self._relay.name}: {error}")
        client.sendall(f"421 4.7.0 {error}\r\n".encode("ascii", "replace"))


def _reply(code: int, lines: t.Sequence[str]) -> bytes:
    last = len(lines) - 1
    return "".join(f"{code}{' ' if number == last else '-'}{line}\r\n" for number, line in enumerate(lines)).encode()


def _ehlo(client: socket.socket) -> t.Optional[str]:
    """The name by which the client introduces itself."""
    received = b""
    while b"\n" not in received and len(received) < _MAX_COMMAND:
        chunk = client.recv(_MAX_COMMAND)
        if not chunk:
            return None
        received += chunk
    match = _EHLO.match(received.decode("ascii", "replace").rstrip("\r\n"))
    return match.group(1) if match else None


def pass_on(client: socket.socket, upstream: ssl.SSLSocket) -> None:
    """Pass octets on in both directions until one side closes, or nothing has come for a long time.

    The TLS socket must not block: what makes it readable may be a ticket of TLS 1.3, and no octet for the client.
    """
    upstream.setblocking(False)
    while True:
        readable = [upstream] if upstream.pending() else select.select([client, upstream], [], [], IDLE)[0]
        if not readable:
            return
        if client in readable:
            chunk = client.recv(_CHUNK)
            if not chunk:
                return
            _send_all(upstream, chunk)
        if upstream in readable:
            try:
                chunk = upstream.recv(_CHUNK)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                continue
            if not chunk:
                return
            client.sendall(chunk)


def _send_all(connection: ssl.SSLSocket, data: bytes) -> None:
    """As sendall(), for a socket that does not block. Raises OSError."""
    view = memoryview(data)
    while view:
        wait_for: t.Tuple[t.List[ssl.SSLSocket], t.List[ssl.SSLSocket]] = ([], [connection])
        try:
            view = view[connection.send(view) :]
            continue
        except ssl.SSLWantReadError:
            wait_for = ([connection], [])
        except ssl.SSLWantWriteError:
            pass
        if not any(select.select(*wait_for, [], IDLE)):
            raise socket.timeout
