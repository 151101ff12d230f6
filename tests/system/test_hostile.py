# SPDX-License-Identifier: GPL-3.0-or-later
"""What the cases against hostile servers (tests/unit/.../test_hostile_*.py) need a real host for.

A49 is also what test_secrets.py looks for, over whole runs of the roles; A46 is in tests/unit/plugins/modules.
"""

from __future__ import annotations

import json

import pytest
from test_secrets import SEARCH_JOURNAL, forms, found_in

HOST = "smtp.provider.test"
CA_FILE = "/usr/local/share/rig-ca.pem"
SILENT_PORT = 2600
GUARD = "table inet guard { chain output { type filter hook output priority 0; tcp dport 587 counter drop; }; }"

SILENT_SERVER = f"""
systemd-run --quiet --unit=silent python3 -c '
import socket
listener = socket.create_server(("127.0.0.1", {SILENT_PORT}))
kept = []
while True:
    kept.append(listener.accept())
'
for attempt in $(seq 100); do ss -Hltn 'sport = :{SILENT_PORT}' | grep -q . && exit 0; sleep 0.1; done; exit 1
"""
# Everything that any process can see of another, or find in a directory for temporary files, while the module runs; and what
# the processes of user postfix have. Each text once.
WATCH = """
mkdir -p /run/watch; rm -f /run/watch/*
cat > /run/watch/watch.py <<'PY'
import glob, json, os, pwd, time

def read(path):
    try:
        with open(path, "rb") as f:
            return f.read(1 << 20).replace(b"\\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""

def kept():
    for place in ("/root/.ansible", "/tmp", "/var/tmp", "/dev/shm", "/run/ansible"):
        for directory, _names, files in os.walk(place):
            for name in files:
                yield os.path.join(directory, name)

uid = str(pwd.getpwnam("postfix").pw_uid)
seen, end = set(), time.time() + 60
with open("/run/watch/seen", "w") as out, open("/run/watch/mta", "w") as mta:
    while time.time() < end and not os.path.exists("/run/watch/stop"):
        for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ") + list(kept()):
            text = read(path)
            if text and (path.startswith("/proc"), text) not in seen:
                seen.add((path.startswith("/proc"), text))
                print(path, text, file=out, flush=True)
        for directory in glob.glob("/proc/[0-9]*"):
            status = dict(line.split(":", 1) for line in read(directory + "/status").splitlines() if ":" in line)
            if status.get("Uid", "").split()[:1] == [uid] and "python" in read(directory + "/cmdline"):
                facts = {name: status[name].split() for name in ("Uid", "Gid", "Groups", "CapEff", "Umask")}
                print(json.dumps(facts), file=mta, flush=True)
        time.sleep(0.01)
PY
systemd-run --quiet --unit=watch python3 /run/watch/watch.py
for attempt in $(seq 100); do [ -e /run/watch/seen ] && exit 0; sleep 0.1; done; exit 1
"""
STOP_WATCHING = "touch /run/watch/stop; while systemctl is-active --quiet watch; do sleep 0.1; done; cat /run/watch/seen"


@pytest.fixture(scope="module")
def server(lab):
    """The server of the lab, which has an MTA whose credentials only root can read."""
    lab.shell("id postfix || apt-get --quiet --yes install postfix >/dev/null")
    lab.shell("install -m 600 /dev/null /etc/postfix/sasl_passwd")
    lab.shell(SILENT_SERVER)
    yield lab
    lab.shell("systemctl stop silent; rm -rf /run/watch; nft delete table inet guard 2>/dev/null || true")


@pytest.fixture
def check(server, play, tmp_path):
    """Run the module on the server for the canary account, with these options and fields of the relay."""

    def run(*arguments: str, environment: dict | None = None, options: dict | None = None, **fields):
        account = server.accounts["canary"]
        relay = {"host": HOST, "port": 465, "ca_file": CA_FILE, "username": account["username"], "password": "{{ password }}", **fields}
        task = {"outpost.smtp.smtp_auth_info": {"relays": [relay], "timeout": 10, "on_failure": "report", **(options or {})}}
        playbook = tmp_path / "check.yml"
        playbook.write_text(json.dumps([{"hosts": "servers", "gather_facts": False, "tasks": [{"name": "Test", **task}]}]))
        return play(str(playbook), {"password": account["password"]}, *arguments, environment=environment)

    return run


def result(run) -> dict:
    assert run.status == 0, run.output
    return run.tasks[-1]["result"]["results"][0]


@pytest.fixture(scope="module")
def canary(lab):
    account = lab.accounts["canary"]
    return forms(account["username"], account["password"])


