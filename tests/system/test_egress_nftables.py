# SPDX-License-Identifier: GPL-3.0-or-later
"""The way out through hand-written chains that drop by default, with nft 0.9.8, 1.0.6 and 1.1.3; and the numbers that the rules must keep."""

from __future__ import annotations

import pytest
from opened_lab import CLEAN, GUARD, HOST, PORTS, ROLE, USER, Servers, life

CLOSE = """
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
#: Made beside nftables.conf, as programs do. A reload of its service takes them away, too.
STRANGERS = """
iptables -N STRANGERS; iptables -A STRANGERS -d 203.0.113.9 -j DROP; iptables -I OUTPUT -j STRANGERS
nft -f - <<'END'
table ip strangers {
	chain output {
		type filter hook output priority 0; policy accept;
		tcp dport 9999 reject
	}
}
END
"""
RULES = "nft --stateless list table inet filter; cat /etc/nftables.conf"
REMOVE = "systemctl disable --quiet --now nftables; mv /root/nftables.conf /etc/nftables.conf\n"


@pytest.fixture
def closed(trio, tmp_path):
    servers = Servers(trio, tmp_path)
    servers.shell(CLEAN)
    servers.shell(CLOSE)
    yield servers
    servers.shell(REMOVE + CLEAN)


@pytest.fixture
def open_servers(trio, tmp_path):
    """Servers whose own firewall stops nothing."""
    servers = Servers(trio, tmp_path)
    servers.shell(CLEAN)
    yield servers
    servers.shell(CLEAN)


def test_a_life_with_nftables(closed):
    life(
        closed,
        manager="nftables",
        chain="inet filter output",
        rules=RULES,
        again=[
            "systemctl reload nftables",
            "systemctl restart nftables",
            "systemctl stop nftables; systemctl start nftables",
            "echo nonsense >> /etc/nftables.conf; systemctl reload nftables; sed -i /nonsense/d /etc/nftables.conf",
            "echo nonsense >> /etc/nftables.conf; systemctl restart nftables; sed -i /nonsense/d /etc/nftables.conf; "
            "systemctl reset-failed nftables; systemctl start nftables",
        ],
    )


def test_the_rules_of_strangers_stay_as_they_are(closed):
    closed.shell(STRANGERS)
    listing = "nft --stateless --handle list ruleset"
    before = closed.shell(listing)
    closed.role(GUARD)
    closed.require_guarded("beside strangers")
    assert all("STRANGERS" in text and "9999" in text for text in closed.shell(listing).values())
    closed.role({"smtp_egress_state": "absent"})
    assert closed.shell(listing) == before


# Put before the command in PATH, it kills the module that runs it, and itself, at the load that opens the ways.
KILLER = """
cat > /usr/local/sbin/nft <<'EOF'
#!/bin/sh
if [ "$*" = '-f -' ]; then
    text=$(cat)
    case "$text" in *'add chain inet filter'*) FIRST; kill -9 $PPID $$ ;; esac
    printf '%s\\n' "$text" | exec /usr/sbin/nft "$@"
fi
exec /usr/sbin/nft "$@"
EOF
chmod +x /usr/local/sbin/nft
"""
FOREIGN = "nft --stateless list table inet filter"


def test_a_run_that_is_killed_leaves_the_old_or_the_new_ways(closed):
    old = closed.shell(FOREIGN)
    seen = []
    for first in (":", "printf '%s\\n' \"$text\" | /usr/sbin/nft -f -"):
        closed.shell(KILLER.replace("FIRST", first))
        assert closed.run(ROLE, GUARD).status != 0
        closed.shell("rm /usr/local/sbin/nft")
        seen.append(closed.shell(FOREIGN))
        closed.require_login_by_ssh()
    assert seen[0] == old != seen[1]
    closed.role(GUARD)
    assert all(not result["changed"] for result in closed.role(GUARD).values())
    assert closed.shell(FOREIGN) == seen[1]
    closed.require_guarded("healing")


# As nobody, until its standard input ends: how many connections to the relay were made, and how many were not.
HAMMER = """
import os, select, socket, sys
address = socket.gethostbyname(sys.argv[1])
os.setgroups([]); os.setgid(65534); os.setuid(65534)
counts = {"reached": 0, "refused": 0, "other": 0}
while not select.select([sys.stdin], [], [], 0)[0]:
    for port in (465, 587):
        try:
            socket.create_connection((address, port), 1).close()
            counts["reached"] += 1
        except ConnectionRefusedError:
            counts["refused"] += 1
        except OSError:
            counts["other"] += 1
