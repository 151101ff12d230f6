# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Addresses that inet_interfaces names and that this host does not have: every program of Postfix ends with a fatal error."""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import local_files
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import Finding, finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.instance import Instance

_NAME = "inet_interfaces"
_FATAL = re.compile(r"no local interface found for ([0-9A-Fa-f.:]+)")


def check(instance: Instance) -> t.Iterator[Finding]:
    family = local_files.families(instance.parameters)
    for name in instance.parameters.names(_NAME):
        for address in _addresses(name):
            wanted = family in ("any", f"ipv{address.version}")
            if wanted and not local_files.is_own_address(str(address)):
                yield _missing(instance.place(_NAME), str(address), name)


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


def _missing(place: str, address: str, name: str) -> Finding:
    found = f"{_NAME} has {name}" + (f", which is {address}" if name != address else "") + ", and no interface of this host has that address"
    return finding("lint_interface_missing", place, found, [_NAME])
