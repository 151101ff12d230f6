# SPDX-License-Identifier: GPL-3.0-or-later
"""SMTP servers for tests on loopback: one that behaves by a script, and certificates of every sort for it.

A server runs one handler per connection in a thread. The handler gets a :class:`Peer`, which sends and receives and
keeps what came. Handlers are plain functions, so a test reads as the dialogue that it is about.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import socket
import ssl
import struct
import subprocess
import threading
import typing as t
from pathlib import Path

HOST = "127.0.0.1"
USERNAME = "alerts@provider.test"
PASSWORD = "Tr0ub4dor&3 kettle/+=%"
AUTH_OFFER = "AUTH PLAIN LOGIN"


class Gone(ConnectionError):
    """The client hung up where a line of it was expected."""


class Peer:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.lines: t.List[bytes] = []
        self.clear_lines: t.List[bytes] = []
        self._buffer = b""

    def send(self, *lines: str) -> None:
        self.connection.sendall("".join(line + "\r\n" for line in lines).encode("utf-8"))

    def send_raw(self, data: bytes) -> None:
        self.connection.sendall(data)

    def line(self) -> bytes:
        """The next line of the client without its end; empty when the client is gone."""
        try:
            return self.response()
        except Gone:
            return b""

    def response(self) -> bytes:
        """The next line of the client without its end, which may be empty. Raises :class:`Gone`."""
        while b"\n" not in self._buffer:
            data = self.connection.recv(65536)
            if not data:
                raise Gone
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        line = line.rstrip(b"\r")
        self.lines.append(line)
        if not isinstance(self.connection, ssl.SSLSocket):
            self.clear_lines.append(line)
        return line

    def exactly(self, count: int) -> bytes:
        """As many octets of the client, whatever they are. Raises :class:`Gone`."""
        while len(self._buffer) < count:
            data = self.connection.recv(65536)
            if not data:
                raise Gone
            self._buffer += data
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def start_tls(self, context: ssl.SSLContext) -> None:
        self.connection = context.wrap_socket(self.connection, server_side=True)

    def reset(self) -> None:
        """Close with an RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def gone(self, seconds: float) -> bool:
        """Whether the client hangs up within some time, in which it says nothing else."""
        self.connection.settimeout(seconds)
        try:
            return not self.connection.recv(65536)
        except socket.timeout:
            return False

    def wait_until_closed(self) -> None:
        """Say nothing until the client hangs up."""
        with contextlib.suppress(OSError):
            while self.connection.recv(65536):
                pass


Handler = t.Callable[[Peer], None]


