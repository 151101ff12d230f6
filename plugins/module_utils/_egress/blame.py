# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""What stops mail: one answer, from what came of connections, which counters moved, the routes, and the limits of units.

An errno alone does not tell: a reset made by a rule of this host looks like that of a relay, and a packet that a rule
drops looks like one that the hoster drops. So what this host can know for certain is asked first, nearest cause first;
what is left is suspected, and said to be so.
"""

from __future__ import annotations

import errno
import os
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import clouds, command, probe, unit_limits, who_blocks
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Run
from ansible_collections.outpost.smtp.plugins.module_utils._egress.proof import GUARDED_PORTS

OWN_TABLE = "own_table"
OTHER_CHAIN = "other_chain"
UNIT_SANDBOX = "unit_sandbox"
ROUTE = "route"
PROVIDER_SUSPECTED = "provider_suspected"
RELAY_REFUSED = "relay_refused"
TLS = "tls"
AUTHENTICATION = "authentication"
#: Nothing on this host is in the way, and nothing answers.
UNKNOWN = "unknown"

#: Ports that are tried beside the one in question: where relays take mail, and the web.
_WEB = 443
SIBLINGS = (465, 587, 2525, _WEB)
#: Addresses of which those ports are tried.
MAX_CROSS_CHECKED = 2

#: ip-route(8): how a route that refuses answers connect(2).
_ROUTES = {
    errno.EACCES: "a route of type prohibit",
    errno.EINVAL: "a route of type blackhole",
    errno.EHOSTUNREACH: "a route of type unreachable",
    errno.ENETUNREACH: "no route",
    errno.EAFNOSUPPORT: "no IPv6 on this server",
    errno.EADDRNOTAVAIL: "no source address on this server",
}
_HERE_CLEAN = "nothing on this server is in the way"
_HERE_UNKNOWN = "the rules of this server's firewall do not tell, or could not be read"
_NEIGHBOUR_MS = 1000
"""The kernel asks a neighbour three times, a second apart, before it says that a host is unreachable (arp(7)); a rule answers at once."""


class BlockedBy(t.NamedTuple):
    """What stops mail: one of the causes above, what shows it, and what to do."""

    cause: str
    detail: str
    remedy: str

    def facts(self) -> t.Dict[str, str]:
        return self._asdict()


class Evidence(t.NamedTuple):
    """What was seen of a port that could not be connected to.

    ``outcomes`` are those of the addresses, ``siblings`` the other ports of these that answered, each with whether it could be
    connected to, ``routes`` the errno of the addresses that the routing table refuses, ``hint`` what the cloud is said to
    block. ``rules`` is None where they can not be read, or do not tell.
    """

    port: int
    outcomes: t.Mapping[str, probe.Outcome]
    rules: t.Optional[t.Sequence[who_blocks.Rule]] = ()
    limits: t.Sequence[unit_limits.Limit] = ()
    routes: t.Mapping[str, int] = {}
    siblings: t.Mapping[int, bool] = {}
    hint: str = ""


def find(addresses: t.Sequence[str], port: int, uid: int, seconds: float, run: Run = command.run, root: str = "") -> t.Optional[BlockedBy]:
    """What keeps user `uid` from `port` of a host with these addresses; None where nothing does: one address is enough.

    Tries to connect for `seconds` at most, and changes nothing. Other users than that of this process need root.
    """
    return find_all([(addresses, port)], uid, seconds, run, root)[0]


def find_all(
    relays: t.Sequence[t.Tuple[t.Sequence[str], int]], uid: int, seconds: float, run: Run = command.run, root: str = ""
) -> t.List[t.Optional[BlockedBy]]:
    """As find(), for the addresses and ports of several relays, which are tried at the same time."""
    known = {address for addresses, _port in relays for address in addresses}
    routes = {address: found for address, found in ((address, probe.route(address)) for address in sorted(known)) if found}
    tries = [
        probe.Try(address, number, uid)
        for addresses, port in relays
        for index, address in enumerate(_routed(addresses, routes))
        for number in (port, *(SIBLINGS if index < MAX_CROSS_CHECKED else ()))
    ]
    tries = list(dict.fromkeys(tries))
    outcomes = dict(zip(tries, probe.connect(tries, seconds)))
    limits = unit_limits.find(sorted(known), run, root)
    return [_find(addresses, port, uid, routes, outcomes, limits, root) for addresses, port in relays]


def _find(
    addresses: t.Sequence[str],
    port: int,
    uid: int,
    routes: t.Mapping[str, int],
    outcomes: t.Mapping[probe.Try, probe.Outcome],
    limits: t.Sequence[unit_limits.Limit],
    root: str,
) -> t.Optional[BlockedBy]:
    own = {one.address: outcome for one, outcome in outcomes.items() if one.address in addresses and one.port == port}
    keeping = [limit for limit in limits if limit.address in ("", *addresses)]
    reached = {address for address, outcome in own.items() if outcome.word == probe.REACHED}
    if reached:
        kept = {limit.address for limit in keeping}
        return _unit(keeping) if "" in kept or kept.issuperset(reached) else None
    cloud = clouds.recognise(root)
    siblings: t.Dict[int, bool] = {}
    for one, outcome in outcomes.items():
        if one.address in addresses and one.port != port and _answers(one.port, outcome):
            siblings[one.port] = siblings.get(one.port, False) or outcome.word == probe.REACHED
    return judge(
        Evidence(
            port,
            own,
            who_blocks.find(list(own), port, uid) if own else (),
            keeping,
            {address: found for address, found in routes.items() if address in addresses},
            siblings,
            cloud.hint(port) if cloud else "",
        )
    )


def _routed(addresses: t.Sequence[str], routes: t.Container[str]) -> t.List[str]:
    return [address for address in addresses if address not in routes]


def judge(seen: Evidence) -> BlockedBy:
    """The cause of a failure to connect. What is certain comes before what is suspected, and what is near before what is far."""
    own = [rule for rule in seen.rules or () if rule.own]
    others = [rule.text for rule in seen.rules or () if not rule.own]
    if own:
        return of_rules([own[0].text], seen.port)
    if others:
        return of_rules(others, seen.port)
    if seen.limits:
        return _unit(seen.limits)
    if not seen.outcomes:
        return _route(seen.routes)
    return _by_outcome(seen)


def of_rules(rules: t.Sequence[str], port: int) -> BlockedBy:
    """For rules of this host's firewall, as who_blocks.py words them."""
    if rules[0].startswith(who_blocks.OWN):
        return BlockedBy(
            OWN_TABLE,
            rules[0],
            "mail goes out by the mail server only: hand it over to that, name the relay in smtp_egress_relays, or name the user in "
            "smtp_egress_exempt_users",
        )
    return BlockedBy(
        OTHER_CHAIN,
        "; ".join(rules),
        f"open TCP port {port} to the relay there; role smtp_egress does it through the manager of the firewall (smtp_egress_manager)",
    )


