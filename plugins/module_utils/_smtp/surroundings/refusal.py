# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who answers a connection with an error: the host by a reset, or a router or firewall by ICMP.

Linux keeps the ICMP error, and who sent it, in the error queue of a socket that asked for it (IP_RECVERR in ip(7); for
a TCP connection that is being opened from Linux 5.8 on). No privilege is needed.
"""

from __future__ import annotations

import errno
import ipaddress
import selectors
import socket
import struct
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address

_IP_RECVERR, _IPV6_RECVERR = 11, 25  # linux/in.h and linux/in6.h; the socket module has no names for them
_MSG_ERRQUEUE = 0x2000
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
"""struct sock_extended_err of linux/errqueue.h: errno, origin, type, code, padding, info, data; the sender follows."""
_FROM_ICMP = (2, 3)
"""SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6"""
_SENDER_AT = {4: (_EXTENDED_ERROR.size + 4, 4), 6: (_EXTENDED_ERROR.size + 8, 16)}
"""Where the address is in the sender's sockaddr_in or sockaddr_in6, and its length."""

_MEANINGS = {
    (2, 3, 0): "network unreachable",
    (2, 3, 1): "host unreachable",
    (2, 3, 3): "port unreachable",
    (2, 3, 6): "network unknown",
    (2, 3, 7): "host unknown",
    (2, 3, 9): "network administratively prohibited",
    (2, 3, 10): "host administratively prohibited",
    (2, 3, 13): "communication administratively prohibited",
    (3, 1, 0): "no route",
    (3, 1, 1): "communication administratively prohibited",
    (3, 1, 3): "address unreachable",
    (3, 1, 4): "port unreachable",
    (3, 1, 5): "source address failed policy",
    (3, 1, 6): "route rejected",
}
"""By origin, ICMP type and code: RFC 792, RFC 1812 section 5.2.7.1, RFC 4443 section 3.1."""


_NEIGHBOUR = ("host unreachable", "address unreachable")
_NEIGHBOUR_MS = 1000
"""The kernel asks a neighbour three times, a second apart, before it gives up (arp(7)); a rule answers at once."""


class Refusal(t.NamedTuple):
    """*by* is who sent the ICMP error *meaning*; both are empty where a TCP reset was the answer. *own*: it was this host."""

    address: str
    by: str
    own: bool
    meaning: str
    elapsed_ms: int
    remark: str = ""

    @property
    def is_neighbour_missing(self) -> bool:
        """Whether this host says so because the next hop does not answer: nobody refuses anything then."""
        return self.own and self.meaning in _NEIGHBOUR and self.elapsed_ms >= _NEIGHBOUR_MS

    @property
    def is_own_rule(self) -> bool:
        """Whether the firewall of this host rejects the connection: it can be nobody else, and no rule need be read."""
        return self.own and not self.is_neighbour_missing

    def __str__(self) -> str:
        if not self.by:
            return f"{self.address}: a TCP reset after {self.elapsed_ms} ms{self.remark}"
        who = "this server itself" if self.own else self.by
        return f"{self.address}: ICMP {self.meaning}, sent by {who} after {self.elapsed_ms} ms"


def ask(address: Address, deadline: Deadline, source_address: str | None = None) -> Refusal | None:
    """Connect once more, and return who refuses; None if it is not refused (any more), or nobody answers in time."""
    started = time.monotonic()
    try:
        with socket.socket(address.family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            if address.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            if source_address:
                sock.bind((source_address, 0))
            sock.connect_ex(address.sockaddr)
            with selectors.DefaultSelector() as selector:
                selector.register(sock, selectors.EVENT_WRITE)
                if not selector.select(deadline.remaining()):
                    return None
            elapsed_ms = round((time.monotonic() - started) * 1000)
            by, meaning = error_queue(sock)
            if not by and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != errno.ECONNREFUSED:
                return None
    except OSError:
        return None  # such as a source address that is gone: this attempt can tell nothing
    return Refusal(address.host, by, bool(by) and is_own(by), meaning, elapsed_ms)


def error_queue(sock: socket.socket) -> tuple[str, str]:
    """Sender and meaning of the ICMP error that *sock* met; empty if it met none."""
    try:
        _data, messages, _flags, _peer = sock.recvmsg(1, 512, _MSG_ERRQUEUE)
    except OSError:
        return "", ""
    for _level, kind, content in messages:
        if kind in (_IP_RECVERR, _IPV6_RECVERR) and len(content) >= _EXTENDED_ERROR.size:
            _error, origin, icmp_type, code = _EXTENDED_ERROR.unpack_from(content)[:4]
            if origin in _FROM_ICMP:
                at, size = _SENDER_AT[4 if origin == 2 else 6]
                meaning = _MEANINGS.get((origin, icmp_type, code), f"type {icmp_type} code {code}")
                return str(ipaddress.ip_address(content[at : at + size])), meaning
    return "", ""


def is_own(address: str) -> bool:
    """Whether *address* is one of this host's: the way to it begins there, too. Connecting a UDP socket sends nothing."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((address, 9))
            return bool(sock.getsockname()[0] == address)
    except OSError:
        return False
