# SPDX-License-Identifier: GPL-3.0-or-later
"""The outbound firewall on a real kernel: what it closes and leaves open, whose rules it never touches, what it survives."""

from __future__ import annotations

import dataclasses
import json
import time
import typing as t

import pytest
from fault_lab import reboot
from system_lab import ROOT, SERVER

ROLE = "outpost.smtp.smtp_egress"
LOAD = f"{ROLE} : Load the outbound mail rules"
RELAYS = [
    {"name": "primary", "host": "smtp.provider.test", "port": 465},
    {"name": "second", "host": "smtp.provider.test", "port": 587},
]
# A user of every Debian takes the mail server's part, so that no Postfix is needed.
# What is not about the confirmation does without it, and is faster.
ALLOW = {"outpost_smtp_relays": RELAYS, "smtp_egress_user": "mail", "smtp_egress_rollback_timeout": 0}
GUARD = {**ALLOW, "smtp_egress_mode": "guard"}
CONFIRMED = {**GUARD, "smtp_egress_rollback_timeout": 60}
ABSENT = {**GUARD, "smtp_egress_state": "absent"}
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
COUNTERS = "nft -j list counters table inet outpost_smtp"
NAMES = "find /etc /usr/local /var/lib/outpost-smtp 2>/dev/null | sort"
FILES = """
find /etc /usr/local /var/lib/outpost-smtp -xdev -printf '%p %y %m %u %g %s %T@ %l\\n' 2>/dev/null | sort
systemctl list-unit-files --no-legend --no-pager
"""
#: Everything that the role could touch, exactly.
STATE = RULES + FILES
# Run on the host as a given user: for each port reached, refused, or the name of another error.
CONNECT = """
import os, pwd, socket, sys
user, host, *ports = sys.argv[1:]
entry = pwd.getpwnam(user)
address = socket.gethostbyname(host)
os.setgroups([]); os.setgid(entry.pw_gid); os.setuid(entry.pw_uid)
for port in ports:
    try:
        socket.create_connection((address, int(port)), 5).close()
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
TEMPLATE_FILE = ROOT / "roles/smtp_egress/templates/outpost_smtp.nft.j2"
#: What the template takes besides the variables of the role.
TEMPLATE = {"__smtp_egress_relays": RELAYS, "smtp_egress_mode": "guard", "smtp_egress_destinations": "relays", "smtp_egress_guard_forwarded": False}


def load(rules: str) -> str:
    return f"nft -f - <<'RULES'\n{rules}\nRULES"


def connect(user: str, *ports: int, host: str = "smtp.provider.test") -> str:
    return f"python3 - {user} {host} {' '.join(map(str, ports))} <<'PYTHON'\n{CONNECT}\nPYTHON"


def role(given: dict, *, check: bool = False) -> dict:
    """A task: the role with these variables. What fails is for the test to judge."""
    apply = {"ignore_errors": True, "check_mode": check}
    return {"ansible.builtin.include_role": {"name": ROLE, "apply": apply}, "vars": given}


def module(template=TEMPLATE_FILE, **options) -> dict:
    """A task: one call of the module, by default with the role's rule set for mode guard."""
    ruleset = "{{ lookup('ansible.builtin.template', file) }}"
    call = {"relays": RELAYS, "user": "mail", "ruleset": ruleset, "rollback_timeout": 0, **options}
    return {"name": LOAD, "outpost.smtp.smtp_egress": call, "ignore_errors": True, "vars": {**TEMPLATE, "file": str(template)}}


#: A task: from here on through a connection that is made now.
NEW_CONNECTION = {"ansible.builtin.meta": "reset_connection"}


def counted(text: str) -> dict[str, int]:
    """The counters, as they are in the module's result."""
    found = {entry["counter"]["name"]: entry["counter"]["packets"] for entry in json.loads(text)["nftables"] if "counter" in entry}
    return {"refused_forwarded": 0, **found}


