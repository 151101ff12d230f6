# SPDX-License-Identifier: GPL-3.0-or-later
"""Which foreign chains stop a packet: what nft and iptables-save tell together, on listings recorded from three releases of Debian."""

from __future__ import annotations

import json
import shutil
import sys
import typing as t
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "_support"))

import namespace  # noqa: E402  (needs the path set above)

from ansible_collections.outpost.smtp.plugins.module_utils._egress import blocking  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._egress.foreign import STOP, UNKNOWN, Syn  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Nft  # noqa: E402

VERSIONS = ["1.8.7", "1.8.9", "1.8.11"]
#: The table as each of these versions of iptables-nft-save printed it, when nft listed it as in the files.
SAVED = """\
*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT DROP [0:0]
:OUTPOST-SMTP - [0:0]
:mail - [0:0]
-A OUTPUT -j OUTPOST-SMTP
-A OUTPUT -o lo -j ACCEPT
-A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A OUTPUT -p tcp -m multiport --dports 22,80,440:443 -j ACCEPT
-A OUTPUT -p tcp -m tcp --dport 587 -m owner --uid-owner 101 -m comment --comment "who \\"else\\"" -j ACCEPT
-A OUTPUT ! -d 10.0.0.0/8 -p tcp -g mail
-A OUTPUT -m limit --limit 1/sec -j LOG --log-prefix "a b "
-A OUTPOST-SMTP -p tcp -m tcp --dport 2525 -j ACCEPT
-A OUTPOST-SMTP -d 192.0.2.10/32 -p tcp -m tcp --dport 465 -j ACCEPT
-A OUTPOST-SMTP -d 198.51.100.0/24 -p tcp -m tcp --dport 465 -j ACCEPT
-A mail -p tcp -m tcp --dport 25 --tcp-flags FIN,SYN,RST,ACK SYN -j REJECT --reject-with tcp-reset
-A mail -p tcp -m tcp --dport 26 -m mark --mark 0x1 -j ACCEPT
COMMIT
"""
POSTFIX, ROOT = ("postfix", 101), ("root", 0)


class Host:
    def __init__(self, version: str, saved: str = SAVED) -> None:
        text = (Path(__file__).parent / "listings" / f"opened-iptables-nft-{version}.json").read_text()
        self.entries = json.loads(text)["nftables"]
        self.saved = saved

    def run(self, arguments: t.Sequence[str], _text: str) -> t.Tuple[int, str, str]:
        if arguments[0].endswith("-save"):
            return (0, self.saved, "") if self.saved else (1, "", "may not")
        entries = [entry for entry in self.entries if "chain" in entry] if arguments[-1] == "chains" else self.entries
        return 0, json.dumps({"nftables": entries}), ""

    def find(self, packet: Syn) -> t.List[blocking.Blocked]:
        command = Nft("nft", self.run)
        return blocking.find(command, command.chains(), [packet])


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: f"/usr/sbin/{name}")
    monkeypatch.setattr(blocking, "_LEGACY", {})


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("packet", "outcome"),
    [
        (Syn("192.0.2.10", 465, ROOT), None),
        (Syn("192.0.2.11", 465, ROOT), STOP),
        (Syn("198.51.100.7", 465, ROOT), None),
        (Syn("192.0.2.10", 587, POSTFIX), None),
        (Syn("192.0.2.10", 587, ROOT), STOP),
        (Syn("192.0.2.10", 441, ROOT), None),
        (Syn("192.0.2.10", 25, ROOT), STOP),
        (Syn("192.0.2.10", 26, ROOT), UNKNOWN),
        (Syn("2001:db8::10", 465, ROOT), None),
    ],
)
def test_the_two_together_leave_no_doubt(version: str, packet: Syn, outcome: t.Optional[str]) -> None:
    """nft alone lists the matches of iptables without what they match. Port 26 depends on a mark, which nobody can know."""
    found = Host(version).find(packet)
    assert [(entry.chain, entry.manager, entry.outcome) for entry in found] == ([("ip filter OUTPUT", "iptables", outcome)] if outcome else [])


def test_the_rule_keeps_the_handle_by_which_nft_calls_it() -> None:
    (entry,) = Host("1.8.9").find(Syn("192.0.2.10", 25, ROOT))
    assert entry.why == "rule with handle 11 in chain mail"


