# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold whatever comes. Each target takes octets and raises AssertionError, or anything else, if it does not hold.

hypothesis (test_fuzz.py) and atheris (fuzz.py) find the octets.
"""

from __future__ import annotations

import datetime
import errno
import json
import socket
import typing as t

from hostile import encodings

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import (
    chain,
    dns,
    login,
    oauth_token,
    proxy,
    sasl,
    sent_chain,
    x509,
)
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import Attempt
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnose import diagnose
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnoses import BY_CODE
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.ehlo import Capabilities
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Alternative, Interception, Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.redact import Redactor
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.refusal import Refusal
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import MAX_LINES, MAX_REPLY, Reply, ReplyError, ReplyParser
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.route import Proxy
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.session import Session
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.transcript import Transcript

USERNAME, PASSWORD = "alerts@provider.test", "Tr0ub4dor&3 kettle/+=%"
NOW = datetime.datetime(2026, 11, 23, tzinfo=datetime.timezone.utc)
KINDS = sorted(value for name, value in vars(Kind).items() if name.isupper())
_REPLY_KINDS = ("malformed", "line_too_long", "reply_too_large")


class Source:
    """Takes values out of *data*; zeros and blanks when it is used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def number(self, limit: int) -> int:
        """From 0 to below *limit*."""
        return int.from_bytes(self.take(1 if limit <= 256 else 2), "big") % limit

    def octets(self, limit: int = 300) -> bytes:
        return self.take(self.number(limit + 1))

    def text(self, limit: int = 20) -> str:
        return self.octets(limit).decode("utf-8", "surrogateescape")

    def choice(self, values: t.Sequence[t.Any]) -> t.Any:
        return values[self.number(len(values))]


# -- replies -----------------------------------------------------------------------------------------------------------


def replies(data: bytes) -> None:
    """The parser gives the same replies however the octets arrive, and raises nothing but ReplyError."""
    whole, whole_failed = _parse([data])
    pieces, pieces_failed = _parse([data[at : at + 7] for at in range(0, len(data), 7)])
    assert whole == pieces and whole_failed == pieces_failed
    for reply in whole:
        assert 200 <= reply.code <= 599 and 1 <= len(reply.lines) <= MAX_LINES
        assert all(line.isprintable() for line in reply.lines) and str(reply).isprintable()
        assert sum(map(len, reply.lines)) <= 10 * MAX_REPLY  # an octet may become an escape
        capabilities = Capabilities(reply)
        assert len(set(capabilities.auth)) == len(capabilities.auth)
        assert all(name.isprintable() and name == name.upper() for name in capabilities.auth)
        assert isinstance(capabilities.starttls, bool) and isinstance(capabilities.starttls_masked, str)


def _parse(chunks: t.Sequence[bytes]) -> t.Tuple[t.List[Reply], bool]:
    parser, found = ReplyParser(), []
    for chunk in chunks:
        parser.feed(chunk)
        try:
            reply = parser.take()
            while reply is not None:
                found.append(reply)
                reply = parser.take()
        except ReplyError as exc:
            assert exc.kind in _REPLY_KINDS and exc.sample.isprintable() and str(exc)
            return found, True
    return found, False


# -- logins ------------------------------------------------------------------------------------------------------------


class Scripted(Client):
    """A client whose server says what *source* has, over a connection that is as good as can be."""

    def __init__(self, source: Source, capabilities: Capabilities) -> None:
        super().__init__("mx.provider.test", 587, "starttls", deadline=Deadline(5))
        self.capabilities = capabilities
        self.said: t.List[str] = []
        self._source = source

    @property
    def trusted(self) -> bool:
        return True

    def exchange(self, line: str, shown: str, *, secret: bool = False, begins: str = "") -> Reply:
        assert "\r" not in line and "\n" not in line and "\0" not in line
        self.said.append(line)
        if begins:
            self.logins.append(login.Login(begins))
        code = self._source.choice((334, 334, 334, 235, 535, 421, 250, 501, 599))
        text = self._source.text(300)
        return Reply(code, [line if line.isprintable() else ascii(line) for line in text.split("\n")[:3]])


