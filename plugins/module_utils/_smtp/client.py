# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The SMTP client: one connection, one dialogue. Nothing else in this package speaks to a server.

A hostile server can neither hang nor fill it: there is one wall-clock deadline, and every line and reply is bounded
(see reply.py). After the first error the connection is closed and can not be used again, so a late reply is never
taken for the answer to another command.
"""

from __future__ import annotations

import re
import selectors
import socket
import ssl
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import login
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import Attempt, Connector
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.ehlo import Capabilities
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply, ReplyError, ReplyParser
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address, resolve
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.route import Route
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.session import Session
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.stages import Stages
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import (
    Contexts,
    inspecting_context,
    translate,
    wait,
)
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import handshake as tls_handshake
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.transcript import Transcript
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.trust import Trust

QUIT_SECONDS = 2.0
"""How long the reply to QUIT is waited for; it changes nothing."""

_CHUNK = 4096
_MAX_COMMAND = 512
"""Octets of a command line, its end included (RFC 5321 section 4.5.3.1.4)."""
_STAGES = {"MAIL": "sender", "RCPT": "recipient", "DATA": "data", "RSET": "recipient"}
_LINE_END = re.compile(rb"\r\n|\r|\n")


class Client:
    """A connection to *host*:*port*. *tls* is ``implicit``, ``starttls`` or ``none``.

    Call in this order: :meth:`connect`, :meth:`greeting` (does the handshake first if TLS is implicit), :meth:`ehlo`,
    :meth:`starttls` (which needs another :meth:`ehlo` after it), :meth:`authenticate`, any :meth:`command` and
    :meth:`data`, :meth:`quit`; and always :meth:`close`, or use it in a ``with`` statement. Every method raises
    :class:`SmtpError`; :attr:`stage` names the step that is under way.

    With *verify* off any certificate is accepted, in order to look at it, and :meth:`authenticate` refuses.
    *trust* says what is verified, *route* by which way the connection goes. *addresses* skips name resolution. Clients
    that share *contexts* read the trusted roots only once. Without *ehlo_name* the address literal of the own address is
    sent.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tls: str,
        *,
        deadline: Deadline,
        transcript: Transcript | None = None,
        ehlo_name: str | None = None,
        trust: Trust = Trust(),  # noqa: B008  # immutable
        route: Route = Route(),  # noqa: B008  # immutable
        contexts: Contexts | None = None,
        verify: bool = True,
        addresses: t.Sequence[Address] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.tls = tls
        self.deadline = deadline
        self.transcript = transcript or Transcript()
        self.stages = Stages()
        self.addresses: list[Address] = list(addresses or [])
        self.peer: Address | None = None
        self.capabilities: Capabilities | None = None
        self.mechanism: str | None = None
        self.auth_sent = False
        self.session: Session | None = None
        self._ehlo_name = ehlo_name
        self.trust = trust
        self.route = route
        self._contexts = contexts or Contexts()
        self._verify = verify
        self._connector: Connector | None = None
        self._sock: socket.socket | None = None
        self._parser = ReplyParser()
        self._greeted = False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def stage(self) -> str:
        """The step that is under way, as in the result of the modules."""
        return self.stages.current

    @stage.setter
    def stage(self, stage: str) -> None:
        if stage != self.stages.current:
            self.stages.enter(stage)

    # -- the steps -------------------------------------------------------------------------------------------------

    def resolve(self) -> list[Address]:
        """Look the host up, unless the addresses are known. Refuses a CA file that can not be used before that."""
        if self.tls != "none":
            try:
                self._context()
            except SmtpError:
                self.stage = "tls"
                raise
        self.stage = "resolve"
        if not self.addresses:
            self.addresses = resolve(self.host, self.port, self.deadline)
        return self.addresses

    def connect(self) -> Address:
        """Connect to the best address that answers; resolves first if that has not been done."""
        self.resolve()
        self.stage = "connect"
        self._connector = Connector(self.addresses)
        self._sock, self.peer = self._connector.connect(self.deadline)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.transcript.noted(f"connected to {self.peer.host} port {self.port}")
        return self.peer

    @property
    def attempts(self) -> list[Attempt]:
        """What became of each address; complete after :meth:`close`."""
        return self._connector.attempts if self._connector else []

    def greeting_comes(self, seconds: float) -> bool:
        """Wait up to *seconds* for the first byte of the greeting; whether it (or an end) has come."""
        self.stage = "greeting"
        return wait(self._socket(), selectors.EVENT_READ, self.deadline.within(seconds))

    def handshake(self) -> None:
        """Do the TLS handshake now. :meth:`greeting` and :meth:`starttls` do it themselves where it belongs."""
        self.stage = "tls"
        sock, self._sock = self._socket(), None
        secured = self._sock = tls_handshake(self._context(), sock, self.host, self.deadline)
        cipher = secured.cipher()
        self.session = Session(
            secured.version() or "",
            cipher[0] if cipher else "",
            self._verify,
            secured.getpeercert(binary_form=True) or b"",
        )
        verified = "certificate verified" if self._verify else "certificate not verified"
        self.transcript.noted(f"{self.session.version}, {self.session.cipher}, {verified}")

    def greeting(self) -> Reply:
        """Read the greeting; 220 is the only good one."""
        if self.tls == "implicit" and not self.encrypted:
            self.handshake()
        self.stage = "greeting"
        reply = self._read()
        self._greeted = True
        return self.expect(reply, (220,), "")

    def ehlo(self) -> Capabilities:
        """Say EHLO and keep what the server offers. HELO is not tried: it has neither TLS nor AUTH."""
        self.stage = "ehlo_tls" if self.encrypted else "ehlo"
        self.capabilities = None
        line = f"EHLO {self._ehlo_name or self._address_literal()}"
        self._write(line)
        self.transcript.sent(line)
        raw = self._read_raw()
        self.expect(raw.redacted(self.transcript.redactor), (250,), "EHLO")
        # Parsed before redaction: a password may be the word PLAIN.
        self.capabilities = Capabilities(raw)
        return self.capabilities

    def starttls(self) -> None:
        """Turn the connection into an encrypted and verified one. What the server said before is forgotten."""
        self.stage = "starttls"
        if self.capabilities is None or not self.capabilities.starttls:
            raise self.error(Kind.NO_STARTTLS, "the server does not offer STARTTLS")
        self.expect(self.command("STARTTLS", stage="starttls"), (220,), "STARTTLS")
        if self._parser.pending:
            self._hang_up()
            raise self.error(Kind.INJECTION, "clear text followed the reply to STARTTLS in the same packet")
        self.capabilities = None
        self._parser = ReplyParser()
        self.handshake()

    def authenticate(self, credentials: Credentials, mechanism: str = "auto") -> Reply:
        """Log in by *mechanism* (``auto``: the best that is offered), tried exactly once; return the 235. See login.py.

        Never without encryption and a verified certificate, and never without the server offering it.
        """
        self.stage = "auth"
        return login.log_in(self, credentials, mechanism)

    def command(self, line: str, *, stage: str = "") -> Reply:
        """Send one command line (without its end) and return the reply, whatever it is."""
        if "\r" in line or "\n" in line:
            raise ValueError("a command is one line")
        self.stage = stage or _STAGES.get(line[:4].upper(), self.stage)
        self._write(line)
        self.transcript.sent(line)
        return self._read()

    def pipeline(self, *lines: str) -> t.Iterator[Reply]:
        """Send command lines in one go and yield the reply to each (RFC 2920); the server must offer PIPELINING."""
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a command is one line")
        self._write("\r\n".join(lines))
        for line in lines:
            self.transcript.sent(line)
        for _line in lines:
            yield self._read()

    def data(self, message: bytes) -> Reply:
        """Send DATA and *message*; return the final reply, or the reply to DATA if it is not 354.

        Line ends become CRLF and leading dots are doubled (RFC 5321 section 4.5.2).
        """
        reply = self.command("DATA", stage="data")
        if reply.code != 354:
            return reply
        lines = _LINE_END.split(message)
        if not lines[-1]:
            lines.pop()  # what follows the end of the last line
        body = b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines)
        self._send(body + b".\r\n")
        self.transcript.noted(f"message of {len(body)} bytes sent")
        return self._read()

    def quit(self) -> None:
        """Say goodbye. Whether the server answers does not matter, and is not waited for longer than a moment."""
        self.stage = "quit"
        self.deadline = self.deadline.within(QUIT_SECONDS)
        try:
            self.command("QUIT", stage="quit")
        except SmtpError as exc:
            self.transcript.noted(f"QUIT: {exc}")
        self.close()

    def close(self) -> None:
        """Close everything. May be called at any time and more than once."""
        self._hang_up()
        if self._connector is not None:
            self._connector.finish()

    # -- what is known about the connection --------------------------------------------------------------------------

    @property
    def in_dialogue(self) -> bool:
        """Whether the server has greeted and the connection is still good."""
        return self._sock is not None and self._greeted

    @property
    def encrypted(self) -> bool:
        return isinstance(self._sock, ssl.SSLSocket)

    # -- for login.py ------------------------------------------------------------------------------------------------

    @property
    def trusted(self) -> bool:
        """Whether the connection is encrypted, and the server proved who it is."""
        return self.encrypted and self._verify

    def exchange(self, line: str, shown: str, secret: bool = False) -> Reply:
        """Send one line of an authentication; only *shown* is recorded of it."""
        self._write(line)
        self.auth_sent = True
        if secret:
            self.transcript.secret(shown)
        else:
            self.transcript.sent(shown)
        return self._read()

    def error(self, kind: str, message: str, **facts: t.Any) -> SmtpError:
        """An error at the current stage."""
        return SmtpError(kind, message, stage=self.stage, **facts)

    def expect(self, reply: Reply, codes: tuple[int, ...], command: str) -> Reply:
        """Return *reply* if it has one of *codes*; raise :class:`SmtpError` otherwise."""
        if reply.code not in codes:
            raise self.error(Kind.REPLY, str(reply), reply=reply, command=command)
        return reply

    # -- bytes -------------------------------------------------------------------------------------------------------

    def _socket(self) -> socket.socket:
        if self._sock is None:
            raise self.error(Kind.CLOSED, "the connection is closed")
        return self._sock

    def _write(self, line: str) -> None:
        self._refuse_unsolicited()
        self._send(line.encode("utf-8") + b"\r\n")

    def _refuse_unsolicited(self) -> None:
        """Make sure that nothing has come that would be taken for the reply to the next command."""
        data = self._receive_now()
        if data == b"" and not self._parser.pending:
            self._hang_up()
            raise self.error(Kind.CLOSED, "the server closed the connection")
        self._parser.feed(data or b"")
        if not self._parser.pending:
            return
        try:
            reply = self._parser.take()
        except ReplyError as exc:
            raise self._not_a_reply(exc) from exc
        self._hang_up()
        if reply is not None:
            reply = reply.redacted(self.transcript.redactor)
            self.transcript.received(reply)
        message = f"the server sent a reply to no command: {reply or 'incomplete'}"
        raise self.error(Kind.UNSOLICITED, message, reply=reply)

    def _send(self, data: bytes) -> None:
        sock = self._socket()
        view = memoryview(data)
        while view:
            try:
                view = view[sock.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(selectors.EVENT_WRITE)
            except ssl.SSLWantReadError:
                self._wait(selectors.EVENT_READ)
            except OSError as exc:
                raise self._broken(exc) from exc

    def _receive_now(self) -> bytes | None:
        """What has arrived, at most one chunk; None if nothing has, empty at the end of the stream."""
        try:
            return self._socket().recv(_CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except ssl.SSLWantWriteError:
            self._wait(selectors.EVENT_WRITE)
            return None
        except OSError as exc:
            raise self._broken(exc) from exc

    def _wait(self, event: int) -> None:
        # A server that sends an octet now and then is ready each time, so the deadline is looked at before as well.
        if self.deadline.expired or not wait(self._socket(), event, self.deadline):
            self._hang_up()
            raise self.error(Kind.TIMEOUT, "the server did not answer in time", sample=self._unfinished())

    def _unfinished(self) -> str:
        return self.transcript.show(self._parser.pending.decode("utf-8", "backslashreplace"))

    def _read(self) -> Reply:
        return self._read_raw().redacted(self.transcript.redactor)

    def _read_raw(self) -> Reply:
        while True:
            try:
                reply = self._parser.take()
            except ReplyError as exc:
                raise self._not_a_reply(exc) from exc
            if reply is not None:
                self.transcript.received(reply)
                return reply
            data = self._receive_now()
            if data is None:
                self._wait(selectors.EVENT_READ)
            elif data:
                self._parser.feed(data)
            else:
                self._hang_up()
                raise self.error(Kind.CLOSED, "the server closed the connection", sample=self._unfinished())

    # -- errors ------------------------------------------------------------------------------------------------------

    def _not_a_reply(self, exc: ReplyError) -> SmtpError:
        self._hang_up()
        sample = self.transcript.show(exc.sample)
        self.transcript.noted(f"not a reply: {sample}")
        return self.error(exc.kind, f"{exc}: {sample!r}", sample=sample)

    def _broken(self, exc: OSError) -> SmtpError:
        self._hang_up()
        return translate(exc, self.stage)

    def _hang_up(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _context(self) -> ssl.SSLContext:
        return self._contexts.verifying(self.trust.ca_file) if self._verify else inspecting_context()

    def _address_literal(self) -> str:
        """The own address as RFC 5321 section 4.1.3 writes it, for a host without a proper name."""
        address = str(self._socket().getsockname()[0]).partition("%")[0]
        return f"[IPv6:{address}]" if ":" in address else f"[{address}]"
