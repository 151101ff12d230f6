# SPDX-License-Identifier: GPL-3.0-or-later
"""A name server on loopback that answers by a script, over UDP and TCP on the same port."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import typing as t

HOST = "127.0.0.1"
A, CNAME, SOA, MX, TLSA = 1, 5, 6, 15, 52
AD, TC = 0x0020, 0x0200


def encoded(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"


class Records(t.NamedTuple):
    """An answer: pairs of type and data, for the name that was asked for unless *owner* of the pair is given."""

    records: t.Sequence[t.Tuple[t.Any, ...]] = ()
    authentic: bool = False
    rcode: int = 0
    truncated: bool = False

    def message(self, query: bytes, over_tcp: bool) -> bytes:
        end = query.index(b"\0", 12) + 5
        cut = self.truncated and not over_tcp
        flags = 0x8180 | self.rcode | (AD if self.authentic else 0) | (TC if cut else 0)
        answers = b"" if cut else b"".join(_record(*record) for record in self.records)
        return query[:2] + struct.pack("!5H", flags, 1, 0 if cut else len(self.records), 0, 0) + query[12:end] + answers


def _record(rdtype: int, data: bytes, owner: str = "") -> bytes:
    name = encoded(owner) if owner else b"\xc0\x0c"
    return name + struct.pack("!2HIH", rdtype, 1, 60, len(data)) + data


Script = t.Callable[[str, int, bytes, bool], t.Optional[t.Union[Records, bytes, t.Sequence[bytes]]]]
"""Gets name, type, the whole query and whether it came over TCP; gives the answer, raw messages, or None for silence."""


def _bound_pair() -> t.Tuple[socket.socket, socket.socket]:
    """Sockets for UDP and TCP on one port; one that is free for UDP may be taken for TCP."""
    while True:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        udp.bind((HOST, 0))
        try:
            tcp.bind(udp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
            continue
        return udp, tcp


class NameServer:
    def __init__(self, script: t.Union[Script, t.Mapping[t.Tuple[str, int], Records]]) -> None:
        self._script = script
        self.asked: t.List[t.Tuple[str, int, bool]] = []
        self.queries: t.List[bytes] = []
        self._udp, self._tcp = _bound_pair()
        self.port = self._udp.getsockname()[1]
        self._tcp.listen(8)
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._serve_udp, self._serve_tcp)]

    def __enter__(self) -> NameServer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        for sock in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while True:
            try:
                query, client = self._udp.recvfrom(4096)
            except OSError:
                return
            if not query:
                return
            for message in self._answers(query, over_tcp=False):
                self._udp.sendto(message, client)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _client = self._tcp.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError, struct.error):
                size = struct.unpack("!H", connection.recv(2))[0]
                for message in self._answers(connection.recv(size), over_tcp=True):
                    connection.sendall(struct.pack("!H", len(message)) + message)

    def _answers(self, query: bytes, over_tcp: bool) -> t.Sequence[bytes]:
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        name, rdtype = ".".join(labels), struct.unpack_from("!H", query, at + 1)[0]
        self.asked.append((name, rdtype, over_tcp))
        self.queries.append(query)
        answer = self._script(name, rdtype, query, over_tcp) if callable(self._script) else self._script.get((name, rdtype), Records(rcode=3))
        if isinstance(answer, Records):
            answer = answer.message(query, over_tcp)
        if answer is None:
            return []
        return [answer] if isinstance(answer, bytes) else answer