def logins(data: bytes) -> None:
    """A login ends with success or SmtpError after few lines, uses one AUTH command, and tells nothing of the password."""
    source = Source(data)
    name = source.choice(list(sasl.MECHANISMS))
    token = name in ("XOAUTH2", "OAUTHBEARER")
    credentials = Credentials(USERNAME, None if token or name == "EXTERNAL" else PASSWORD, "ya29.vF9dft4qmTc2Nv" if token else None)
    client = Scripted(source, Capabilities(Reply(250, ["mx", f"AUTH {name}"])))
    try:
        reply = client.authenticate(credentials, "auto" if source.number(2) else name.lower())
        assert reply.code == 235
    except SmtpError as exc:
        assert exc.kind in KINDS and PASSWORD not in str(exc)
    assert len(client.said) <= 6 and sum(line.startswith("AUTH") for line in client.said) <= 1
    assert PASSWORD not in "\n".join(client.transcript.lines())


def mechanisms(data: bytes) -> None:
    """A mechanism answers a few challenges, whatever they are, and then refuses; only PLAIN and LOGIN send the password."""
    source = Source(data)
    name = source.choice(list(sasl.MECHANISMS))
    credentials = Credentials(USERNAME, PASSWORD, "ya29.vF9dft4qmTc2Nv")
    answers: t.List[bytes] = []
    try:
        mechanism = sasl.MECHANISMS[name](credentials, login.Connection("mx.provider.test", 587, deadline=Deadline(1), binding=b"b" * 12))
        answers.append(mechanism.initial() or b"")
        for _count in range(6):
            answers.append(mechanism.respond(source.octets()))
        raise AssertionError(f"{name} never stops")
    except SmtpError as exc:
        assert exc.kind in KINDS
    if name not in ("PLAIN", "LOGIN"):
        assert not any(PASSWORD.encode() in answer for answer in answers)


def tokens(data: bytes) -> None:
    """Whatever a token is, looking into it raises nothing and tells nothing of its signature."""
    source = Source(data)
    token = source.text(300)
    facts = oauth_token.inspect(token, NOW)
    json.dumps(facts)
    oauth_token.complaints(facts, source.text(), source.choice(("", "microsoft365", "google")))


# -- certificates and names --------------------------------------------------------------------------------------------


def certificates(data: bytes) -> None:
    """A certificate is parsed or is none; explaining chains of them raises nothing."""
    certificate = x509.parse_or_none(data)
    for tls_1_3 in (False, True):
        try:
            sent = sent_chain.certificate_message(data, tls_1_3)
        except ValueError:
            continue
        assert len(sent) <= sent_chain.MAX_CERTIFICATES and sum(map(len, sent)) <= len(data)
    if certificate is None:
        return
    assert all(isinstance(name, str) for name in certificate.names) and certificate.not_after.tzinfo is not None
    for code in (10, 18, 19, 20, 21, 27, 62):
        chain.explain(code, [certificate, certificate], [certificate])
    chain.ordered([certificate, certificate])
    chain.expired([certificate], NOW)


def names(data: bytes) -> None:
    """A message of a name server is read or refused with ValueError, in little time."""
    source = Source(data)
    rdtype = source.choice((dns.A, dns.AAAA, dns.CNAME, dns.MX, dns.SRV, dns.TLSA, 16))
    question = dns._question("mx.provider.test", rdtype)
    message = source.take(12).ljust(12, b"\0") + question + source.take(4000)
    try:
        answer = dns._read(message, question, rdtype, dns.Resolver((dns.Server("127.0.0.1"),), True))
    except ValueError:
        return
    assert len(answer.records) <= dns.MAX_RECORDS and answer.canonical.isprintable()


def proxies(data: bytes) -> None:
    """A proxy connects or SmtpError says why not."""
    source = Source(data)
    kind, with_login = source.choice(("socks5", "http")), source.number(2)
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.sendall(source.take(4000))
        far.shutdown(socket.SHUT_WR)
        by = Proxy(kind, "proxy.test", 1080, "u" if with_login else None, PASSWORD if with_login else None)
        try:
            proxy.connect_through(by, near, "mx.provider.test", 587, Deadline(1), Transcript().show)
        except SmtpError as exc:
            assert exc.kind == Kind.PROXY and exc.reason in ("unreachable", "auth", "refused", "protocol")
            assert str(exc).isprintable() and PASSWORD not in str(exc)


# -- diagnoses ---------------------------------------------------------------------------------------------------------

