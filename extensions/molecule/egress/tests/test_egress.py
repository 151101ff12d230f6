# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may send mail, shown by packets: the MTA's user reaches the relay, everybody else is refused at once and counted."""

from __future__ import annotations

import json

import pytest

# Run by python3 on the host as a given user: "reached", "refused" or "timeout", and the milliseconds it took.
CONNECT = """
import os, pwd, socket, sys, time
user, host, port = sys.argv[1:]
entry = pwd.getpwnam(user)
os.setgroups([]); os.setgid(entry.pw_gid); os.setuid(entry.pw_uid)
start = time.monotonic()
try:
    socket.create_connection((host, int(port)), 5).close()
    outcome = "reached"
except ConnectionRefusedError:
    outcome = "refused"
except OSError as error:
    outcome = type(error).__name__
print(outcome, int((time.monotonic() - start) * 1000))
"""


def connect(host, user, port, target="smtp.provider.test"):
    outcome, elapsed = host.run("python3 -c %s %s %s %s", CONNECT, user, target, str(port)).stdout.split()
    return outcome, int(elapsed)


def counters(host):
    listing = json.loads(host.check_output("nft -j list counters table inet outpost_smtp"))
    return {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listing["nftables"] if "counter" in entry}


def test_the_mta_reaches_the_relay(host):
    before = counters(host)["accepted"]
    assert connect(host, "postfix", 587)[0] == "reached"
    assert counters(host)["accepted"] == before + 1


@pytest.mark.parametrize("port", [25, 465, 587])
def test_anybody_else_is_refused_at_once_and_counted(host, port):
    before = counters(host)["refused"]
    outcome, elapsed = connect(host, "nobody", port)
    assert outcome == "refused" and elapsed < 100
    assert counters(host)["refused"] == before + 1


def test_an_exempt_user_is_let_through(host):
    assert connect(host, "backup", 465)[0] == "reached"
    assert connect(host, "root", 465)[0] == "refused"


def test_the_mta_may_not_open_another_port_of_the_relay(host):
    assert connect(host, "postfix", 465)[0] == "refused"


def test_other_traffic_is_not_touched(host):
    assert connect(host, "nobody", 993, "imap.provider.test")[0] == "reached"
    assert connect(host, "nobody", 25, "127.0.0.1")[0] == "reached"


@pytest.mark.parametrize("action", ["reload", "restart"])
def test_the_rules_survive_the_firewall_service(host, action):
    host.run_test("systemctl start nftables")
    assert host.run(f"systemctl {action} nftables").succeeded
    assert connect(host, "nobody", 587)[0] == "refused"


def test_what_was_changed_is_confirmed_and_kept_fresh(host):
    assert not host.file("/var/lib/outpost-smtp/rollback.json").exists
    assert host.service("outpost-smtp-egress-refresh.timer").is_running
    before = host.check_output("nft --stateless list table inet outpost_smtp")
    assert host.run("systemctl start outpost-smtp-egress-refresh.service").succeeded
    assert host.check_output("nft --stateless list table inet outpost_smtp") == before
