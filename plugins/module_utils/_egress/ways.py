# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Which ways out a request asks for, and the packets by which it is found out whether they are open."""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import foreign, probe, users
from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import Addresses
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Way
from ansible_collections.outpost.smtp.plugins.module_utils._egress.request import ANY, RELAYS, Request

Resolved = t.Mapping[str, Addresses]
#: Addresses that nobody has (RFC 5737, RFC 3849): what the rules do to them, they do to any address. Nothing is sent to them.
_ANYBODY = {4: "198.51.100.1", 6: "2001:db8::1"}


def wanted(request: Request, resolved: Resolved) -> t.List[Way]:
    """All ways that the request asks for, each once."""
    ports = sorted({relay.port for relay in request.relays})
    if request.destinations == (ANY,):
        found = [Way(version, "", port) for port in ports for version in _ANYBODY]
    elif request.destinations == (RELAYS,):
        found = single(request, resolved)
    else:
        found = [Way.to(network, port) for port in ports for network in request.destinations]
    return list(dict.fromkeys(found))


def single(request: Request, resolved: Resolved) -> t.List[Way]:
    """The ways to the relays' own addresses, which are tried to prove the others.

    Raises :class:`EgressError` for a relay of which all addresses lie outside the networks that are opened.
    """
    networks = request.networks
    found = []
    for relay in request.relays:
        addresses = resolved[relay.host].ipv4 + resolved[relay.host].ipv6
        inside = [address for address in addresses if not networks or any(ipaddress.ip_address(address) in network for network in networks)]
        if addresses and not inside:
            raise EgressError(f"relay {relay.name} has the addresses {', '.join(addresses)}, and none of them is among the destinations")
        found += [Way.to(address, relay.port) for address in inside]
    return list(dict.fromkeys(found))


def packets(request: Request, resolved: Resolved) -> t.Dict[Way, t.List[foreign.Syn]]:
    """By way, what to ask the rules about. A way without a route out is not missed by anybody, and is left out."""
    own = [way for way in single(request, resolved) if probe.outside(way.network)]
    asked = {}
    for way in wanted(request, resolved):
        samples = [one.network for one in own if one.port == way.port and covers(way, one)]
        if not samples or way.network != samples[0]:
            sample = _ANYBODY[way.version] if not way.network else str(ipaddress.ip_network(way.network)[0])
            samples += [sample] if probe.outside(sample) else []
        if samples:
            asked[way] = [foreign.Syn(address, way.port, users.spellings(request.user)) for address in dict.fromkeys(samples)]
    return asked


def covers(way: Way, other: Way) -> bool:
    """Whether `other`, to a single address, goes where `way` does."""
    if (way.version, way.port) != (other.version, other.port):
        return False
    return not way.network or ipaddress.ip_address(other.network) in ipaddress.ip_network(way.network)