def _by_outcome(seen: Evidence) -> BlockedBy:
    words = {outcome.word for outcome in seen.outcomes.values()}
    shown = "; ".join(f"{address}: {outcome.word.replace('_', ' ')} after {outcome.ms} ms" for address, outcome in seen.outcomes.items())
    here = _HERE_UNKNOWN if seen.rules is None else _HERE_CLEAN
    if words & {"refused", "reset"}:
        detail = f"the relay, or a firewall before it, refuses the connection, and {here} ({shown})"
        return BlockedBy(RELAY_REFUSED, detail, f"check that port {seen.port} is the relay's, and that it takes connections from this server")
    if "not_permitted" in words:
        detail = f"this server itself forbids connect(2) ({shown})"
        remedy = "look for an eBPF program of the control group, for seccomp, and for a security module (SELinux, AppArmor)"
        return BlockedBy(UNIT_SANDBOX, detail, remedy)
    if "host_unreachable" in words and all(outcome.ms >= _NEIGHBOUR_MS for outcome in seen.outcomes.values() if outcome.word == "host_unreachable"):
        return BlockedBy(ROUTE, f"the next hop does not answer ({shown})", "check the gateway of this server ('ip route', 'ip neighbour')")
    if probe.TIMEOUT in words and not seen.siblings and not seen.hint:
        detail = f"there is no answer, on other ports neither, and {here} ({shown})"
        return BlockedBy(UNKNOWN, detail, "check that the relay is up, then ask the hoster whether it lets mail out")
    answer = "there is no answer" if probe.TIMEOUT in words else "a router or firewall on the way refuses the connection"
    return of_silence(seen.port, f"{answer}, and {here} ({shown})", seen.siblings, seen.hint)


def of_silence(port: int, shown: str, siblings: t.Mapping[int, bool], hint: str) -> BlockedBy:
    """For a port that is closed by somebody between this server and the relay, as it seems; `shown` is what was seen."""
    answering = f"port {', '.join(map(str, sorted(siblings)))} of the same host answers" if siblings else ""
    detail = "; ".join(part for part in (shown, answering, hint) if part)
    usable = [other for other in sorted(siblings) if siblings[other] and other != _WEB]
    switch = f", or use port {usable[0]}" if usable else ""
    return BlockedBy(PROVIDER_SUSPECTED, detail, f"ask the hoster or network administrator to open outgoing TCP to port {port}{switch}")


def _route(routes: t.Mapping[str, int]) -> BlockedBy:
    shown = "; ".join(f"{address}: {_ROUTES.get(found, os.strerror(found))}" for address, found in routes.items())
    example = next(iter(routes), "ADDRESS")
    return BlockedBy(ROUTE, f"this server has no way to the relay ({shown})", f"check its routes: 'ip route get {example}', 'ip rule'")


def _unit(limits: t.Sequence[unit_limits.Limit]) -> BlockedBy:
    return BlockedBy(UNIT_SANDBOX, "; ".join(str(limit) for limit in limits), limits[0].remedy())


def _answers(port: int, outcome: probe.Outcome) -> bool:
    """Whether the host answered on another port. A refusal on a port that the guard keeps may have been our own."""
    return outcome.word == probe.REACHED or outcome.word in ("refused", "reset") and port not in GUARDED_PORTS
