# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks a proxy to connect to a server: SOCKS 5 (RFC 1928, RFC 1929) and HTTP CONNECT (RFC 9110 section 9.3.6).

The proxy resolves the name of the server. Nothing beyond the proxy's answer is read, so what the server says first
is left for whoever reads it. Every answer is bounded, and so is the time.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import selectors
import socket
import struct
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.route import Proxy
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import printable
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.tls import wait

AUTH, REFUSED, PROTOCOL = "auth", "refused", "protocol"
"""Reasons of :data:`Kind.PROXY`, but for the one of a proxy that can not be reached."""
MAX_ANSWER = 8192
"""Octets of the head of an HTTP answer."""

_SOCKS = 5
_NO_LOGIN, _PASSWORD_LOGIN, _NO_METHOD = 0, 2, 0xFF
_LOGIN_VERSION = 1
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_REFUSALS = {
    1: "general SOCKS server failure",
    2: "connection not allowed by ruleset",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}
"""RFC 1928 section 6."""
_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([1-5][0-9][0-9])( .*)?", re.ASCII)
_OFFER = re.compile(r"(?im)^Proxy-Authenticate:[ \t]*([A-Za-z0-9-]+)")

Show = t.Callable[[str], str]
"""Makes any text of the proxy fit to print (see Transcript.show)."""


def connect_through(proxy: Proxy, sock: socket.socket, host: str, port: int, deadline: Deadline, show: Show) -> None:
    """Have *proxy*, to which the non-blocking *sock* is connected, connect to *host*:*port*.

    Raises :class:`SmtpError` (``proxy``). The socket is left open in any case.
    """
    line = _Line(sock, deadline, show)
    name = _ascii(host)
    if proxy.kind == "socks5":
        _socks(proxy, line, name, port)
    else:
        _http(proxy, line, name, port)


def _error(reason: str, message: str, errno: int | None = None) -> SmtpError:
    return SmtpError(Kind.PROXY, message, stage="connect", reason=reason, errno=errno)


class _Line:
    """Bytes to and from the proxy."""

    def __init__(self, sock: socket.socket, deadline: Deadline, show: Show) -> None:
        self._sock = sock
        self._deadline = deadline
        self.show = show
        self._asked = ""

    def ask(self, data: bytes, server: str) -> None:
        """Send the request to connect to *server*."""
        self._asked = server
        self.send(data)

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                self._wait(selectors.EVENT_WRITE)
            except OSError as exc:
                raise self._broken(exc) from exc

    def read(self, size: int) -> bytes:
        """Exactly *size* octets."""
        data = b""
        while len(data) < size:
            try:
                chunk = self._sock.recv(size - len(data))
            except BlockingIOError:
                self._wait(selectors.EVENT_READ)
                continue
            except OSError as exc:
                raise self._broken(exc) from exc
            if not chunk:
                raise _error(PROTOCOL, "the proxy closed the connection without an answer")
            data += chunk
        return data

    def _wait(self, event: int) -> None:
        if not wait(self._sock, event, self._deadline):
            if self._asked:
                raise _error(REFUSED, f"the proxy did not say in time whether it reaches {self._asked}")
            raise _error(PROTOCOL, "the proxy did not answer in time")

    @staticmethod
    def _broken(exc: OSError) -> SmtpError:
        return _error(PROTOCOL, f"the connection to the proxy broke: {exc.strerror}", exc.errno)


def _ascii(host: str) -> str:
    """*host* as it goes over the wire: without brackets and final dot, in A-labels."""
    bare = host.strip("[]").rstrip(".")
    try:
        name = bare if bare.isascii() else bare.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    if not re.fullmatch(r"[\x21-\x7e]{1,255}", name):
        raise SmtpError(Kind.RESOLVE, f"{host} is not a valid host name", stage="connect", errno=socket.EAI_NONAME)
    return name


# -- SOCKS 5 -----------------------------------------------------------------------------------------------------------


