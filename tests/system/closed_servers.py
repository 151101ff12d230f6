# SPDX-License-Identifier: GPL-3.0-or-later
"""How an administrator closes a server by nftables and by iptables: what goes in and what goes out is dropped, but for the little that is needed."""

from __future__ import annotations

import typing as t


class Closed(t.NamedTuple):
    """The script ``close`` makes the rules, ``remove`` takes them away, and ``rules`` prints them, in force and as they are kept."""

    close: str
    remove: str
    rules: str


_CLOSE_BY_NFTABLES = """
set -e
[ -x /usr/sbin/iptables ] || apt-get install -qq -y iptables >/dev/null 2>&1
cp -n /etc/nftables.conf /root/nftables.conf
cat > /etc/nftables.conf <<'END'
#!/usr/sbin/nft -f
flush ruleset
table inet filter {
    set admins {
        type ipv4_addr
        elements = { 192.0.2.1 }
    }
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        iif "lo" accept
        tcp dport 22 accept
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
    }
    chain output {
        type filter hook output priority 0; policy drop;
        ct state established,related accept
        oifname "lo" accept
        meta l4proto { tcp, udp } th dport 53 accept
        tcp dport { 22, 80, 443 } accept
        ip daddr @admins accept
        tcp dport 25 counter reject with tcp reset
    }
}
END
systemctl enable --quiet --now nftables
"""
NFTABLES = Closed(
    _CLOSE_BY_NFTABLES,
    "systemctl disable --quiet --now nftables; mv /root/nftables.conf /etc/nftables.conf\n",
    "nft --stateless list table inet filter; cat /etc/nftables.conf",
)

_INSTALL_IPTABLES = """
set -e
if [ ! -e /usr/share/netfilter-persistent/plugins.d/15-ip4tables ]; then
    printf 'iptables-persistent iptables-persistent/autosave_v%s boolean false\\n' 4 6 | debconf-set-selections
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -qq -y iptables-persistent >/dev/null 2>&1 || { apt-get update -qq; apt-get install -qq -y iptables-persistent >/dev/null 2>&1; }
fi
for program in iptables ip6tables; do update-alternatives --quiet --set $program /usr/sbin/$program-VARIANT; done
"""
_CLOSE_BY_IPTABLES = """
for program in iptables ip6tables; do
    $program -P OUTPUT ACCEPT; $program -F OUTPUT; $program -F INPUT
    $program -A INPUT -i lo -j ACCEPT
    $program -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
    $program -A INPUT -p tcp --dport 22 -j ACCEPT
    $program -A OUTPUT -o lo -j ACCEPT
    $program -A OUTPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
    $program -A OUTPUT -p udp --dport 53 -j ACCEPT
    $program -A OUTPUT -p tcp -m multiport --dports 22,53,80,443 -m comment --comment "what \\"all\\" need" -j ACCEPT
    $program -N STRANGERS; $program -A STRANGERS -p tcp --dport 9999 -j DROP; $program -A OUTPUT -j STRANGERS
    $program -A OUTPUT -m limit --limit 6/min -j LOG --log-prefix "going nowhere: "
    $program -P INPUT DROP; $program -P FORWARD DROP; $program -P OUTPUT DROP
done
netfilter-persistent save >/dev/null 2>&1
systemctl enable --quiet netfilter-persistent; systemctl restart netfilter-persistent
"""
# An empty table stays where the legacy variant was used; it stops nothing.
_REMOVE_IPTABLES = """
systemctl disable --quiet --now netfilter-persistent; rm -f /etc/iptables/rules.* /usr/share/netfilter-persistent/plugins.d/90-outpost-smtp
for program in iptables ip6tables; do
    printf '*filter\\n:INPUT ACCEPT\\n:FORWARD ACCEPT\\n:OUTPUT ACCEPT\\nCOMMIT\\n' | $program-restore
    update-alternatives --quiet --auto $program
done
"""


def iptables(variant: str) -> Closed:
    """By variant "nft" or "legacy"."""
    rules = "{ iptables-save; ip6tables-save; cat /etc/iptables/rules.*; } | sed 's/ \\[.*//; /^#/d'"
    return Closed(install_iptables(variant) + _CLOSE_BY_IPTABLES, _REMOVE_IPTABLES, rules)


def install_iptables(variant: str) -> str:
    return _INSTALL_IPTABLES.replace("VARIANT", variant)
