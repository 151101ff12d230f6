# SPDX-License-Identifier: GPL-3.0-or-later
"""Proxies on loopback: SOCKS 5 and HTTP CONNECT, complete enough to relay a dialogue, and able to refuse."""

from __future__ import annotations

import base64
import contextlib
import selectors
import socket
import typing as t

from smtp_server import HOST, Handler, Peer


class Asked(t.NamedTuple):
    """What a client asked a proxy for."""

    host: str
    port: int
    username: str = ""
    password: str = ""


def socks5(asked: t.List[Asked], login: t.Optional[t.Tuple[str, str]] = None, refuse: int = 0) -> Handler:
    """A SOCKS 5 proxy, which connects every name to loopback. *refuse* is the reply code of one that does not."""

    def handle(peer: Peer) -> None:
        sock = peer.connection
        _version, count = _exactly(sock, 2)
        methods = _exactly(sock, count)
        username = password = ""
        method = 2 if login else 0
        if method not in methods:
            sock.sendall(b"\x05\xff")
            return
        sock.sendall(bytes([5, method]))
        if login:
            username, password = (_exactly(sock, _exactly(sock, size)[-1]).decode() for size in (2, 1))
            good = (username, password) == login
            sock.sendall(bytes([1, 0 if good else 1]))
            if not good:
                return
        kind = _exactly(sock, 4)[3]
        if kind == 3:
            host = _exactly(sock, _exactly(sock, 1)[0]).decode("ascii")
        else:
            host = socket.inet_ntop(*((socket.AF_INET, _exactly(sock, 4)) if kind == 1 else (socket.AF_INET6, _exactly(sock, 16))))
        port = int.from_bytes(_exactly(sock, 2), "big")
        asked.append(Asked(host, port, username, password))
        # The address in the answer is of any kind, here a name.
        sock.sendall(bytes([5, refuse, 0, 3, 4]) + b"here" + b"\0\0")
        if not refuse:
            _relay(sock, port)

    return handle


def http(asked: t.List[Asked], login: t.Optional[t.Tuple[str, str]] = None, refuse: str = "") -> Handler:
    """An HTTP proxy for CONNECT, which connects every name to loopback. *refuse* is the status of one that does not."""

    def handle(peer: Peer) -> None:
        request = peer.line().decode("ascii")
        if not request:
            return
        host, port = request.split(" ")[1].rsplit(":", 1)
        header = dict(line.decode().split(": ", 1) for line in iter(peer.line, b""))
        given = base64.b64decode(header.get("Proxy-Authorization", " ").split(" ")[1]).decode()
        asked.append(Asked(host, int(port), *given.split(":", 1) if given else ("", "")))
        if login and given != ":".join(login):
            peer.send("HTTP/1.1 407 Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="x"', "Proxy-Authenticate: Negotiate", "")
            return
        peer.send(f"HTTP/1.1 {refuse or '200 Connection established'}", "Via: test", "")
        if not refuse:
            _relay(peer.connection, int(port))

    return handle


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise ConnectionError("the client hung up")
        data += chunk
    return data


def _relay(near: socket.socket, port: int) -> None:
    with contextlib.closing(socket.create_connection((HOST, port))) as far, selectors.DefaultSelector() as selector:
        selector.register(near, selectors.EVENT_READ, far)
        selector.register(far, selectors.EVENT_READ, near)
        while True:
            for key, _events in selector.select():
                data = t.cast(socket.socket, key.fileobj).recv(65536)
                if not data:
                    return
                key.data.sendall(data)
