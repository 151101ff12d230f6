# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""What only trying can tell: whether an address has a route, and whether a packet really gets past all other rules."""

from __future__ import annotations

import os
import pwd
import socket
import typing as t


def routable(address: str) -> bool:
    """Whether this host has a route to an address. Connecting a UDP socket looks the route up and sends nothing."""
    try:
        with socket.socket(_family(address), socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError:
        return False
    return True


def leaves(address: str, port: int, uid: int, counter: t.Callable[[], int]) -> bool:
    """Whether a SYN of user `uid` to the address passes every other output chain and reaches our own, which is the last.

    The kernel runs those chains inside connect(2), so the counter has moved, or not, when the call returns; nothing is
    waited for, and what the network does with the packet does not matter. The connection is given up at once.
    """
    before = counter()
    child = os.fork()
    if child == 0:
        _send_syn_as(address, port, uid)
    os.waitpid(child, 0)
    return counter() > before


def _send_syn_as(address: str, port: int, uid: int) -> t.NoReturn:
    """In a child process. The user is changed before the socket is made, since a socket keeps the user who made it."""
    try:
        user = pwd.getpwuid(uid)
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(uid)
        with socket.socket(_family(address), socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect_ex((address, port))
    finally:
        os._exit(0)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
