# SPDX-License-Identifier: GPL-3.0-or-later
"""The outbound firewall on a real kernel: what it closes and leaves open, whose rules it never touches, what it survives."""

from __future__ import annotations

import json
import subprocess

import pytest
from system_lab import RIG, SERVER

PLAY = "tests/system/plays/egress.yml"
LOAD = "outpost.smtp.smtp_egress : Load the outbound mail rules"
RELAYS = [
    {"name": "primary", "host": "smtp.provider.test", "port": 465},
    {"name": "second", "host": "smtp.provider.test", "port": 587},
]
# A user of every Debian takes the mail server's part, so that no Postfix is needed.
GUARD = {"outpost_smtp_relays": RELAYS, "smtp_egress_mode": "guard", "smtp_egress_user": "mail"}
ALLOW = {"outpost_smtp_relays": RELAYS, "smtp_egress_user": "mail"}
ABSENT = {"smtp_egress_state": "absent"}

CLEAN = """
rm -rf /usr/local/sbin/nft /usr/local/sbin/systemctl /etc/outpost-smtp /var/lib/outpost-smtp \
       /etc/systemd/system/outpost-smtp-egress.service /etc/systemd/system/*/outpost-smtp-egress.service \
       /etc/systemd/system/nftables.service.d
systemctl daemon-reload; systemctl stop nftables outpost-smtp-egress 2>/dev/null
nft flush ruleset
"""
ADDRESS = "getent ahostsv4 smtp.provider.test | awk '{ print $1; exit }'"
RULES = "nft list ruleset; nft --json list ruleset\n"
OWN = "nft --stateless list table inet outpost_smtp"
FILES = """
find /etc /var/lib/outpost-smtp -xdev -printf '%p %y %m %u %g %s %T@ %l\\n' 2>/dev/null | sort; systemctl list-unit-files --no-legend --no-pager
"""
# Run on the host as a given user: reached, refused, or the name of another error.
CONNECT = """
import os, pwd, socket, sys
user, host, port = sys.argv[1:]
entry = pwd.getpwnam(user)
os.setgroups([]); os.setgid(entry.pw_gid); os.setuid(entry.pw_uid)
try:
    socket.create_connection((host, int(port)), 5).close()
    print("reached")
except ConnectionRefusedError:
    print("refused")
except OSError as error:
    print(type(error).__name__)
"""

STRANGERS = """
table ip strangers {
	set hosts {
		type ipv4_addr
		elements = { 192.0.2.1, 192.0.2.2 }
	}
	chain input {
		type filter hook input priority 0; policy accept;
		ip saddr @hosts drop
	}
	chain output {
		type filter hook output priority 0; policy accept;
		tcp dport 9999 reject
	}
}
"""
DEFAULT_DENY = """
table inet filter {
	set relays {
		type ipv4_addr
	}
	chain input {
		type filter hook input priority 0; policy drop;
		ct state established,related accept
		iif "lo" accept
		tcp dport 22 accept
	}
	chain output {
		type filter hook output priority 0; policy drop;
		ct state vmap { established : accept, related : accept, invalid : drop }
		oifname "lo" accept
		udp dport 53 accept
		tcp dport { 22, 80, 443 } accept
	}
}
"""


class Host:
    """The server under test and the role that is run on it."""

    def __init__(self, lab, play):
        self.lab = lab
        self.play = play

    def shell(self, script, **options):
        return self.lab.shell(script, **options).stdout

    def load(self, rules):
        self.shell("nft -f -", input=rules)

    def run(self, given, *options):
        """Run the role; its last call of the module is in `loaded` (None if it was not called)."""
        run = self.play(PLAY, given, "--diff", *options)
        calls = [task for task in run.tasks if task["task"] == LOAD]
        run.loaded = calls[-1]["result"] if calls else None
        return run

    def changed(self, given, *options):
        """Run the role, which must succeed, and say whether it changed anything."""
        run = self.run(given, *options)
        assert run.status == 0, run.output
        return bool(run.changed())

    def connect(self, user, port, host="smtp.provider.test"):
        return self.shell(f"python3 - {user} {host} {port}", input=CONNECT).strip()

    def state(self):
        """Everything that the role could touch, exactly."""
        return self.shell(RULES + FILES)


@pytest.fixture
def host(lab, play):
    lab.shell(CLEAN)
    yield Host(lab, play)
    lab.shell(CLEAN)


