# SPDX-License-Identifier: GPL-3.0-or-later
"""The way out through hand-written chains that drop by default, with nft 0.9.8, 1.0.6 and 1.1.3; and the numbers that the rules must keep."""

from __future__ import annotations

import pytest
from closed_servers import NFTABLES
from opened_lab import CLEAN, GUARD, HOST, PORTS, USER, Servers, life


@pytest.fixture
def closed(trio, tmp_path):
    servers = Servers(trio, tmp_path)
    try:
        servers.shell(NFTABLES.close)
        yield servers
    finally:
        servers.shell(NFTABLES.remove + CLEAN)


def test_a_life_with_nftables(closed):
    life(
        closed,
        manager="nftables",
        chain="inet filter output",
        rules=NFTABLES.rules,
        again=[
            "systemctl reload nftables",
            "systemctl restart nftables",
            "systemctl stop nftables; systemctl start nftables",
            "echo nonsense >> /etc/nftables.conf; systemctl reload nftables; sed -i /nonsense/d /etc/nftables.conf",
            "echo nonsense >> /etc/nftables.conf; systemctl restart nftables; sed -i /nonsense/d /etc/nftables.conf; "
            "systemctl reset-failed nftables; systemctl start nftables",
        ],
    )


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
for turn in $(seq 20); do nft -f /etc/outpost-smtp/egress.nft; systemctl reload nftables; sleep 0.05; done
hostname
"""


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


@pytest.fixture
def loaded(closed, trio):
    """Servers from which mail may go to a slow server, too, and what the role is to be given for it."""
    trio.shell(START_SINK, "provider", input=SINK)
    closed.shell(f"ip route replace {SINK_ADDRESS} via $(getent ahostsv4 {HOST} | awk '{{ print $1; exit }}')")
    relays = [*({"name": f"on-{port}", "host": HOST, "port": port} for port in PORTS), {"name": "sink", "host": SINK_ADDRESS, "port": 587}]
    yield closed, {**GUARD, "outpost_smtp_relays": relays}
    trio.shell(STOP_SINK, "provider")
    closed.shell(f"ip route del {SINK_ADDRESS} || :")


def test_what_check_mode_tells_and_the_numbers_that_the_rules_keep(loaded, trio):
    """One run of the role for all of these, since they ask for the same rules."""
    servers, wanted = loaded
    what_is_told_will_be(servers, wanted)
    nobody_is_let_out(servers)
    a_message_in_flight_passes(servers, trio)
    foreign_elements_cost_little(servers)


def what_is_told_will_be(servers, wanted):
    everything = "nft list ruleset; find /etc /usr/local /var/lib/outpost-smtp 2>/dev/null | sort"
    untouched = servers.shell(everything)
    predicted = servers.role(wanted, "--check")
    assert servers.shell(everything) == untouched
    for name, result in servers.role(wanted).items():
        assert predicted[name]["diff"] == result["diff"], name
        assert [entry["after_header"] for entry in result["diff"]].count("nftables inet filter") == 1, name
        assert len(predicted[name]["opened"]) == len(wanted["outpost_smtp_relays"]), name


def nobody_is_let_out(servers):
    """By 300 loads under load: add, delete and add again in one file is one transaction, so there is no moment without rules."""
    for name, printed in servers.shell(RELOADS.format(relay=HOST), input=HAMMER).items():
        reached, refused, other = map(sum, zip(*(map(int, line.split()) for line in printed.splitlines())))
        assert reached == 0 and refused > 1000 and other == 0, (name, printed)


def a_message_in_flight_passes(servers, trio):
    """What a closed socket still has to send belongs to no user, so it must not be asked for one."""
    for name, printed in servers.shell(IN_FLIGHT, input=SEND).items():
        file = f"/run/sink/{printed.strip()}"
        wait = f"for attempt in $(seq 150); do [ ! -s {file} ] || break; sleep 0.1; done; cat {file}"
        assert trio.shell(wait, "provider").stdout == "200000", name


def foreign_elements_cost_little(servers):
    """Of processor time, since others test at the same time. Whatever nft 0.9.8 lists, it reads all sets of the host first, once to reopen."""
    for name, printed in servers.shell(TIMED, input=BLOCKLIST).items():
        load, reopen, jumps = printed.split()
        assert float(load) < 1 and float(reopen) < (2 if name == "debian11" else 1) and jumps == "1", (name, printed)
    servers.require_guarded("a large set")