print(counts["reached"], counts["refused"], counts["other"])
"""
RELOADS = """
set -e
cat > /root/hammer.py
mkfifo /root/hold
for number in 1 2; do python3 /root/hammer.py {relay} < /root/hold > /root/hammered.$number & done
exec 3> /root/hold
sleep 0.5
for turn in $(seq 300); do nft -f /etc/outpost-smtp/egress.nft; done
exec 3>&-
wait
cat /root/hammered.*; rm /root/hold /root/hammer*
"""


def test_300_loads_under_load_let_nobody_out(open_servers):
    """add, delete and add again in one file is one transaction: there is no moment without rules."""
    open_servers.role(GUARD)
    for name, printed in open_servers.shell(RELOADS.format(relay=HOST), input=HAMMER).items():
        reached, refused, other = map(sum, zip(*(map(int, line.split()) for line in printed.splitlines())))
        assert reached == 0 and refused > 1000 and other == 0, (name, printed)


# On the provider: a server that is slow to read, on an address of its own, and leads there from the guarded port.
SINK_ADDRESS = "10.255.9.1"
SINK = """
import socket, threading, time
server = socket.create_server(("0.0.0.0", 5998), backlog=20)
def take(connection):
    time.sleep(1)
    message = b""
    while True:
        found = connection.recv(2000)
        if not found:
            break
        message += found
        time.sleep(0.01)
    if message:  # not a connection by which something is proved
        with open("/run/sink/" + message.split()[0].decode(), "w") as file:
            file.write(str(len(message)))
while True:
    threading.Thread(target=take, args=(server.accept()[0],), daemon=True).start()
"""
START_SINK = f"""
set -e
mkdir -p /run/sink; cat > /run/sink/sink.py
ip address add {SINK_ADDRESS}/32 dev lo
nft -f - <<'END'
table ip sink {{
	chain prerouting {{
		type nat hook prerouting priority -100;
		ip daddr {SINK_ADDRESS} tcp dport 587 redirect to :5998
	}}
}}
END
systemd-run --quiet --unit sink python3 /run/sink/sink.py
for attempt in $(seq 100); do ss -Hltn 'sport = :5998' | grep -q . && exit 0; sleep 0.1; done; exit 1
"""
STOP_SINK = f"systemctl stop sink; nft delete table ip sink; ip address del {SINK_ADDRESS}/32 dev lo; rm -rf /run/sink"
# The process and its socket are gone long before the last octet is.
SEND = """
import os, pwd, socket, sys
user, address, name = sys.argv[1:]
entry = pwd.getpwnam(user)
os.setgroups([]); os.setgid(entry.pw_gid); os.setuid(entry.pw_uid)
with socket.socket() as connection:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 500000)
    connection.connect((address, 587))
    connection.sendall(name.encode().ljust(200000))