def test_a_life_beside_the_rules_of_others(host):
    host.load(STRANGERS)
    untouched, rules, names = host.state(), host.shell(RULES), host.shell("find /etc | sort")

    predicted = host.run(GUARD, "--check")
    assert host.state() == untouched, "check mode touched the host"
    first = host.run(GUARD)
    assert first.status == 0 and first.loaded["changed"] and first.loaded["diff"] == predicted.loaded["diff"], first.output
    assert first.loaded["persistent"] and first.loaded["blocking_chains"] == []

    assert host.connect("mail", 465) == host.connect("mail", 587) == "reached"
    assert host.connect("mail", 25) == host.connect("nobody", 587) == host.connect("root", 465) == "refused"
    done = host.state()
    again = host.run(GUARD)
    assert not again.changed() and host.state() == done, again.output
    assert again.loaded["counters"] == {"accepted": 2, "refused": 3}

    predicted = host.run({**GUARD, **ABSENT}, "--check")
    assert host.state() == done, "check mode touched the host"
    removed = host.run({**GUARD, **ABSENT})
    assert removed.loaded["changed"] and removed.loaded["diff"] == predicted.loaded["diff"], removed.output
    assert host.shell(RULES) == rules
    assert host.shell("find /etc | sort") == names


def test_a_chain_that_drops_is_named_with_the_lines_to_add(host):
    host.load(DEFAULT_DENY)
    untouched = host.state()
    address = host.shell(ADDRESS).strip()
    lines = [f"ip daddr {{ {address} }} tcp dport {port} accept" for port in (465, 587)]
    for options in (["--check"], []):
        run = host.run(GUARD, *options)
        assert run.status != 0 and run.loaded["changed"] is False
        assert "chain 'inet filter output' stops mail" in run.loaded["msg"] and "its policy is drop" in run.loaded["msg"]
        assert run.loaded["blocking_chains"][0]["remedy"] == lines and all(line in run.loaded["msg"] for line in lines)
        assert host.state() == untouched
    subprocess.run([*RIG, "ssh", host.lab.name, SERVER, "true"], check=True, timeout=20)

    host.load("".join(f"add rule inet filter output {line}\n" for line in lines))
    foreign = host.shell(RULES)
    assert host.changed(GUARD)
    assert host.connect("mail", 587) == "reached" and host.connect("nobody", 587) == "refused"
    subprocess.run([*RIG, "ssh", host.lab.name, SERVER, "true"], check=True, timeout=20)
    assert host.changed(ABSENT)
    assert host.shell(RULES) == foreign


def test_what_a_set_lets_through_is_shown_by_a_packet(host):
    host.load(DEFAULT_DENY + "add rule inet filter output ip daddr @relays tcp dport { 465, 587 } accept\n")
    member = f"element inet filter relays {{ {host.shell(ADDRESS).strip()} }}\n"
    host.load("add " + member)
    predicted = host.run(GUARD, "--check")
    assert predicted.status == 0 and [entry["certain"] for entry in predicted.loaded["blocking_chains"]] == [False]
    opened = host.run(GUARD)
    assert opened.status == 0 and opened.loaded["blocking_chains"] == [], opened.output

    host.load("delete " + member)
    closed = host.run(GUARD)
    assert closed.status != 0 and "chain 'inet filter output'" in closed.loaded["msg"] and "did not get out" in closed.loaded["msg"]


def test_a_strangers_table_of_our_name_is_refused_and_left_alone(host):
    host.load("table inet outpost_smtp {\n\tchain theirs {\n\t}\n}\n")
    untouched = host.state()
    run = host.run(GUARD)
    assert run.status != 0 and "was not made by this module" in run.loaded["msg"], run.output
    assert not host.changed(ABSENT)
    assert host.state() == untouched


def test_what_somebody_flushed_or_edited_is_put_back(host):
    assert host.changed(GUARD)
    rules = host.shell(OWN)
    for damage in ("flush ruleset", "insert rule inet outpost_smtp output accept"):
        host.load(damage)
        assert host.changed(GUARD), damage
        assert host.shell(OWN) == rules, damage
    assert not host.changed(GUARD)


