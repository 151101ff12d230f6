# SPDX-License-Identifier: GPL-3.0-or-later
"""The outbound firewall on a real kernel: what it closes and leaves open, whose rules it never touches, what it survives."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
from fault_lab import reboot
from system_lab import RIG, ROOT, SERVER

PLAY = "tests/system/plays/egress.yml"
LOAD = "outpost.smtp.smtp_egress : Load the outbound mail rules"
RELAYS = [
    {"name": "primary", "host": "smtp.provider.test", "port": 465},
    {"name": "second", "host": "smtp.provider.test", "port": 587},
]
# A user of every Debian takes the mail server's part, so that no Postfix is needed.
# What is not about the confirmation does without it, and is faster.
ALLOW = {"outpost_smtp_relays": RELAYS, "smtp_egress_user": "mail", "smtp_egress_rollback_timeout": 0}
GUARD = {**ALLOW, "smtp_egress_mode": "guard"}
CONFIRMED = {**GUARD, "smtp_egress_rollback_timeout": 60}
ABSENT = {"smtp_egress_state": "absent"}
# As where an administrator opens the ways.
UNOPENED = {**GUARD, "smtp_egress_manager": "none"}

CLEAN = """
systemctl stop 'outpost-smtp-egress*' nftables 2>/dev/null
rm -rf /usr/local/sbin/nft /usr/local/sbin/systemctl /usr/local/sbin/systemd-run /etc/outpost-smtp /var/lib/outpost-smtp /usr/local/lib/outpost-smtp \
       /etc/systemd/system/outpost-smtp-egress* /etc/systemd/system/*/outpost-smtp-egress* \
       /etc/systemd/system/nftables.service.d
systemctl daemon-reload
nft flush ruleset
"""
ADDRESS = "getent ahostsv4 smtp.provider.test | awk '{ print $1; exit }'"
RULES = "nft list ruleset; nft --json list ruleset\n"
OWN = "nft --stateless list table inet outpost_smtp"
FILES = """
find /etc /usr/local /var/lib/outpost-smtp -xdev -printf '%p %y %m %u %g %s %T@ %l\\n' 2>/dev/null | sort
systemctl list-unit-files --no-legend --no-pager
"""
NAMES = "find /etc /usr/local /var/lib/outpost-smtp 2>/dev/null | sort"
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
	set sources {
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

    def counters(self):
        listed = json.loads(self.shell("nft -j list counters table inet outpost_smtp"))["nftables"]
        found = {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listed if "counter" in entry}
        return {"refused_forwarded": 0, **found}

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
    untouched, rules, names = host.state(), host.shell(RULES), host.shell(NAMES)

    predicted = host.run(CONFIRMED, "--check")
    assert host.state() == untouched, "check mode touched the host"
    first = host.run(CONFIRMED)
    assert first.status == 0 and first.loaded["changed"] and first.loaded["diff"] == predicted.loaded["diff"], first.output
    assert first.loaded["persistent"] and first.loaded["blocking_chains"] == [] and first.loaded["opened"] == []
    proof = [(entry["port"], entry["mta"], entry["others"], entry["counted"]) for entry in first.loaded["proof"] if entry["version"] == 4]
    assert proof == [(465, "reached", "refused", True), (587, "reached", "refused", True)]
    assert max(entry["others_ms"] for entry in first.loaded["proof"]) < 100
    proved = host.counters()

    assert host.connect("mail", 465) == host.connect("mail", 587) == "reached"
    assert host.connect("mail", 25) == host.connect("nobody", 587) == host.connect("root", 465) == "refused"
    done = host.state()
    again = host.run(CONFIRMED)
    assert not again.changed() and host.state() == done, again.output
    assert again.loaded["counters"] == {**proved, "accepted": proved["accepted"] + 2, "refused": proved["refused"] + 3}

    predicted = host.run({**GUARD, **ABSENT}, "--check")
    assert host.state() == done, "check mode touched the host"
    removed = host.run({**GUARD, **ABSENT})
    assert removed.loaded["changed"] and removed.loaded["diff"] == predicted.loaded["diff"], removed.output
    assert host.shell(RULES) == rules
    assert host.shell(NAMES) == names


def test_a_chain_that_drops_is_named_with_the_lines_to_add(host):
    host.load(DEFAULT_DENY)
    untouched = host.state()
    address = host.shell(ADDRESS).strip()
    lines = [f"ip daddr {{ {address} }} tcp dport {port} accept" for port in (465, 587)]
    for options in (["--check"], []):
        run = host.run(UNOPENED, *options)
        assert run.status != 0 and run.loaded["changed"] is False
        assert "chain 'inet filter output' stops mail" in run.loaded["msg"] and "its policy is drop" in run.loaded["msg"]
        assert run.loaded["blocking_chains"][0]["remedy"] == lines and all(line in run.loaded["msg"] for line in lines)
        assert host.state() == untouched
    subprocess.run([*RIG, "ssh", host.lab.name, SERVER, "true"], check=True, timeout=20)

    host.load("".join(f"add rule inet filter output {line}\n" for line in lines))
    foreign = host.shell(RULES)
    assert host.changed(UNOPENED)
    assert host.connect("mail", 587) == "reached" and host.connect("nobody", 587) == "refused"
    subprocess.run([*RIG, "ssh", host.lab.name, SERVER, "true"], check=True, timeout=20)
    assert host.changed(ABSENT)
    assert host.shell(RULES) == foreign


def test_what_the_rules_do_not_tell_is_shown_by_a_packet(host):
    host.load(DEFAULT_DENY + "add rule inet filter output ip saddr @sources tcp dport { 465, 587 } accept\n")
    member = f"element inet filter sources {{ {host.shell('hostname -I').split()[0]} }}\n"
    host.load("add " + member)
    predicted = host.run(UNOPENED, "--check")
    assert predicted.status == 0 and [entry["certain"] for entry in predicted.loaded["blocking_chains"]] == [False]
    opened = host.run(UNOPENED)
    assert opened.status == 0 and opened.loaded["blocking_chains"] == [], opened.output

    host.load("delete " + member)
    closed = host.run(UNOPENED)
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


TEMPLATE_FILE = ROOT / "roles/smtp_egress/templates/outpost_smtp.nft.j2"
#: What the template takes besides the variables of the role.
TEMPLATE = {"__smtp_egress_relays": RELAYS, "smtp_egress_mode": "guard", "smtp_egress_destinations": "relays", "smtp_egress_guard_forwarded": False}


def by_the_module(host, tmp_path, template=TEMPLATE_FILE, **options):
    """Bring the rules to mode guard by one call of the module; the run and the module's result."""
    ruleset = "{{ lookup('ansible.builtin.template', file) }}"
    task = {"outpost.smtp.smtp_egress": {"relays": RELAYS, "user": "mail", "ruleset": ruleset, **options}}
    playbook = tmp_path / "module.yml"
    variables = {**TEMPLATE, "file": str(template)}
    playbook.write_text(json.dumps([{"hosts": "servers", "gather_facts": False, "vars": variables, "tasks": [task]}]))
    run = host.play(str(playbook), {})
    return run, run.tasks[-1]["result"] if run.tasks else None


#: Put before the command in PATH, it shuts the controller out as soon as the time of a change that is proved begins to run.
SHUT_OUT = """
cat > /usr/local/sbin/systemd-run <<'EOF'
#!/bin/sh
case "$*" in *--on-active={seconds}s*) nft 'add table ip cut; add chain ip cut input {{ type filter hook input priority 0; }};
    add rule ip cut input tcp dport 22 tcp flags & (fin | syn | rst | ack) == syn drop';; esac
exec /usr/bin/systemd-run "$@"
EOF
chmod +x /usr/local/sbin/systemd-run
"""


def unconfirmed(host, tmp_path, seconds):
    """Change the rules; then the controller can not come back until it is let in again."""
    host.shell(SHUT_OUT.format(seconds=seconds))
    run, _result = by_the_module(host, tmp_path, rollback_timeout=seconds)
    host.shell("rm /usr/local/sbin/systemd-run; nft delete table ip cut")
    assert run.status != 0 and "UNREACHABLE" in run.output, run.output


def awaited(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.2)


def test_a_change_that_is_not_confirmed_goes_back_by_itself_and_the_next_run_says_so(host, tmp_path):
    assert host.changed(ALLOW)
    old = host.shell(OWN)
    unconfirmed(host, tmp_path, 20)
    new = host.shell(OWN)
    assert new != old and host.connect("nobody", 587) == "refused"
    awaited(lambda: host.shell(OWN) == old)
    assert host.connect("nobody", 587) == "reached"

    again = host.run(CONFIRMED)
    assert again.status == 0 and "nobody confirmed it in time" in again.loaded["rolled_back"]["why"], again.output
    assert host.shell(OWN) == new and host.run(GUARD).loaded["rolled_back"] is None
    assert "rollback" not in host.shell("ls /var/lib/outpost-smtp; systemctl list-timers --all --no-legend")


def test_a_rule_set_that_keeps_the_mail_in_goes_back_at_once(host, tmp_path):
    stored = "cat /etc/outpost-smtp/egress.nft /var/lib/outpost-smtp/egress.json"
    assert host.changed(ALLOW)
    old, files = host.shell(OWN), host.shell(stored)
    wrong = tmp_path / "wrong.nft.j2"
    wrong.write_text(TEMPLATE_FILE.read_text().replace("meta skuid @uid:user@", "meta skuid 12345 meta skuid @uid:user@"))
    run, result = by_the_module(host, tmp_path, wrong)
    assert run.status != 0 and "user mail does not reach relay primary" in result["msg"], run.output
    assert result["blocked_by"]["cause"] == "own_table" and result["changed"] is False and result["rolled_back"]
    assert host.shell(OWN) == old and host.shell(stored) == files


def test_the_rules_follow_the_name_and_the_old_address_stays_for_a_while(host):
    assert host.changed(GUARD)
    counted = host.counters()
    address = host.shell(ADDRESS).strip()
    refresh = "systemctl start outpost-smtp-egress-refresh.service"
    host.shell("cp /etc/hosts /etc/resolv.conf /root")
    try:
        host.shell(f"echo 198.51.100.9 smtp.provider.test >> /etc/hosts; {refresh}")
        rules = host.shell(OWN)
        assert all(found in rules for found in (address, "198.51.100.9")) and host.counters() == counted
        assert host.connect("mail", 587, address) == "reached" and host.connect("nobody", 587, address) == "refused"
        assert not host.changed(GUARD)
        # A name server that refuses at once.
        host.shell(f"cat /root/hosts > /etc/hosts; echo nameserver 127.0.0.9 > /etc/resolv.conf; {refresh}")
        assert host.shell(OWN) == rules, "a query that fails takes nothing away"
    finally:
        host.shell("cat /root/hosts > /etc/hosts; cat /root/resolv.conf > /etc/resolv.conf")
    assert "outpost-smtp-egress-refresh.timer" in host.shell("systemctl list-timers --no-legend")


def test_a_reboot_keeps_what_was_confirmed_and_takes_back_what_was_not(host, tmp_path):
    admins = "cp /etc/nftables.conf /root/nftables.conf; cat > /etc/nftables.conf; systemctl enable --now nftables"
    host.shell(admins, input="flush ruleset\n" + DEFAULT_DENY)
    try:
        assert host.changed(ALLOW)
        kept = host.shell("nft --stateless list ruleset")
        unconfirmed(host, tmp_path, 600)
        assert host.connect("nobody", 587) == "refused"
        reboot(host.lab, SERVER)
        assert host.connect("nobody", 587) == host.connect("mail", 587) == "reached"
        assert sorted(host.shell("nft --stateless list ruleset").splitlines()) == sorted(kept.splitlines())
        again = host.run(CONFIRMED)
        assert again.status == 0 and "the host was restarted" in again.loaded["rolled_back"]["why"], again.output
        reboot(host.lab, SERVER)
        assert host.connect("nobody", 587) == "refused" and host.connect("mail", 587) == "reached"
        assert not host.changed(GUARD)
    finally:
        host.shell("systemctl disable --now nftables; cp /root/nftables.conf /etc/nftables.conf")


def test_a_host_without_nft(host):
    host.shell("apt-get purge --yes --quiet nftables >/dev/null 2>&1")
    files = host.shell(FILES)
    predicted = host.run(GUARD, "--check")
    assert predicted.status == 0 and host.shell(FILES) == files, predicted.output
    real = host.run(GUARD)
    assert real.status == 0 and real.changed() == predicted.changed() != [], real.output
    assert real.loaded["diff"] == predicted.loaded["diff"]
    assert host.connect("nobody", 587) == "refused"
