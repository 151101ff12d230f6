# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Whom a connection over the loopback interface is from, as the kernel knows it."""

from __future__ import annotations

import socket
import sys
import typing as t

TABLE = "/proc/net/tcp"
_ESTABLISHED = "01"


def uid_of(connection: socket.socket, table: str = TABLE) -> t.Optional[int]:
    """The user who made the other end of a TCP connection on 127.0.0.1; None if the kernel's table does not say (proc(5))."""
    # The other end sees the two addresses the other way round. One that its process has closed is root's to many kernels
    # (sock_i_uid(), before Linux 6.17), whoever made it, and what was sent before can still be read.
    wanted = [_shown(connection.getpeername()), _shown(connection.getsockname()), _ESTABLISHED]
    with open(table, encoding="ascii") as lines:
        for line in lines:
            fields = line.split()
            if fields[1:4] == wanted:
                return int(fields[7])
    return None


def _shown(address: t.Tuple[str, int]) -> str:
    """An address as in the table: the octets as one number of this machine, in hex, and the port in hex."""
    number = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{number:08X}:{address[1]:04X}"
