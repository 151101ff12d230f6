# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server says: replies, whole dialogues with a login, and the exchanges of every SASL mechanism."""

from __future__ import annotations

import base64
import re
import selectors
import socket
import typing as t

import sasl_server
from hostile import encodings
from smtp_server import PASSWORD, USERNAME, Peer
from source import Source

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import permission
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.ehlo import Capabilities
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import MAX_LINES, MAX_REPLY, Reply, ReplyError, ReplyParser
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl import login, sasl
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials

KINDS = sorted(value for name, value in vars(Kind).items() if name.isupper())
_FORMS = encodings(PASSWORD) - {PASSWORD[::-1]}
_UNPARSABLE = ("malformed", "line_too_long", "reply_too_large")
_CHUNK = 1024

# -- replies -----------------------------------------------------------------------------------------------------------


def replies(data: bytes) -> None:
    """The parser gives the same replies however the octets arrive, raises nothing but ReplyError, and keeps little."""
    source = Source(data)
    sizes = [1 + source.number(_CHUNK) for _count in range(3)]
    text = source.take(len(data))
    whole = _parse([text])
    assert _parse(_cut(text, sizes)) == whole == _parse(_cut(text, [1]))
    for reply in whole[0]:
        assert 200 <= reply.code <= 599 and 1 <= len(reply.lines) <= MAX_LINES
        assert all(line.isprintable() for line in reply.lines) and str(reply).isprintable()
        assert sum(map(len, reply.lines)) <= 4 * MAX_REPLY  # an octet may become an escape of four characters
        _check_capabilities(reply)


def _cut(text: bytes, sizes: t.Sequence[int]) -> t.List[bytes]:
    chunks: t.List[bytes] = []
    at = 0
    while at < len(text):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(text[at : at + size])
        at += size
    return chunks


def _parse(chunks: t.Sequence[bytes]) -> t.Tuple[t.List[Reply], str]:
    """The replies, and the kind of the error that ended them."""
    parser, found = ReplyParser(), []
    for chunk in chunks:
        parser.feed(chunk)
        try:
            reply = parser.take()
            while reply is not None:
                found.append(reply)
                reply = parser.take()
        except ReplyError as exc:
            assert exc.kind in _UNPARSABLE and exc.sample.isprintable() and str(exc)
            return found, exc.kind
        assert len(parser.pending) <= MAX_REPLY
    return found, ""


def _check_capabilities(reply: Reply) -> None:
    capabilities = Capabilities(reply)
    assert len(set(capabilities.auth)) == len(capabilities.auth)
    assert all(name.isprintable() and name == name.upper() and name.split() == [name] for name in capabilities.auth)
    assert not capabilities.auth or "auth" in capabilities
    said = " ".join(reply.lines[1:]).upper()
    assert all(name in said for name in capabilities.auth)
    assert capabilities.starttls == any(line.upper().split()[:1] == ["STARTTLS"] for line in reply.lines[1:])
    assert capabilities.starttls_masked in said


# -- mechanisms --------------------------------------------------------------------------------------------------------

_HOST = "127.0.0.1"
_BINDING = b"b" * 12
_ROUNDS = (b"1", b"64", b"4096", b"20001", b"10000001", b"9999999999", b"99999999999", b"0", b"-1")
_MAX_ROUNDS, _UNNOTICED = 10_000_000, 20_000
_TURNS = 6
_IDENTITY = f"n,a={USERNAME},\x01host={_HOST}\x01port=587\x01"
_BEARER = f"auth=Bearer {sasl_server.TOKEN}\x01\x01"
_HONEST: t.Dict[str, sasl_server.Make] = {
    "PLAIN": sasl_server.plain,
    "LOGIN": sasl_server.login,
    "EXTERNAL": sasl_server.external,
    "CRAM-MD5": sasl_server.cram_md5,
    "DIGEST-MD5": sasl_server.digest_md5(),
    "SCRAM-SHA-1": sasl_server.Scram("sha1"),
    "SCRAM-SHA-256": sasl_server.Scram(),
    "OAUTHBEARER": sasl_server.bearer((_IDENTITY + _BEARER).encode(), b"\x01"),
    "XOAUTH2": sasl_server.bearer(f"user={USERNAME}\x01{_BEARER}".encode(), b""),
}
"""Servers that know password and token. They assert what a client must send."""
_PROVING = ("DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS")
"""Mechanisms by which the server proves with its second challenge that it knows the password."""


