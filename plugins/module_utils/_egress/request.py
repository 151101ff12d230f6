# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""What is wanted of a host's outbound rules, as the module is told and as the next refresh finds it in the state file."""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import Relay
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import RelayError, normalise_relays

#: The relays' own addresses, or any address at all.
RELAYS, ANY = "relays", "any"
#: Values of the option ``manager`` besides the managers' names: the active one, or nobody.
AUTO, NONE = "auto", "none"
#: The fields of a relay, as the modules take them.
RELAY_OPTIONS = {
    "name": {"type": "str"},
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
}


class Request(t.NamedTuple):
    """``text`` is the rendered template, with its placeholders. ``destinations`` is ``(RELAYS,)``, ``(ANY,)`` or networks."""

    relays: t.List[Relay]
    user: str
    exempt_users: t.List[str]
    text: str
    manager: str = AUTO
    destinations: t.Tuple[str, ...] = (RELAYS,)

    @property
    def networks(self) -> t.List[t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]]:
        """The networks that are opened, where it is networks."""
        return [] if self.destinations in ((RELAYS,), (ANY,)) else [ipaddress.ip_network(text) for text in self.destinations]

    def stored(self) -> t.Dict[str, t.Any]:
        """In a form that JSON can hold."""
        return {**self._asdict(), "relays": [relay._asdict() for relay in self.relays], "destinations": list(self.destinations)}


class Terms(t.NamedTuple):
    """How the change is made and kept: seconds between refreshes, for a proof, and until an unconfirmed change goes back; 0 for none."""

    refresh: int = 0
    proof_timeout: int = 0
    rollback_timeout: int = 0


def relays(given: t.Any, place: str) -> t.List[Relay]:
    """The relays of a list of dictionaries. Raises RelayError naming `place` and field."""
    return [Relay(relay["name"], relay["host"], relay["port"]) for relay in normalise_relays(given, place)]


def destinations(given: t.Any) -> t.Tuple[str, ...]:
    """Where mail may go, of ``relays``, ``any`` or a list of networks. Raises :class:`EgressError` naming the entry."""
    if given in (RELAYS, ANY):
        return (given,)
    if isinstance(given, str) or not isinstance(given, (list, tuple)) or not given:
        raise EgressError(f"destinations must be '{RELAYS}', '{ANY}' or a list of networks, and is {given!r}")
    networks = [_network(entry) for entry in given]
    return tuple(
        str(network)
        for version in (4, 6)
        # Each family by itself: collapse_addresses() knows only one at a time.
        for network in ipaddress.collapse_addresses(found for found in networks if found.version == version)  # type: ignore[type-var]
    )


def _network(entry: t.Any) -> t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]:
    try:
        if not isinstance(entry, str):
            raise ValueError("not a text")
        return ipaddress.ip_network(entry)
    except ValueError as error:
        raise EgressError(f"destinations: {entry!r} is not an address or network: {error}") from None


def restored(stored: t.Any) -> t.Optional[Request]:
    """A request of the state file, which anybody may have written; None for what can not be one."""
    try:
        return Request(
            relays(stored["relays"], "relays"),
            _text(stored["user"]),
            [_text(name) for name in stored["exempt_users"]],
            _text(stored["text"]),
            _text(stored["manager"]),
            destinations(stored["destinations"][0] if stored["destinations"] in ([RELAYS], [ANY]) else stored["destinations"]),
        )
    except (EgressError, RelayError, KeyError, TypeError, IndexError, AttributeError):
        return None


def _text(value: t.Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
