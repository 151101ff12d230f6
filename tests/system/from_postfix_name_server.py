# SPDX-License-Identifier: GPL-3.0-or-later
"""A name server on loopback that knows mail exchangers for mx.test, SRV records, nothing of hosts.test, and passes all else on.

Usage: from_postfix_name_server.py ADDRESS
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import sys

HOST = "smtp.provider.test"
RECORDS = {
    ("mx.test", 15): struct.pack("!H", 10),
    **dict.fromkeys([(f"_submission._tcp.{domain}", 33) for domain in ("mx.test", "provider.test")], struct.pack("!HHH", 0, 0, 587)),
}


def name_at(query: bytes, at: int) -> tuple[str, int]:
    labels = []
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    return ".".join(labels).lower(), at + 1


def encoded(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def answer(query: bytes, upstream: str) -> bytes:
    name, end = name_at(query, 12)
    kind = struct.unpack("!H", query[end : end + 2])[0]
    record = RECORDS.get((name, kind))
    if not record and not name.endswith(("mx.test", "hosts.test")):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.sendto(query, (upstream, 53))
            return sock.recv(4096)
    header = query[:2] + struct.pack("!5H", 0x8180, 1, 1 if record else 0, 0, 0)
    data = record + encoded(HOST) if record else b""
    body = struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(data)) + data if record else b""
    return header + query[12 : end + 4] + body


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        query, server = self.request
        # Without an answer from above there is none here, and the client asks again.
        with contextlib.suppress(OSError, IndexError, struct.error):
            server.sendto(answer(query, sys.argv[1]), self.client_address)


def main() -> None:
    socketserver.ThreadingUDPServer(("127.0.0.1", 53), Handler).serve_forever()


if __name__ == "__main__":
    main()
