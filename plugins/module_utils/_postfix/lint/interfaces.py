# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Addresses that Postfix is to listen on and can not: it ends with a fatal error, every program of it or master(8)."""

from __future__ import annotations

import ipaddress
import re
import socket
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import local_files
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import Finding, finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.instance import MASTER, Instance

_NAME, _PROTOCOLS = "inet_interfaces", "inet_protocols"
_FATAL = re.compile(r"no local interface found for ([0-9A-Fa-f.:]+)")


def check(instance: Instance) -> t.Iterator[Finding]:
    family = local_files.families(instance.parameters)
    for name in instance.parameters.names(_NAME):
        for address in _addresses(name):
            wanted = family in ("any", f"ipv{address.version}")
            if wanted and not local_files.is_own_address(str(address)):
                yield _missing(instance.place(_NAME), str(address), name)
    for service in instance.settings.listening():
        yield from _service(instance, service, family)


def of_complaint(text: str) -> t.Optional[Finding]:
    """The same from what postconf(1) said when it ended for that very reason."""
    match = _FATAL.search(text)
    return _missing("main.cf", match[1], match[1]) if match else None


def _addresses(name: str) -> t.List[t.Union[ipaddress.IPv4Address, ipaddress.IPv6Address]]:
    """An address, or those of a name in hosts(5); DNS is not asked."""
    try:
        return [ipaddress.ip_address(name.strip("[]"))]
    except ValueError:
        return [ipaddress.ip_address(address) for address in local_files.addresses_in_hosts_file(name)]


def _service(instance: Instance, service: str, family: str) -> t.Iterator[Finding]:
    """A service with an address of its own, such as ``127.0.0.1:10025``; names are left to the resolver."""
    host = service.rpartition(":")[0].strip("[]")
    for kind, version in ((socket.AF_INET, "ipv4"), (socket.AF_INET6, "ipv6")):
        if not local_files.is_address(kind, host):
            continue
        place = f"{MASTER}: {service}"
        if family not in ("any", version):
            found = f"{service} listens on an address that {_PROTOCOLS} = {instance.parameters.get(_PROTOCOLS)} leaves out"
            remedy = f"Set {_PROTOCOLS} = all, or name an address of the family that it has (a relay of role postfix_relay: family: {family})."
            yield finding("lint_listen_address", place, found, [service, _PROTOCOLS], remedy=remedy)
        elif local_files.obstacle_to(kind, host):
            yield finding("lint_listen_address", place, f"{service} listens on an address that no interface of this host has", [service])


def _missing(place: str, address: str, name: str) -> Finding:
    found = f"{_NAME} has {name}" + (f", which is {address}" if name != address else "") + ", and no interface of this host has that address"
    return finding("lint_interface_missing", place, found, [_NAME])
