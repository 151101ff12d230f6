# SPDX-License-Identifier: GPL-3.0-or-later
"""The way out through iptables and ip6tables that drop by default, in the nft variant and the legacy one, restored by netfilter-persistent."""

from __future__ import annotations

import pytest
from closed_servers import iptables
from opened_lab import CLEAN, Servers, life


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_a_life_with_iptables(variant, trio, tmp_path):
    """The rules that are kept are among those that are compared, so what is ours is never saved."""
    servers, closed = Servers(trio, tmp_path), iptables(variant)
    try:
        servers.shell(closed.close)
        life(
            servers,
            manager="iptables",
            chain="iptables-legacy filter OUTPUT" if variant == "legacy" else "ip filter OUTPUT",
            rules=closed.rules,
            again=[
                "systemctl restart netfilter-persistent",
                "netfilter-persistent save 2>&1; netfilter-persistent restart",
                "netfilter-persistent reload",
                "netfilter-persistent flush; netfilter-persistent start",
            ],
            beside=False,
        )
    finally:
        servers.shell(closed.remove + CLEAN)
