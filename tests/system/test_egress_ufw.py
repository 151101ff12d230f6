# SPDX-License-Identifier: GPL-3.0-or-later
"""The way out through ufw 0.36 and 0.36.2, whose administrator denies what goes in and what goes out."""

from __future__ import annotations

import pytest
from opened_lab import CLEAN, GUARD, Servers, life

CLOSE = """
set -e
apt-get install -qq -y ufw iptables >/dev/null 2>&1
ufw default deny incoming; ufw default deny outgoing; ufw allow 22/tcp; ufw allow out 53
ufw --force enable
"""
REMOVE = "ufw disable; apt-get purge -qq -y ufw >/dev/null 2>&1; rm -rf /etc/ufw\n"
#: Rules and files of ufw. Chains have no order among themselves, their rules have.
RULES = r"""
for save in iptables-save ip6tables-save; do echo $save; $save | sed -n 's/^\(:[^ ]* [^ ]*\) .*/\1/p; /^-A /p' | sort --stable --key 1,2; done
cd /etc; cat default/ufw ufw/*.conf ufw/*.rules ufw/*.init
"""


@pytest.fixture
def servers(trio, tmp_path):
    servers = Servers(trio, tmp_path)
    servers.shell(CLOSE)
    yield servers
    servers.shell(REMOVE + CLEAN)


def test_a_life_with_ufw(servers):
    again = ["ufw reload", "systemctl restart ufw", "ufw disable; ufw --force enable"]
    life(servers, manager="ufw", chain="ip filter OUTPUT", rules=RULES, again=again)


def test_what_an_administrator_did_to_ufw(servers):
    """An earlier deny does not win; and what ufw could not load is named, and not made worse."""
    servers.shell("ufw deny out 587/tcp; ufw reject out 465/tcp")
    for name, result in servers.role(GUARD).items():
        assert len(result["opened"]) == 2 and all(proof["ok"] for proof in result["proof"]), (name, result)
    servers.role({"smtp_egress_state": "absent"})

    servers.shell("sed -i 's/^-A ufw-before-input -i lo/& --broken/' /etc/ufw/before.rules")
    untouched = servers.shell(RULES)
    for name, result in servers.refused(GUARD).items():
        assert "/etc/ufw/before.rules is broken" in result["msg"] and "do not run 'ufw reload'" in result["msg"], (name, result)
    assert servers.shell(RULES) == untouched
    servers.require_login_by_ssh()
