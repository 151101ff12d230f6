# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stub resolver for the records that getaddrinfo(3) does not look up (RFC 1035), until a deadline.

It asks the name servers of resolv.conf(5) over UDP, and over TCP where the answer was cut. Whether an answer was
validated by DNSSEC is known only from the name server's word (the AD bit), so that counts only if it can not have been
changed on its way: the name server is on this host, or resolv.conf(5) says ``options trust-ad``.
"""

from __future__ import annotations

import ipaddress
import os
import selectors
import socket
import struct
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import printable
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.tls import wait

RESOLV_CONF = "/etc/resolv.conf"
PATIENCE = 2.0
"""Seconds that are waited for one name server before the next one is asked."""
ROUNDS = 2
MAX_SERVERS = 3
"""Name servers that are used, as in resolv.conf(5)."""
MAX_RECORDS = 200

A, CNAME, SOA, MX, AAAA, SRV, TLSA = 1, 5, 6, 15, 28, 33, 52
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3

_OPT = 41
_IN = 1
_RESPONSE, _TRUNCATED, _RECURSION_DESIRED, _AUTHENTIC = 0x8000, 0x0200, 0x0100, 0x0020
_DNSSEC_OK = 0x8000
_UDP_SIZE = 1232
"""Octets that pass any path without being fragmented."""
_HEADER = struct.Struct("!6H")
_MAX_NAME = 255
_RCODES = {SERVFAIL: "SERVFAIL", NXDOMAIN: "NXDOMAIN", 5: "REFUSED"}


class Server(t.NamedTuple):
    host: str
    port: int = 53


class Resolver(t.NamedTuple):
    """Which name servers are asked, and whether their word about DNSSEC counts (*why_not* says why it does not)."""

    servers: t.Tuple[Server, ...]
    trusted: bool
    why_not: str = ""


class Answer(t.NamedTuple):
    """What a name server says. *records* are the data of the type that was asked for, for the name or its alias.

    * A, AAAA: the address as text; MX: ``(preference, host)``; TLSA: ``(usage, selector, matching type, data)``;
      SRV: ``(priority, weight, port, host)``; other types: the raw data
    * *canonical*: the name at the end of the aliases (CNAME), the one that was asked for if there are none
    * *time_to_live*: seconds for which it may be kept, the least of all its records; None if it has none
    * *authenticated*: DNSSEC proves the answer (also that there are no records), as a resolver says whose word counts
    """

    records: t.Tuple[t.Any, ...]
    authenticated: bool
    rcode: int
    canonical: str
    time_to_live: int | None = None

    @property
    def failed(self) -> bool:
        """Whether it says nothing about the name: also what a validating name server answers for forged data."""
        return self.rcode not in (NOERROR, NXDOMAIN)

    @property
    def status(self) -> str:
        return "NOERROR" if self.rcode == NOERROR else _RCODES.get(self.rcode, f"error {self.rcode}")


def system_resolver(path: str = RESOLV_CONF) -> Resolver:
    """What resolv.conf(5) at *path* says; without it or without a server in it, the one on this host."""
    hosts: list[str] = []
    trust_ad = False
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            lines = stream.read(65536).splitlines()
    except OSError:
        lines = []
    for words in (line.split() for line in lines):
        if len(words) >= 2 and words[0] == "nameserver":
            hosts.append(words[1])
        elif words[:1] == ["options"]:
            trust_ad = trust_ad or "trust-ad" in words[1:]
    servers = tuple(Server(host) for host in hosts[:MAX_SERVERS] or ["127.0.0.1"])
    distant = [server.host for server in servers if not _is_loopback(server.host)]
    if trust_ad or not distant:
        return Resolver(servers, True)
    return Resolver(servers, False, f"name server {distant[0]} is not on this host, and {path} does not say 'options trust-ad'")


def query(name: str, rdtype: int, deadline: Deadline, resolver: Resolver | None = None) -> Answer:
    """Look *name* up, as it is (no search list). Raises :class:`SmtpError` (``resolve``) if nothing answers in time.

    An answer that says that the look-up failed is returned only if all name servers say so.
    """
    resolver = resolver or system_resolver()
    question = _question(name, rdtype)
    answer: Answer | None = None
    problem = ""
    for server in resolver.servers * ROUNDS:
        if deadline.expired:
            break
        try:
            answer = _read(_ask(server, question, deadline.within(PATIENCE)), question, rdtype, resolver)
        except (OSError, ValueError) as exc:
            problem = f" (name server {server.host}: {printable(str(exc))})"
            continue
        if not answer.failed:
            return answer
    if answer is None:
        raise SmtpError(Kind.RESOLVE, f"no answer from the resolver about {name}{problem}", stage="resolve")
    return answer


def mx(name: str, deadline: Deadline, resolver: Resolver | None = None) -> list[tuple[int, str]]:
    """The mail exchangers of a domain, best first; empty if it has none. Raises :class:`SmtpError` (``resolve``)."""
    answer = query(name, MX, deadline, resolver)
    if answer.failed:
        raise SmtpError(Kind.RESOLVE, f"{name}: the name server answers {answer.status}", stage="resolve", errno=socket.EAI_AGAIN)
    return sorted(answer.records)


def srv(service: str, domain: str, deadline: Deadline, resolver: Resolver | None = None) -> list[tuple[int, int, int, str]]:
    """The servers of a TCP service (RFC 2782) as priority, weight, port and host, best first; empty if there are none.

    Raises :class:`SmtpError` (``resolve``).
    """
    return sorted(query(f"_{service}._tcp.{domain}", SRV, deadline, resolver).records, key=lambda record: (record[0], -record[1]))


def tlsa(host: str, port: int, deadline: Deadline, resolver: Resolver | None = None) -> Answer:
    """The TLSA records of *host* for TCP *port* (RFC 6698 section 3)."""
    return query(f"_{port}._tcp.{host}", TLSA, deadline, resolver)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


# -- asking ------------------------------------------------------------------------------------------------------------


def _question(name: str, rdtype: int) -> bytes:
    """The question section for *name*. Raises :class:`SmtpError` (``resolve``) if it can not be a name."""
    labels = []
    try:
        for label in name.rstrip(".").split(".") if name.rstrip(".") else []:
            raw = label.encode("ascii" if label.isascii() else "idna")
            if not 1 <= len(raw) <= 63:
                raise UnicodeError("a label has 1 to 63 octets")
            labels.append(bytes([len(raw)]) + raw)
    except UnicodeError as exc:
        raise SmtpError(Kind.RESOLVE, f"{name} is not a valid host name", stage="resolve", errno=socket.EAI_NONAME) from exc
    encoded = b"".join(labels) + b"\0"
    if len(encoded) > _MAX_NAME:
        raise SmtpError(Kind.RESOLVE, f"{name} is not a valid host name", stage="resolve", errno=socket.EAI_NONAME)
    return encoded + struct.pack("!2H", rdtype, _IN)


def _ask(server: Server, question: bytes, deadline: Deadline) -> bytes:
    """The answer to *question*. Raises OSError, also at *deadline*."""
    identifier = int.from_bytes(os.urandom(2), "big")
    # EDNS0 (RFC 6891). AD asks for the AD bit (RFC 6840 section 5.7); older resolvers give it only to those that set DO.
    header = _HEADER.pack(identifier, _RECURSION_DESIRED | _AUTHENTIC, 1, 0, 0, 1)
    option = b"\0" + struct.pack("!2HIH", _OPT, _UDP_SIZE, _DNSSEC_OK, 0)
    message = header + question + option
    answer = _over_udp(server, message, question, deadline)
    if _HEADER.unpack_from(answer)[1] & _TRUNCATED:
        answer = _over_tcp(server, message, deadline)
        if not _answers(answer, message, question):
            raise ValueError("the answer is not to what was asked")
    return answer


def _answers(answer: bytes, message: bytes, question: bytes) -> bool:
    """Whether *answer* is one to *message*: anything else may come from somebody who guesses (RFC 5452)."""
    if len(answer) < _HEADER.size or answer[:2] != message[:2]:
        return False
    _identifier, flags, questions = struct.unpack_from("!3H", answer)
    asked = answer[_HEADER.size : _HEADER.size + len(question)]
    return bool(flags & _RESPONSE) and questions == 1 and asked.lower() == question.lower()


def _socket(server: Server, kind: int) -> tuple[socket.socket, t.Any]:
    info = socket.getaddrinfo(server.host, server.port, type=kind, flags=socket.AI_NUMERICHOST)[0]
    sock = socket.socket(info[0], kind)
    sock.setblocking(False)
    return sock, info[4]


def _over_udp(server: Server, message: bytes, question: bytes, deadline: Deadline) -> bytes:
    sock, address = _socket(server, socket.SOCK_DGRAM)
    with sock:
        # Connected: the kernel drops what comes from elsewhere and tells when nothing listens there. The port is random.
        sock.connect(address)
        sock.send(message)
        while not deadline.expired and wait(sock, selectors.EVENT_READ, deadline):
            answer = sock.recv(65535)
            if _answers(answer, message, question):
                return answer
    raise OSError("no answer")


def _over_tcp(server: Server, message: bytes, deadline: Deadline) -> bytes:
    sock, address = _socket(server, socket.SOCK_STREAM)
    with sock:
        sock.connect_ex(address)
        if not wait(sock, selectors.EVENT_WRITE, deadline):
            raise OSError("no answer over TCP")
        sock.sendall(struct.pack("!H", len(message)) + message)
        size = struct.unpack("!H", _exactly(sock, 2, deadline))[0]
        return _exactly(sock, size, deadline)


def _exactly(sock: socket.socket, size: int, deadline: Deadline) -> bytes:
    data = b""
    while len(data) < size:
        if deadline.expired or not wait(sock, selectors.EVENT_READ, deadline):
            raise OSError("no answer over TCP")
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise OSError("the connection was closed")
        data += chunk
    return data


# -- reading -----------------------------------------------------------------------------------------------------------


class _Record(t.NamedTuple):
    name: str
    rdtype: int
    time_to_live: int
    at: int
    """Where its data begins in the message."""
    data: bytes


def _read(message: bytes, question: bytes, rdtype: int, resolver: Resolver) -> Answer:
    """What *message* says. Raises ValueError if it is damaged."""
    flags, count = _HEADER.unpack_from(message)[1], _HEADER.unpack_from(message)[3]
    name, _at = _name(question, 0)
    records = _records(message, _HEADER.size + len(question), count)
    for _count in range(len(records)):
        target = next((_name(message, record.at)[0] for record in records if record.rdtype == CNAME and record.name == name), name)
        if target == name or rdtype == CNAME:
            break
        name = target
    return Answer(
        tuple(_data(message, record) for record in records if record.rdtype == rdtype and record.name == name),
        resolver.trusted and bool(flags & _AUTHENTIC),
        flags & 0x000F,
        name,
        min((record.time_to_live for record in records), default=None),
    )


def _records(message: bytes, at: int, count: int) -> list[_Record]:
    records = []
    for _count in range(min(count, MAX_RECORDS)):
        name, at = _name(message, at)
        rdtype, rdclass, time_to_live, size = struct.unpack("!2HIH", _part(message, at, 10))
        at += 10
        if rdclass == _IN:
            records.append(_Record(name, rdtype, time_to_live, at, _part(message, at, size)))
        at += size
    return records


def _part(message: bytes, at: int, size: int) -> bytes:
    if at + size > len(message):
        raise ValueError("the answer is cut short")
    return message[at : at + size]


def _name(message: bytes, at: int) -> tuple[str, int]:
    """The name at *at* in lower case, and where the message goes on. A pointer must lead back, so no loop is endless."""
    labels: list[str] = []
    end, lowest, size = 0, at, 0
    while True:
        length = _part(message, at, 1)[0]
        if length >= 0xC0:
            end = end or at + 2
            at = struct.unpack("!H", _part(message, at, 2))[0] & 0x3FFF
            if at >= lowest:
                raise ValueError("a name points forward")
            lowest = at
            continue
        size += 1 + length
        if length > 63 or size > _MAX_NAME:
            raise ValueError("a name is too long")
        at += 1
        if not length:
            return ".".join(labels).lower(), end or at
        labels.append(printable(_part(message, at, length)))
        at += length


def _data(message: bytes, record: _Record) -> t.Any:
    if record.rdtype in (A, AAAA):
        return str(ipaddress.ip_address(record.data))
    if record.rdtype == MX:
        preference = struct.unpack("!H", _part(record.data, 0, 2))[0]
        return preference, _name(message, record.at + 2)[0]
    if record.rdtype == SRV:
        priority, weight, port = struct.unpack("!HHH", _part(record.data, 0, 6))
        return priority, weight, port, _name(message, record.at + 6)[0]
    if record.rdtype == TLSA:
        usage, selector, matching = _part(record.data, 0, 3)
        return usage, selector, matching, record.data[3:]
    return record.data
