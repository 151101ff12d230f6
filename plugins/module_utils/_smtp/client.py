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

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import Attempt, Connector
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.ehlo import Capabilities
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply, ReplyError, ReplyParser
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address, resolve
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.route import Proxy, Route
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl import login
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.stages import Stages
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import identity, sent_chain
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.session import Session
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.tls import (
    Contexts,
    translate,
    wait,
)
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.tls import handshake as tls_handshake
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.tls_socket import TlsSocket
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.transcript import Transcript

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
    *trust* says what is verified and what this host shows of itself, *route* by which way the connection goes.
    *addresses* skips name resolution. Clients that share *contexts* read the trusted roots only once. Without *ehlo_name*
    the address literal of the own address is sent.
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
        self.logins: list[login.Login] = []
        self.session: Session | None = None
        self._ehlo_name = ehlo_name
        self.trust = trust
        self.route = route
        self._contexts = contexts or Contexts()
        self._verify = verify
        self._connector: Connector | None = None
        self._sock: socket.socket | TlsSocket | None = None
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
        proxy_used = self.route.proxy
        if proxy_used is not None:
            self._resolve_proxy(proxy_used)
        elif not self.addresses:
            self.addresses = resolve(self.host, self.port, self.deadline, self.route.wanted)
        return self.addresses

    def _resolve_proxy(self, proxy_used: Proxy) -> None:
        if self.addresses:
            self.addresses = [address.at_port(proxy_used.port) for address in self.addresses]
            return
        try:
            self.addresses = resolve(proxy_used.host, proxy_used.port, self.deadline, self.route.wanted)
        except SmtpError as exc:
            self.stage = "connect"
            raise self._no_proxy(exc) from exc

    def connect(self) -> Address:
        """Connect to the best address that answers; resolves first if that has not been done.

        With a proxy, the addresses (also those of :attr:`attempts`) and the one that is returned are the proxy's.
        """
        self.resolve()
        self.stage = "connect"
        self._connector = Connector(self.addresses, self.route.source_address)
        try:
            self._sock, self.peer = self._connector.connect(self.deadline)
        except SmtpError as exc:
            if self.route.proxy is None:
                raise
            raise self._no_proxy(exc) from exc
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.route.proxy is not None:
            self._connect_through(self.route.proxy)
        else:
            self.transcript.noted(f"connected to {self.peer.host} port {self.port}")
        return self.peer

    def _no_proxy(self, exc: SmtpError) -> SmtpError:
        return self.error(Kind.PROXY, f"the proxy can not be reached: {exc}", reason="unreachable", errno=exc.errno)

    def _connect_through(self, proxy_used: Proxy) -> None:
        # Imported here, as in late.py: who uses no proxy does not wait for it.
        from ansible_collections.outpost.smtp.plugins.module_utils._smtp import proxy

        self.transcript.redactor.protect(proxy_used.username, proxy_used.password)
        self.transcript.noted(f"connected to the proxy {proxy_used.host} port {proxy_used.port}")
        try:
            proxy.connect_through(proxy_used, self._clear_socket(), self.host, self.port, self.deadline, self.transcript.show)
        except SmtpError as exc:
            self._hang_up()
            self.transcript.noted(str(exc))
            raise
        self.transcript.noted(f"the proxy is connected to {self.host} port {self.port}")

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
        try:
            judge = self._judge()
        except SmtpError:
            self._hang_up()
            raise
        sock, self._sock = self._clear_socket(), None
        try:
            secured = self._sock = tls_handshake(judge.context, sock, judge.server_name, self.deadline)
        except SmtpError as exc:
            raise judge.refused(exc) from exc
        cipher = secured.tls.cipher()
        certificate = secured.tls.getpeercert(binary_form=True) or b""
        self.session = Session(
            secured.tls.version() or "",
            cipher[0] if cipher else "",
            False,
            certificate,
            sent_chain.sent(secured.tls) or (certificate,),
        )
        try:
            self.session = judge.accept(self.session)
        except SmtpError as exc:
            self._hang_up()
            self.transcript.noted(str(exc))
            raise
        verified = "certificate verified" if self.session.verified else "certificate not verified"
        self.transcript.noted(f"{self.session.version}, {self.session.cipher}, {verified}")

    def _judge(self) -> identity.Identity:
        """By what the server has to prove who it is."""
        name = self.trust.server_name or self.host
        if not self._verify:
            return identity.Anybody(self._context(), name)
        if self.trust.fingerprints:
            return identity.Fingerprint(self._context(), name, self.trust.fingerprints)
        if not self.trust.dane:
            return identity.Roots(self._context(), name)
        # Imported here, as in late.py: who does not ask for DANE does not wait for it.
        from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import dane, dane_identity

        policy = dane.look_up(self.host, self.port, self.deadline)
        self.transcript.noted(f"DANE: {policy.detail}")
        return dane_identity.by_records(policy, self.trust, self.host, self._contexts, self._chain_beforehand)

    def _chain_beforehand(self) -> tuple[bytes, ...]:
        """The chain that the server sends, from a connection on which nothing else is said.

        A TLSA record holds only the hash of a CA's certificate, and OpenSSL needs the certificate before the handshake.
        """
        with Client(
            self.host,
            self.port,
            self.tls,
            deadline=self.deadline,
            transcript=Transcript(self.transcript.redactor),
            ehlo_name=self._ehlo_name,
            trust=self.trust,
            route=self.route,
            contexts=self._contexts,
            verify=False,
            addresses=[self.peer] if self.peer else self.addresses,
        ) as client:
            try:
                client.reach_tls()
            except SmtpError as exc:
                exc.stage = self.stage
                raise
            return client.session.chain if client.session else ()

    def reach_tls(self) -> None:
        """Connect and begin to encrypt, as the TLS mode has it; where that is implicit, the greeting is still to come."""
        self.connect()
        if self.tls == "implicit":
            self.handshake()
        else:
            self.greeting()
            self.ehlo()
            self.starttls()

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

    def authenticate(
        self, credentials: Credentials, mechanism: str = "auto", *, allow_unencrypted: bool = False, try_all: bool = False
    ) -> Reply:
        """Log in by *mechanism* (``auto``: the strongest that both ends have), tried exactly once; return the 235.

        Never without the server offering it, and never without encryption and a verified certificate, unless TLS is
        ``none`` and *allow_unencrypted* says that credentials may be seen. With *try_all* (and ``auto``) a refusal is
        followed by the next weaker mechanism, as long as the server talks. :attr:`logins` has all that were tried.
        """
        self.stage = "auth"
        return login.log_in(self, credentials, mechanism, allow_unencrypted=allow_unencrypted, try_all=try_all)

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
        return isinstance(self._sock, TlsSocket)

    # -- for login.py ------------------------------------------------------------------------------------------------

    @property
    def trusted(self) -> bool:
        """Whether the connection is encrypted, and the server proved who it is."""
        return self.encrypted and self.session is not None and self.session.verified

    @property
    def auth_sent(self) -> bool:
        """Whether an AUTH command was sent."""
        return bool(self.logins)

    @property
    def channel_binding(self) -> bytes:
        """The tls-unique of the connection (RFC 5929 section 3); empty without TLS and from TLS 1.3 on, which has none."""
        if isinstance(self._sock, TlsSocket) and self._sock.tls.version() == "TLSv1.2":
            return self._sock.tls.get_channel_binding("tls-unique") or b""
        return b""

    def exchange(self, line: str, shown: str, *, secret: bool = False, begins: str = "") -> Reply:
        """Send one line of an authentication, which *begins* the use of that mechanism; only *shown* is recorded of it.

        A 334 is returned as it came, since a mechanism must read it; any other reply is without credentials.
        """
        self._write(line)
        if begins:
            self.logins.append(login.Login(begins))
        if secret:
            self.transcript.secret(shown)
        else:
            self.transcript.sent(shown)
        reply = self._read_raw()
        if reply.code != 334:
            reply = reply.redacted(self.transcript.redactor)
            self.logins[-1] = self.logins[-1]._replace(reply=reply)
        return reply

    def error(self, kind: str, message: str, **facts: t.Any) -> SmtpError:
        """An error at the current stage."""
        return SmtpError(kind, message, stage=self.stage, **facts)

    def expect(self, reply: Reply, codes: tuple[int, ...], command: str) -> Reply:
        """Return *reply* if it has one of *codes*; raise :class:`SmtpError` otherwise."""
        if reply.code not in codes:
            raise self.error(Kind.REPLY, str(reply), reply=reply, command=command)
        return reply

    # -- bytes -------------------------------------------------------------------------------------------------------

    def _socket(self) -> socket.socket | TlsSocket:
        if self._sock is None:
            raise self.error(Kind.CLOSED, "the connection is closed")
        return self._sock

    def _clear_socket(self) -> socket.socket:
        sock = self._socket()
        if isinstance(sock, TlsSocket):
            raise ValueError("the connection is encrypted already")
        return sock

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
        decided_by_openssl = self._verify and not self.trust.fingerprints
        return self._contexts.verifying(self.trust) if decided_by_openssl else self._contexts.inspecting(self.trust)

    def _address_literal(self) -> str:
        """The own address as RFC 5321 section 4.1.3 writes it, for a host without a proper name."""
        address = str(self._socket().getsockname()[0]).partition("%")[0]
        return f"[IPv6:{address}]" if ":" in address else f"[{address}]"
