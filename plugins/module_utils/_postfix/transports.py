# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""What the list of relays becomes in Postfix: transports in master.cf, and which mail goes by which of them.

One smtp(8) client has one TLS mode, one CA file and one list of mechanisms. Relays that agree on all of that, and are on
different hosts, are one transport with a list of next hops, which Postfix tries in order (3.5 and later). Where the next relay
differs, 587 after 465 for instance, the transport falls back to an smtpd(8) of ours on the loopback, which hands the mail to
the next transport (see :mod:`failover`).
"""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.failover import Failover, Failovers
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.oauth_relays import behind_proxy
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import IMPLICIT, NONE, RelayError, is_address, srv_service
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay_login import AUTO, EXTERNAL, has_secret

Relay = t.Mapping[str, t.Any]
Result = t.Dict[str, t.Any]

EVERYBODY = ""
"""Stands for the senders that no relay is for in particular."""

#: With "auto" Postfix may take any mechanism that uses a password. The others must be kept out: an installed plug-in
#: for one of them is preferred by libsasl2 and takes the password for something else, such as the name of a token file.
_PASSWORD_MECHANISMS = "!external, !gssapi, !gss-spnego, !oauthbearer, !xoauth2, static:all"
_NEEDED_FOR_AUTO = ("plain", "login")
_PROTOCOLS = {"1.2": "!SSLv2, !SSLv3, !TLSv1, !TLSv1.1", "1.3": "!SSLv2, !SSLv3, !TLSv1, !TLSv1.1, !TLSv1.2"}
#: What relays of one transport have in common.
_SHARED = (
    "tls",
    "family",
    "mechanism",
    "ca_file",
    "server_name",
    "minimum_tls",
    "fingerprints",
    "client_certificate",
    "client_key",
    "concurrency_limit",
    "rate_delay",
    "recipient_limit",
)


def transports(relays: t.Sequence[Relay], variable: str) -> Result:
    """Return what the templates and the module need of relays as ``normalise_relays`` gives them.

    Raises RelayError for what Postfix in particular can not do.
    """
    relays = behind_proxy(relays, variable)
    places = {relay["name"]: f"{variable}[{index}] ({relay['name']})" for index, relay in enumerate(relays)}
    for relay in relays:
        _check(relay, places[relay["name"]])
    ca_files = list(dict.fromkeys(relay["ca_file"] for relay in relays if relay["ca_file"] and relay["tls"] != NONE))
    ways = _Ways(relays, ca_files)
    routes = {sender: ways.head(chain) for sender, chain in _chains(relays, places, variable).items()}
    made = ways.transports()
    return {
        "transports": made,
        "failovers": ways.failovers.as_dicts(),
        "default_transport": routes.pop(EVERYBODY),
        "senders": [{"sender": sender, "transport": transport} for sender, transport in routes.items()],
        "secret_tables": {one["table"]: _table(ways.relays_of(one)) for one in made if one["table"]},
        "secret_sources": {one["table"]: sources for one in made for sources in [_sources(ways.relays_of(one), places)] if sources},
        "sasl_mechanisms": list(dict.fromkeys(name for relay in relays if has_secret(relay) for name in _mechanisms_needed(relay))),
        "ca_files": ca_files,
    }


def nexthop(relay: Relay) -> str:
    """The relay as a next hop (transport(5)). In brackets there is no MX lookup; without them, the service asks for SRV records."""
    return f"{relay['host']}:{srv_service(relay)}" if relay["srv"] else f"[{relay['host']}]:{relay['port']}"


def _check(relay: Relay, place: str) -> None:
    if relay["tls"] != NONE and is_address(relay["host"]) and not (relay["fingerprints"] or relay["server_name"]):
        raise RelayError(f"{place}.host", "is an IP address, for which Postfix can not verify a certificate; give the host name, or server_name")
    if relay["mechanism"] == EXTERNAL:
        raise RelayError(f"{place}.mechanism", "Postfix can not log in by 'external'; a relay that knows this host by its certificate needs no login")


def _chains(relays: t.Sequence[Relay], places: t.Mapping[str, str], variable: str) -> t.Dict[str, t.List[Relay]]:
    """The relays of each sender in failover order, and those of everybody else."""
    senders = dict.fromkeys(sender for relay in relays for sender in relay["senders"] or ())
    chains = {EVERYBODY: [relay for relay in relays if not relay["senders"]]}
    if not chains[EVERYBODY]:
        raise RelayError(variable, "every relay has 'senders'; one without them has to take the mail of everybody else")
    chains.update({sender: [relay for relay in relays if sender in (relay["senders"] or ())] for sender in senders})
    for chain in chains.values():
        for index, relay in enumerate(chain):
            for earlier in chain[:index]:
                if all(earlier[field] == relay[field] for field in ("host", "port", "srv", "family", "username")):
                    reason = f"is relay {earlier['name']!r} once more: the same host, port and user name for the same senders"
                    raise RelayError(f"{places[relay['name']]}.host", reason)
    return chains


class _Ways:
    """The transports of all chains; chains that end alike share them."""

    def __init__(self, relays: t.Sequence[Relay], ca_files: t.Sequence[str]) -> None:
        self._relays = {relay["name"]: relay for relay in relays}
        self._order = [relay["name"] for relay in relays]
        self._ca_files = ca_files
        self._made: t.Dict[t.Tuple[t.Tuple[str, ...], str], Result] = {}
        self.failovers = Failovers()

    def head(self, chain: t.Sequence[Relay]) -> str:
        """What mail of a chain is given to: the first of its transports, with its next hops."""
        destination = ""
        for group in reversed(_groups(chain)):
            transport = self._transport(group, destination)
            destination = f"{transport['service']}:{transport['nexthop']}"
        return destination

    def transports(self) -> t.List[Result]:
        """All of them, in the order of their first relays."""
        return sorted(self._made.values(), key=lambda one: (self._order.index(one["relays"][0]), one["service"]))

    def relays_of(self, transport: Result) -> t.List[Relay]:
        return [self._relays[name] for name in transport["relays"]]

    def _transport(self, group: t.Sequence[Relay], after: str) -> Result:
        """The transport of a group; *after* is what follows if all of its relays fail, or empty."""
        key = (tuple(relay["name"] for relay in group), after)
        if key not in self._made:
            failover = self.failovers.to(after, group[0]["tls"] == IMPLICIT, group[0]["family"]) if after else None
            self._made[key] = _transport(group, self._service(group[0]), self._ca(group[0]), failover)
        return self._made[key]

    def _service(self, relay: Relay) -> str:
        """The name of a transport: that of its first relay, with a number if another one starts with the same."""
        first = _folded(relay["name"])
        taken = {one["service"] for one in self._made.values()} | {f"outpost_{_folded(name)}" for name in self._order if name != relay["name"]}
        names = [first, *(f"{first}_{number}" for number in range(2, len(self._made) + len(self._order) + 2))]
        return next(name for name in (f"outpost_{one}" for one in names) if name not in taken)

    def _ca(self, relay: Relay) -> str:
        return f"@ca_bundle_{self._ca_files.index(relay['ca_file']) + 1}@" if relay["ca_file"] in self._ca_files else "@ca_bundle@"


def _groups(chain: t.Sequence[Relay]) -> t.List[t.List[Relay]]:
    groups: t.List[t.List[Relay]] = []
    for relay in chain:
        if groups and _share(groups[-1], relay):
            groups[-1].append(relay)
        else:
            groups.append([relay])
    return groups


def _share(group: t.Sequence[Relay], relay: Relay) -> bool:
    """Whether a relay can be one more next hop of a transport. Credentials are looked up by host, so a host can be in it once."""
    one = group[0]
    alike = all(one[field] == relay[field] for field in _SHARED) and has_secret(one) == has_secret(relay)
    return alike and not one["srv"] and not relay["srv"] and all(other["host"] != relay["host"] for other in group)


def _transport(group: t.Sequence[Relay], service: str, ca: str, failover: t.Optional[Failover]) -> Result:
    relay = group[0]
    login = has_secret(relay)
    return {
        "service": service,
        "relays": [one["name"] for one in group],
        "nexthop": ",".join(nexthop(one) for one in group),
        "first_nexthop": nexthop(relay),
        "srv": srv_service(relay) if relay["srv"] else "",
        "fallback": failover.nexthop if failover else "",
        "wrappermode": "yes" if relay["tls"] == IMPLICIT else "no",
        "security_level": _security_level(relay),
        "cert_match": relay["server_name"] or ("nexthop, dot-nexthop" if relay["srv"] else "nexthop"),
        "servername": relay["server_name"] or ("" if is_address(relay["host"]) else "hostname"),
        "protocols": _PROTOCOLS[relay["minimum_tls"]],
        "fingerprints": ", ".join(_colons(one) for one in relay["fingerprints"]),
        "ca": ca,
        "client_certificate": relay["client_certificate"] or "",
        "client_key": relay["client_key"] or relay["client_certificate"] or "",
        "sasl": "yes" if login else "no",
        "table": f"sasl_{service[len('outpost_') :]}" if login else None,
        "mechanisms": _PASSWORD_MECHANISMS if relay["mechanism"] == AUTO else relay["mechanism"],
        "family": relay["family"],
        "concurrency_limit": relay["concurrency_limit"],
        "rate_delay": relay["rate_delay"],
        "recipient_limit": relay["recipient_limit"],
    }


def _security_level(relay: Relay) -> str:
    if relay["tls"] == NONE:
        return "none"
    return "fingerprint" if relay["fingerprints"] else "secure"


def _colons(fingerprint: str) -> str:
    """As Postfix writes a fingerprint (smtp_tls_fingerprint_cert_match)."""
    digits = fingerprint.partition(":")[2]
    return ":".join(digits[index : index + 2] for index in range(0, len(digits), 2)).upper()


def _table(relays: t.Sequence[Relay]) -> str:
    """The credentials that came with the list. Any text but a line break is taken as it is by a table (postmap(1))."""
    return "".join(f"{_key(relay)} {relay['username']}:{relay['password']}\n" for relay in relays if relay["password"] is not None)


def _sources(relays: t.Sequence[Relay], places: t.Mapping[str, str]) -> t.List[t.Dict[str, str]]:
    """Where the host has the others."""
    kinds = {"file": "password_file", "credential": "password_credential"}
    return [
        {"key": _key(relay), "username": relay["username"], kind: relay[field], "name": f"{places[relay['name']]}.{field}"}
        for relay in relays
        for kind, field in kinds.items()
        if relay[field] is not None
    ]


def _key(relay: Relay) -> str:
    """What smtp(8) looks a credential up by: the host that it is connected to, then the next hop as it is written.

    The host is the safer one, since mail may come to the transport with another form of the next hop; but with
    SRV records nobody knows it beforehand.
    """
    return nexthop(relay) if relay["srv"] else str(relay["host"])


def _mechanisms_needed(relay: Relay) -> t.Sequence[str]:
    return _NEEDED_FOR_AUTO if relay["mechanism"] == AUTO else (relay["mechanism"],)


def _folded(name: str) -> str:
    """A relay's name where Postfix knows no hyphen: names of parameters, and so of the transports that have some."""
    return name.replace("-", "_")
