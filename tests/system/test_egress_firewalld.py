# SPDX-License-Identifier: GPL-3.0-or-later
"""The way out through firewalld 0.9, 1.3 and 2.3, whose administrator drops what goes in and what goes out."""

from __future__ import annotations

import pytest
from opened_lab import CLEAN, GUARD, LIST_STRANGERS, LOAD, OPENED, ROLE, STRANGERS, Servers, life

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


@pytest.fixture(scope="module")
def servers(trio, tmp_path_factory):
    servers = Servers(trio, tmp_path_factory.mktemp("firewalld"))
    try:
        servers.shell(CLOSE)
        yield servers
    finally:
        servers.shell(REMOVE + CLEAN)


def test_what_an_administrator_did_for_now_is_not_taken_away(servers):
    """By the reload that firewalld needs, so there is none."""
    servers.shell("firewall-cmd --add-port 8080/tcp")
    rules = servers.shell(RULES)
    for name, result in servers.refused(GUARD).items():
        assert "ports run as '8080/tcp'" in result["msg"] and "--runtime-to-permanent" in result["msg"], (name, result)
    assert servers.shell(RULES) == rules
    servers.shell("firewall-cmd --remove-port 8080/tcp")


def test_a_life_with_firewalld(servers):
    """Before 2.0 a reload empties the tables of iptables; the strangers there do not lose anything by ours."""
    again = ["firewall-cmd --reload", COMPLETE_RELOAD, f"systemctl restart firewalld; {STARTED}"]
    life(servers, manager="firewalld", chain="filter_OUT_policy_deny-out", rules=RULES, again=again, started=STARTED)


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
    servers.shell(f"nft list table ip strangers >/dev/null 2>&1 || {{ {STRANGERS} }}\n{KILLER}")
    strangers = servers.shell(LIST_STRANGERS)
    run = servers.run(ROLE, GUARD)
    assert all(result["failed"] for (result,) in servers.results(run, LOAD).values()), run.output
    servers.shell("rm /usr/local/sbin/firewall-cmd; nft list chain inet firewalld filter_OUT_policy_outpost-smtp_allow")
    servers.require_login_by_ssh()
    run = servers.run(OPENED, GUARD)
    assert run.status == 0, run.output
    for name, (completed, again) in servers.results(run, LOAD).items():
        assert completed["changed"] and not again["changed"], (name, again["diff"])
    servers.require_guarded("healing")
    assert servers.shell(LIST_STRANGERS) == strangers
