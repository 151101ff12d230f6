# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways through hand-written tables: on real rules in a network of their own, and on what nft 0.9.8 to 1.1.3 list of them."""

from __future__ import annotations

import json
import sys
import typing as t
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "_support"))

import namespace  # noqa: E402  (needs the path set above)

from ansible_collections.outpost.smtp.plugins.module_utils._egress import iptables_save, nft  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Way  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.nftables import Nftables  # noqa: E402

real = pytest.mark.skipif(not namespace.available(), reason="needs root and nft")

VERSIONS = ["0.9.8", "1.0.6", "1.1.3"]
#: The ways that were open when the listings were recorded.
OPENED = [
    Way.to("192.0.2.10", 465),
    Way.to("198.51.100.0/24", 465),
    Way(4, "", 2525),
    Way.to("2001:db8::10", 465),
    Way.to("2001:db8:1::/64", 587),
    Way(6, "", 2525),
]

RULES = """
table inet filter {
    set admins {
        type ipv4_addr
        elements = { 10.0.0.1 }
    }
    chain input {
        type filter hook input priority 0; policy drop
        ct state established,related accept
        tcp dport 22 accept
    }
    chain output {
        type filter hook output priority 0; policy drop
        ct state established,related accept
        ct state invalid drop
        oifname "lo" accept
        tcp dport { 22, 80, 443 } accept
        ip daddr @admins accept
        counter comment "the rest"
    }
}
table ip mail {
    chain post {
        type filter hook postrouting priority 10
        tcp dport 465 counter drop
    }
}
table ip6 six {
    chain leaving {
        type filter hook output priority 5
        tcp dport 25 reject
    }
}
table inet passing {
    chain output {
        type filter hook output priority 20
        tcp dport 9999 drop
    }
}
table inet outpost_smtp {
    chain managed_by_outpost_smtp {
    }
    chain output {
        type filter hook output priority 60
        tcp dport 25 reject
    }
}
"""
LAST = """
table inet last {
    counter out {
    }
    chain output {
        type filter hook output priority 100
        tcp flags syn counter name out
    }
}
"""
PRELUDE = """
import json, subprocess
from ansible_collections.outpost.smtp.plugins.module_utils._egress.command import run
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Way
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.nftables import Nftables

def nft(*words):
    return subprocess.run(["nft", *words], check=True, capture_output=True, text=True).stdout

manager = Nftables(run)
WAYS = [Way.to("192.0.2.2", 465), Way.to("198.51.100.0/24", 587), Way.to("2001:db8::2", 465), Way(4, "", 2525)]
ruleset = nft("--handle", "--stateless", "list", "ruleset")
done = {}
"""


def on_rules(script: str, rules: str = RULES) -> t.Dict[str, t.Any]:
    return t.cast("t.Dict[str, t.Any]", namespace.run(rules, PRELUDE + script + "\nprint(json.dumps(done))"))


@real
def test_ways_are_opened_where_they_are_stopped_and_nowhere_else() -> None:
    done = on_rules(
        """
done["before"] = sorted(map(str, manager.opened()))
done["planned"] = [change.what for change in manager.plan(WAYS)]
done["untouched"] = nft("--handle", "--stateless", "list", "ruleset") == ruleset
manager.apply(WAYS)
done["opened"] = manager.opened() == set(WAYS)
done["again"] = manager.plan(WAYS)
for name in ("inet filter", "ip mail", "ip6 six", "inet passing"):
    done[name] = nft("list", "table", *name.split())
"""
    )
    assert done["before"] == [] and done["untouched"], "a plan changes nothing"
    assert done["planned"] == ["nftables inet filter", "nftables ip mail"]
    assert done["opened"] and done["again"] == []
    first = done["inet filter"].partition("chain output {")[2].splitlines()[2].strip()
    assert first == 'jump outpost_smtp comment "outpost_smtp"', "it is asked before anything else"
    for rule in ("ip daddr 192.0.2.2 tcp dport 465", "ip daddr 198.51.100.0/24 tcp dport 587", "ip6 daddr 2001:db8::2 tcp dport 465"):
        assert f'{rule} accept comment "outpost_smtp"' in done["inet filter"]
    assert "meta nfproto ipv4 tcp dport 2525 accept" in done["inet filter"]
    assert "ip6" not in done["ip mail"] and "tcp dport 2525 accept" in done["ip mail"]
    assert "outpost_smtp" not in done["ip6 six"] + done["inet passing"]


@real
def test_what_is_closed_leaves_no_trace() -> None:
    done = on_rules(
        """
manager.apply(WAYS)
manager.apply(WAYS[:1])
done["fewer"] = manager.opened() == set(WAYS[:1]) and not manager.plan(WAYS[:1])
manager.apply([])
done["same"] = nft("--handle", "--stateless", "list", "ruleset") == ruleset
done["plan"] = manager.plan([])
"""
    )
    assert done == {"fewer": True, "same": True, "plan": []}