def test_a08_the_counter_of_the_rule_that_drops(server, check):
    server.shell("nft -f -", input=GUARD)
    try:
        answer = result(check(port=587, options={"timeout": 5}))
        packets = server.shell("nft list chain inet guard output").stdout
    finally:
        server.shell("nft delete table inet guard")

    assert answer["diagnosis"]["code"] == "egress_blocked_local", answer["diagnosis"]
    assert "tcp dport 587 counter" in answer["diagnosis"]["summary"]
    assert "counter packets 0" not in packets and answer["addresses"][0]["outcome"] == "timeout"


def test_a47_as_the_user_of_the_mta(server, check):
    """What it has open is in test_run_as.py: here nobody can see it, not even root without CAP_SYS_PTRACE."""
    assert server.shell("runuser -u postfix -- cat /etc/postfix/sasl_passwd 2>&1 || true").stdout.endswith("Permission denied\n")
    answer = result(check(options={"run_as": "postfix"}))
    assert answer["ok"], answer["diagnosis"]

    server.shell(WATCH)
    answer = result(check(host="127.0.0.1", port=SILENT_PORT, tls="starttls", options={"run_as": "postfix", "timeout": 4}))
    server.shell(STOP_WATCHING)
    assert answer["diagnosis"]["code"] in ("greet_timeout", "greet_tarpit"), answer["diagnosis"]

    seen = [json.loads(line) for line in server.shell("cat /run/watch/mta").stdout.splitlines()]
    user, group, groups = (server.shell(f"id {option} postfix").stdout.split() for option in ("-u", "-g", "-G"))
    assert len(seen) > 20
    for look in seen[len(seen) // 2 :]:  # the first may have seen it change
        assert look["Uid"] == user * 4 and look["Gid"] == group * 4 and set(look["Groups"]) == set(groups)
        assert look["CapEff"] == ["0000000000000000"] and look["Umask"] == ["0077"]


def test_a47_a_ca_file_that_only_root_may_read(server, check):
    """Postfix's smtp(8) reads it before it becomes that user, so it is no fault."""
    server.shell(f"install -m 600 {CA_FILE} /root/ca-of-root.pem")
    assert result(check(ca_file="/root/ca-of-root.pem", options={"run_as": "postfix"}))["ok"]

    answer = result(check(ca_file="/root/no-ca.pem", options={"run_as": "postfix"}))
    assert answer["diagnosis"]["code"] == "cfg_ca_file" and "/root/no-ca.pem" in answer["diagnosis"]["summary"]


def test_a47_a_user_that_does_not_exist(check):
    run = check(options={"run_as": "nobody-of-that-name"})

    assert run.status != 0 and "run_as: there is no user 'nobody-of-that-name' on this host" in run.output


@pytest.mark.parametrize("user", [None, "postfix"])
def test_a48_nothing_can_be_seen_while_it_runs(server, check, canary, user):
    server.shell(WATCH)
    answer = result(check(host="127.0.0.1", port=SILENT_PORT, tls="starttls", options={"timeout": 3, **({"run_as": user} if user else {})}))
    watched = server.shell(STOP_WATCHING).stdout

    assert not answer["ok"]
    assert "smtp_auth_info" in watched, "the watcher has seen the run"
    assert not found_in(watched, canary)


@pytest.mark.parametrize("user", [None, "postfix"])
def test_a49_nothing_is_told(server, check, canary, user):
    outcomes = {
        "good": {},
        "refused": {"username": "nobody@provider.test"},
        "untrusted": {"ca_file": None},
        "refused by validation": {"port": 465, "tls": "starttls"},
    }
    for name, fields in outcomes.items():
        for arguments in (["-vvvv", "--diff"], ["-vvvv", "--diff", "--check"]):
            run = check(
                *arguments,
                environment={"ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "ANSIBLE_LOG_PATH": str(server.state / "ansible.log")},
                options={"run_as": user} if user else {},
                **fields,
            )
            assert (run.status == 0) is (name != "refused by validation"), run.output
            assert not found_in(run.output, canary), name
            assert not found_in(json.dumps(run.tasks), canary), name
            assert not found_in((server.state / "ansible.log").read_text(), canary), name
    (server.state / "ansible.log").unlink()
    assert server.shell(SEARCH_JOURNAL, input="\n".join(canary)).stdout.strip() == "0"


def test_the_watcher_finds_what_it_looks_for(server, canary):
    """Each place is looked at, so that finding nothing means something."""
    server.shell(WATCH)
    server.shell("cat > /tmp/leak; X=$(cat /tmp/leak); export X; bash -c \"sleep 1; : argument $X\"; rm /tmp/leak", input=canary[0])
    watched = server.shell(STOP_WATCHING).stdout

    lines = [line for line in watched.splitlines() if canary[0] in line]
    assert {"/tmp/leak"} <= {line.split(" ")[0] for line in lines}
    assert any("/cmdline" in line.split(" ")[0] for line in lines) and any("/environ" in line.split(" ")[0] for line in lines)
