# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways through iptables and ip6tables, legacy and nft, on real rules in a network of their own."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "_support"))

import namespace  # noqa: E402  (needs the path set above)

from ansible_collections.outpost.smtp.plugins.module_utils._egress import iptables_save  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.iptables import PLUGIN, Iptables  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Way  # noqa: E402


@functools.lru_cache(maxsize=None)
def works(variant: str) -> bool:
    """Whether this machine's programs and kernel have that variant."""
    if not namespace.available() or not all(iptables_save.program(variant, version, "save") for version in (4, 6)):
        return False
    drop = f"iptables-{variant} -P OUTPUT DROP && ip6tables-{variant} -P OUTPUT DROP"
    return subprocess.run(["unshare", "--net", "sh", "-c", drop], capture_output=True, check=False).returncode == 0


variants = pytest.mark.parametrize(
    "variant",
    [pytest.param(name, marks=pytest.mark.skipif(not works(name), reason=f"needs root and iptables-{name}")) for name in ("nft", "legacy")],
)

RULES = r"""
for family in iptables ip6tables; do
    $family-VARIANT-restore <<'EOF'
*mangle
:OUTPUT ACCEPT [0:0]
-A OUTPUT -p udp -m udp --dport 53 -j MARK --set-xmark 0x1/0xffffffff
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT DROP [0:0]
:mail - [0:0]
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A OUTPUT -o lo -j ACCEPT
-A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A OUTPUT -p tcp -m multiport --dports 22,80,443 -m comment --comment "what \"all\" need" -j ACCEPT
-A OUTPUT -p tcp -g mail
-A mail -p tcp -m tcp --dport 25 -j REJECT --reject-with tcp-reset
COMMIT
EOF
done
"""
PRELUDE = r"""
import json, subprocess
from ansible_collections.outpost.smtp.plugins.module_utils._egress import blocking, foreign, probe
from ansible_collections.outpost.smtp.plugins.module_utils._egress.command import run
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.iptables import Iptables
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Way
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Nft

def shell(script):
    return subprocess.run(["sh", "-ec", script], check=True, capture_output=True, text=True).stdout

def saved(flags=""):
    return shell("; ".join(f"{family}-VARIANT-save {flags} | sed -e '/^#/d' -e 's/ \\[.*//'" for family in ("iptables", "ip6tables")))

RULES = %r
shell(RULES)
manager = Iptables(run)
WAYS = [Way.to("192.0.2.2", 465), Way.to("198.51.100.0/24", 587), Way.to("2001:db8::2", 465), Way(4, "", 2525)]
theirs = saved()
done = {}
"""


def on_rules(variant: str, script: str) -> t.Dict[str, t.Any]:
    text = PRELUDE.replace("%r", repr(RULES)) + script + "\nprint(json.dumps(done))"
    return t.cast("t.Dict[str, t.Any]", namespace.run("", text.replace("VARIANT", variant)))


@variants
def test_ways_are_opened_at_the_head_of_output(variant: str) -> None:
    done = on_rules(
        variant,
        """
done["before"] = sorted(map(str, manager.opened()))
done["planned"] = [(change.what, change.before, change.after) for change in manager.plan(WAYS)]
done["untouched"] = saved() == theirs
manager.apply(WAYS)
done["opened"] = manager.opened() == set(WAYS)
done["again"] = manager.plan(WAYS)
done["saved"] = saved("-t filter")
""",
    )
    assert done["before"] == [] and done["untouched"], "a plan changes nothing"
    assert [(what, before) for what, before, _after in done["planned"]] == [(f"iptables-{variant} filter", ""), (f"ip6tables-{variant} filter", "")]
    assert "-A OUTPOST-SMTP -d 192.0.2.2/32 -p tcp -m tcp --dport 465 -j ACCEPT\n" in done["planned"][0][2]
    assert done["opened"] and done["again"] == []
    four, six = done["saved"].split("COMMIT\n")[:2]
    for text in (four, six):
        assert next(line for line in text.splitlines() if line.startswith("-A OUTPUT")) == "-A OUTPUT -j OUTPOST-SMTP"
    assert "2001:db8::2/128" in six and "2525" not in six and "--dport 2525" in four


@variants
def test_what_is_closed_leaves_no_trace(variant: str) -> None:
    done = on_rules(
        variant,
        """
manager.apply(WAYS)
manager.apply(WAYS[:1])
done["fewer"] = manager.opened() == set(WAYS[:1]) and not manager.plan(WAYS[:1])
manager.apply([])
done["same"] = saved() == theirs
done["plan"] = manager.plan([])
""",
    )
    assert done == {"fewer": True, "same": True, "plan": []}


