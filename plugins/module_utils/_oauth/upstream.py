# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""A connection to a relay on which the login is done: TLS, EHLO, AUTH XOAUTH2. What comes after it is none of our business."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._oauth.settings import OAuthError, RelaySettings
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.token_endpoint import tls_context

TIMEOUT = 60.0
"""Seconds for each step; smtp(8) waits 300 for the greeting and for the answer to EHLO."""
LOGIN_TIMEOUT = 240.0
"""Seconds for all steps together, from the connection to the end of the login: a server may send an octet whenever a step is about to end."""
CONNECT_TIMEOUT = 30.0
"""Seconds for each address; smtp_connect_timeout of Postfix."""
_MAX_LINE, _MAX_LINES = 4096, 100
_MAX_COMMAND = 510
"""Octets, without the end of the line (RFC 5321 section 4.5.3.1.4)."""
_PIECE, _MAX_SHOWN = 16, 400
_FAMILIES = {"any": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
#: Not passed on: TLS and the login are done, and the proxy is no party to what these would negotiate.
_OWN_KEYWORDS = ("STARTTLS", "AUTH")


class Reply(t.NamedTuple):
    """A reply of the server (RFC 5321 section 4.2)."""

    code: int
    lines: t.List[str]  #: the text of each line


class Refused(OAuthError):
    """The server refused the token."""


class Upstream:
    """A connection to the server of a relay; whoever made it closes it."""

    def __init__(self, relay: RelaySettings) -> None:
        """Connect, and read the greeting. Raises OAuthError."""
        self._relay = relay
        self._context = tls_context(relay.ca_file, relay.minimum_tls)
        self._received = b""
        self._secrets: t.Tuple[str, ...] = ()
        self.socket = _connect(relay)
        self._limit = time.monotonic() + LOGIN_TIMEOUT
        with self._problems():
            if relay.tls == "implicit":
                self._start_tls()
            self.greeting = self._expect(220)

    def log_in(self, ehlo_name: str, token: str) -> t.List[str]:
        """Return the server's answer to EHLO, for a client that has neither to log in nor to start TLS.

        Raises Refused if it is the token that the server does not take, else OAuthError.
        """
        with self._problems():
            if self._relay.tls == "starttls":
                self._send(f"EHLO {ehlo_name}")
                self._expect(250)
                self._send("STARTTLS")
                self._expect(220)
                if self._received:  # what came in clear after the reply, somebody may have injected (RFC 3207 section 6)
                    raise OAuthError(f"{self._relay.host} sends more in clear after it agreed to STARTTLS")
                self._start_tls()
            self._send(f"EHLO {ehlo_name}")
            offered = self._expect(250).lines
            self._authenticate(token)
        return offered[:1] + [line for line in offered[1:] if re.split("[ =]", line)[0].upper() not in _OWN_KEYWORDS]

    def encrypted(self) -> ssl.SSLSocket:
        """The connection, which must have TLS by now. Raises OAuthError."""
        if not isinstance(self.socket, ssl.SSLSocket):
            raise OAuthError(f"{self._relay.host}: there is no TLS, so nothing is sent")
        return self.socket

    def early(self) -> bytes:
        """What the server has sent after its last reply, such as that it closes the connection."""
        return self._received

    def _authenticate(self, token: str) -> None:
        """AUTH XOAUTH2; the token goes into the command if that has room for it (RFC 4954 section 4)."""
        secret = base64.b64encode(f"user={self._relay.username}\x01auth=Bearer {token}\x01\x01".encode()).decode()
        self._secrets = (token, secret)
        self.encrypted()
        command = f"AUTH XOAUTH2 {secret}"
        if len(command) <= _MAX_COMMAND:
            self._send(command)
        else:
            self._send("AUTH XOAUTH2")
            self._expect(334)
            self._send(secret)
        reply = self._reply()
        if reply.code == 334:  # the reason, as base64 of JSON; an empty answer brings the refusal itself
            self._send("")
            reply = self._reply()
        if reply.code == 235:
            return
        kind = Refused if reply.code == 535 else OAuthError
        raise kind(f"{self._relay.host} refuses the login by XOAUTH2: {self._shown(reply)}")

    def _start_tls(self) -> None:
        self.socket = self._context.wrap_socket(self.socket, server_hostname=self._relay.server_name or self._relay.host)

    @contextlib.contextmanager
    def _problems(self) -> t.Iterator[None]:
        """Close the connection and raise OAuthError, where something goes wrong on it."""
        host = self._relay.host
        try:
            yield
        except OAuthError:
            self.socket.close()
            raise
        except ssl.SSLCertVerificationError as error:
            self.socket.close()
            raise OAuthError(f"the certificate of {host} can not be verified: {error.verify_message}") from None
        except socket.timeout:
            self.socket.close()
            raise OAuthError(f"{host} does not answer in time") from None
        except OSError as error:
            self.socket.close()
            raise OAuthError(f"the connection to {host} broke: {error.strerror or type(error).__name__}") from None

    def _send(self, line: str) -> None:
        self.socket.sendall(line.encode() + b"\r\n")

    def _expect(self, code: int) -> Reply:
        reply = self._reply()
        if reply.code != code:
            raise OAuthError(f"{self._relay.host} says {self._shown(reply)}")
        return reply

    def _shown(self, reply: Reply) -> str:
        """A reply for the log, unless it quotes from the login."""
        text = " ".join(reply.lines)
        pieces = (secret[start : start + _PIECE] for secret in self._secrets for start in range(0, len(secret) - _PIECE + 1, _PIECE // 2))
        return f"{reply.code} (its text holds the token)" if any(piece in text for piece in pieces) else f"{reply.code} {text[:_MAX_SHOWN]}"

    def _reply(self) -> Reply:
        lines: t.List[str] = []
        while len(lines) < _MAX_LINES:
            line = self._line()
            code, more, text = line[:3], line[3:4], line[4:]
            if not (code.isdigit() and more in ("", " ", "-")):
                break
            lines.append(text)
            if more != "-":
                return Reply(int(code), lines)
        raise OAuthError(f"{self._relay.host} does not speak SMTP as it should")

    def _wait_no_longer(self) -> None:
        left = self._limit - time.monotonic()
        if left <= 0:
            raise socket.timeout
        self.socket.settimeout(min(TIMEOUT, left))

    def _line(self) -> str:
        while b"\n" not in self._received:
            if len(self._received) > _MAX_LINE:
                raise OAuthError(f"{self._relay.host} sends a line without an end")
            self._wait_no_longer()
            chunk = self.socket.recv(_MAX_LINE)
            if not chunk:
                raise OAuthError(f"{self._relay.host} closes the connection")
            self._received += chunk
        line, _newline, self._received = self._received.partition(b"\n")
        text = line.rstrip(b"\r").decode("ascii", "replace")
        return "".join(char if char.isprintable() and char.isascii() else "?" for char in text)


def _connect(relay: RelaySettings) -> socket.socket:
    """Connect to the first of the server's addresses that answers. Raises OAuthError."""
    problem = "it has no address"
    try:
        for family, kind, protocol, _name, address in socket.getaddrinfo(relay.host, relay.port, _FAMILIES[relay.family], socket.SOCK_STREAM):
            connection = socket.socket(family, kind, protocol)
            connection.settimeout(CONNECT_TIMEOUT)
            try:
                connection.connect(address)
            except OSError as error:
                connection.close()
                problem = error.strerror or type(error).__name__
                continue
            connection.settimeout(TIMEOUT)
            return connection
    except OSError as error:
        problem = error.strerror or type(error).__name__
    raise OAuthError(f"{relay.host} can not be reached: {problem}")