@dataclasses.dataclass
class Did:
    """What became of the role or the module: the result of its last call, and the names of the tasks that changed something."""

    result: dict
    failed: bool
    changed: list[str]


class Host:
    """The server under test."""

    def __init__(self, lab, play, directory) -> None:
        self.lab = lab
        self._play = play
        self._playbook = directory / "story.yml"

    def shell(self, script: str) -> str:
        """What a script prints that comes to the host from elsewhere than from Ansible."""
        return self.lab.shell(script).stdout

    def told(self, *steps: str | dict, environment: dict | None = None):
        """Run a playbook of these steps, shell scripts and tasks; how it ended, and what became of the steps that were come to.

        Rules that look at the state of connections do not know the one that they were loaded through: load() them before.
        """
        tasks = []
        for number, step in enumerate(steps):
            task = {"ansible.builtin.shell": {"cmd": step, "executable": "/bin/bash"}} if isinstance(step, str) else step
            tasks += [task, {"name": f"step {number}", "ansible.builtin.debug": {}}]
        self._playbook.write_text(json.dumps([{"hosts": "servers", "gather_facts": False, "tasks": tasks}]))
        run = self._play(str(self._playbook), {}, "--diff", environment=environment)
        done: list[t.Any] = []
        since: list[dict] = []
        for found in run.tasks:
            if found["task"] != f"step {len(done)}":
                since.append(found)
                continue
            done.append(since[-1]["result"]["stdout"] if isinstance(steps[len(done)], str) else _did(since))
            since = []
        return run, done

    def story(self, *steps: str | dict) -> list[t.Any]:
        """Run a playbook of these steps; what each script printed, and what became of each run of the role."""
        run, done = self.told(*steps)
        assert run.status == 0, run.output
        return done


def _did(tasks: list[dict]) -> Did | None:
    loads = [found for found in tasks if found["task"] == LOAD]
    changed = [found["task"] for found in tasks if found["changed"]]
    return Did(loads[-1]["result"], loads[-1]["status"] == "failed", changed) if loads else None


@pytest.fixture
def host(lab, play, tmp_path):
    lab.shell(CLEAN)
    yield Host(lab, play, tmp_path)
    lab.shell(CLEAN)


def test_a_life_beside_the_rules_of_others(host):
    rules, names, untouched, predicted, still, first, proved, *tries, done, again, same = host.story(
        load(STRANGERS) + f"\n{RULES}",
        NAMES,
        STATE,
        role(CONFIRMED, check=True),
        STATE,
        role(CONFIRMED),
        COUNTERS,
        connect("mail", 465, 587, 25),
        connect("nobody", 587),
        connect("root", 465),
        STATE,
        role(CONFIRMED),
        STATE,
    )
    assert still == untouched, "check mode touched the host"
    assert not first.failed and first.changed and first.result["diff"] == predicted.result["diff"], first
    assert first.result["persistent"] and first.result["blocking_chains"] == [] and first.result["opened"] == []
    proof = [(entry["port"], entry["mta"], entry["others"], entry["counted"]) for entry in first.result["proof"] if entry["version"] == 4]
    assert proof == [(465, "reached", "refused", True), (587, "reached", "refused", True)]
    assert max(entry["others_ms"] for entry in first.result["proof"]) < 100
    assert tries == ["reached\nreached\nrefused", "refused", "refused"]
    assert not again.changed and same == done, again
    before = counted(proved)
    assert again.result["counters"] == {**before, "accepted": before["accepted"] + 2, "refused": before["refused"] + 3}

    predicted, still, removed, rules_left, names_left = host.story(role(ABSENT, check=True), STATE, role(ABSENT), RULES, NAMES)
    assert still == done, "check mode touched the host"
    assert removed.changed and removed.result["diff"] == predicted.result["diff"], removed
    assert rules_left == rules and names_left == names