@variants
@pytest.mark.parametrize(
    "damage",
    [
        "iptables-VARIANT -I OUTPUT -p tcp --dport 465 -j REJECT",
        "iptables-VARIANT -F OUTPOST-SMTP",
        "iptables-VARIANT -F OUTPUT",
        "iptables-VARIANT -A OUTPOST-SMTP -p tcp --dport 25 -j ACCEPT",
        "iptables-VARIANT -A OUTPUT -j OUTPOST-SMTP",
        "iptables-VARIANT -D OUTPUT -j OUTPOST-SMTP; iptables-VARIANT -A OUTPUT -p tcp -j DROP; iptables-VARIANT -A OUTPUT -j OUTPOST-SMTP",
    ],
)
def test_what_somebody_changed_is_found_and_mended(variant: str, damage: str) -> None:
    done = on_rules(
        variant,
        f"""
manager.apply(WAYS)
shell({damage!r})
done["found"] = len(manager.plan(WAYS))
manager.apply(WAYS)
done["mended"] = not manager.plan(WAYS) and manager.opened() == set(WAYS)
""",
    )
    assert done == {"found": 1, "mended": True}


@variants
def test_a_strangers_chain_of_our_name_is_left_alone(variant: str) -> None:
    done = on_rules(
        variant,
        """
shell("iptables-VARIANT -N OUTPOST-SMTP; iptables-VARIANT -A OUTPOST-SMTP -p tcp --dport 1 -j DROP")
theirs = saved()
try:
    manager.apply(WAYS)
except EgressError as error:
    done["said"] = str(error)
done["nothing to close"] = manager.plan([]) == [] and manager.apply([]) is None
done["same"] = saved() == theirs
""",
    )
    assert f"chain OUTPOST-SMTP of iptables-{variant} was not made by this module" in done["said"] and done["nothing to close"] and done["same"]


@variants
def test_a_restore_takes_ours_away_and_reopening_brings_it_back(variant: str) -> None:
    done = on_rules(
        variant,
        """
manager.apply(WAYS)
opened = saved()
shell(RULES)
done["gone"] = not manager.opened()
manager.reopen(WAYS)
manager.reopen(WAYS)
done["back"] = saved() == opened
""",
    )
    assert done == {"gone": True, "back": True}


@variants
def test_packets_get_out_and_what_stops_them_is_named(variant: str) -> None:
    done = on_rules(
        variant,
        """
nft = Nft("/usr/sbin/nft", run)
nft.load('''
table inet last {
    counter out {
    }
    chain output {
        type filter hook output priority 100
        tcp flags syn counter name out
    }
}
''')
def leave(address, port):
    def count():
        return int(json.loads(shell("nft -j list counter inet last out"))["nftables"][1]["counter"]["packets"])
    return probe.leaves(address, port, 0, count)
tries = [("192.0.2.2", 465), ("2001:db8::2", 465), ("192.0.2.2", 587), ("192.0.2.2", 2525)]
packets = [foreign.Syn(*one, (0, "root")) for one in [*tries, ("192.0.2.2", 25), ("192.0.2.2", 443)]]
def named():
    return [(entry.chain, entry.manager, entry.outcome, entry.why, len(entry.packets), entry.remedy()[0])
            for entry in blocking.find(nft, nft.chains(), packets)]
done["before"] = [leave(*one) for one in tries]
done["named"] = named()
manager.apply(WAYS)
done["after"] = [leave(*one) for one in tries]
done["still"] = [(chain, count) for chain, _manager, _outcome, _why, count, _remedy in named()]
""",
    )
    assert done["before"] == [False] * 4 and done["after"] == [True, True, False, True]
    chains = ("iptables-legacy", "ip6tables-legacy") if variant == "legacy" else ("ip", "ip6")
    commands = ("iptables-legacy", "ip6tables-legacy") if variant == "legacy" else ("iptables", "ip6tables")
    assert [entry[:5] for entry in done["named"]] == [
        [f"{chain} filter OUTPUT", "iptables", "stop", "its policy is drop", count] for chain, count in zip(chains, (4, 1))
    ]
    assert done["named"][0][5] == f"{commands[0]} -I OUTPUT -p tcp -d 192.0.2.2 --dport 465 -j ACCEPT"
    assert done["named"][1][5].startswith(f"{commands[1]} -I OUTPUT")
    assert done["still"] == [[f"{chains[0]} filter OUTPUT", 2]], "ports 25 and 587 of that address were not asked for"


class Host:
    """Prints a table, and keeps what is restored."""

    def __init__(self, saved: str, restores: int = 0) -> None:
        self.saved = saved
        self.restores = restores
        self.calls: t.List[t.Tuple[str, str]] = []

    def run(self, arguments: t.Sequence[str], text: str) -> t.Tuple[int, str, str]:
        if arguments[0].endswith("-save"):
            return 0, self.saved if arguments[0].endswith("/iptables-nft-save") else "", ""
        self.calls.append((" ".join(arguments), text))
        return self.restores, "", "line 3 failed" if self.restores else ""


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: f"/usr/sbin/{name}")


