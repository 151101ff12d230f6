# SPDX-License-Identifier: GPL-3.0-or-later
"""What name servers and proxies answer."""

from __future__ import annotations

import ipaddress
import socket

from hostile import encodings
from smtp_server import PASSWORD
from source import Source

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import dns, proxy
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.route import Proxy
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.transcript import Transcript

_FORMS = encodings(PASSWORD)
_SERVERS = (dns.Server("127.0.0.1"),)


def names(data: bytes) -> None:
    """A message of a name server is read or refused with ValueError, and is believed only where it may be."""
    source = Source(data)
    rdtype = source.choice((dns.A, dns.AAAA, dns.CNAME, dns.MX, dns.SRV, dns.TLSA, 16))
    trusted = source.boolean()
    question = dns._question("mx.provider.test", rdtype)
    message = source.take(12).ljust(12, b"\0") + question + source.take(4000)
    try:
        answer = dns._read(message, question, rdtype, dns.Resolver(_SERVERS, trusted))
    except ValueError:
        return
    assert len(answer.records) <= dns.MAX_RECORDS and answer.canonical.isprintable() and len(answer.canonical) <= 4 * 255
    assert trusted or not answer.authenticated
    assert answer.status.isprintable()
    for record in answer.records:
        if rdtype in (dns.A, dns.AAAA):
            ipaddress.ip_address(record)
        elif rdtype in (dns.MX, dns.SRV):
            assert all(0 <= number <= 65535 for number in record[:-1]) and record[-1].isprintable()


def proxies(data: bytes) -> None:
    """A proxy connects or SmtpError says why not; what follows its answer is left for the server's reader."""
    source = Source(data)
    kind, with_login = source.choice(("socks5", "http")), source.boolean()
    answer = source.take(4000)
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.sendall(answer)
        far.shutdown(socket.SHUT_WR)
        by = Proxy(kind, "proxy.test", 1080, "u" if with_login else None, PASSWORD if with_login else None)
        transcript = Transcript()
        transcript.redactor.protect(by.username, by.password)
        try:
            proxy.connect_through(by, near, "mx.provider.test", 587, Deadline(1), transcript.show)
        except SmtpError as exc:
            assert exc.kind == Kind.PROXY and exc.reason in ("auth", "refused", "protocol") and exc.stage == "connect"
            assert str(exc).isprintable() and not any(form in str(exc) for form in _FORMS)
            return
        assert near.recv(4096) == (_after_socks(answer) if kind == "socks5" else _after_http(answer))


def _after_socks(answer: bytes) -> bytes:
    """RFC 1928 sections 3 and 6, RFC 1929 section 2."""
    at = 4 if answer[1] == 2 else 2
    assert answer[at : at + 2] == b"\5\0", "the proxy did not say that it is connected"
    size = {1: 4, 3: 1 + answer[at + 4], 4: 16}[answer[at + 3]]
    return answer[at + 4 + size + 2 :]


def _after_http(answer: bytes) -> bytes:
    assert answer[:10].startswith(b"HTTP/1.") and answer[9:10] == b"2", "the proxy did not say that it is connected"
    ends = [answer.find(end) + len(end) for end in (b"\r\n\r\n", b"\n\n") if end in answer]
    return answer[min(ends) :]