@real
@pytest.mark.parametrize(
    "damage",
    [
        "insert rule inet filter output tcp dport 465 drop",
        "flush chain inet filter outpost_smtp",
        "add rule inet filter outpost_smtp tcp dport 25 accept",
        'insert rule inet filter output jump outpost_smtp comment "outpost_smtp"',
        'insert rule inet passing output tcp dport 465 drop',
        'add rule inet filter input jump outpost_smtp comment "outpost_smtp"',
    ],
)
def test_what_somebody_changed_is_found_and_mended(damage: str) -> None:
    done = on_rules(
        f"""
manager.apply(WAYS)
nft({damage!r})
done["found"] = len(manager.plan(WAYS))
manager.apply(WAYS)
done["mended"] = not manager.plan(WAYS) and manager.opened() == set(WAYS)
"""
    )
    assert done == {"found": 1, "mended": True}


@real
def test_a_reload_takes_ours_away_and_reopening_brings_it_back() -> None:
    done = on_rules(
        """
manager.apply(WAYS)
opened = nft("-s", "list", "ruleset")
subprocess.run(["nft", "-f", "-"], input="flush ruleset\\n" + RULES, text=True, check=True)
done["gone"] = not manager.opened()
manager.reopen(WAYS)
done["back"] = nft("-s", "list", "ruleset") == opened
manager.reopen(WAYS)
done["once"] = nft("-s", "list", "ruleset") == opened
nft("flush", "ruleset")
manager.reopen(WAYS)
done["nothing to open"] = nft("list", "ruleset")
""".replace("RULES", repr(RULES))
    )
    assert done == {"gone": True, "back": True, "once": True, "nothing to open": ""}


@real
def test_a_chain_of_ours_that_nobody_asks_any_more_is_removed() -> None:
    done = on_rules(
        """
manager.apply(WAYS)
nft("flush chain inet filter output; delete chain inet filter output")
done["opened"] = "inet filter" in [change.what[9:] for change in manager.plan(WAYS)]
manager.apply(WAYS)
done["left"] = "outpost_smtp" in nft("list", "table", "inet", "filter")
"""
    )
    assert done == {"opened": True, "left": False}


LIKE_IPTABLES = """
table ip filter {
    chain OUTPUT {
        type filter hook output priority 0; policy drop
        tcp dport 22 accept
    }
}
"""


@real
@pytest.mark.skipif(not iptables_save.program("nft", 4), reason="needs iptables-nft")
def test_in_tables_like_those_of_iptables_its_own_program_makes_the_rules() -> None:
    """iptables-save 1.8.7 would print, and restore, a rule of nft's without its port."""
    done = on_rules(
        """
ruleset = nft("-s", "list", "ruleset")
done["planned"] = [change.what for change in manager.plan(WAYS)]
manager.apply(WAYS)
done["opened"] = sorted(str(way) for way in manager.opened())
done["again"] = manager.plan(WAYS)
done["saved"] = subprocess.run(["iptables-nft-save", "-t", "filter"], check=True, capture_output=True, text=True).stdout
manager.apply([])
done["same"] = nft("-s", "list", "ruleset") == ruleset
""",
        LIKE_IPTABLES,
    )
    assert done["planned"] == ["iptables-nft filter"] and done["again"] == [] and done["same"]
    assert done["opened"] == ["192.0.2.2 port 465", "198.51.100.0/24 port 587", "any IPv4 address port 2525"]
    assert "-A OUTPOST-SMTP -d 192.0.2.2/32 -p tcp -m tcp --dport 465 -j ACCEPT\n" in done["saved"]


@real
def test_where_there_is_no_iptables_such_tables_are_written_by_hand() -> None:
    done = on_rules(
        """
from ansible_collections.outpost.smtp.plugins.module_utils._egress import iptables_save
iptables_save.program = lambda *_names: None
manager.apply(WAYS)
done["opened"] = sorted(str(way) for way in manager.opened())
done["listed"] = nft("list", "table", "ip", "filter")
""",
        LIKE_IPTABLES,
    )
    assert len(done["opened"]) == 3 and 'jump outpost_smtp comment "outpost_smtp"' in done["listed"]


@real
def test_a_strangers_chain_of_our_name_is_left_alone() -> None:
    done = on_rules(
        """
nft("add chain inet filter outpost_smtp; add rule inet filter outpost_smtp tcp dport 1 drop")
ruleset = nft("-s", "list", "ruleset")
try:
    manager.apply(WAYS)
except EgressError as error:
    done["said"] = str(error)
done["nothing to close"] = manager.plan([]) == [] and manager.apply([]) is None
done["same"] = nft("-s", "list", "ruleset") == ruleset
"""
    )
    assert "chain 'inet filter outpost_smtp' was not made by this module" in done["said"] and done["nothing to close"] and done["same"]