class SaslServer:
    """The server's side of an exchange: honest until *source* has it say something else."""

    def __init__(self, source: Source, name: str) -> None:
        self._source = source
        self._exchange = _HONEST[name](t.cast(Peer, None)) if name in _HONEST else None
        self._opening = next(self._exchange) if self._exchange else None
        self.honest = self._exchange is not None
        self.spoken = 0
        self.accepts = False

    def challenge(self, answer: t.Optional[bytes]) -> bytes:
        """What to say to *answer*, None before there is any. An honest server may accept or refuse instead."""
        said = self._next(answer) if self.honest and self._source.number(6) else None
        if said is None and not self.accepts:
            self.honest = False
            return self._hostile(answer or b"")
        self.spoken += 1
        return said or b""

    def _next(self, answer: t.Optional[bytes]) -> t.Optional[bytes]:
        assert self._exchange is not None
        if answer is None:
            return self._opening
        try:
            return self._exchange.send(answer)
        except StopIteration as stop:
            self.accepts = stop.value.startswith("235")
            return None

    def _hostile(self, answer: bytes) -> bytes:
        source = self._source
        nonce = re.search(rb"r=([^,]*)", answer)
        if nonce and source.number(4):
            salt = base64.b64encode(source.octets(20))
            return b"r=" + nonce.group(1) + b"x" + source.octets(5) + b",s=" + salt + b",i=" + source.choice(_ROUNDS) + source.octets(5)
        beginnings = (b"", b"Username:", b"Password:", b"v=", b"rspauth=", b"e=other-error", b'nonce="x",algorithm=md5-sess,')
        return source.choice(beginnings) + source.octets()


def mechanisms(data: bytes) -> None:
    """A mechanism answers few challenges, whatever they are, sends the password as it may only, and believes only proof."""
    source = Source(data)
    name = source.choice(list(sasl.MECHANISMS))
    binding = _BINDING if name.endswith("-PLUS") or source.boolean() else b""
    deadline = Deadline(0) if source.boolean() else None
    server = SaslServer(source, name)
    answers: t.List[bytes] = []
    try:
        connection = login.Connection(_HOST, 587, binding=binding, binding_offered=name.endswith("-PLUS"), deadline=deadline)
        mechanism = sasl.MECHANISMS[name](Credentials(USERNAME, PASSWORD, sasl_server.TOKEN), connection)
        answer = mechanism.initial()
        answers += [] if answer is None else [answer]
        for _turn in range(_TURNS):
            challenge = server.challenge(answer) if source.number(8) else None
            if challenge is None or server.accepts:
                _check_acceptance(mechanism, name, server)
                break
            answer = mechanism.respond(challenge)
            answers.append(answer)
            _check_rounds(name, challenge, answer, deadline)
            _check_prompt(name, challenge, answer)
        else:
            raise AssertionError(f"{name} never stops")
    except SmtpError as exc:
        assert exc.kind in KINDS and not server.accepts
        assert not _forms_in(str(exc))
    _check_answers(name, answers)


def _check_acceptance(mechanism: t.Any, name: str, server: SaslServer) -> None:
    mechanism.finish()
    assert mechanism.complete and not mechanism.problem
    assert name not in _PROVING or server.spoken >= 2, "it believes a server that has proved nothing"


def _check_rounds(name: str, challenge: bytes, answer: bytes, deadline: t.Optional[Deadline]) -> None:
    demanded = re.search(rb",i=([0-9]+)", challenge)
    if name.startswith("SCRAM") and b",p=" in answer:
        assert demanded and 1 <= int(demanded.group(1)) <= (_UNNOTICED if deadline else _MAX_ROUNDS)


def _check_prompt(name: str, challenge: bytes, answer: bytes) -> None:
    if name == "LOGIN" and challenge.strip().lower().startswith(b"user"):
        assert answer != PASSWORD.encode()


def _check_answers(name: str, answers: t.List[bytes]) -> None:
    username, password = USERNAME.encode(), PASSWORD.encode()
    if name == "LOGIN":
        assert answers == [username, password][: len(answers)]
    elif name == "PLAIN":
        assert answers == [b"\0" + username + b"\0" + password]
    else:
        assert not _forms_in(b"\n".join(answers).decode("latin-1"))


def _forms_in(text: str) -> t.List[str]:
    return sorted(form for form in _FORMS if form in text)


# -- dialogues ---------------------------------------------------------------------------------------------------------

_MAX_SENT = 60
_SAID = (
    *(b"250 ok\r\n", b"220 mx ESMTP\r\n", b"235 2.7.0 ok\r\n", b"334 \r\n", b"334 VXNlcm5hbWU6\r\n", b"251 2.1.5 elsewhere\r\n"),
    *(b"421 4.3.2 busy\r\n", b"504 5.5.4 unknown\r\n", b"535 5.7.8 no\r\n", b"550-5.7.1 no\r\n550 5.7.1 never\r\n", b""),
)