DROPPING = "*filter\n:OUTPUT DROP [0:0]\n-A OUTPUT -o lo -j ACCEPT\nCOMMIT\n"
WAY = Way.to("192.0.2.10", 465)


@pytest.mark.usefixtures("installed")
def test_one_restore_says_it_all_and_is_tested_first(tmp_path: Path) -> None:
    host = Host(DROPPING)
    Iptables(host.run, str(tmp_path)).apply([WAY, Way.to("2001:db8::10", 465)])
    command = "/usr/sbin/iptables-nft-restore --noflush -w 5"
    assert [call for call, _text in host.calls] == [f"{command} --test", command]
    rule = "-A OUTPOST-SMTP -d 192.0.2.10/32 -p tcp -m tcp --dport 465 -j ACCEPT"
    script = f"*filter\n:OUTPOST-SMTP - [0:0]\n{rule}\n-I OUTPUT 1 -j OUTPOST-SMTP\nCOMMIT\n"
    assert [text for _call, text in host.calls] == [script, script]


@pytest.mark.usefixtures("installed")
def test_a_refusal_is_told_before_anything_changes(tmp_path: Path) -> None:
    host = Host(DROPPING, restores=2)
    with pytest.raises(EgressError, match="iptables-nft-restore refuses the way out, its rules stay as they were: line 3 failed"):
        Iptables(host.run, str(tmp_path)).apply([WAY])
    assert [call.rpartition(" ")[2] for call, _text in host.calls] == ["--test"]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("saved", ["", DROPPING.replace("DROP", "ACCEPT"), DROPPING.replace("-o lo", "-p tcp"), "*nat\n:OUTPUT DROP\nCOMMIT\n"])
def test_where_nothing_stops_it_nothing_is_opened(saved: str, tmp_path: Path) -> None:
    host = Host(saved)
    manager = Iptables(host.run, str(tmp_path))
    assert manager.plan([WAY]) == [] and manager.opened() == set()
    manager.apply([WAY])
    assert host.calls == []


def test_without_the_programs_nothing_is_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name, path: None)
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/ip_tables_names").write_text("filter\n")
    manager = Iptables(Host(DROPPING).run, str(tmp_path))
    assert manager.opened() == set() and manager.plan([]) == []
    manager.apply([])


@pytest.fixture
def plugin(tmp_path: Path, installed: None) -> Path:
    """Where the plugin of netfilter-persistent goes, on a host that has that."""
    path = Path(f"{tmp_path}{PLUGIN}")
    path.parent.mkdir(parents=True)
    return path


def test_the_plugin_of_netfilter_persistent(plugin: Path, tmp_path: Path) -> None:
    host = Host("")
    manager = Iptables(host.run, str(tmp_path))
    (change,) = manager.plan([WAY])
    assert change.what == PLUGIN and change.before == "" and not plugin.exists()
    manager.apply([WAY])
    assert plugin.read_text() == change.after and os.access(plugin, os.X_OK) and manager.plan([WAY]) == []
    plugin.chmod(0o644)
    assert manager.plan([WAY]) != []
    manager.apply([])
    assert list(plugin.parent.iterdir()) == [] and manager.plan([]) == []


def test_the_plugin_reopens_and_keeps_ours_out_of_what_is_saved(plugin: Path, tmp_path: Path) -> None:
    Iptables(Host("").run, str(tmp_path)).apply([WAY])
    ours = ":OUTPOST-SMTP - [0:0]\n-A OUTPUT -j OUTPOST-SMTP\n"
    (tmp_path / "rules.v4").write_text(DROPPING.replace("COMMIT", f"{ours}COMMIT"))
    script = plugin.read_text().replace("/etc/iptables/", f"{tmp_path}/")
    reopen = next(line for line in script.splitlines() if "reopen" in line)
    assert reopen.strip().endswith(" -I /usr/local/lib/outpost-smtp/egress.pyz reopen || :")
    script = script.replace(reopen, "echo reopened")

    def called(action: str) -> str:
        return subprocess.run(["sh", "-ec", script, "plugin", action], capture_output=True, text=True, check=True).stdout

    assert [called(action) for action in ("start", "save", "flush")] == ["reopened\n", "", ""]
    assert (tmp_path / "rules.v4").read_text() == DROPPING and not (tmp_path / "rules.v6").exists()


def test_without_netfilter_persistent_there_is_no_plugin(installed: None, tmp_path: Path) -> None:
    assert Iptables(Host("").run, str(tmp_path)).plan([WAY]) == []
