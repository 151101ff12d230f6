# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine with real rules, real packets and a real neighbour as the relay, in networks of their own."""

from __future__ import annotations

import typing as t
from pathlib import Path

import namespace
import pytest

pytestmark = pytest.mark.skipif(not namespace.available(), reason="needs root and nft")

DEFAULT_DROP = """
table inet filter {
    chain input {
        type filter hook input priority 0; policy drop
        ct state established,related accept
        iif "lo" accept
        meta l4proto ipv6-icmp accept
        tcp dport 22 accept
    }
    chain output {
        type filter hook output priority 0; policy drop
        ct state established,related accept
        oifname "lo" accept
        meta l4proto ipv6-icmp accept
        tcp sport 22 accept
    }
}
"""
SET_UP = """
import json, os, subprocess, sys, time
from pathlib import Path

import egress_host
from ansible_collections.outpost.smtp.plugins.module_utils._egress import command, nft, program, ruleset
from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import Relay
from ansible_collections.outpost.smtp.plugins.module_utils._egress.egress import Egress
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.request import Request, Terms

GUARD = open(GUARD_FILE).read()
REQUEST = Request([Relay("primary", "relay.example", 587)], "mail", [], GUARD)
DNS = {"ipv4": [FAR], "ipv6": [FAR6]}
armed = []

def egress(check_mode=False):
    return Egress(
        nft.Nft(nft.find(), command.run), command.run, check_mode=check_mode, root=ROOT, entry=program.__name__,
        systemd=egress_host.Init(ROOT), lookup=lambda _host, family: DNS[family], spawn=armed.append,
    )

def present(terms=Terms(proof_timeout=2), request=REQUEST, check_mode=False):
    try:
        return egress(check_mode).present(request, terms)
    except EgressError as error:
        return {"msg": str(error), **error.facts}

def rules():
    return subprocess.run(["nft", "--stateless", "list", "ruleset"], capture_output=True, text=True, check=True).stdout

def load(text):
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)

"""
GUARD = """\
table inet outpost_smtp
delete table inet outpost_smtp
table inet outpost_smtp {
	counter accepted {
	}
	counter refused {
	}
	chain managed_by_outpost_smtp {
	}
	chain output {
		type filter hook output priority 60; policy accept;
		oifname "lo" accept
		tcp flags & (fin | syn | rst | ack) == syn jump smtp
	}
	chain smtp {
		ip daddr @ipv4:relay.example@ tcp dport 587 meta skuid @uid:user@ counter name "accepted" accept
		ip6 daddr @ipv6:relay.example@ tcp dport 587 meta skuid @uid:user@ counter name "accepted" accept
		tcp dport { 25, 465, 587 } counter name "refused" reject with tcp reset
	}
}
"""


@pytest.fixture
def run(tmp_path: Path) -> t.Callable[..., t.Any]:
    """Run a script where `rules` are loaded and the relay listens on port 587; what it prints, from JSON."""
    (tmp_path / "guard.nft").write_text(GUARD)
    root = tmp_path / "root"
    root.mkdir()
    given = {"GUARD_FILE": str(tmp_path / "guard.nft"), "ROOT": str(root), "FAR": namespace.FAR, "FAR6": namespace.FAR6}
    names = "".join(f"{name} = {value!r}\n" for name, value in given.items())

    def call(script: str, rules: str = "", far_rules: str = "") -> t.Any:
        return namespace.run_beside([587], rules, names + SET_UP + script, far_rules)

    return call


def test_from_default_drop_to_exactly_the_mail_and_back(run: t.Callable[..., t.Any]) -> None:
    before, predicted, first, second, counters, removed, after = run(
        """
before = rules()
predicted = present(check_mode=True)
first, second = present(), present()
counters = egress().table.counters()
removed = egress().absent()
print(json.dumps([before, predicted, first, second, counters, removed["changed"], rules()]))
""",
        DEFAULT_DROP,
    )
    assert first["changed"] and first["diff"] == predicted["diff"], first.get("msg")
    assert first["manager"] == "nftables" and len(first["opened"]) == 2
    assert [(one["mta"], one["others"], one["counted"]) for one in first["proof"]] == [("reached", "refused", True)] * 2
    assert max(one["others_ms"] for one in first["proof"]) < 100
    assert not second["changed"] and second["proof"] == [] and second["counters"] == counters == {**counters, "accepted": 2, "refused": 2}
    assert removed and after == before