@pytest.mark.parametrize(
    "saved",
    [
        "",
        "*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n",
        SAVED.replace("-A OUTPUT -o lo -j ACCEPT\n", ""),
        SAVED.replace("-A mail -p tcp -m tcp --dport 26", "-A mail -j DROP\n-A mail -p tcp -m tcp --dport 26"),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_where_the_two_do_not_agree_only_nft_is_believed(version: str, saved: str) -> None:
    """Somebody may change rules between the two listings, or put rules of nft's own into the table."""
    (entry,) = Host(version, saved).find(Syn("192.0.2.11", 465, ROOT))
    assert entry.outcome == UNKNOWN


SETS = """
table inet filter {
    set relays {
        type ipv4_addr
        flags interval
        elements = { 192.0.2.0/28, 198.51.100.7 }
    }
    set relays6 {
        type ipv6_addr
        elements = { 2001:db8::2 }
    }
    set ports {
        type inet_service
        elements = { 465, 587 }
    }
    set who {
        type uid
        elements = { 8 }
    }
    chain output {
        type filter hook output priority 0; policy drop
        ip daddr @relays tcp dport @ports accept
        ip6 daddr @relays6 th dport != @ports accept
        meta skuid @who tcp dport 2525 accept
    }
}
"""
SCRIPT = """
import json
from ansible_collections.outpost.smtp.plugins.module_utils._egress import blocking, command, foreign, nft
n = nft.Nft(nft.find(), command.run)
packets = [foreign.Syn(address, port, ()) for address in ADDRESSES for port in (465, 25, 2525)]
print(json.dumps([(entry.outcome, entry.why, [list(packet[:2]) for packet in entry.packets]) for entry in blocking.find(n, n.chains(), packets)]))
"""


@pytest.mark.skipif(not namespace.available(), reason="needs root and nft")
def test_named_sets_are_asked_for_the_destination() -> None:
    addresses = ["192.0.2.2", "192.0.2.99", "198.51.100.7", "2001:db8::2", "2001:db8::3"]
    found = namespace.run(SETS, SCRIPT.replace("ADDRESSES", repr(addresses)))
    stopped = {(address, port) for outcome, _why, packets in found if outcome == STOP for address, port in packets}
    assert stopped == {
        *((address, 25) for address in addresses if address != "2001:db8::2"),
        *((address, 465) for address in ("192.0.2.99", "2001:db8::2", "2001:db8::3")),
    }
    doubtful = {(address, port) for outcome, _why, packets in found if outcome == UNKNOWN for address, port in packets}
    assert doubtful == {(address, 2525) for address in addresses if address != "2001:db8::2"}, "who sends is not said"
    assert len(found) == 2, "what is said of several is said once"


def test_sets_are_not_asked_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    base = {"family": "inet", "table": "filter", "name": "output", "type": "filter", "hook": "output", "prio": 0, "policy": "drop"}
    match = {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": "@s"}}
    rule = {"family": "inet", "table": "filter", "chain": "output", "handle": 1, "expr": [match, {"accept": None}]}
    asked = []

    def run(arguments: t.Sequence[str], _text: str) -> t.Tuple[int, str, str]:
        if "get" in arguments:
            asked.append(arguments[-1])
            return 1, "", "Error: Could not process rule: No such file or directory"
        return 0, json.dumps({"nftables": [{"chain": base}, {"rule": rule}]}), ""

    packets = [Syn(f"192.0.2.{number}", 465, ROOT) for number in range(20)]
    found = blocking.find(Nft("nft", run), [base], packets + packets)
    assert len(asked) == 12 and {entry.outcome: len(entry.packets) for entry in found} == {STOP: 24, UNKNOWN: 16}


@pytest.mark.parametrize(
    ("name", "code", "error", "held"),
    [
        ("s", 0, "", True),
        ("s", 1, "Error: Could not process rule: No such file or directory", False),
        ("s", 1, "Error: Could not resolve hostname", None),
        ("s", 1, "Error: No such file or directory; did you mean set x", None),
        ("s; flush ruleset", 0, "", None),
    ],
)
def test_whether_a_set_holds_it(name: str, code: int, error: str, held: t.Optional[bool]) -> None:
    assert Nft("nft", lambda _arguments, _text: (code, "", error)).holds("inet", "filter", name, "192.0.2.1") is held


def test_a_legacy_table_of_ufw_is_ufws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listing = tmp_path / "names"
    listing.write_text("filter\n")
    monkeypatch.setattr(blocking, "_LEGACY", {4: str(listing)})
    saved = "*filter\n:OUTPUT DROP [0:0]\n:ufw-before-output - [0:0]\n-A OUTPUT -j ufw-before-output\nCOMMIT\n"

    def run(arguments: t.Sequence[str], _text: str) -> t.Tuple[int, str, str]:
        return 0, saved, ""

    (entry,) = blocking.find(Nft("nft", run), [], [Syn("192.0.2.10", 465, ROOT), Syn("2001:db8::10", 465, ROOT)])

    assert (entry.chain, entry.manager, entry.outcome) == ("iptables-legacy filter OUTPUT", "ufw", STOP)
    assert entry.remedy() == ["ufw allow out proto tcp to 192.0.2.10 port 465"]


@pytest.mark.parametrize(
    ("chain", "kept_by", "managers"),
    [
        ("inet filter output", "nftables", {"nftables"}),
        ("ip filter OUTPUT", "iptables", {"iptables", "nftables"}),
        ("iptables-legacy filter OUTPUT", "iptables", {"iptables"}),
        ("ip6tables-legacy filter OUTPUT", "ufw", {"ufw"}),
        ("inet firewalld filter_OUTPUT", "firewalld", {"firewalld"}),
    ],
)
def test_who_can_open_a_chain(chain: str, kept_by: str, managers: t.Set[str]) -> None:
    entry = blocking.Blocked(chain, kept_by, 0, STOP, "why", [])
    assert {name for name in ("nftables", "firewalld", "ufw", "iptables") if entry.opened_by(name)} == managers
