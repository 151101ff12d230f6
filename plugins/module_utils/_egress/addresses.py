# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The numeric addresses of the relays, as this host resolves them, with the last good answer as a fallback.

Rules hold numbers only: nft resolves a name once, at load time, and refuses the whole file when that fails, which at
boot it does. A failed query never takes an address away; only an answer does, and not at once: connections to the old
address go on being made for as long as others may have the old answer in a cache, which is its time to live (RFC 1035,
section 3.2.1). So an address that is no longer in the answer stays for that time, beside the new ones.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp import dns, srv
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import DEFAULT_PORT, SRV_SERVICE, srv_service

#: Seconds for all queries together. The resolver's own limit is 5 s per try, 2 tries per server (resolv.conf(5)).
DEADLINE = 15.0

#: Seconds for which an address stays that is no longer in the answer: the least, the most, and where the answer's own is not known.
SHORTEST_STAY, LONGEST_STAY, USUAL_STAY = 300, 86400, 3600
#: Addresses of one family that are kept of one host, whose name may answer with different ones each time.
MAX_KEPT = 256

IPV4, IPV6 = "ipv4", "ipv6"
_FAMILIES = {IPV4: socket.AF_INET, IPV6: socket.AF_INET6}

#: Answers of getaddrinfo(3) that say "no such address"; every other error is a query that failed.
_NO_ADDRESS = {
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
}

SRV_PORTS = {service: DEFAULT_PORT[tls] for tls, service in SRV_SERVICE.items()}
SRV_PREFIXES = tuple(f"_{service}._tcp." for service in SRV_PORTS)

#: What is remembered of a host and family: its addresses, each with the time (seconds since 1970) until which it stays though
#: it is no longer in the answer; None for those that are in it.
Remembered = t.Mapping[str, t.Optional[int]]
Known = t.Mapping[str, t.Mapping[str, Remembered]]
#: Sorted addresses, or None when the query failed.
Answer = t.Optional[t.List[str]]
Lookup = t.Callable[[str, str], Answer]
#: The time to live of the answer about a host and family, in seconds; None where it can not be known.
TimeToLive = t.Callable[[str, str], t.Optional[int]]


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
    """What a host's name stands for. ``source`` is ``dns``, ``last_good`` or ``literal``, or ``unknown`` where there are no addresses.

    ``leaving`` are those that are no longer in the answer, each with the time until which it stays.
    """

    ipv4: t.List[str]
    ipv6: t.List[str]
    source: str
    leaving: t.Mapping[str, int] = {}

    def facts(self) -> t.Dict[str, t.Any]:
        return {"ipv4": self.ipv4, "ipv6": self.ipv6, "source": self.source, "leaving": sorted(self.leaving)}

    def remembered(self) -> t.Dict[str, t.Dict[str, t.Optional[int]]]:
        """What to remember of it, to be given to :func:`resolve` the next time."""
        return {
            IPV4: {address: self.leaving.get(address) for address in self.ipv4},
            IPV6: {address: self.leaving.get(address) for address in self.ipv6},
        }


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


def time_to_live(host: str, family: str) -> t.Optional[int]:
    """How long the name server lets others keep its answer, where it is asked at all (not for a name in /etc/hosts)."""
    if host.startswith(SRV_PREFIXES):
        return None
    try:
        answer = dns.query(host, dns.A if family == IPV4 else dns.AAAA, Deadline(DEADLINE / 3))
    except SmtpError:
        return None
    return None if answer.failed else answer.time_to_live


def resolve(
    relays: t.Sequence[Relay],
    known: Known,
    lookup: Lookup = lookup,
    deadline: float = DEADLINE,
    *,
    required: bool = True,
    now: t.Optional[float] = None,
    time_to_live: TimeToLive = time_to_live,
) -> t.Dict[str, Addresses]:
    """Return the addresses of every relay's host. All names and families are asked for at the same time.

    Where they are `required`, raises :class:`EgressError` naming the host that has no address, neither now nor from an earlier run.
    """
    hosts = {relay.host for relay in relays}
    names = sorted(host for host in hosts if _literal(host) is None)
    answers = _ask([(name, family) for name in names for family in _FAMILIES], lookup, deadline)
    moment = int(time.time() if now is None else now)
    resolved = {host: _choose(host, answers, known.get(host, {}), moment, time_to_live) for host in sorted(hosts)}
    lost = [host for host, found in resolved.items() if not found.ipv4 and not found.ipv6]
    if lost and required:
        raise EgressError(
            f"no address is known for {', '.join(lost)}: this host can not resolve the name now and has not resolved it before; "
            "nothing was changed. Check the name and /etc/resolv.conf on the host",
            unresolved=lost,
        )
    return resolved


def _choose(
    host: str,
    answers: t.Mapping[t.Tuple[str, str], Answer],
    known: t.Mapping[str, Remembered],
    now: int,
    time_to_live: TimeToLive,
) -> Addresses:
    literal = _literal(host)
    if literal is not None:
        return Addresses([host] if literal == IPV4 else [], [host] if literal == IPV6 else [], "literal")
    answered = {family: answers.get((host, family)) for family in _FAMILIES}
    last = {family: _valid(known.get(family, {})) for family in _FAMILIES}
    if not any(answered.values()):
        # No address at all is what a broken resolver says too (NXDOMAIN from a captive portal, an empty zone).
        kept, source = last, "last_good" if any(last.values()) else "unknown"
    else:
        # One family failed: its last good addresses stay, next to the other family's fresh ones.
        kept, source = {}, "dns"
        for family, answer in answered.items():
            kept[family] = last[family] if answer is None else _aged(host, family, answer, last[family], now, time_to_live)
    leaving = {address: until for family in kept.values() for address, until in family.items() if until is not None}
    return Addresses(_sorted(kept[IPV4]), _sorted(kept[IPV6]), source, leaving)


def _aged(
    host: str, family: str, answer: t.Sequence[str], last: Remembered, now: int, time_to_live: TimeToLive
) -> t.Dict[str, t.Optional[int]]:
    """The addresses of an answer, and those of before that may still be in somebody's cache."""
    gone = {address: until for address, until in last.items() if address not in answer}
    kept: t.Dict[str, t.Optional[int]] = dict.fromkeys(answer)
    if not gone:
        return kept
    stay = USUAL_STAY
    if any(until is None for until in gone.values()):
        stay = min(max(time_to_live(host, family) or USUAL_STAY, SHORTEST_STAY), LONGEST_STAY)
    # A clock that was put back must not make an address stay for years.
    untils = {address: now + stay if until is None else min(until, now + LONGEST_STAY) for address, until in gone.items()}
    staying = sorted((address for address, until in untils.items() if until > now), key=lambda address: -untils[address])
    kept.update({address: untils[address] for address in staying[: max(0, MAX_KEPT - len(kept))]})
    return kept


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


def _valid(remembered: Remembered) -> t.Dict[str, t.Optional[int]]:
    """The addresses that are ones, in canonical form."""
    return {found[0]: until for found, until in ((_sorted([address]), until) for address, until in remembered.items()) if found}