_STAGES = ("resolve", "connect", "greeting", "ehlo", "starttls", "tls", "ehlo_tls", "auth", "sender", "recipient", "data", "quit", "")
_OUTCOMES = ("connected", "refused", "timeout", "reset", "no_answer", "not_tried", "pending", "not_permitted", "host_unreachable", "failed")
_REASONS = ("", "WRONG_VERSION_NUMBER", "CERTIFICATE_REQUIRED", "expired", "unusable", "mismatch", "auth", "refused", "protocol", "{0}")
_ERRNOS = (None, 0, errno.ECONNRESET, errno.EPIPE, errno.EPERM, socket.EAI_NONAME, socket.EAI_AGAIN, -999)
_VERDICTS = ("clean", "stripped", "terminated_by_proxy", "captive_portal", "tarpit", "filtered", "rejected", "unknown")


def diagnoses(data: bytes) -> None:
    """Whatever was seen, there is a diagnosis of the catalogue, complete and printable."""
    source = Source(data)
    seen = _observation(source)
    show = Transcript().show
    found = diagnose(seen, show)
    assert found["code"] in BY_CODE
    assert found["summary"] and found["remedy"] and all(line.isprintable() for line in [found["summary"], found["remedy"], *found["evidence"]])
    json.dumps(found)


def _attempt(source: Source) -> Attempt:
    attempt = Attempt(Address(socket.AF_INET, ("192.0.2.25", 587)), source.choice(_OUTCOMES))
    attempt.errno, attempt.elapsed_ms = source.choice((None, 111, 1)), source.choice((None, 0, 9000))
    return attempt


def _observation(source: Source) -> Observation:
    def reply() -> t.Optional[Reply]:
        return Reply(200 + source.number(400), [source.text() for _line in range(1 + source.number(3))]) if source.number(2) else None

    def offer() -> t.Optional[Capabilities]:
        found = reply()
        return Capabilities(found) if found else None

    error = SmtpError(
        source.choice(KINDS),
        source.text(),
        stage=source.choice(_STAGES),
        reply=reply(),
        command=source.choice(("", "EHLO", "AUTH PLAIN", "MAIL FROM")),
        errno=source.choice(_ERRNOS),
        sample=source.text(),
        reason=source.choice(_REASONS),
        verify_code=source.choice((None, None, 2, 9, 10, 18, 19, 20, 21, 62, 64, 66, 999)),
    )
    verdict = source.choice((None, *_VERDICTS))
    return Observation(
        source.choice(("mx.provider.test", "smtp.gmail.com", "2001:db8::1", "smtp.office365.com", "{host}")),
        source.choice((25, 465, 587, 2525)),
        source.choice(("implicit", "starttls", "none")),
        source.choice(("auto", "plain", "xoauth2")),
        error=error,
        attempts=[_attempt(source) for _entry in range(source.number(3))],
        greeting=reply(),
        before_tls=offer(),
        after_tls=offer(),
        mechanism=source.choice((None, "PLAIN", "XOAUTH2")),
        provider=source.choice(("", "google", "microsoft365", "no-such-provider")),
        session=Session("TLSv1.3", "TLS_AES_256_GCM_SHA384", bool(source.number(2)), b"") if source.number(2) else None,
        found=source.choice(("", "SMTP in clear text at first")),
        alternatives=[Alternative(465, "implicit", bool(source.number(2)), source.text()) for _entry in range(source.number(3))],
        interception=Interception(verdict, (source.text(),)) if verdict else None,
        blocked_by=[source.text() for _entry in range(source.number(2))],
        refusals=[Refusal("192.0.2.25", source.text(), bool(source.number(2)), source.text(), 5) for _entry in range(source.number(2))],
        web=source.choice(("", "connected", "refused")),
        notes=[source.text() for _entry in range(source.number(2))],
        now=NOW,
    )


# -- secrets -----------------------------------------------------------------------------------------------------------


def secrets(data: bytes) -> None:
    """No encoding of a password gets through, whatever is around it."""
    source = Source(data)
    password = source.octets(64).decode("utf-8", "ignore").replace("\0", "")
    forms = sorted(form for form in encodings(password) - {password[::-1]} if len(form) >= 8)
    if len(set(password)) < 6 or not forms:
        return  # part of other words by chance
    redactor = Redactor()
    redactor.protect(USERNAME, password)
    text = source.text()
    for _count in range(1 + source.number(4)):
        text += source.choice((" ", "", "=", "x")) + source.choice([*forms, source.text()])
    cleaned = redactor.clean(text)
    assert not [form for form in forms if form in cleaned], (password, text, cleaned)


TARGETS: t.Dict[str, t.Callable[[bytes], None]] = {
    target.__name__: target for target in (replies, logins, mechanisms, tokens, certificates, names, proxies, diagnoses, secrets)
}
