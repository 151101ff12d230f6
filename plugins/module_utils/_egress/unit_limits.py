# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""What systemd keeps from the processes of the mail server: limits of its unit that no firewall rule shows.

A test over SSH runs in another unit and does not feel them. So they are read: addresses that a unit may not speak to
(IPAddressDeny=, an eBPF program that drops in silence), families of sockets, and a network without any way out.
Sources: systemd.resource-control(5), systemd.exec(5).
"""

from __future__ import annotations

import ipaddress
import os
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import nft
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Run

#: Units that run Postfix: Debian 11 and 12 start it as an instance, and their postfix.service runs /bin/true.
UNITS = ("postfix.service", "postfix@-.service")
_RUNS_NOTHING = re.compile(r"\bpath=(/usr)?/bin/true\b")
_PROPERTIES = ("Id", "LoadState", "ExecStart", "Slice", "IPAddressAllow", "IPAddressDeny", "RestrictAddressFamilies", "PrivateNetwork")
#: There where cgroups are of version 2 only; systemd enforces IPAddressDeny= nowhere else (bpf_firewall_supported()).
_UNIFIED = "/sys/fs/cgroup/cgroup.controllers"

#: systemctl shows a list that allows, or one that denies behind a tilde: a tilde alone denies nothing, and nothing at all allows none.
_ANY_FAMILY = "~"

_Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
_Properties = t.Dict[str, str]
#: Words that stand for networks in unit files, systemd.resource-control(5). systemctl mostly shows the networks.
_WORDS = {
    "any": ("0.0.0.0/0", "::/0"),
    "localhost": ("127.0.0.0/8", "::1/128"),
    "link-local": ("169.254.0.0/16", "fe80::/64"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
}


class Limit(t.NamedTuple):
    """A setting of a unit that keeps it from an address; from all of them where ``address`` is empty.

    ``lines`` are what a drop-in for the unit needs to lift it.
    """

    unit: str
    setting: str
    address: str
    lines: t.List[str]

    def __str__(self) -> str:
        return f"unit {self.unit} may not connect to {self.address or 'anything'}: {self.setting}"

    def remedy(self) -> str:
        return f"systemctl edit {self.unit}, add [Service] and {' and '.join(self.lines)}, then systemctl restart {self.unit}"


def find(addresses: t.Sequence[str], run: Run, root: str = "") -> t.List[Limit]:
    """The limits that keep the mail server's unit from any of the addresses; empty without systemd or such a unit."""
    unit = _unit_of_postfix(run) if nft.find("systemctl") else None
    if unit is None:
        return []
    name = unit["Id"]
    if unit.get("PrivateNetwork") == "yes":
        return [Limit(name, "PrivateNetwork=yes", "", ["PrivateNetwork=no"])]
    enforced = os.path.exists(root + _UNIFIED)
    lists = _address_lists(unit, run) if enforced else ([], [])
    limits = [_family_limit(name, unit.get("RestrictAddressFamilies", _ANY_FAMILY), address) for address in addresses]
    limits += [_address_limit(name, *lists, address) for address in addresses]
    return [limit for limit in limits if limit is not None]


def _unit_of_postfix(run: Run) -> t.Optional[_Properties]:
    """The unit whose processes send, whether it is started or not."""
    found = [unit for unit in _show(run, *UNITS) if unit.get("LoadState") == "loaded"]
    return next((unit for unit in found if not _RUNS_NOTHING.search(unit.get("ExecStart", ""))), None)


def _address_lists(unit: _Properties, run: Run) -> t.Tuple[t.List[_Network], t.List[_Network]]:
    """The networks that are allowed and denied; those of the slices above a unit count as well."""
    above = unit.get("Slice", "")
    # A slice is called by its way from the root slice: a-b.slice is below a.slice.
    words = above[: -len(".slice")].split("-") if above.endswith(".slice") and above != "-.slice" else []
    slices = ["-.slice", *("-".join(words[: count + 1]) + ".slice" for count in range(len(words)))] if above else []
    units = [unit, *(_show(run, *slices) if slices else [])]
    allowed = [network for one in units for network in _networks(one.get("IPAddressAllow", ""))]
    denied = [network for one in units for network in _networks(one.get("IPAddressDeny", ""))]
    return allowed, denied


def _address_limit(unit: str, allowed: t.Sequence[_Network], denied: t.Sequence[_Network], address: str) -> t.Optional[Limit]:
    """What is allowed may pass; else what is denied may not; all the rest may."""
    parsed = ipaddress.ip_address(address)
    if any(parsed in network for network in allowed):
        return None
    by = next((network for network in denied if parsed in network), None)
    return Limit(unit, f"IPAddressDeny={by}", address, [f"IPAddressAllow={address}"]) if by is not None else None


def _family_limit(unit: str, families: str, address: str) -> t.Optional[Limit]:
    wanted = "AF_INET6" if ":" in address else "AF_INET"
    denying = families.startswith("~")
    if (wanted in families.lstrip("~").split()) != denying:
        return None
    return Limit(unit, f"RestrictAddressFamilies={families or 'none'}", address, ["RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK"])


def _networks(text: str) -> t.List[_Network]:
    found = []
    for word in text.split():
        for network in _WORDS.get(word, (word,)):
            try:
                found.append(ipaddress.ip_network(network, strict=False))
            except ValueError:
                continue
    return found


def _show(run: Run, *units: str) -> t.List[_Properties]:
    """The properties of units, as systemctl shows them: an empty line between two units."""
    code, out, _err = run(["systemctl", "show", "--no-pager", f"--property={','.join(_PROPERTIES)}", "--", *units], "")
    blocks = [block.splitlines() for block in out.split("\n\n")] if code == 0 else []
    found = [dict(line.partition("=")[::2] for line in block if "=" in line) for block in blocks]
    return [unit for unit in found if "Id" in unit]