def test_a_chain_that_drops_is_named_with_the_lines_to_add(host):
    add = f"for port in 465 587; do nft add rule inet filter output ip daddr {{ $({ADDRESS}) }} tcp dport $port accept; done"
    host.shell(load(DEFAULT_DENY))
    untouched, address, *refused, foreign, opened, mta, others, _new, removed, left = host.story(
        STATE,
        ADDRESS,
        role(UNOPENED, check=True),
        STATE,
        role(UNOPENED),
        STATE,
        f"{add}; {RULES}",
        role(UNOPENED),
        connect("mail", 587),
        connect("nobody", 587, 25),
        NEW_CONNECTION,
        role(ABSENT),
        RULES,
    )
    lines = [f"ip daddr {{ {address} }} tcp dport {port} accept" for port in (465, 587)]
    for run, state in (refused[:2], refused[2:]):
        assert run.failed and not run.changed and state == untouched
        assert "chain 'inet filter output' stops mail" in run.result["msg"] and "its policy is drop" in run.result["msg"]
        assert run.result["blocking_chains"][0]["remedy"] == lines and all(line in run.result["msg"] for line in lines)
    assert opened.changed and not opened.failed and mta == "reached" and others == "refused\nrefused"
    assert removed.changed and left == foreign


def test_what_the_rules_do_not_tell_is_shown_by_a_packet(host):
    member = "element inet filter sources { $(hostname -I | cut -d ' ' -f 1) }"
    host.shell(load(DEFAULT_DENY + "add rule inet filter output ip saddr @sources tcp dport { 465, 587 } accept") + f"\nnft add {member}")
    predicted, opened, _closed, closed = host.story(
        role(UNOPENED, check=True),
        role(UNOPENED),
        f"nft delete {member}",
        role(UNOPENED),
    )
    assert not predicted.failed and [entry["certain"] for entry in predicted.result["blocking_chains"]] == [False]
    assert not opened.failed and opened.result["blocking_chains"] == [], opened
    assert closed.failed and "chain 'inet filter output'" in closed.result["msg"] and "did not get out" in closed.result["msg"]


def test_a_strangers_table_of_our_name_is_refused_and_left_alone(host):
    theirs = "table inet outpost_smtp {\n\tchain theirs {\n\t}\n}\n"
    untouched, run, removed, left = host.story(load(theirs) + f"\n{STATE}", role(GUARD), role(ABSENT), STATE)
    assert run.failed and "was not made by this module" in run.result["msg"], run
    assert not removed.changed and not removed.failed and left == untouched


def test_what_somebody_flushed_or_edited_is_put_back(host):
    first, rules, _flushed, second, again, _edited, third, once_more, last = host.story(
        role(GUARD),
        OWN,
        "nft flush ruleset",
        role(GUARD),
        OWN,
        "nft insert rule inet outpost_smtp output accept",
        role(GUARD),
        OWN,
        role(GUARD),
    )
    assert first.changed and second.changed and third.changed and again == once_more == rules
    assert not last.changed and not last.failed


# Put before the command in PATH, it kills the module that runs it, and itself, at the very moment.
KILLER = """
cat > /usr/local/sbin/{name} <<'EOF'
#!/bin/sh
if [ "$*" = '{arguments}' ]; then {first}; kill -9 $PPID $$; fi
exec $(PATH=/usr/sbin:/usr/bin command -v {name}) "$@"
EOF
chmod +x /usr/local/sbin/{name}
"""


def killed(name: str, arguments: str, first: str = ":") -> list[str | dict]:
    """Steps: a run that is killed when it calls a command; then what our table is."""
    return [KILLER.format(name=name, arguments=arguments, first=first), role(GUARD), f"rm /usr/local/sbin/{name}; {OWN}"]