class Server:
    """Listens on a free loopback port while the ``with`` block runs. Each connection goes to *handler*, in a thread.

    All of 127.0.0.0/8 is loopback, so another *address* with the same *port* makes a host of several addresses.
    """

    def __init__(self, handler: Handler, family: int = socket.AF_INET, address: str = "", port: int = 0) -> None:
        self._handler = handler
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((address or ("::1" if family == socket.AF_INET6 else HOST), port))
        self._listener.listen(64)
        self.port = self._listener.getsockname()[1]
        self.peers: t.List[Peer] = []
        self._last: t.Any = None
        self._threads: t.List[threading.Thread] = []

    def __enter__(self) -> Server:
        accepting = threading.Thread(target=self._accept, daemon=True)
        accepting.start()
        self._threads.append(accepting)
        return self

    def __exit__(self, *_exc: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, address = self._listener.accept()
            except OSError:
                return
            if address == self._last:
                connection.close()
                continue
            peer = Peer(connection)
            self.peers.append(peer)
            thread = threading.Thread(target=self._serve, args=(peer,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _serve(self, peer: Peer) -> None:
        try:
            self._handler(peer)
        except OSError:
            pass  # the client hung up, as many tests want it to
        finally:
            with contextlib.suppress(OSError):
                peer.connection.close()

    # -- what the clients have sent, over all connections --------------------------------------------------------------

    def settle(self) -> None:
        """Wait until all handlers have seen the end of their connections, those included that wait to be accepted."""
        with contextlib.suppress(OSError), socket.socket(self._listener.family, socket.SOCK_STREAM) as last:
            last.settimeout(5)
            last.bind((self._listener.getsockname()[0], 0))
            self._last = last.getsockname()
            last.connect(self._listener.getsockname())
            last.recv(1)  # closed as soon as it is accepted, which is after all others
        for thread in self._threads[1:]:
            thread.join(5)

    @property
    def running(self) -> bool:
        """Whether a handler has not seen the end of its connection yet."""
        return any(thread.is_alive() for thread in self._threads[1:])

    @property
    def lines(self) -> t.List[bytes]:
        return [line for peer in list(self.peers) for line in peer.lines]

    @property
    def auth_attempts(self) -> int:
        return sum(line.upper().startswith(b"AUTH") for line in self.lines)

    @property
    def clear_text(self) -> bytes:
        """Everything that came without encryption."""
        return b"\n".join(line for peer in list(self.peers) for line in peer.clear_lines)


SaslExchange = t.Generator[t.Optional[bytes], bytes, str]
"""Yields challenges, gets responses, returns the final reply. The first challenge is None where the client begins."""


def run_sasl(peer: Peer, words: t.Sequence[str], sasl: t.Mapping[str, t.Callable[[Peer], SaslExchange]]) -> str:
    """The reply to the AUTH command of *words*, after the whole exchange."""
    if words[1] not in sasl:
        return "504 5.5.4 Unrecognized authentication type"
    exchange = sasl[words[1]](peer)
    try:
        challenge = next(exchange)
        if challenge is None and len(words) > 2:
            challenge = exchange.send(b"" if words[2] == "=" else base64.b64decode(words[2], validate=True))
        while True:
            peer.send("334 " + base64.b64encode(challenge or b"").decode())
            line = peer.response()
            if line == b"*":
                return "501 5.7.0 Authentication aborted"
            challenge = exchange.send(base64.b64decode(line, validate=True))
    except StopIteration as end:
        return str(end.value)


def conversation(
    *,
    tls: str = "none",
    context: t.Optional[ssl.SSLContext] = None,
    greeting: t.Sequence[str] = ("220 mx.provider.test ESMTP",),
    offer: t.Sequence[str] = ("SIZE 1000000", "STARTTLS"),
    offer_tls: t.Sequence[str] = (AUTH_OFFER,),
    replies: t.Optional[t.Mapping[str, t.Union[str, t.Sequence[str], Handler]]] = None,
    sasl: t.Optional[t.Mapping[str, t.Callable[[Peer], SaslExchange]]] = None,
) -> Handler:
    """A server that behaves well but for what is given.

    *replies* maps a verb (or ``LOGIN1``, ``LOGIN2``, ``EHLO_TLS``) to the reply for it, or to a handler that does
    whatever it likes instead, after which the connection is closed. *sasl* has the server's side of mechanisms (see
    sasl_server.py), for those that are not to be PLAIN and LOGIN with the account above.
    """
    special = dict(replies or {})

    def answer(peer: Peer, verb: str, *default: str) -> bool:
        reply = special.get(verb)
        if reply is None:
            peer.send(*default)
        elif callable(reply):
            reply(peer)
            return False
        else:
            peer.send(*([reply] if isinstance(reply, str) else reply))
        return True

    def say_hello(peer: Peer) -> bool:
        encrypted = isinstance(peer.connection, ssl.SSLSocket)
        lines = ["mx.provider.test", *(offer_tls if encrypted else offer)]
        reply = [f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"]
        return answer(peer, "EHLO_TLS" if encrypted else "EHLO", *reply)

    def authenticate(peer: Peer, line: str) -> bool:
        words = line.split()
        if "AUTH" in special:
            return answer(peer, "AUTH")
        if sasl is not None:
            peer.send(run_sasl(peer, words, sasl))
            return True
        if words[1] == "LOGIN":
            if not answer(peer, "LOGIN1", "334 VXNlcm5hbWU6"):
                return False
            username = peer.response()
            if not answer(peer, "LOGIN2", "334 UGFzc3dvcmQ6"):
                return False
            return check(peer, base64.b64decode(username), base64.b64decode(peer.response()))
        if len(words) < 3:
            peer.send("334 ")
        blob = words[2] if len(words) > 2 else peer.response().decode()
        _identity, username, password = base64.b64decode(blob).split(b"\0")
        return check(peer, username, password)

    def check(peer: Peer, username: bytes, password: bytes) -> bool:
        if (username, password) == (USERNAME.encode(), PASSWORD.encode()):
            peer.send("235 2.7.0 Authentication successful")
        else:
            peer.send("535 5.7.8 Error: authentication failed")
        return True

    def handle(peer: Peer) -> None:
        if tls == "implicit" and context is not None:
            peer.start_tls(context)
        peer.send(*greeting)
        going = True
        while going:
            line = peer.line().decode("utf-8", "replace")
            verb = line.split(" ")[0].upper()
            if not line:
                return
            if verb == "EHLO":
                going = say_hello(peer)
            elif verb == "STARTTLS":
                going = answer(peer, verb, "220 2.0.0 Ready to start TLS")
                if going and context is not None and verb not in special:
                    peer.start_tls(context)
            elif verb == "AUTH":
                going = authenticate(peer, line)
            elif verb == "QUIT":
                answer(peer, verb, "221 2.0.0 Bye")
                return
            else:
                going = answer(peer, verb, "250 2.0.0 Ok")

    return handle


# -- certificates ------------------------------------------------------------------------------------------------------


class Certificates:
    """A CA and certificates made by openssl(1) in *directory*, each when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: t.Set[str] = set()
        self._openssl("req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-days", "3650", "-subj", "/CN=Test CA")
        (directory / "index.txt").touch()
        (directory / "ca.cnf").write_text(
            "[ca]\ndefault_ca=any\n[any]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\n"
            "default_md=sha256\npolicy=policy\nunique_subject=no\ncopy_extensions=copy\n"
            "[policy]\norganizationName=optional\ncommonName=optional\n"
        )

    @property
    def ca_file(self) -> str:
        return str(self._directory / "ca.pem")

    def unrelated_root(self) -> str:
        """Path of a root that has signed nothing."""
        if "unrelated" not in self._made:
            self._openssl("req", "-x509", *_NEW_KEY, "-keyout", "unrelated.key", "-out", "unrelated.pem", "-subj", "/CN=Unrelated")
            self._made.add("unrelated")
        return str(self._directory / "unrelated.pem")

    def good(self) -> ssl.SSLContext:
        return self._context(self._signed("good", "DNS:localhost,IP:127.0.0.1"))

    def wrong_name(self) -> ssl.SSLContext:
        return self._context(self._signed("other", "DNS:mail.provider.test,DNS:smtp.provider.test"))

    def expired(self) -> ssl.SSLContext:
        return self._context(self._signed("expired", "DNS:localhost,IP:127.0.0.1", start=-20, end=-10))

    def not_yet_valid(self) -> ssl.SSLContext:
        return self._context(self._signed("early", "DNS:localhost,IP:127.0.0.1", start=10, end=20))

    def self_signed(self) -> ssl.SSLContext:
        if "self" not in self._made:
            self._openssl(
                "req", "-x509", *_NEW_KEY, "-keyout", "self.key", "-out", "self.pem", "-subj", "/CN=localhost",
                "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
            )  # fmt: skip
            self._made.add("self")
        return self._context("self")

    def private_chain(self) -> ssl.SSLContext:
        """A good certificate that is sent together with its root."""
        name = self._signed("good", "DNS:localhost,IP:127.0.0.1")
        chain = self._directory / "chain.pem"
        chain.write_text((self._directory / f"{name}.pem").read_text() + (self._directory / "ca.pem").read_text())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(chain), str(self._directory / f"{name}.key"))
        return context

    def client(self) -> str:
        """Path of a certificate that a client may show, with its key."""
        name = self._signed("client", "DNS:client.example.org")
        both = self._directory / "client-both.pem"
        both.write_text((self._directory / f"{name}.pem").read_text() + (self._directory / f"{name}.key").read_text())
        return str(both)

    def der(self, subject: str, names: str, days: int = 30) -> bytes:
        """A certificate for *subject* (as openssl -subj) and *names* (as subjectAltName, or none), in DER."""
        extra = ["-addext", f"subjectAltName={names}"] if names else []
        form = ("-utf8", "-outform", "DER", "-out", "x.der", "-days", str(days))
        self._openssl("req", "-x509", *_NEW_KEY, *form, "-keyout", "x.key", "-subj", subject, *extra)
        return (self._directory / "x.der").read_bytes()

    def _signed(self, name: str, names: str, start: int = -1, end: int = 90) -> str:
        """Make the certificate *name* for *names*, valid from *start* to *end* days from now."""
        if name not in self._made:
            self._openssl(
                "req", *_NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/O=Provider/CN={name}",
                "-addext", f"subjectAltName={names}",
            )  # fmt: skip
            self._openssl(
                "ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key", "-in", f"{name}.csr",
                "-out", f"{name}.pem", "-startdate", _utc(start), "-enddate", _utc(end),
            )  # fmt: skip
            self._made.add(name)
        return name

    def _context(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(self._directory / f"{name}.pem"), str(self._directory / f"{name}.key"))
        return context

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=str(self._directory), check=True, capture_output=True, timeout=60)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _utc(days: int) -> str:
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    return moment.strftime("%Y%m%d%H%M%SZ")