class Scripted(Client):
    """A client on a real socket, whose server speaks whenever it has sent a line. It never waits for more."""

    def __init__(self, source: Source, near: socket.socket, far: socket.socket) -> None:
        tls = source.choice(("starttls", "none"))
        super().__init__(_HOST, 587, tls, deadline=Deadline(5), ehlo_name="client.example.org")
        near.setblocking(False)
        self._sock = near
        self._far = far
        self._source = source
        self._secured = tls == "starttls" and source.number(4) > 0
        self._server: t.Optional[SaslServer] = None
        self.lines: t.List[bytes] = []
        self.accepted = False
        self._say(b"220 mx ESMTP\r\n" if source.number(8) else source.octets())

    @property
    def trusted(self) -> bool:
        return self._secured

    def _send(self, data: bytes) -> None:
        super()._send(data)
        for line in data.splitlines():
            self.lines.append(line)
            self._say(self._reply(line) if self._source.number(8) else self._source.octets())

    def _wait(self, event: int) -> None:
        if event == selectors.EVENT_READ:
            self.deadline = Deadline(0)
        super()._wait(event)

    def _say(self, reply: bytes) -> None:
        self.accepted = self.accepted or b"235" in reply
        self._far.sendall(reply)

    def _reply(self, line: bytes) -> bytes:
        words = line.split()
        if words[:1] and words[0] in (b"MAIL", b"RCPT", b"RSET", b"QUIT"):
            self._server = None
        if words[:1] == [b"EHLO"]:
            offer = " ".join(self._source.some(lambda: self._source.choice(list(sasl.MECHANISMS)), 4)).encode()
            return b"250-mx\r\n250-PIPELINING\r\n250 AUTH " + offer + b"\r\n"
        if words[:1] == [b"AUTH"]:
            self._server = SaslServer(self._source, words[1].decode())
            return self._exchange(words[2] if len(words) > 2 else None)
        if self._server is not None and line != b"*":
            return self._exchange(line)
        return self._source.choice(_SAID)

    def _exchange(self, answer: t.Optional[bytes]) -> bytes:
        assert self._server is not None
        if not self._source.number(4):
            return self._echo()
        challenge = self._server.challenge(None if answer is None else base64.b64decode(answer.replace(b"=", b"", answer == b"=")))
        if self._server.accepts:
            return b"235 2.7.0 ok\r\n"
        return b"334 " + base64.b64encode(challenge) + b"\r\n"

    def _echo(self) -> bytes:
        """Refuse, and quote what was sent, whole or in two pieces."""
        text = b"".join(self.lines[-2:])[self._source.number(40) :]
        at = self._source.number(60)
        return b"535-5.7.8 " + text[:at] + b"\r\n535 5.7.8 " + text[at:900] + b"\r\n"


def dialogues(data: bytes) -> None:
    """A dialogue ends soon with success or SmtpError; credentials go only where and as they may, and are told nowhere."""
    source = Source(data)
    near, far = socket.socketpair()
    with near, far:
        client = Scripted(source, near, far)
        wanted = source.choice(("auto", "auto", *(name.lower() for name in sasl.MECHANISMS)))
        by_token, allowed, try_all = source.boolean(), source.boolean(), source.boolean()
        credentials = Credentials(USERNAME, None if by_token else PASSWORD, sasl_server.TOKEN if by_token else None)
        told: t.List[t.Any] = []
        try:
            client.greeting()
            client.ehlo()
            reply = client.authenticate(credentials, wanted, allow_unencrypted=allowed, try_all=try_all)
            assert reply.code == 235 and client.accepted
            permission.check(client, "alerts@provider.test", "ops@provider.test", {})
            client.quit()
        except SmtpError as exc:
            assert exc.kind in KINDS and exc.stage and str(exc).isprintable()
            told = [exc, exc.sample, exc.reason, exc.reply]
        client.close()
    _check_sent(client, allowed, try_all)
    lines = client.transcript.lines()
    assert all(line.isprintable() for line in lines)
    told += [*lines, *(attempt.reply for attempt in client.logins)]
    assert not _forms_in("\n".join(map(str, told))), told


def _check_sent(client: Scripted, allowed: bool, try_all: bool) -> None:
    logins = [line.split()[1].decode() for line in client.lines if line.startswith(b"AUTH ")]
    assert len(client.lines) <= _MAX_SENT
    assert len(logins) <= (len(sasl.MECHANISMS) if try_all else 1) and len(set(logins)) == len(logins)
    assert logins == [attempt.mechanism for attempt in client.logins]
    assert client.trusted or (allowed and client.tls == "none") or not logins, "credentials over an unprotected connection"
    assert not logins or (client.capabilities is not None and set(logins) <= set(client.capabilities.auth))
    if not {"PLAIN", "LOGIN"} & set(logins):
        assert not _forms_in(b"\n".join(map(_decoded, client.lines)).decode("latin-1"))


def _decoded(line: bytes) -> bytes:
    """The line, and what it is the base64 of."""
    try:
        return line + b"\n" + base64.b64decode(line.rpartition(b" ")[2], validate=True)
    except ValueError:
        return line
