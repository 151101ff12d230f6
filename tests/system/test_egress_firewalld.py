# SPDX-License-Identifier: GPL-3.0-or-later
"""The way out through firewalld 0.9, 1.3 and 2.3, whose administrator drops what goes in and what goes out."""

from __future__ import annotations

import pytest
from opened_lab import CLEAN, GUARD, ROLE, Servers, life

# polkit of Debian 13 does not start in a container, and D-Bus would wait for it; firewalld then does what root asks for.
# firewalld 0.9 drops by a policy's target also what belongs to connections that are established, so there rich rules drop.
CLOSE = """
set -e
systemctl --quiet mask polkit
apt-get install -qq -y firewalld iptables >/dev/null 2>&1
systemctl start firewalld
configure() { firewall-cmd --quiet --permanent "$@"; }
configure --zone public --set-target DROP
configure --new-policy deny-out
configure --policy deny-out --add-ingress-zone HOST
configure --policy deny-out --add-egress-zone ANY
configure --policy deny-out --add-service dns
case $(firewall-cmd --version) in
    0.*) for protocol in tcp udp; do configure --policy deny-out --add-rich-rule "rule priority=32767 protocol value=$protocol drop"; done ;;
    *) configure --policy deny-out --set-target DROP ;;
esac
firewall-cmd --quiet --reload
"""
REMOVE = "systemctl stop firewalld; apt-get purge -qq -y firewalld >/dev/null 2>&1; rm -rf /etc/firewalld; systemctl --quiet unmask polkit\n"
RULES = "nft --stateless list table inet firewalld; cd /etc/firewalld; find . -type f | sort | xargs tail -n +1\n"
#: systemd takes it for started when it is on the bus; until its rules are loaded it drops every new connection.
STARTED = "until firewall-cmd --state; do sleep 0.1; done"
# That of 0.9 unloads modules, and ends with all rules gone on a kernel that has none.
COMPLETE_RELOAD = "case $(firewall-cmd --version) in 0.*) [ -e /proc/modules ] || exit 0 ;; esac; firewall-cmd --complete-reload"
#: What others have: Docker, fail2ban and the like in iptables, and somebody in a table of nftables.
STRANGERS = """
iptables -w -N STRANGERS; iptables -w -A STRANGERS -d 203.0.113.9 -j DROP; iptables -w -I OUTPUT -j STRANGERS
iptables -w -t nat -A POSTROUTING -s 203.0.113.0/24 -j MASQUERADE; ip6tables -w -A INPUT -s 2001:db8::9 -j DROP
nft add table ip strangers; nft add chain ip strangers some; nft add rule ip strangers some tcp dport 9999 reject
"""
FOREIGN = "for save in iptables-save ip6tables-save; do $save | sed '/^#/d; s/ \\[.*//'; done; nft list table ip strangers"


@pytest.fixture
def servers(trio, tmp_path):
    servers = Servers(trio, tmp_path)
    servers.shell(CLOSE)
    yield servers
    servers.shell(REMOVE + CLEAN)


def test_a_life_with_firewalld(servers):
    again = ["firewall-cmd --reload", COMPLETE_RELOAD, f"systemctl restart firewalld; {STARTED}"]
    life(servers, manager="firewalld", chain="filter_OUT_policy_deny-out", rules=RULES, again=again, started=STARTED)


def test_what_others_have_and_what_an_administrator_did_for_now(servers):
    """The reload that firewalld needs, which before 2.0 empties the tables of iptables, takes nothing away; where it would, there is none."""
    servers.shell(STRANGERS)
    rules, foreign = servers.shell(RULES), servers.shell(FOREIGN)
    servers.role(GUARD)
    assert servers.shell(FOREIGN) == foreign
    servers.role({"smtp_egress_state": "absent"})
    assert servers.shell(FOREIGN) == foreign and servers.shell(RULES) == rules

    servers.shell("firewall-cmd --add-port 8080/tcp")
    rules = servers.shell(RULES)
    for name, result in servers.refused(GUARD).items():
        assert "ports run as '8080/tcp'" in result["msg"] and "--runtime-to-permanent" in result["msg"], (name, result)
    assert servers.shell(RULES) == rules and servers.shell(FOREIGN) == foreign
    servers.require_login_by_ssh()


# Put before the command in PATH, it kills the module that runs it, and itself, when firewalld has just reloaded.
KILLER = """
cat > /usr/local/sbin/firewall-cmd <<'EOF'
#!/bin/sh
[ "$*" != --reload ] || { /usr/bin/firewall-cmd "$@"; kill -9 $PPID $$; }
exec /usr/bin/firewall-cmd "$@"
EOF
chmod +x /usr/local/sbin/firewall-cmd
"""


def test_a_run_that_is_killed_is_completed_by_the_next_one(servers):
    """The way is open by then, and of what others have nothing is lost in the end."""
    servers.shell(STRANGERS + KILLER)
    foreign = servers.shell(FOREIGN)
    assert servers.run(ROLE, GUARD).status != 0
    servers.shell("rm /usr/local/sbin/firewall-cmd; nft list chain inet firewalld filter_OUT_policy_outpost-smtp_allow")
    servers.require_login_by_ssh()
    assert all(result["changed"] for result in servers.role(GUARD).values())
    servers.require_guarded("healing")
    assert servers.shell(FOREIGN) == foreign
    for name, result in servers.role(GUARD).items():
        assert not result["changed"], (name, result["diff"])
