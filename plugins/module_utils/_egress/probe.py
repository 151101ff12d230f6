# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""What only trying can tell: whether an address has a route, and whether a packet really gets past all other rules."""

from __future__ import annotations

import ipaddress
import os
import pwd
import signal
import socket
import typing as t

#: Seconds after which the kernel ends a child that should have taken none.
DEADLINE = 5


def outside(address: str) -> bool:
    """Whether this host has a route to an address that leads out of it, so that firewalls see more than loopback.

    Connecting a UDP socket looks the route up and sends nothing.
    """
    try:
        with socket.socket(_family(address), socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return not ipaddress.ip_address(address).is_loopback and probe.getsockname()[0] != address
    except OSError:
        return False


def leaves(address: str, port: int, uid: int, counter: t.Callable[[], int]) -> bool:
    """Whether a SYN of user `uid` to the address passes every other output chain and reaches our own, which is the last.

    The kernel runs those chains inside connect(2), so the counter has moved, or not, when the call returns; nothing is
    waited for, and what the network does with the packet does not matter. The connection is given up at once.
    """
    before = counter()
    send_syn(address, port, uid)
    return counter() > before


def send_syn(address: str, port: int, uid: int) -> None:
    """Begin a connection as user `uid`, and give it up at once. Another user than that of this process needs root.

    Raises KeyError for a user that does not exist.
    """
    if uid == os.geteuid():
        _begin(address, port)
        return
    user = pwd.getpwuid(uid)
    child = os.fork()
    if child == 0:
        _send_syn_as(address, port, user)
    os.waitpid(child, 0)


def _send_syn_as(address: str, port: int, user: pwd.struct_passwd) -> t.NoReturn:
    """In a child process. The user is changed before the socket is made, since a socket keeps the user who made it.

    Only system calls are made: a resolver thread may have held a lock of the C library when the process was forked.
    """
    try:
        signal.alarm(DEADLINE)
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        _begin(address, port)
    finally:
        os._exit(0)


def _begin(address: str, port: int) -> None:
    with socket.socket(_family(address), socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        probe.connect_ex((address, port))


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
