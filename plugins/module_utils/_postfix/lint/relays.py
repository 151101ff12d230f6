# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""The relays that mail goes through: what is wrong with the settings of each, whatever its server does.

What can not work is found by checks.py, as it is for the login test; here are its places, and what works but should not.
"""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import split_list
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.effective_relay import EffectiveRelay, Problem
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import Finding, finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.instance import Instance
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.routing import TRANSPORT_MAPS

#: The parameters that each finding of checks.py and effective.py is about, the one to change first.
ABOUT: t.Dict[str, t.Tuple[str, ...]] = {
    "lint_ca_missing": ("smtp_tls_CAfile", "smtp_tls_CApath", "smtp_tls_security_level"),
    "lint_credential_lookup": ("smtp_sasl_password_maps",),
    "lint_credential_malformed": ("smtp_sasl_password_maps",),
    "lint_login_disabled": ("smtp_sasl_auth_enable", "smtp_sasl_password_maps"),
    "lint_login_without_maps": ("smtp_sasl_password_maps", "smtp_sasl_auth_enable"),
    "lint_no_credential": ("smtp_sasl_password_maps",),
    "lint_port_unknown": (),
    "lint_sasl_mechanism": ("smtp_sasl_mechanism_filter", "smtp_sasl_tls_security_options"),
    "lint_sasl_type": ("smtp_sasl_type",),
    "lint_tls_file": ("smtp_tls_CAfile",),
    "lint_tls_policy": ("smtp_tls_policy_maps",),
    "lint_transport_missing": (),
    "lint_wrappermode_level": ("smtp_tls_security_level", "smtp_tls_wrappermode"),
    "lint_wrappermode_missing": ("smtp_tls_wrappermode",),
    "lint_wrappermode_port": ("smtp_tls_wrappermode",),
}
_TRANSPORTS = ("default_transport", "relay_transport")
_CRASHES = "smtp(8) dies of it by signal 11 for every mail, and the log names no cause (Postfix 3.5 to 3.10, with smtp_tls_wrappermode = yes)."


def check(instance: Instance) -> t.Iterator[Finding]:
    for relay in instance.relays:
        for problem in relay.problems:
            if problem.lint and not _is_expected(instance, relay, problem):
                yield _of_problem(instance, relay, problem)
        if relay.host:
            yield from _mx_lookup(instance, relay)
            yield from _bounces(instance, relay)
            yield from _discarded(instance, relay)


def at(relay: EffectiveRelay) -> str:
    """What messages call a relay: the next hop as it is written, and the service for it."""
    return f"{relay.destination or relay.way.nexthop} by {relay.way.transport}"


def names_of(instance: Instance, relay: EffectiveRelay, about: t.Sequence[str]) -> t.List[str]:
    """What a finding about parameters of a relay is about."""
    found = [name for parameter in about for name in instance.names_of(parameter, relay.service)]
    return [*found, relay.way.transport, nexthop_parameter(relay)]


def nexthop_parameter(relay: EffectiveRelay) -> str:
    """The parameter that the next hop comes from; a transport without one of its own leaves it to the relayhost."""
    chosen_by = relay.way.chosen_by
    alone = chosen_by[-1] in _TRANSPORTS and relay.way.nexthop == relay.parameters.get("relayhost")
    return chosen_by[0] if alone else chosen_by[-1]


def is_direct(relay: EffectiveRelay) -> bool:
    """Whether the next hop names the server itself, so that it is known without asking DNS."""
    disabled = relay.parameters.get("smtp_dns_support_level").lower() == "disabled" or relay.parameters.flag("disable_dns_lookups")
    return relay.destination.startswith("[") or disabled


def is_local(relay: EffectiveRelay) -> bool:
    """Whether the relay is a program on this host, such as a filter, which nobody else can listen in to."""
    return relay.host.lower() in ("localhost", "localhost.localdomain") or (_is_address(relay.host) and ipaddress.ip_address(relay.host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _of_problem(instance: Instance, relay: EffectiveRelay, problem: Problem) -> Finding:
    about = ABOUT[problem.lint]
    if problem.lint == "lint_transport_missing":
        name = relay.way.chosen_by[-1]
        return finding(problem.lint, instance.place(name), problem.text, [name, relay.way.transport])
    if problem.lint == "lint_tls_file":
        about = (problem.text.partition(" ")[0],)
    place = instance.place(about[0], relay.service) if about else instance.place(nexthop_parameter(relay))
    why = _CRASHES if problem.lint == "lint_tls_file" and relay.wrappermode else ""
    return finding(problem.lint, place, f"{at(relay)}: {problem.text}", names_of(instance, relay, about), why=why)


def _is_expected(instance: Instance, relay: EffectiveRelay, problem: Problem) -> bool:
    """Whether a relay without a credential is none that should have one, or may have one by a name that only DNS knows.

    And whether a login that no password is left for has a plug-in that takes a token, as sasl-xoauth2 does.
    """
    if problem.lint == "lint_sasl_mechanism":
        return bool(relay.mechanisms.without_password(relay.mechanisms.installed))
    if problem.lint != "lint_no_credential" or relay.lookup.near:
        return False
    return bool(instance.not_asked) or is_local(relay) or TRANSPORT_MAPS in relay.way.chosen_by or not is_direct(relay)


def _mx_lookup(instance: Instance, relay: EffectiveRelay) -> t.Iterator[Finding]:
    if not is_direct(relay) and relay.login_enabled and "/" not in relay.destination:
        parameter = nexthop_parameter(relay)
        found = f"{at(relay)}: without brackets Postfix connects to the mail exchangers (MX) of that name"
        host, colon, port = relay.destination.partition(":")
        remedy = f"Write [{host}]{colon}{port}, there and as the key of its credential."
        yield finding("lint_relay_mx_lookup", instance.place(parameter), found, names_of(instance, relay, ()), remedy=remedy)


def _bounces(instance: Instance, relay: EffectiveRelay) -> t.Iterator[Finding]:
    if relay.kept_without_address or TRANSPORT_MAPS in relay.way.chosen_by or _is_address(relay.host):
        return
    what = "mail is returned at once (5.4.4) when the name has no address, as after a fault of the provider's DNS"
    found = f"{relay.way.nexthop} by {relay.way.transport}: {what}"
    first = split_list(relay.way.nexthop)[0]
    remedy = f"Give the transport '-o relayhost={first}' in master.cf; Postfix then keeps the mail (4.3.5)."
    yield finding("lint_relay_bounces", instance.place(nexthop_parameter(relay)), found, names_of(instance, relay, ()), remedy=remedy)


def _discarded(instance: Instance, relay: EffectiveRelay) -> t.Iterator[Finding]:
    """Settings under which smtp(8) never sees that the server takes logins."""
    name = "smtp_discard_ehlo_keywords"
    if relay.credential is not None and relay.login_enabled and "auth" in relay.discarded:
        found = f"{at(relay)}: there is a credential, and {name} makes Postfix overlook that the server offers AUTH"
        yield finding("lint_auth_discarded", instance.place(name, relay.service), found, names_of(instance, relay, (name,)))
