# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that are killed when they open the ways, and rules of two managers that both drop: something else on each server, at the same time."""

from __future__ import annotations

from closed_servers import NFTABLES, install_iptables, iptables
from opened_lab import CLEAN, GUARD, LOAD, OPENED, ROLE, Servers

VARIANTS = {"debian11": "legacy", "debian12": "nft"}
CLOSED = {**{server: iptables(variant) for server, variant in VARIANTS.items()}, "debian13": NFTABLES}

# In place of the command, it kills the module that runs it, and itself, at the load that opens the ways.
_KILL_NFT = """
cat > /usr/local/sbin/nft <<'END'
#!/bin/sh
if [ "$*" = '-f -' ]; then
    text=$(cat)
    case "$text" in *'add chain inet filter'*) FIRST; kill -9 $PPID $$ ;; esac
    printf '%s\\n' "$text" | exec /usr/sbin/nft "$@"
fi
exec /usr/sbin/nft "$@"
END
chmod +x /usr/local/sbin/nft
"""
_KILL_IPTABLES = """
cat > /root/killer <<'END'
#!/bin/sh
case "$*" in
    *--test*) ;;
    *--noflush*) FIRST; kill -9 $PPID $$ ;;
esac
exec /usr/sbin/xtables-VARIANT-multi iptables-restore "$@"
END
chmod +x /root/killer
mv /usr/sbin/iptables-VARIANT-restore /root/spared; mv /root/killer /usr/sbin/iptables-VARIANT-restore
"""
SPARING = {
    "debian13": "rm -f /usr/local/sbin/nft",
    **{server: f"[ ! -L /root/spared ] || mv /root/spared /usr/sbin/iptables-{variant}-restore" for server, variant in VARIANTS.items()},
}


def killing(*, after: bool) -> dict[str, str]:
    """By server: a script by which the run is killed before the rules are loaded, or after."""
    first = "printf '%s\\n' \"$text\" | /usr/sbin/nft -f -" if after else ":"
    scripts = {"debian13": _KILL_NFT.replace("FIRST", first)}
    for server, variant in VARIANTS.items():
        first = '/usr/sbin/xtables-VARIANT-multi iptables-restore "$@"' if after else ":"
        scripts[server] = _KILL_IPTABLES.replace("FIRST", first).replace("VARIANT", variant)
    return scripts


def test_a_run_that_is_killed_leaves_the_old_or_the_new_ways(trio, tmp_path):
    servers = Servers(trio, tmp_path)
    rules = {name: closed.rules for name, closed in CLOSED.items()}
    try:
        servers.shell({name: closed.close for name, closed in CLOSED.items()})
        old = servers.shell(rules)
        seen = []
        for after in (False, True):
            servers.shell(killing(after=after))
            run = servers.run(ROLE, GUARD)
            assert all(result["failed"] for (result,) in servers.results(run, LOAD).values()), run.output
            servers.shell(SPARING)
            seen.append(servers.shell(rules))
            servers.require_login_by_ssh()
        assert seen[0] == old and all(seen[1][name] != old[name] for name in servers.names)
        run = servers.run(OPENED, GUARD)
        assert run.status == 0, run.output
        for name, (healed, again) in servers.results(run, LOAD).items():
            assert healed["changed"] and not again["changed"], (name, again["diff"])
        assert servers.shell(rules) == seen[1]
        servers.require_guarded("healing")
    finally:
        servers.shell({name: f"{SPARING[name]}\n{closed.remove}{CLEAN}" for name, closed in CLOSED.items()})


DROP_BY_LEGACY = """
iptables -A OUTPUT -p tcp --sport 22 -j ACCEPT
iptables -A OUTPUT -o lo -j ACCEPT
iptables -A OUTPUT -p udp -j ACCEPT
iptables -P OUTPUT DROP
"""
DROP_BY_NFT = """
table inet filter {
    chain output {
        type filter hook output priority 0; policy drop;
        ct state established accept
        oifname "lo" accept
        meta l4proto udp accept
    }
}
"""


def test_two_managers_that_both_drop_are_named_and_neither_is_touched(trio, tmp_path):
    """Whoever is to open the way, the other one's rules would still stop mail."""
    servers = Servers(trio, tmp_path)
    rules = "iptables-save | sed 's/ \\[.*//; /^#/d'; nft --stateless list ruleset"
    named = {
        "auto": ("more than one manager", "the legacy iptables has rules", "chain 'inet filter output'"),
        "iptables": ("chain 'inet filter output' stops mail",),
        "nftables": ("chain 'iptables-legacy filter OUTPUT' stops mail",),
    }
    wanted = dict(zip(servers.names, named))
    try:
        servers.shell(install_iptables("legacy") + DROP_BY_LEGACY)
        servers.shell("nft -f -", input=DROP_BY_NFT)
        untouched = servers.shell(rules)
        results = servers.refused({**GUARD, "smtp_egress_manager": f"{{{{ {wanted}[inventory_hostname] }}}}"})
        for name, result in results.items():
            assert all(words in result["msg"] for words in named[wanted[name]]), (name, result)
        assert servers.shell(rules) == untouched
        servers.require_login_by_ssh()
    finally:
        servers.shell(iptables("legacy").remove + CLEAN)
