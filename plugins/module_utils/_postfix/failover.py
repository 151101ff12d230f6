# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""From one transport to the next: an smtpd(8) on the loopback that takes mail which the first could not deliver.

smtp(8) can fall back to another server only with its own TLS mode, CA file and mechanisms (smtp_fallback_relay). So the other
server is Postfix itself, and what it takes goes to the next transport (content_filter). A client that begins with TLS
(smtp_tls_wrappermode) does so here, too: by an anonymous cipher, which needs no certificate and leaves the host as little as
anything on the loopback. Seen to work on Postfix 3.5, 3.7 and 3.10.
"""

from __future__ import annotations

import typing as t

#: An address of its own, so that only a server that listens on all addresses can be in the way; and ports that nobody has
#: (IANA: 324 to 343 are unassigned) and only root can take, so that no user can receive the mail while Postfix is down.
ADDRESSES = {"any": "127.87.0.1", "ipv4": "127.87.0.1", "ipv6": "[::1]"}
FIRST_PORT = 325

#: The policy that the client has for such a server (smtp_tls_policy_maps). TLS 1.3 has no anonymous ciphers. No other
#: connection of ours uses ciphers of grade "high", whose list master.cf limits to these; "localhost" because SNI has to be a name.
_ANONYMOUS_TLS = "encrypt protocols=TLSv1.2 ciphers=high servername=localhost"
_CLEAR_TEXT = "none"


class Failover(t.NamedTuple):
    """One such server."""

    listen: str  #: the name of its service in master.cf
    nexthop: str  #: what leads to it
    wrappermode: bool
    destination: str  #: transport and next hops that its mail goes to

    @property
    def policy(self) -> str:
        return _ANONYMOUS_TLS if self.wrappermode else _CLEAR_TEXT


class Failovers:
    """All of them; what leads to the same place in the same way does so by one."""

    def __init__(self) -> None:
        self._made: t.Dict[t.Tuple[str, bool, str], Failover] = {}

    def to(self, destination: str, wrappermode: bool, family: str) -> Failover:
        """The server by which a client of this kind and address family passes mail on to *destination*."""
        address = ADDRESSES[family]
        key = (destination, wrappermode, address)
        if key not in self._made:
            port = FIRST_PORT + len(self._made)
            host = address if address.startswith("[") else f"[{address}]"
            self._made[key] = Failover(f"{address}:{port}", f"{host}:{port}", wrappermode, destination)
        return self._made[key]

    def as_dicts(self) -> t.List[t.Dict[str, str]]:
        """For templates, in the order of their ports."""
        return [
            {
                "listen": one.listen,
                "nexthop": one.nexthop,
                "wrappermode": "yes" if one.wrappermode else "no",
                "security_level": "encrypt" if one.wrappermode else "none",
                "policy": one.policy,
                "destination": one.destination,
                "parameter": f"outpost_failover_{FIRST_PORT + number}",
            }
            for number, one in enumerate(self._made.values())
        ]