def test_where_nobody_may_open_the_chain_is_named(run: t.Callable[..., t.Any]) -> None:
    result, same = run(
        "before = rules(); result = present(request=REQUEST._replace(manager='none')); print(json.dumps([result, rules() == before]))",
        DEFAULT_DROP,
    )
    assert "chain 'inet filter output' stops mail" in result["msg"] and same


def test_a_rule_set_that_keeps_the_mail_in_goes_back(run: t.Callable[..., t.Any]) -> None:
    result, same = run(
        """
present()
before = rules()
wrong = GUARD.replace("tcp dport 587 meta skuid @uid:user@ counter", "tcp dport 588 meta skuid @uid:user@ counter")
result = present(request=REQUEST._replace(text=wrong))
print(json.dumps([result, rules() == before]))
""",
        DEFAULT_DROP,
    )
    assert "user mail does not reach relay primary" in result["msg"] and result["blocked_by"]["cause"] == "own_table"
    assert result["rolled_back"] and result["changed"] is False and same


def test_a_change_that_nobody_confirms_goes_back(run: t.Callable[..., t.Any]) -> None:
    same, opened, note = run(
        """
before = rules()
present(Terms(proof_timeout=2, rollback_timeout=60))
opened = rules() != before
assert program.call(egress(), ["rollback", "0", armed[-1][-1]], ROOT) == 0
note = present(check_mode=True)["rolled_back"]
print(json.dumps([rules() == before, opened, note]))
""",
        DEFAULT_DROP,
    )
    assert opened and same and "nobody confirmed it" in note["why"]


def test_a_new_address_comes_in_and_the_counters_go_on(run: t.Callable[..., t.Any]) -> None:
    counters, text, changed = run(
        """
present()
DNS["ipv4"] = ["198.51.100.9"]
assert program.call(egress(), ["refresh"], ROOT) == 0
print(json.dumps([egress().table.counters(), rules(), present()["changed"]]))
""",
        DEFAULT_DROP,
    )
    assert (counters["accepted"], counters["refused"]) == (2, 2)
    assert f"ip daddr {{ {namespace.FAR}, 198.51.100.9 }} tcp dport 587" in text and not changed


def test_what_a_manager_takes_away_comes_back(run: t.Callable[..., t.Any]) -> None:
    lost, same = run(
        f"""
present()
done = rules()
load("flush table inet filter; delete table inet filter")
load('''{DEFAULT_DROP}''')
lost = rules() != done
assert program.call(egress(), ["reopen"], ROOT) == 0
print(json.dumps([lost, sorted(rules().splitlines()) == sorted(done.splitlines())]))
""",
        DEFAULT_DROP,
    )
    assert lost and same


def test_200_000_foreign_elements_cost_less_than_a_second(run: t.Callable[..., t.Any]) -> None:
    seconds = run(
        """
members = ", ".join("10.%d.%d.%d" % (number >> 16, number >> 8 & 255, number & 255) for number in range(200000))
load("add table ip strangers; add set ip strangers hosts { type ipv4_addr; elements = { " + members + " } }")
begun = time.monotonic()
result = present(Terms())
elapsed = time.monotonic() - begun
assert result["changed"], result
print(json.dumps(elapsed))
""",
        DEFAULT_DROP,
    )
    assert seconds < 1


HAMMER = """
import os, select, socket
os.setgid(65534); os.setuid(65534)
tried = leaked = 0
while not select.select([0], [], [], 0)[0]:  # until the other end is closed
    tried += 1
    with socket.socket() as sock:
        sock.settimeout(1)
        leaked += sock.connect_ex(("RELAY", 587)) == 0
print(tried, leaked)
"""


