# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The numeric addresses of the relays, as this host resolves them, with the last good answer as a fallback.

Rules hold numbers only: nft resolves a name once, at load time, and refuses the whole file when that fails, which at
boot it does. A failed query never takes an address away; only an answer does.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp import srv
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import DEFAULT_PORT, SRV_SERVICE, srv_service

#: Seconds for all queries together. The resolver's own limit is 5 s per try, 2 tries per server (resolv.conf(5)).
DEADLINE = 15.0

IPV4, IPV6 = "ipv4", "ipv6"
_FAMILIES = {IPV4: socket.AF_INET, IPV6: socket.AF_INET6}

#: Answers of getaddrinfo(3) that say "no such address"; every other error is a query that failed.
_NO_ADDRESS = {
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
}

SRV_PORTS = {service: DEFAULT_PORT[tls] for tls, service in SRV_SERVICE.items()}
SRV_PREFIXES = tuple(f"_{service}._tcp." for service in SRV_PORTS)

Known = t.Mapping[str, t.Mapping[str, t.Sequence[str]]]
#: Sorted addresses, or None when the query failed.
Answer = t.Optional[t.List[str]]
Lookup = t.Callable[[str, str], Answer]


class Relay(t.NamedTuple):
    """Where mail may go. ``host`` is a name or an address, already checked."""

    name: str
    host: str
    port: int


def destinations(relays: t.Sequence[t.Mapping[str, t.Any]]) -> t.List[Relay]:
    """Where the mail of relays goes, as ``normalise_relays`` returns them: each host and port once, by the name of its first relay.

    The host of a relay that is known by SRV records is the name of these records.
    """
    found: t.Dict[t.Tuple[str, int], Relay] = {}
    for relay in relays:
        host = f"_{srv_service(relay)}._tcp.{relay['host']}" if relay["srv"] else relay["host"]
        found.setdefault((host, relay["port"]), Relay(relay["name"], host, relay["port"]))
    return list(found.values())


class Addresses(t.NamedTuple):
    """What a host's name stands for. ``source`` is ``dns``, ``last_good`` or ``literal``."""

    ipv4: t.List[str]
    ipv6: t.List[str]
    source: str


def lookup(host: str, family: str) -> Answer:
    """Ask the system's resolver for one family: the addresses (none is an answer too), or None when the query failed.

    For the name of SRV records, they are those of all servers that the records name at the port of the service itself.
    """
    if host.startswith(SRV_PREFIXES):
        return _lookup_srv(host, family)
    try:
        found = socket.getaddrinfo(host, None, _FAMILIES[family], socket.SOCK_STREAM)
    except socket.gaierror as error:
        return [] if error.errno in _NO_ADDRESS else None
    except (OSError, UnicodeError):
        return None
    # An address with a zone ("fe80::1%eth0") can not be written in a rule and is no relay's address.
    return _sorted({str(entry[4][0]) for entry in found if "%" not in str(entry[4][0])})


def _lookup_srv(name: str, family: str) -> Answer:
    service, _separator, domain = name[1:].partition("._tcp.")
    try:
        named = srv.servers(domain, service, Deadline(DEADLINE))
    except SmtpError:
        return None
    found = [lookup(host, family) for host, port in named if port == SRV_PORTS[service]]
    return None if None in found else _sorted({address for answer in found for address in answer or ()})


def resolve(
    relays: t.Sequence[Relay], last_good: Known, lookup: Lookup = lookup, deadline: float = DEADLINE
) -> t.Dict[str, Addresses]:
    """Return the addresses of every relay's host. All names and families are asked for at the same time.

    Raises :class:`EgressError` naming the host that has no address, neither now nor from an earlier run.
    """
    hosts = {relay.host for relay in relays}
    names = sorted(host for host in hosts if _literal(host) is None)
    answers = _ask([(name, family) for name in names for family in _FAMILIES], lookup, deadline)
    resolved = {host: _choose(host, answers, last_good.get(host, {})) for host in sorted(hosts)}
    lost = [host for host, found in resolved.items() if not found.ipv4 and not found.ipv6]
    if lost:
        raise EgressError(
            f"no address is known for {', '.join(lost)}: this host can not resolve the name now and has not resolved it before; "
            "nothing was changed. Check the name and /etc/resolv.conf on the host",
            unresolved=lost,
        )
    return resolved


def _choose(
    host: str, answers: t.Mapping[t.Tuple[str, str], Answer], known: t.Mapping[str, t.Sequence[str]]
) -> Addresses:
    literal = _literal(host)
    if literal is not None:
        return Addresses([host] if literal == IPV4 else [], [host] if literal == IPV6 else [], "literal")
    answered = {family: answers.get((host, family)) for family in _FAMILIES}
    last = {family: _sorted(known.get(family, ())) for family in _FAMILIES}
    if not any(answered.values()):
        # No address at all is what a broken resolver says too (NXDOMAIN from a captive portal, an empty zone).
        return Addresses(last[IPV4], last[IPV6], "last_good")
    # One family failed: its last good addresses stay, next to the other family's fresh ones.
    fresh = {family: last[family] if answer is None else answer for family, answer in answered.items()}
    return Addresses(fresh[IPV4], fresh[IPV6], "dns")


def _ask(
    questions: t.Sequence[t.Tuple[str, str]], lookup: Lookup, deadline: float
) -> t.Dict[t.Tuple[str, str], Answer]:
    """Answers by (host, family). getaddrinfo(3) takes no time limit, so each runs in a thread that may be left behind."""
    answers: t.Dict[t.Tuple[str, str], Answer] = {}

    def ask(host: str, family: str) -> None:
        answers[host, family] = lookup(host, family)

    threads = [threading.Thread(target=ask, args=question, daemon=True) for question in questions]
    for thread in threads:
        thread.start()
    end = time.monotonic() + deadline
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(answers)


def _literal(host: str) -> t.Optional[str]:
    """The family of a host that is an address already, else None."""
    try:
        return IPV4 if ipaddress.ip_address(host).version == 4 else IPV6
    except ValueError:
        return None


def _sorted(addresses: t.Iterable[str]) -> t.List[str]:
    """Each address once, in its canonical form and in numeric order. Whatever is no address is dropped."""
    valid = set()
    for address in addresses:
        try:
            valid.add(ipaddress.ip_address(address))
        except ValueError:
            continue
    return [str(address) for address in sorted(valid, key=lambda found: (found.version, int(found)))]
