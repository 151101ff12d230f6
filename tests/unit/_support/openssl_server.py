# SPDX-License-Identifier: GPL-3.0-or-later
"""A TLS server of openssl(1), which does what Python's module can not: renegotiate, and send session tickets without end."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import typing as t

from pki import Pki
from smtp_server import Handler, Peer


def s_server(pki: Pki, script: t.Sequence[t.Tuple[str, str]], *options: str) -> Handler:
    """A server of openssl(1), which does to TLS what Python's module can not.

    *script*: the beginning of what the client says ("" does not wait), and what is typed into s_server then: a reply, or
    "r" for a renegotiation.
    """
    pki.server("short", "root")

    def handle(peer: Peer) -> None:
        identity = ["-cert", pki.path("short"), "-key", pki.key("short")]
        command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-crlf", *identity]
        with subprocess.Popen([*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            try:
                _relay(peer, _connected(process))
                _play(peer, process, script)
            finally:
                process.kill()

    return handle


def _connected(process: t.Any) -> socket.socket:
    """A connection to the server, which says "ACCEPT 127.0.0.1:PORT" when it listens."""
    for line in process.stdout:
        if line.startswith(b"ACCEPT"):
            return socket.create_connection(("127.0.0.1", int(line.rpartition(b":")[2])))
    raise ConnectionError("openssl s_server has ended")


def _relay(peer: Peer, inner: socket.socket) -> None:
    """Carry what comes from either side to the other until one is gone, in threads."""

    def carry(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            data = source.recv(65536)
            while data:
                target.sendall(data)
                data = source.recv(65536)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    for pair in ((peer.connection, inner), (inner, peer.connection)):
        threading.Thread(target=carry, args=pair, daemon=True).start()


def _play(peer: Peer, process: t.Any, script: t.Sequence[t.Tuple[str, str]]) -> None:
    remaining = list(script)
    while remaining and remaining[0][0] == "":
        _type(process, remaining.pop(0)[1])
    for line in process.stdout:
        said = line.decode("latin-1").rstrip()
        if said.split(" ")[0] in ("EHLO", "AUTH", "QUIT", "NOOP"):
            peer.lines.append(said.encode())
        while remaining and (said.startswith(remaining[0][0]) if remaining[0][0] else True):
            _type(process, remaining.pop(0)[1])


def _type(process: t.Any, text: str) -> None:
    process.stdin.write(text.encode() + b"\n")
    process.stdin.flush()
