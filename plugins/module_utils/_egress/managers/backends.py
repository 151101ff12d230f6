# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""The managers by name. Each is loaded only where it is asked for: a host has one."""

from __future__ import annotations

from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Manager
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Run

NAMES = ("nftables", "firewalld", "ufw", "iptables")


def make(name: str, run: Run, root: str = "") -> Manager:
    """The manager of that name. Raises :class:`EgressError` for another name."""
    if name == "firewalld":
        from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.firewalld import Firewalld

        return Firewalld(run, root)
    if name == "ufw":
        from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.ufw import Ufw

        return Ufw(run, root)
    if name == "iptables":
        from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.iptables import Iptables

        return Iptables(run, root)
    if name == "nftables":
        from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.nftables import Nftables

        return Nftables(run, root)
    raise EgressError(f"no firewall manager is called {name!r}; known are {', '.join(NAMES)}")
