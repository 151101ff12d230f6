# SPDX-License-Identifier: GPL-3.0-or-later
"""The way out through iptables and ip6tables that drop by default, in the nft variant and the legacy one, restored by netfilter-persistent."""

from __future__ import annotations

import pytest
from opened_lab import CLEAN, GUARD, ROLE, Servers, life

INSTALL = """
set -e
if [ ! -e /usr/share/netfilter-persistent/plugins.d/15-ip4tables ]; then
    printf 'iptables-persistent iptables-persistent/autosave_v%s boolean false\\n' 4 6 | debconf-set-selections
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -qq -y iptables-persistent >/dev/null 2>&1 || { apt-get update -qq; apt-get install -qq -y iptables-persistent >/dev/null 2>&1; }
fi
for program in iptables ip6tables; do update-alternatives --quiet --set $program /usr/sbin/$program-VARIANT; done
"""
CLOSE = """
for program in iptables ip6tables; do
    $program -P OUTPUT ACCEPT; $program -F OUTPUT; $program -F INPUT
    $program -A INPUT -i lo -j ACCEPT
    $program -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
    $program -A INPUT -p tcp --dport 22 -j ACCEPT
    $program -A OUTPUT -o lo -j ACCEPT
    $program -A OUTPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
    $program -A OUTPUT -p udp --dport 53 -j ACCEPT
    $program -A OUTPUT -p tcp -m multiport --dports 22,53,80,443 -m comment --comment "what \\"all\\" need" -j ACCEPT
    $program -A OUTPUT -m limit --limit 6/min -j LOG --log-prefix "going nowhere: "
    $program -P INPUT DROP; $program -P FORWARD DROP; $program -P OUTPUT DROP
done
netfilter-persistent save >/dev/null 2>&1
systemctl enable --quiet netfilter-persistent; systemctl restart netfilter-persistent
"""
# An empty table stays where the legacy variant was used; it stops nothing.
REMOVE = """
systemctl disable --quiet --now netfilter-persistent; rm -f /etc/iptables/rules.* /usr/share/netfilter-persistent/plugins.d/90-outpost-smtp
for program in iptables ip6tables; do
    printf '*filter\\n:INPUT ACCEPT\\n:FORWARD ACCEPT\\n:OUTPUT ACCEPT\\nCOMMIT\\n' | $program-restore
    update-alternatives --quiet --auto $program
done
"""
RULES = "{ iptables-save; ip6tables-save; cat /etc/iptables/rules.*; } | sed 's/ \\[.*//; /^#/d'"


@pytest.fixture(params=["nft", "legacy"])
def variant(request):
    return request.param


@pytest.fixture
def servers(variant, trio, tmp_path):
    servers = Servers(trio, tmp_path)
    servers.shell(CLEAN)
    servers.shell(INSTALL.replace("VARIANT", variant) + CLOSE)
    yield servers
    servers.shell(REMOVE + CLEAN)


def test_a_life_with_iptables(servers, variant):
    life(
        servers,
        manager="iptables",
        chain="iptables-legacy filter OUTPUT" if variant == "legacy" else "ip filter OUTPUT",
        rules=RULES,
        again=[
            "systemctl restart netfilter-persistent",
            "netfilter-persistent restart",
            "netfilter-persistent reload",
            "netfilter-persistent flush; netfilter-persistent start",
        ],
    )


# Put before the command in PATH, it kills the module that runs it, and itself, at the restore that opens the ways.
KILLER = """
cat > /root/killer <<'EOF'
#!/bin/sh
case "$*" in
    *--test*) ;;
    *--noflush*) FIRST; kill -9 $PPID $$ ;;
esac
exec /usr/sbin/xtables-VARIANT-multi iptables-restore "$@"
EOF
chmod +x /root/killer
mv /usr/sbin/iptables-VARIANT-restore /root/spared; mv /root/killer /usr/sbin/iptables-VARIANT-restore
"""
SPARE = "mv /root/spared /usr/sbin/iptables-VARIANT-restore"
SAVED = "iptables-save | sed 's/ \\[.*//; /^#/d'"


def test_a_run_that_is_killed_leaves_the_old_or_the_new_ways(servers, variant):
    old = servers.shell(SAVED)
    seen = []
    for first in (":", '/usr/sbin/xtables-VARIANT-multi iptables-restore "$@"'):
        servers.shell(KILLER.replace("FIRST", first).replace("VARIANT", variant))
        try:
            assert servers.run(ROLE, GUARD).status != 0
        finally:
            servers.shell(SPARE.replace("VARIANT", variant))
        seen.append(servers.shell(SAVED))
        servers.require_login_by_ssh()
    assert seen[0] == old != seen[1]
    servers.role(GUARD)
    assert all(not result["changed"] for result in servers.role(GUARD).values())
    assert servers.shell(SAVED) == seen[1]
    servers.require_guarded("healing")


def test_what_is_ours_is_never_saved(servers):
    """Beside rules of others that come and go, such as those of fail2ban."""
    servers.shell("iptables -N STRANGERS; iptables -A STRANGERS -d 203.0.113.9 -j DROP; iptables -I OUTPUT -j STRANGERS")
    saved = "netfilter-persistent save >/dev/null 2>&1; cat /etc/iptables/rules.* | sed 's/ \\[.*//; /^#/d'"
    before = servers.shell(saved)
    servers.role(GUARD)
    assert servers.shell(saved) == before
    servers.require_guarded("saving")
    servers.role({"smtp_egress_state": "absent"})
    assert servers.shell(saved) == before


def test_legacy_rules_beside_those_of_nft(trio, tmp_path):
    """Both drop by default: both are named, and neither is touched."""
    servers = Servers(trio, tmp_path)
    servers.shell(CLEAN)
    servers.shell(INSTALL.replace("VARIANT", "legacy") + DROP_BY_LEGACY)
    servers.shell("nft -f -", input=BOTH)
    rules = "iptables-save | sed 's/ \\[.*//; /^#/d'; nft --stateless list ruleset"
    try:
        untouched = servers.shell(rules)
        for name, result in servers.refused(GUARD).items():
            assert "the legacy iptables" in result["msg"] and "chain 'inet filter output'" in result["msg"], (name, result)
        for name, result in servers.refused({**GUARD, "smtp_egress_manager": "iptables"}).items():
            assert "chain 'inet filter output' stops mail" in result["msg"], (name, result)
        for name, result in servers.refused({**GUARD, "smtp_egress_manager": "nftables"}).items():
            assert "chain 'iptables-legacy filter OUTPUT' stops mail" in result["msg"], (name, result)
        assert servers.shell(rules) == untouched
        servers.require_login_by_ssh()
    finally:
        servers.shell(REMOVE + CLEAN)


DROP_BY_LEGACY = """
iptables -A OUTPUT -p tcp --sport 22 -j ACCEPT
iptables -A OUTPUT -o lo -j ACCEPT
iptables -A OUTPUT -p udp -j ACCEPT
iptables -P OUTPUT DROP
"""
BOTH = """
table inet filter {
	chain output {
		type filter hook output priority 0; policy drop;
		ct state established accept
		oifname "lo" accept
		meta l4proto udp accept
	}
}
"""