@real
def test_a_name_that_nft_would_read_otherwise_is_refused() -> None:
    add = '[{"add": {"table": {"family": "inet", "name": "x y"}}}, {"add": {"chain": {"family": "inet", "table": "x y", "name": "output", '
    add += '"type": "filter", "hook": "output", "prio": 0, "policy": "drop"}}}]'
    done = on_rules(
        f"""
subprocess.run(["nft", "-j", "-f", "-"], input='{{"nftables": {add}}}', text=True, check=True)
try:
    manager.apply(WAYS)
except EgressError as error:
    done["said"] = str(error)
done["opened"] = len(manager.opened())
"""
    )
    assert "does not take the name 'x y'" in done["said"] and done["opened"] == 0


@real
def test_packets_get_out_where_they_did_not() -> None:
    """The chain behind all others counts what gets out."""
    done = on_rules(
        """
from ansible_collections.outpost.smtp.plugins.module_utils._egress import probe
def leave(address, port):
    def count():
        return int(json.loads(nft("-j", "list", "counter", "inet", "last", "out"))["nftables"][1]["counter"]["packets"])
    return probe.leaves(address, port, 0, count)
tries = [("192.0.2.2", 465), ("2001:db8::2", 465), ("192.0.2.2", 587), ("192.0.2.2", 2525), ("2001:db8::2", 2525)]
done["before"] = [leave(*one) for one in tries]
manager.apply(WAYS)
done["after"] = [leave(*one) for one in tries]
manager.apply([])
done["again"] = [leave(*one) for one in tries]
""",
        RULES + LAST,
    )
    assert done["before"] == done["again"] == [False] * 5
    assert done["after"] == [True, True, False, True, False]


class Host:
    """Answers with a recorded listing, and keeps what is loaded."""

    def __init__(self, version: str) -> None:
        text = (Path(__file__).parent / "listings" / f"opened-nft-{version}.json").read_text()
        self.entries = json.loads(text)["nftables"]
        self.loaded: t.List[str] = []

    def run(self, arguments: t.Sequence[str], text: str) -> t.Tuple[int, str, str]:
        if "-f" in arguments:
            self.loaded += [text] if "-c" not in arguments else []
            return 0, "", ""
        entries = [entry for entry in self.entries if "chain" in entry] if arguments[-1] == "chains" else self.entries
        return 0, json.dumps({"nftables": entries}), ""


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "find", lambda: "/usr/sbin/nft")


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_open_is_read_alike_on_every_version(version: str) -> None:
    host = Host(version)
    manager = Nftables(host.run)
    assert manager.opened() == set(OPENED)
    assert manager.plan(OPENED) == [] and manager.plan(OPENED[::-1]) == []
    manager.apply(OPENED)
    assert host.loaded == [], "nothing is loaded where nothing differs"


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_ours_is_removed_by_its_handles(version: str) -> None:
    host = Host(version)
    Nftables(host.run).apply([])
    (script,) = host.loaded
    jumps = [entry["rule"] for entry in host.entries if entry.get("rule", {}).get("expr") == [{"jump": {"target": "outpost_smtp"}}]]
    for jump in jumps:
        assert f"delete rule {jump['family']} {jump['table']} {jump['chain']} handle {jump['handle']}\n" in script
    assert len(jumps) == script.count("delete rule") == script.count("delete chain") == 2 and "add" not in script


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plan_tells_what_is_there_and_what_will_be(version: str) -> None:
    first, second = Nftables(Host(version).run).plan(OPENED[:1])
    assert first.what == "nftables inet filter" and second.what == "nftables ip mail"
    assert "chain outpost_smtp: ip6 daddr 2001:db8:1::/64 tcp dport 587 accept\n" in first.before
    assert first.after == "chain outpost_smtp: ip daddr 192.0.2.10 tcp dport 465 accept\nchain output: jump outpost_smtp\n"


def test_a_refusal_changes_nothing_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host("1.0.6")

    def refuse(arguments: t.Sequence[str], text: str) -> t.Tuple[int, str, str]:
        return (1, "", "Error: no such thing") if "-c" in arguments else host.run(arguments, text)

    with pytest.raises(EgressError, match="no such thing"):
        Nftables(refuse).apply([])
    assert host.loaded == []


def test_without_nft_nothing_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "find", lambda: None)
    manager = Nftables(Host("1.0.6").run)
    assert manager.opened() == set() and manager.plan(OPENED) == []
    manager.apply([])