"""
IN_FLIGHT = f"""
set -e
cat > /root/send.py
python3 /root/send.py {USER} {SINK_ADDRESS} $(hostname)
for turn in $(seq 20); do nft -f /etc/outpost-smtp/egress.nft; {{again}}; sleep 0.05; done
hostname
"""


@pytest.mark.parametrize("which", ["open_servers", "closed"])
def test_a_message_in_flight_survives_reloads(which, trio, request):
    """What a closed socket still has to send belongs to no user, so it must not be asked for one."""
    servers = request.getfixturevalue(which)
    trio.shell(START_SINK, "provider", input=SINK)
    try:
        servers.shell(f"ip route replace {SINK_ADDRESS} via $(getent ahostsv4 {HOST} | awk '{{ print $1; exit }}')")
        servers.role({**GUARD, "outpost_smtp_relays": [{"name": "sink", "host": SINK_ADDRESS, "port": 587}]})
        again = "systemctl reload nftables" if which == "closed" else ":"
        for name, printed in servers.shell(IN_FLIGHT.replace("{again}", again), input=SEND).items():
            file = f"/run/sink/{printed.strip()}"
            wait = f"for attempt in $(seq 150); do [ ! -s {file} ] || break; sleep 0.1; done; cat {file}"
            assert trio.shell(wait, "provider").stdout == "200000", name
    finally:
        trio.shell(STOP_SINK, "provider")
        servers.shell(f"ip route del {SINK_ADDRESS} || :")


# A blocklist of 200,000 addresses, of which the rules of outgoing mail are none of the business.
BLOCKLIST = """
import ipaddress
first = int(ipaddress.ip_address("10.0.0.0"))
addresses = ", ".join(str(ipaddress.ip_address(first + 2 * number)) for number in range(200000))
chain = "chain input { type filter hook input priority -10; policy accept; ip saddr @bad drop\\n}"
print("table ip blocklist {\\nset bad {\\ntype ipv4_addr\\nelements = { %s }\\n}\\n%s\\n}" % (addresses, chain))
"""
TIMED = """
set -e
python3 - | nft -f -
nft delete rule inet filter output handle $(nft -a list chain inet filter output | sed -n 's/.*jump outpost_smtp.*handle //p')
python3 - <<'END'
import os, subprocess
def spent():
    times = os.times()
    return times.children_user + times.children_system
for command in (["nft", "-f", "/etc/outpost-smtp/egress.nft"], ["python3", "-I", "/usr/local/lib/outpost-smtp/egress.pyz", "reopen"]):
    before = spent()
    subprocess.run(command, check=True)
    print(spent() - before)
END
nft list chain inet filter output | grep -c 'jump outpost_smtp'
"""


def test_200000_foreign_elements_cost_less_than_a_second(closed):
    """Of processor time, since others test at the same time. Whatever nft 0.9.8 lists, it reads all sets of the host first, so there only
    the load itself can be as quick.
    """
    closed.role(GUARD)
    for name, printed in closed.shell(TIMED, input=BLOCKLIST).items():
        load, reopen, jumps = printed.split()
        assert float(load) < 1 and (float(reopen) < 1 or name == "debian11") and jumps == "1", (name, printed)
    closed.require_guarded("a large set")


def test_managers_that_fight_are_named_and_one_may_be_chosen(closed):
    """ufw is only played: that it is enabled would be enough for it to take the rules of nftables.service away, and the other way round."""
    closed.shell("mkdir -p /etc/ufw; printf '#!/bin/sh\\n' > /usr/sbin/ufw; chmod +x /usr/sbin/ufw; echo ENABLED=yes > /etc/ufw/ufw.conf")
    try:
        for name, result in closed.refused(GUARD).items():
            assert "ufw (" in result["msg"] and "nftables (nftables.service is active)" in result["msg"], (name, result)
        closed.role({**GUARD, "smtp_egress_manager": "nftables"})
        closed.require_guarded("the choice")
    finally:
        closed.shell("rm -rf /etc/ufw /usr/sbin/ufw")


def test_check_mode_tells_what_will_be(closed):
    untouched = closed.shell("nft list ruleset; find /etc /usr/local /var/lib/outpost-smtp 2>/dev/null | sort")
    predicted = closed.role(GUARD, "--check")
    assert closed.shell("nft list ruleset; find /etc /usr/local /var/lib/outpost-smtp 2>/dev/null | sort") == untouched
    for name, result in closed.role(GUARD).items():
        assert predicted[name]["diff"] == result["diff"], name
        assert [entry["after_header"] for entry in result["diff"]].count("nftables inet filter") == 1, name
        assert len(predicted[name]["opened"]) == len(PORTS), name