# Put before the command in PATH, it kills the module that runs it, and itself, at the very moment.
KILLER = """
cat > /usr/local/sbin/{name} <<'EOF'
#!/bin/sh
if [ "$*" = '{arguments}' ]; then {first}; kill -9 $PPID $$; fi
exec $(PATH=/usr/sbin:/usr/bin command -v {name}) "$@"
EOF
chmod +x /usr/local/sbin/{name}
"""


def test_a_run_that_is_killed_leaves_old_or_new_rules_and_the_next_one_heals(host):
    def killed(name, arguments, first=":"):
        host.shell(KILLER.format(name=name, arguments=arguments, first=first))
        assert host.run(GUARD).status != 0
        host.shell(f"rm /usr/local/sbin/{name}")
        return host.shell(OWN)

    assert host.changed(ALLOW)
    old = host.shell(OWN)
    assert killed("nft", "-f -") == old
    new = killed("nft", "-f -", first='/usr/sbin/nft "$@"')
    assert host.changed(GUARD) and host.shell(OWN) == new != old
    assert host.shell("ls -A /etc/outpost-smtp").split() == ["egress.nft"]

    host.shell("rm -r /etc/systemd/system/nftables.service.d; systemctl daemon-reload")
    killed("systemctl", "daemon-reload")
    assert host.changed(GUARD) and not host.changed(GUARD)
    host.shell("systemctl start nftables; systemctl restart nftables")
    assert host.shell(OWN) == new, "systemd has read the drop-in"


EVIL = "192.0.2.10 } } chain evil { type filter hook output priority 0; policy drop; } set s { elements = { 192.0.2.11"
INJECTIONS = [
    ({"outpost_smtp_relays": [{"host": EVIL, "port": 465}]}, "outpost_smtp_relays[0]"),
    ({"smtp_egress_user": "mail@ accept\n@uid:user"}, "does not exist on this host"),
    ({"smtp_egress_exempt_users": ["0 } accept\n\t\tmeta skuid { 1"]}, "does not exist on this host"),
]


def test_no_value_becomes_a_rule(host):
    untouched = host.state()
    for injection, message in INJECTIONS:
        run = host.run({**GUARD, **injection})
        assert run.status != 0 and message in run.output, run.output
    assert host.state() == untouched


def test_a_rule_set_that_reaches_beyond_our_table_is_refused(host, tmp_path):
    """Whoever writes a template of their own is kept from what an error in it could do to others."""
    own = "table inet outpost_smtp\ndelete table inet outpost_smtp\ntable inet outpost_smtp {\n\tchain managed_by_outpost_smtp {\n\t}\n%s}\n%s"
    drop = "\tchain output {\n\t\ttype filter hook output priority 0; policy drop;\n\t}\n"
    texts = [own % (drop, ""), own % ("", "flush ruleset\n"), own % ("", "table ip other {\n}\n"), own % ('\tinclude "/etc/nftables.conf"\n', "")]
    module = {"relays": RELAYS, "ruleset": "{{ item }}"}
    task = {"outpost.smtp.smtp_egress": module, "loop": texts, "register": "done", "failed_when": "'the rule set' not in done.msg"}
    playbook = tmp_path / "rulesets.yml"
    playbook.write_text(json.dumps([{"hosts": "servers", "gather_facts": False, "tasks": [task]}]))
    untouched = host.state()
    run = host.play(str(playbook), {})
    assert run.status == 0, run.output
    assert host.state() == untouched


def test_the_rules_outlive_the_firewall_service_and_come_back_with_the_boot_target(host):
    assert host.changed(GUARD)
    rules = host.shell(OWN)
    for action in ("start", "reload", "restart", "stop"):
        host.shell(f"systemctl {action} nftables")
        assert host.shell(OWN) == rules, action
    host.shell("nft flush ruleset; systemctl start multi-user.target")
    assert host.shell(OWN) == rules, "what starts at boot loads them"
    assert not host.changed(GUARD)


def test_a_host_without_nft(host):
    host.shell("apt-get purge --yes --quiet nftables >/dev/null 2>&1")
    files = host.shell(FILES)
    predicted = host.run(GUARD, "--check")
    assert predicted.status == 0 and host.shell(FILES) == files, predicted.output
    real = host.run(GUARD)
    assert real.status == 0 and real.changed() == predicted.changed() != [], real.output
    assert real.loaded["diff"] == predicted.loaded["diff"]
    assert host.connect("nobody", 587) == "refused"
