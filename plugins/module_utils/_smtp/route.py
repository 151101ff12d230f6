# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""By which way a connection goes out: address family, source address, proxy."""

from __future__ import annotations

import socket
import typing as t

FAMILIES = ("any", "ipv4", "ipv6")


class Proxy(t.NamedTuple):
    """*kind* is ``socks5`` or ``http`` (CONNECT). The proxy resolves the name of the server."""

    kind: str
    host: str
    port: int
    username: t.Optional[str] = None
    password: t.Optional[str] = None


class Route(t.NamedTuple):
    """*family* is one of :data:`FAMILIES`; *source_address* is an address of this host, which also decides the family."""

    family: str = "any"
    source_address: t.Optional[str] = None
    proxy: t.Optional[Proxy] = None

    @property
    def wanted(self) -> int:
        """The address family that connections are limited to: AF_INET, AF_INET6, or AF_UNSPEC for both."""
        if self.source_address:
            return socket.AF_INET6 if ":" in self.source_address else socket.AF_INET
        return {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}.get(self.family, socket.AF_UNSPEC)
