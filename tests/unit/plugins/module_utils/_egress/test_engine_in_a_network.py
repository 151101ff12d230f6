# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine with real rules, real packets and a real neighbour as the relay, in networks of their own."""

from __future__ import annotations

import typing as t
from pathlib import Path

import namespace
import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import iptables_save

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
import json, os, socket, subprocess, sys, time
from pathlib import Path

import egress_host
from ansible_collections.outpost.smtp.plugins.module_utils._egress import command, nft, probe, program, ruleset
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

def present(terms=Terms(proof_timeout=5), request=REQUEST, check_mode=False):
    try:
        return egress(check_mode).present(request, terms)
    except EgressError as error:
        return {"msg": str(error), **error.facts}

def rules():
    return subprocess.run(["nft", "--stateless", "list", "ruleset"], capture_output=True, text=True, check=True).stdout

def load(text):
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)

"""
#: What the role's template becomes for relay.example, port 587, in mode guard; test_smtp_egress.py sees to it that it does.
GUARD = (Path(__file__).parents[3] / "_support" / "egress_guard.nft").read_text(encoding="utf-8")


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


def test_others_are_refused_at_once_wherever_they_want_to_send(run: t.Callable[..., t.Any]) -> None:
    """Also where the filter of somebody else would drop the attempt, and also the mail server's user."""
    tries = [(address, port, uid) for address in ("192.0.2.77", namespace.FAR6, namespace.FAR) for port in (25, 465) for uid in (65534, 0, 8)]
    outcomes, counters, log = run(
        f"""
present()
before = egress().table.counters()["refused"]
outcomes = probe.connect([probe.Try(*one) for one in {tries!r}], 2)
print(json.dumps([outcomes, egress().table.counters()["refused"] - before, rules().count("log prefix")]))
""",
        DEFAULT_DROP,
    )
    assert [word for word, _errno, _ms in outcomes] == ["refused"] * len(tries) and max(ms for _word, _errno, ms in outcomes) < 100
    assert counters == len(tries) and log == 1


REDIRECT = """
table inet redirects {
    chain output {
        type nat hook output priority -100
        tcp dport 25 meta skuid != 8 redirect
    }
}
"""


def test_what_is_redirected_to_this_host_is_not_refused(run: t.Callable[..., t.Any]) -> None:
    """As some do with mail that goes past the mail server: it gets it all the same."""
    outcomes = run(
        """
present()
listening = [socket.create_server(("", 25), family=socket.AF_INET6, dualstack_ipv6=True)]
print(json.dumps(probe.connect([probe.Try(address, port, 65534) for address in (FAR, FAR6) for port in (25, 587)], 2)))
""",
        REDIRECT,
    )
    assert [word for word, _errno, _ms in outcomes] == ["reached", "refused"] * 2


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
wrong = GUARD.replace("tcp dport 587 meta skuid @uid:user@", "tcp dport 588 meta skuid @uid:user@")
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


LIKE_IPTABLES = """
table ip filter {
    chain OUTPUT {
        type filter hook output priority 0; policy drop
        oifname "lo" accept
    }
}
"""


@pytest.mark.skipif(not iptables_save.program("nft", 4), reason="needs iptables-nft")
@pytest.mark.parametrize(("former", "new"), [("iptables", "nftables"), ("nftables", "iptables")])
def test_a_table_of_two_managers_stays_open_when_one_follows_the_other(run: t.Callable[..., t.Any], former: str, new: str) -> None:
    """In one run, which leaves of the former manager only what the new one does not have: its plugin of netfilter-persistent."""
    first, moved, again, same, removed = run(
        f"""
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.iptables import PLUGIN
Path(ROOT + PLUGIN).parent.mkdir(parents=True)
before = rules()
first = present(request=REQUEST._replace(manager={former!r}))
opened = rules()
moved = present(request=REQUEST._replace(manager={new!r}))
same = rules() == opened and os.path.exists(ROOT + PLUGIN) == ({new!r} == "iptables")
again = present(request=REQUEST._replace(manager={new!r}))
egress().absent()
print(json.dumps([first, moved, again, same, rules() == before]))
""",
        LIKE_IPTABLES,
    )
    assert first["changed"] and moved["changed"] and moved["manager"] == new, (first, moved)
    assert "iptables-nft filter" not in [change["after_header"] for change in moved["diff"]]
    assert not again["changed"] and same and removed, again["diff"]


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
    """Of processor time, with nft's, since other tests run beside this one."""
    seconds = run(
        """
members = ", ".join("10.%d.%d.%d" % (number >> 16, number >> 8 & 255, number & 255) for number in range(200000))
load("add table ip strangers; add set ip strangers hosts { type ipv4_addr; elements = { " + members + " } }")
begun = sum(os.times()[:4])
result = present(Terms())
spent = sum(os.times()[:4]) - begun
assert result["changed"], result
print(json.dumps(spent))
""",
        DEFAULT_DROP,
    )
    assert seconds < 1


HAMMER = """
import collections, errno, json, os, select, socket
os.setgid(65534); os.setuid(65534)
came = collections.Counter()
while not select.select([0], [], [], 0)[0]:  # until the other end is closed
    with socket.socket() as sock:
        sock.settimeout(1)
        came[errno.errorcode.get(sock.connect_ex(("RELAY", 587)), "reached")] += 1
print(json.dumps(came))
"""


def test_300_reloads_leak_no_connection(run: t.Callable[..., t.Any]) -> None:
    """Every other load keeps the counters (flush), the rest replace the table (delete)."""
    hammer = HAMMER.replace("RELAY", namespace.FAR)
    came = run(
        f"""
assert present(Terms())["changed"]
hammer = subprocess.Popen([sys.executable, "-c", {hammer!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
time.sleep(0.2)
table = egress().table
text = open(table.path).read()
forms = [text, ruleset.keeping_counters(text)]
for number in range(300):
    table.nft.load(forms[number % 2])
print(hammer.communicate()[0])
"""
    )
    assert list(came) == ["ECONNREFUSED"] and came["ECONNREFUSED"] > 1000, came


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
    ("destinations", "ipv4", "ipv6", "opened"),
    [
        (("any",), "", "", ["any IPv4 address port 587", "any IPv6 address port 587"]),
        (
            ("192.0.2.0/24", "2001:db8::/32"),
            "ip daddr @networks:ipv4@ ",
            "ip6 daddr @networks:ipv6@ ",
            ["192.0.2.0/24 port 587", "2001:db8::/32 port 587"],
        ),
    ],
)
def test_wider_destinations_are_opened_as_wide_as_asked(
    run: t.Callable[..., t.Any], destinations: t.Tuple[str, ...], ipv4: str, ipv6: str, opened: t.List[str]
) -> None:
    text = GUARD.replace("ip daddr @ipv4:relay.example@ ", ipv4).replace("ip6 daddr @ipv6:relay.example@ ", ipv6)
    # A default route, so that any address has a way.
    first, second = run(
        f"""
for family, gateway in (("-4", FAR), ("-6", FAR6)):
    subprocess.run(["ip", family, "route", "add", "default", "via", gateway], check=True)
request = REQUEST._replace(text={text!r}, destinations={destinations!r})
print(json.dumps([present(request=request), present(request=request)]))
""",
        DEFAULT_DROP,
    )
    assert first["changed"] and first["opened"] == opened, first
    assert [(one["mta"], one["others"]) for one in first["proof"]] == [("reached", "refused")] * 2
    assert not second["changed"]