def test_300_reloads_leak_no_connection(run: t.Callable[..., t.Any]) -> None:
    """Every other load keeps the counters (flush), the rest replace the table (delete)."""
    hammer = HAMMER.replace("RELAY", namespace.FAR)
    tried, leaked, counted = run(
        f"""
present()
hammer = subprocess.Popen([sys.executable, "-c", {hammer!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
time.sleep(0.2)
table = egress().table
text = open(table.path).read()
forms = [text, ruleset.keeping_counters(text)]
for number in range(300):
    table.nft.load(forms[number % 2])
tried, leaked = map(int, hammer.communicate()[0].split())
print(json.dumps([tried, leaked, table.counters()["refused"]]))
"""
    )
    assert leaked == 0 and tried > 1000 and counted > 0, (tried, leaked, counted)


#: Reads nothing until it is told to, so that what was sent waits in this host, and belongs to nobody once its sender has closed it.
READER = """
import socket, sys
with socket.create_server(("198.51.100.2", 587)) as server:
    print("listening", flush=True)
    connection, _peer = server.accept()
    sys.stdin.readline()
    total = 0
    for data in iter(lambda: connection.recv(65536), b""):
        total += len(data)
print(total)
"""
SENDER = """
import os, socket
os.setgid(8); os.setuid(8)
with socket.socket() as sock:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    sock.connect(("198.51.100.2", 587))
    sock.sendall(bytes(200000))
"""


def test_a_message_in_flight_outlives_its_socket_and_reloads(run: t.Callable[..., t.Any]) -> None:
    total = run(
        f"""
DNS["ipv4"] = [FAR, "198.51.100.2"]
neighbour = subprocess.Popen(["unshare", "--net", "sleep", "20"])
while os.readlink("/proc/%d/ns/net" % neighbour.pid) == os.readlink("/proc/self/ns/net"):
    time.sleep(0.01)
inside = ["nsenter", "--target", str(neighbour.pid), "--net"]
link = "link add name two type veth peer name other netns %d" % neighbour.pid
here, there = ["ip"], [*inside, "ip"]
for where, line in ((here, link), (here, "link set two up"), (here, "address add 198.51.100.1/24 dev two"),
                    (there, "link set other up"), (there, "address add 198.51.100.2/24 dev other")):
    subprocess.run([*where, *line.split()], check=True)
reader = subprocess.Popen([*inside, sys.executable, "-c", {READER!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
assert reader.stdout.readline() == "listening\\n"
result = present(Terms())
assert result["changed"], result
subprocess.run([sys.executable, "-c", {SENDER!r}], check=True)
text = open(egress().table.path).read()
for form in (ruleset.keeping_counters(text), text):
    egress().table.nft.load(form)
print(json.dumps(reader.communicate("go on\\n")[0].strip()), flush=True)
neighbour.kill()
""",
        DEFAULT_DROP,
    )
    assert total == "200000"


@pytest.mark.parametrize(
    ("destinations", "rules", "opened"),
    [
        (("any",), ["tcp dport 587"], ["any IPv4 address port 587", "any IPv6 address port 587"]),
        (
            ("192.0.2.0/24", "2001:db8::/32"),
            ["ip daddr @networks:ipv4@ tcp dport 587", "ip6 daddr @networks:ipv6@ tcp dport 587"],
            ["192.0.2.0/24 port 587", "2001:db8::/32 port 587"],
        ),
    ],
)
def test_wider_destinations_are_opened_as_wide_as_asked(
    run: t.Callable[..., t.Any], destinations: t.Tuple[str, ...], rules: t.List[str], opened: t.List[str]
) -> None:
    # A default route, so that any address has a way.
    first, second = run(
        f"""
for family, gateway in (("-4", FAR), ("-6", FAR6)):
    subprocess.run(["ip", family, "route", "add", "default", "via", gateway], check=True)
lines = [line for line in GUARD.splitlines() if "relay.example" not in line]
at = next(number for number, line in enumerate(lines) if 'name "refused" reject' in line)
lines[at:at] = [rule + ' meta skuid @uid:user@ counter name "accepted" accept' for rule in {rules!r}]
request = REQUEST._replace(text="\\n".join(lines), destinations={destinations!r})
print(json.dumps([present(request=request), present(request=request)]))
""",
        DEFAULT_DROP,
    )
    assert first["changed"] and first["opened"] == opened, first
    assert [(one["mta"], one["others"]) for one in first["proof"]] == [("reached", "refused")] * 2
    assert not second["changed"]