def test_a_run_that_is_killed_leaves_old_or_new_rules_and_the_next_one_heals(host):
    _first, old, _1, before, kept, _2, after, new, healed, rules, left, _lost, _3, late, _rules, again, last, started = host.story(
        role(ALLOW),
        OWN,
        *killed("nft", "-f -"),
        *killed("nft", "-f -", first='/usr/sbin/nft "$@"'),
        role(GUARD),
        OWN,
        "ls -A /etc/outpost-smtp",
        "rm -r /etc/systemd/system/nftables.service.d; systemctl daemon-reload",
        *killed("systemctl", "daemon-reload"),
        role(GUARD),
        role(GUARD),
        f"systemctl start nftables; systemctl restart nftables; {OWN}",
    )
    assert before.failed and kept == old
    assert after.failed and healed.changed and not healed.failed and rules == new != old
    assert left == "egress.nft"
    assert late.failed and again.changed and not again.failed and not last.changed
    assert started == new, "systemd has read the drop-in"


EVIL = "192.0.2.10 } } chain evil { type filter hook output priority 0; policy drop; } set s { elements = { 192.0.2.11"
INJECTIONS = [
    ({"outpost_smtp_relays": [{"host": EVIL, "port": 465}]}, "outpost_smtp_relays[0]"),
    ({"smtp_egress_user": "mail@ accept\n@uid:user"}, "does not exist on this host"),
    ({"smtp_egress_exempt_users": ["0 } accept\n\t\tmeta skuid { 1"]}, "does not exist on this host"),
]
OWN_RULES = "table inet outpost_smtp\ndelete table inet outpost_smtp\ntable inet outpost_smtp {\n\tchain managed_by_outpost_smtp {\n\t}\n%s}\n%s"
DROP = "\tchain output {\n\t\ttype filter hook output priority 0; policy drop;\n\t}\n"
#: What an error in a template of one's own could do to others: within our table, and behind it.
BEYOND = [(DROP, ""), ("", "flush ruleset\n"), ("", "table ip other {\n}\n"), ('\tinclude "/etc/nftables.conf"\n', "")]


def test_no_value_becomes_a_rule_and_no_rule_set_reaches_beyond_our_table(host):
    injections = [role({**GUARD, **injection}) for injection, _message in INJECTIONS]
    untouched, *runs, left = host.story(STATE, *injections, *(module(ruleset=OWN_RULES % texts) for texts in BEYOND), STATE)
    for run, message in zip(runs, [message for _injection, message in INJECTIONS] + ["the rule set"] * len(BEYOND), strict=True):
        assert run.failed and message in run.result["msg"], run
    assert left == untouched


def test_the_rules_outlive_the_firewall_service_and_come_back_with_the_boot_target(host):
    actions = [f"systemctl {action} nftables; {OWN}" for action in ("start", "reload", "restart", "stop")]
    boot = f"nft flush ruleset; systemctl start multi-user.target; {OWN}"
    first, rules, *kept, last = host.story(role(GUARD), OWN, *actions, boot, role(GUARD))
    assert first.changed and kept == [rules] * 5
    assert not last.changed and not last.failed


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


def unconfirmed(host, seconds, *before):
    """After some steps, change the rules; then the controller can not come back until it is let in again."""
    run, done = host.told(*before, SHUT_OUT.format(seconds=seconds), module(rollback_timeout=seconds), environment={"ANSIBLE_TIMEOUT": "5"})
    host.shell("rm /usr/local/sbin/systemd-run; nft delete table ip cut")
    assert run.status != 0 and "UNREACHABLE" in run.output, run.output
    return done[: len(before)]


def awaited(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.2)


def test_a_change_that_is_not_confirmed_goes_back_by_itself_and_the_next_run_says_so(host):
    _first, old = unconfirmed(host, 15, role(ALLOW), OWN)
    new = host.shell(OWN).strip()
    assert new != old and host.shell(connect("nobody", 587)) == "refused\n"
    awaited(lambda: host.shell(OWN).strip() == old)

    reached, again, rules, last, left = host.story(
        connect("nobody", 587), role(CONFIRMED), OWN, role(GUARD), "ls /var/lib/outpost-smtp; systemctl list-timers --all --no-legend"
    )
    assert reached == "reached"
    assert not again.failed and "nobody confirmed it in time" in again.result["rolled_back"]["why"], again
    assert rules == new and last.result["rolled_back"] is None and "rollback" not in left


