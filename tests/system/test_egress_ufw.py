# SPDX-License-Identifier: GPL-3.0-or-later
"""The way out through ufw 0.36 and 0.36.2, whose administrator denies what goes in and what goes out."""

from __future__ import annotations

import pytest
from opened_lab import CLEAN, GUARD, Servers, life

CLOSE = """
set -e
apt-get install -qq -y ufw iptables >/dev/null 2>&1
systemctl start nftables
ufw default deny incoming; ufw default deny outgoing; ufw allow 22/tcp; ufw allow out 53; ufw deny out 587/tcp; ufw reject out 465/tcp
ufw --force enable
"""
REMOVE = "ufw disable; apt-get purge -qq -y ufw >/dev/null 2>&1; rm -rf /etc/ufw\n"
#: Rules and files of ufw. Chains have no order among themselves, their rules have.
RULES = r"""
for save in iptables-save ip6tables-save; do echo $save; $save | sed -n 's/^\(:[^ ]* [^ ]*\) .*/\1/p; /^-A /p' | sort --stable --key 1,2; done
cd /etc; cat default/ufw ufw/*.conf ufw/*.rules ufw/*.init
"""


@pytest.fixture(scope="module")
def servers(trio, tmp_path_factory):
    servers = Servers(trio, tmp_path_factory.mktemp("ufw"))
    try:
        servers.shell(CLOSE)
        yield servers
    finally:
        servers.shell(REMOVE + CLEAN)


def test_a_life_with_ufw(servers):
    """What an administrator denied before does not win. nftables.service, whose file lets everything out, has nothing to say in it."""
    again = ["ufw reload", "systemctl restart ufw", "ufw disable; ufw --force enable"]
    life(servers, manager="ufw", chain="ufw-user-output", rules=RULES, again=again)


def test_what_ufw_could_not_load_is_named_and_not_made_worse(servers):
    servers.shell("sed -i 's/^-A ufw-before-input -i lo/& --broken/' /etc/ufw/before.rules")
    untouched = servers.shell(RULES)
    for name, result in servers.refused(GUARD).items():
        assert "/etc/ufw/before.rules is broken" in result["msg"] and "do not run 'ufw reload'" in result["msg"], (name, result)
    assert servers.shell(RULES) == untouched
    servers.require_login_by_ssh()
