# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The relays that a Postfix instance really uses, with what smtp(8) would take for each: credential, TLS policy, addresses.

Everything is read by postconf(1) and postmap(1), so as Postfix itself reads it. Nothing is written, and nobody but name
servers (for MX and SRV records) is asked.
"""

from __future__ import annotations

import itertools
import os
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import (
    checks,
    local_files,
    nexthop,
    oauth_relays,
    sasl_lookup,
    settings,
    tls_policy,
)
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import split_list
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.effective_relay import EffectiveRelay, Problem
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result, Run, run_program
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.maps import MapError, Maps, address_keys
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.nexthop import Destination
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.packages import Platform
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.routing import FOREIGN, Router, Way
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.settings import Parameters, Settings
from ansible_collections.outpost.smtp.plugins.module_utils._smtp import dns
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import SmtpError

#: Senders and recipients with ways of their own that are followed, and servers of one next hop.
MAX_LISTED = 50
MAX_SERVERS = 5


def relays(
    config_directory: str,
    deadline: Deadline,
    senders: t.Sequence[str] = (),
    recipients: t.Sequence[str] = (),
    run: t.Optional[Run] = None,
    platform: t.Optional[Platform] = None,
) -> t.List[EffectiveRelay]:
    """Return each relay that the instance uses: for mail of root to anybody, and for what its tables treat differently.

    With ``senders`` or ``recipients`` (envelope addresses as programs give them) it is for these alone. Raises
    PostfixError where Postfix is not on this host or its configuration can not be read.
    """

    def run_until_deadline(argv: t.Sequence[str], stdin: str) -> Result:
        if deadline.expired:
            raise PostfixError(f"{argv[0]} was not started: there is no time left")
        return run_program(argv, stdin, timeout=deadline.remaining())

    run = run or run_until_deadline
    reader = Reader(settings.read(config_directory, run), Maps(config_directory, run), platform or Platform(), deadline)
    return [relay for way in reader.ways(senders, recipients) for relay in reader.relays_of(way)]


class Reader:
    """One look at an instance.

    Without ``ask_dns``, a next hop that is not in brackets is taken for the name of its server. Where Postfix is not
    ``started``, a file that its chroot lacks is one that is copied there when it is, as Debian does.
    """

    def __init__(
        self, found: Settings, maps: Maps, platform: Platform, deadline: Deadline, ask_dns: bool = True, started: bool = True
    ) -> None:
        self._settings = found
        self._maps = maps
        self._ask_dns = ask_dns
        self._started = started
        self._router = Router(self._settings, self._maps)
        self._plugins = sasl_lookup.installed(platform)
        self._deadline = deadline
        self._names: t.Set[str] = set()

    def ways(self, senders: t.Sequence[str], recipients: t.Sequence[str]) -> t.List[Way]:
        """The different ways out, the general one first."""
        router = self._router
        if senders or recipients:
            asked = [(sender, recipient) for sender in senders or [router.default_sender()] for recipient in recipients or [FOREIGN]]
        else:
            asked = [(router.default_sender(), FOREIGN)]
            asked += [(sender, FOREIGN) for sender in router.senders()[:MAX_LISTED]]
            asked += [(router.default_sender(), recipient) for recipient in router.recipients()[:MAX_LISTED]]
        found: t.Dict[t.Tuple[str, str, str], Way] = {}
        for sender, recipient in asked:
            way = self._way(sender, recipient)
            if way is None:
                continue
            # With credentials by sender, two senders differ although their relay is the same.
            by_sender = sender if self._parameters(way.transport).flag("smtp_sender_dependent_authentication") else ""
            found.setdefault((way.transport, way.nexthop if way.relay else "", by_sender), way)
        return list(found.values())

    def _way(self, sender: str, recipient: str) -> t.Optional[Way]:
        try:
            return self._router.way(self._router.rewritten(sender), recipient)
        except MapError as error:
            raise PostfixError(f"Postfix can not decide where mail goes, and keeps it: {error}") from None

    def _parameters(self, transport: str) -> Parameters:
        return self._settings.of_service(transport)

    def relays_of(self, way: Way, passed: t.Tuple[str, ...] = ()) -> t.List[EffectiveRelay]:
        """The servers of one way, in the order in which Postfix tries them. *passed* are the transports that it went through before."""
        no_relay = self._no_relay(way)
        if no_relay:
            relay = self._new(way)
            relay.problems.append(Problem("postfix_no_relay", no_relay, "lint_transport_missing" if relay.service is None else ""))
            return [relay]
        texts = split_list(way.nexthop)
        found = [relay for text in texts for relay in self._servers(way, text)]
        for text in self._parameters(way.transport).names("smtp_fallback_relay"):
            behind = self._behind(way, text)
            # A transport that comes again would lead round and round.
            if behind and behind.transport in passed:
                continue
            servers = self.relays_of(behind, (*passed, way.transport)) if behind else self._servers(way, text)
            for relay in servers:
                relay.fallback = relay.fallback or behind is None
            found += servers
        return found

    def _behind(self, way: Way, text: str) -> t.Optional[Way]:
        """What a next hop leads to that is a server of this instance and hands its mail to another transport; else None."""
        try:
            destination = nexthop.parse(text, "")
        except nexthop.NextHopError:
            return None
        service = self._settings.server(destination.host, int(destination.service)) if destination.service.isdigit() else None
        if service is None or service.command != "smtpd":
            return None
        transport, _colon, onward = self._settings.of(service).get("content_filter").partition(":")
        return way._replace(transport=transport, nexthop=onward, chosen_by=(*way.chosen_by, "content_filter")) if onward else None

    def _no_relay(self, way: Way) -> str:
        """Why nothing can be tested of a way; empty if it can."""
        service = self._settings.service(way.transport)
        if service is None:
            return f"master.cf has no transport {way.transport!r}, so Postfix keeps the mail"
        if service.command != "smtp":
            return f"transport {way.transport!r} is {service.command}(8), which uses no SMTP relay"
        if not way.relay:
            return f"mail from <{way.sender}> to {way.recipient} goes to the servers of its domain"
        return ""

    def _new(self, way: Way, destination: str = "") -> EffectiveRelay:
        service = self._settings.service(way.transport)
        return EffectiveRelay(
            name=self._name(way.transport),
            way=way,
            service=service,
            parameters=self._parameters(way.transport),
            version=self._settings.version,
            chroot=bool(service and self._settings.chrooted(service)),
            destination=destination,
        )

    def _name(self, transport: str) -> str:
        """What results call the relay: its transport, with a number from the second one on."""
        names = itertools.chain([transport], (f"{transport}-{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in self._names)
        self._names.add(name)
        return name

    def _servers(self, way: Way, text: str) -> t.List[EffectiveRelay]:
        """The servers of one next hop as it is written."""
        service = self._settings.service(way.transport)
        parameters = self._parameters(way.transport)
        root = parameters.get("queue_directory") if service and self._settings.chrooted(service) else "/"
        try:
            destination = nexthop.parse(text, parameters.get("smtp_tcp_port") or "smtp")
            has_services = self._started or os.path.exists(os.path.join(root, "etc/services"))
            port = nexthop.port_number(destination.service, parameters, root if has_services else "/")
        except nexthop.NextHopError as error:
            relay = self._new(way, text)
            relay.crash = str(error)
            relay.problems.append(Problem("postfix_port_name", str(error), "lint_port_unknown"))
            return [relay]
        found = []
        for host, its_port in self._hosts(destination, port, parameters):
            relay = self._new(way, text)
            relay.host, relay.port, relay.nexthop_host = host, its_port, destination.host
            self._describe(relay, destination, root)
            found.append(relay)
        return found

    def _hosts(self, destination: Destination, port: int, parameters: Parameters) -> t.List[t.Tuple[str, int]]:
        """Where smtp(8) connects to: the host itself in brackets, else what SRV (Postfix 3.8) or MX records say."""
        no_dns = parameters.flag("disable_dns_lookups") or parameters.get("smtp_dns_support_level").lower() == "disabled"
        if destination.direct or no_dns or not self._ask_dns:
            return [(destination.host, port)]
        hosts: t.List[t.Tuple[str, int]] = []
        try:
            if destination.service in parameters.names("use_srv_lookup"):
                hosts = [(record[3], record[2]) for record in dns.srv(destination.service, destination.host, self._deadline)]
            hosts = hosts or [(name, port) for _preference, name in dns.mx(destination.host, self._deadline)]
        except SmtpError:
            pass  # the test of the host will say what is wrong with its name
        return hosts[:MAX_SERVERS] or [(destination.host, port)]

    def _describe(self, relay: EffectiveRelay, destination: Destination, root: str) -> None:
        """Fill in what the settings say about one server, and what of it can not work."""
        parameters = relay.parameters
        self._describe_tls(relay, destination, root)
        relay.mechanisms = sasl_lookup.mechanisms(parameters, self._plugins)
        relay.discarded = frozenset(name.lower() for name in parameters.names("smtp_discard_ehlo_keywords"))
        if parameters.get("smtp_sasl_password_maps"):
            sender = relay.way.sender
            keys = address_keys(sender, parameters.get("recipient_delimiter"), self._router.is_local) if sender else []
            relay.lookup = sasl_lookup.look_up(parameters, self._maps, relay.host, destination, relay.port, keys)
        relay.logged_in_by = oauth_relays.service_at(relay.host, relay.port)
        relay.unresolvable = self._unresolvable(relay)
        relay.family, relay.source_address, ignored = local_files.source_address(parameters, local_files.families(parameters))
        resolver = local_files.resolver_of_chroot(root) if relay.chroot else ""
        relay.notes += [note for note in (ignored, resolver) if note]
        checks.check(relay)

    def _unresolvable(self, relay: EffectiveRelay) -> str:
        """Why smtp(8) finds no address where this host does: it asks DNS only, if it is not told otherwise (smtp_host_lookup)."""
        native = "native" in relay.parameters.names("smtp_host_lookup")
        if native or not self._ask_dns or not local_files.is_in_hosts_file(relay.host):
            return ""
        try:
            answers = [dns.query(relay.host, rdtype, self._deadline) for rdtype in (dns.A, dns.AAAA)]
        except SmtpError:
            answers = []
        if any(answer.records for answer in answers):
            return ""
        if not answers or any(answer.failed for answer in answers):
            relay.unclear.append(f"the name {relay.host}, which is in /etc/hosts, while no name server answers for it")
            return ""
        return f"{relay.host} is in /etc/hosts but not in DNS, and smtp_host_lookup = {relay.parameters.get('smtp_host_lookup')}"

    def _describe_tls(self, relay: EffectiveRelay, destination: Destination, root: str) -> None:
        try:
            tls_policy.global_level(relay.parameters)
        except tls_policy.PolicyError as error:
            relay.crash = str(error)
            return
        try:
            relay.policy = tls_policy.policy_for(destination.text, relay.parameters, self._maps)
        except tls_policy.PolicyError as error:
            relay.policy_error = str(error)
            return
        if tls_policy.engine_is_wanted(relay.parameters):
            relay.tls_files = local_files.tls_files(relay.parameters, root, relay.policy.trust_anchors)