def _socks(proxy: Proxy, line: _Line, host: str, port: int) -> None:
    methods = [_NO_LOGIN] if proxy.username is None else [_NO_LOGIN, _PASSWORD_LOGIN]
    line.send(bytes([_SOCKS, len(methods), *methods]))
    version, method = line.read(2)
    if version != _SOCKS or method not in (*methods, _NO_METHOD):
        raise _error(PROTOCOL, "the proxy does not answer as SOCKS 5 does")
    if method == _NO_METHOD:
        wanted = "a login" if proxy.username is None else "another login than by user name and password"
        raise _error(AUTH, f"the proxy demands {wanted}")
    if method == _PASSWORD_LOGIN:
        _socks_login(proxy, line)
    line.ask(bytes([_SOCKS, _CONNECT, 0]) + _socks_address(host) + struct.pack("!H", port), f"{host} port {port}")
    version, code, _reserved, kind = line.read(4)
    if version != _SOCKS:
        raise _error(PROTOCOL, "the proxy does not answer as SOCKS 5 does")
    if code != 0:
        raise _error(REFUSED, f"the proxy does not connect to {host} port {port}: {_REFUSALS.get(code, f'error {code}')}")
    if kind not in (_IPV4, _NAME, _IPV6):
        raise _error(PROTOCOL, "the proxy does not answer as SOCKS 5 does")
    size = {_IPV4: 4, _IPV6: 16}.get(kind) or line.read(1)[0]
    line.read(size + 2)


def _socks_login(proxy: Proxy, line: _Line) -> None:
    username, password = (proxy.username or "").encode("utf-8"), (proxy.password or "").encode("utf-8")
    if not (1 <= len(username) <= 255 and 1 <= len(password) <= 255):
        raise _error(AUTH, "user name and password for a SOCKS 5 proxy have 1 to 255 octets")
    line.send(bytes([_LOGIN_VERSION, len(username)]) + username + bytes([len(password)]) + password)
    if line.read(2)[1] != 0:
        raise _error(AUTH, "the proxy does not accept user name and password")


def _socks_address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bytes([_NAME, len(host)]) + host.encode("ascii")
    return bytes([_IPV4 if address.version == 4 else _IPV6]) + address.packed


# -- HTTP --------------------------------------------------------------------------------------------------------------


def _http(proxy: Proxy, line: _Line, host: str, port: int) -> None:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.username is not None:
        if ":" in proxy.username:
            raise _error(AUTH, "the user name for an HTTP proxy can not have a colon in it")  # RFC 7617 section 2
        login = f"{proxy.username}:{proxy.password or ''}".encode()
        request.append(f"Proxy-Authorization: Basic {base64.b64encode(login).decode('ascii')}")
    line.ask("".join(part + "\r\n" for part in [*request, ""]).encode("ascii"), target)
    head = _http_head(line)
    status_line = head.splitlines()[0]
    match = _STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise _error(PROTOCOL, f"the proxy does not answer as an HTTP proxy does: {line.show(status_line)!r}")
    if match.group(1) == "407":
        offer = ", ".join(_OFFER.findall(head)) or "not said which"
        problem = "demands a login" if proxy.username is None else "does not accept the login"
        raise _error(AUTH, f"the proxy {problem} ({line.show(offer)}): {line.show(status_line)!r}")
    if not match.group(1).startswith("2"):
        raise _error(REFUSED, f"the proxy does not connect to {target}: {line.show(status_line)!r}")


def _http_head(line: _Line) -> str:
    """Status line and header. Octet by octet, since what follows the empty line is the server's already."""
    head = bytearray()
    while not head.endswith((b"\r\n\r\n", b"\n\n")):
        if len(head) >= MAX_ANSWER or not b"HTTP/".startswith(bytes(head[:5])):
            sample = printable(bytes(head[:80]))
            raise _error(PROTOCOL, f"the proxy does not answer as an HTTP proxy does: {line.show(sample)!r}")
        head += line.read(1)
    return head.decode("latin-1")