def test_a_rule_set_that_keeps_the_mail_in_goes_back_at_once(host, tmp_path):
    stored = f"{OWN}; cat /etc/outpost-smtp/egress.nft /var/lib/outpost-smtp/egress.json"
    wrong = tmp_path / "wrong.nft.j2"
    wrong.write_text(TEMPLATE_FILE.read_text().replace("meta skuid @uid:user@", "meta skuid 12345 meta skuid @uid:user@"))
    _first, old, run, left = host.story(role(ALLOW), stored, module(wrong), stored)
    assert run.failed and "user mail does not reach relay primary" in run.result["msg"], run
    assert run.result["blocked_by"]["cause"] == "own_table" and not run.changed and run.result["rolled_back"]
    assert left == old


def test_the_rules_follow_the_name_and_the_old_address_stays_for_a_while(host):
    refresh = "systemctl start outpost-smtp-egress-refresh.service"
    address = host.shell(ADDRESS).strip()
    host.shell("cp /etc/hosts /etc/resolv.conf /root")
    try:
        _first, before, rules, after, mta, others, again, kept, timers = host.story(
            role(GUARD),
            COUNTERS,
            f"echo 198.51.100.9 smtp.provider.test >> /etc/hosts; {refresh}; {OWN}",
            COUNTERS,
            connect("mail", 587, host=address),
            connect("nobody", 587, host=address),
            role(GUARD),
            # A name server that refuses at once.
            f"cat /root/hosts > /etc/hosts; echo nameserver 127.0.0.9 > /etc/resolv.conf; {refresh}; {OWN}",
            "systemctl list-timers --no-legend",
        )
    finally:
        host.shell("cat /root/hosts > /etc/hosts; cat /root/resolv.conf > /etc/resolv.conf")
    assert all(found in rules for found in (address, "198.51.100.9")) and counted(after) == counted(before)
    assert mta == "reached" and others == "refused" and not again.changed and not again.failed
    assert kept == rules, "a query that fails takes nothing away"
    assert "outpost-smtp-egress-refresh.timer" in timers


def test_a_reboot_keeps_what_was_confirmed_and_takes_back_what_was_not(host):
    admins = f"cp /etc/nftables.conf /root/nftables.conf; cat > /etc/nftables.conf <<'RULES'\nflush ruleset\n{DEFAULT_DENY}\nRULES\n"
    rules = "nft --stateless list ruleset | sort"
    try:
        host.shell(admins + "systemctl enable --now nftables")
        _first, kept = unconfirmed(host, 600, role(ALLOW), rules)
        assert host.shell(connect("nobody", 587)) == "refused\n"
        reboot(host.lab, SERVER)
        nobody, mta, back, again = host.story(connect("nobody", 587), connect("mail", 587), rules, role(CONFIRMED))
        assert nobody == mta == "reached" and back == kept
        assert not again.failed and "the host was restarted" in again.result["rolled_back"]["why"], again
        reboot(host.lab, SERVER)
        nobody, mta, last = host.story(connect("nobody", 587), connect("mail", 587), role(GUARD))
        assert nobody == "refused" and mta == "reached" and not last.changed and not last.failed
    finally:
        host.shell("systemctl disable --now nftables; cp /root/nftables.conf /etc/nftables.conf")


def test_a_host_without_nft(host):
    files, predicted, left, real, nobody = host.story(
        f"apt-get purge --yes --quiet nftables >/dev/null 2>&1; {FILES}", role(GUARD, check=True), FILES, role(GUARD), connect("nobody", 587)
    )
    assert not predicted.failed and left == files, predicted
    assert not real.failed and real.changed == predicted.changed != []
    assert real.result["diff"] == predicted.result["diff"] and nobody == "refused"
