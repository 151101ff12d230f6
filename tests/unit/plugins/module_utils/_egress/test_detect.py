# SPDX-License-Identifier: GPL-3.0-or-later
"""Who keeps the firewall, on hosts in a directory whose systemctl and iptables-save are played."""

from __future__ import annotations

import shutil
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import foreign, iptables_save, nft
from ansible_collections.outpost.smtp.plugins.module_utils._egress.blocking import Blocked
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.detect import Detected, choose, look
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Json

RULES = "*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT DROP [0:0]\nCOMMIT\n"
EMPTY = RULES.replace("DROP", "ACCEPT")


class Host:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.active: t.Set[str] = set()
        self.chains: t.List[Json] = []
        self.saved: t.Dict[str, str] = {}
        self.called: t.List[str] = []
        self.write("run/systemd/system/.keep")

    def write(self, path: str, text: str = "") -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def install(self, *services: str, active: bool = True) -> None:
        for service in services:
            self.write(f"lib/systemd/system/{service}.service")
            self.active |= {f"{service}.service"} if active else set()

    def enable_ufw(self, enabled: str = "yes") -> None:
        self.write("usr/sbin/ufw")
        self.write("etc/ufw/ufw.conf", f"# a comment: ENABLED=yes\nENABLED={enabled}\nLOGLEVEL=low\n")

    def load(self, name: str, hook: str = "output", **base: t.Any) -> None:
        family, table, chain = name.split(" ")
        self.chains.append({"family": family, "table": table, "name": chain, "type": "filter", "hook": hook, "prio": 0, "policy": "accept", **base})

    def run(self, arguments: t.Sequence[str], _text: str) -> t.Tuple[int, str, str]:
        program = arguments[0].rpartition("/")[2]
        self.called.append(program)
        if program == "systemctl":
            states = ["active" if unit in self.active else "inactive" for unit in arguments[2:]]
            return (0 if "active" in states else 3), "".join(f"{state}\n" for state in states), ""
        return 0, self.saved.get(program, ""), ""

    def detect(self) -> Detected:
        return look(self.run, str(self.root), self.chains)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"/usr/sbin/{name}")
    return Host(tmp_path)


def test_a_host_without_any_rules(host: Host) -> None:
    assert host.detect() == Detected("nftables", (), {}) and host.called == []


@pytest.mark.parametrize("service", ["firewalld", "nftables", "iptables", "ip6tables"])
def test_a_service_that_is_active(host: Host, service: str) -> None:
    host.install("firewalld", "nftables", "iptables", "ip6tables", "netfilter-persistent", active=False)
    host.active = {f"{service}.service"}
    host.load("inet filter output")
    manager = "iptables" if "iptables" in service or service == "ip6tables" else service

    found = host.detect()

    assert (found.manager, found.active) == (manager, (manager,))
    assert found.evidence == {manager: f"{service}.service is active"}
    assert host.called == ["systemctl"], "one process tells"


def test_services_that_are_installed_and_not_active_say_nothing(host: Host) -> None:
    host.install("firewalld", "nftables", active=False)
    assert host.detect().active == ()


def test_systemd_is_not_asked_where_it_does_not_run(host: Host) -> None:
    host.install("nftables")
    (host.root / "run/systemd/system/.keep").unlink()
    (host.root / "run/systemd/system").rmdir()
    assert host.detect().active == () and host.called == []


@pytest.mark.parametrize(("enabled", "found"), [("yes", ("ufw",)), ('"yes"', ("ufw",)), ("no", ())])
def test_ufw_is_active_where_it_is_enabled(host: Host, enabled: str, found: t.Tuple[str, ...]) -> None:
    host.enable_ufw(enabled)
    assert host.detect().active == found and host.called == []


def test_what_a_removed_ufw_leaves_behind_says_nothing(host: Host) -> None:
    host.enable_ufw()
    (host.root / "usr/sbin/ufw").unlink()
    assert host.detect().active == ()


@pytest.mark.parametrize(
    ("text", "active"),
    [(RULES, True), (EMPTY, False), ("", False), ("*filter\n[0:0] -A INPUT -j DROP\n", True), ("*filter\n-A INPUT -j DROP\n", True)],
)
def test_netfilter_persistent_counts_where_it_restores_something(host: Host, text: str, active: bool) -> None:
    host.install("netfilter-persistent")
    host.write("etc/iptables/rules.v6", text)
    found = host.detect()
    assert found.active == (("iptables",) if active else ())
    if active:
        assert found.evidence["iptables"] == "netfilter-persistent.service is active and restores /etc/iptables/rules.v6"


def test_other_names_of_netfilter_persistent_are_no_services_of_their_own(host: Host) -> None:
    host.install("netfilter-persistent")
    (host.root / "etc/systemd/system").mkdir(parents=True)
    for alias in ("iptables", "ip6tables"):
        (host.root / f"etc/systemd/system/{alias}.service").symlink_to(host.root / "lib/systemd/system/netfilter-persistent.service")
        host.active.add(f"{alias}.service")
    assert host.detect().active == ()


ALL = ("firewalld", "ufw", "iptables", "nftables")


def several(*active: str) -> Detected:
    return Detected(active[0], active, {name: f"{name} is there" for name in active})


def stopping(*managers: str) -> t.List[Blocked]:
    """Chains that stop mail: by the name of who keeps them, where "legacy" stands for the legacy iptables."""
    packet = foreign.Syn("192.0.2.10", 465, ())
    names = {"firewalld": "inet firewalld filter_OUTPUT", "nftables": "inet filter output", "legacy": "iptables-legacy filter OUTPUT"}
    return [
        Blocked(names.get(name, "ip filter OUTPUT"), name.replace("legacy", "iptables"), 0, foreign.STOP, "its policy is drop", [packet])
        for name in managers
    ]


def test_all_that_are_active_are_named(host: Host) -> None:
    host.install("firewalld", "iptables", "nftables")
    host.enable_ufw()
    assert host.detect().active == ALL


@pytest.mark.parametrize(
    ("active", "blocked", "former", "chosen"),
    [
        # ufw beside nftables.service with a file that lets everything out, and the like
        (("ufw", "nftables"), ("ufw",), "", "ufw"),
        (("ufw", "nftables"), ("nftables",), "", "nftables"),
        (("firewalld", "ufw"), ("ufw",), "", "ufw"),
        (("firewalld", "nftables"), ("nftables",), "", "nftables"),
        (("firewalld", "ufw"), (), "", "firewalld"),
        # a chain called like those of iptables is iptables' where that is active, else nft's
        (("iptables", "nftables"), ("iptables",), "", "iptables"),
        (("iptables", "nftables"), ("legacy",), "", "iptables"),
        (("ufw", "nftables"), ("iptables",), "", "nftables"),
        # what is open already stops nothing any more
        (("firewalld", "ufw"), (), "ufw", "ufw"),
        (("ufw", "nftables"), ("ufw",), "ufw", "ufw"),
        # a chain of somebody who is not active is named later
        (("ufw", "nftables"), ("firewalld",), "", "ufw"),
    ],
)
def test_of_several_the_one_that_stops_mail_is_the_manager(active: t.Tuple[str, ...], blocked: t.Tuple[str, ...], former: str, chosen: str) -> None:
    assert choose(several(*active), stopping(*blocked), former) == chosen


@pytest.mark.parametrize(
    ("active", "blocked", "former", "named"),
    [
        (("ufw", "nftables"), ("ufw", "nftables"), "", ("ufw", "nftables")),
        (ALL, ("firewalld", "ufw", "legacy", "nftables"), "", ALL),
        (("ufw", "nftables"), ("nftables",), "ufw", ("ufw", "nftables")),
        # when it starts, netfilter-persistent fills the table that ufw keeps
        (("ufw", "iptables"), ("ufw",), "", ("ufw", "iptables")),
    ],
)
def test_managers_that_fight(active: t.Tuple[str, ...], blocked: t.Tuple[str, ...], former: str, named: t.Tuple[str, ...]) -> None:
    with pytest.raises(EgressError, match="more than one manager") as caught:
        choose(several(*active), stopping(*blocked), former)
    assert " and ".join(f"{name} ({name} is there)" for name in named) in str(caught.value)
    assert f"smtp_egress_manager: {', '.join(named)} or none" in str(caught.value) and "disable" in str(caught.value)
    assert caught.value.facts["active_managers"] == list(active)


@pytest.mark.parametrize(
    ("chain", "manager"),
    [
        ("inet filter output", "nftables"),
        ("inet firewalld filter_OUTPUT", "firewalld"),
        ("ip filter OUTPUT", "iptables"),
        ("ip6 filter OUTPUT", "iptables"),
    ],
)
def test_without_a_service_what_is_loaded_tells(host: Host, chain: str, manager: str) -> None:
    host.load(chain, policy="drop")
    assert host.detect().manager == manager and host.detect().active == (manager,)


def test_chains_of_ufw_that_nobody_enabled_are_ufws_all_the_same(host: Host) -> None:
    host.load("ip filter OUTPUT", policy="drop")
    host.chains.append({"family": "ip", "table": "filter", "name": "ufw-before-output"})
    assert host.detect().manager == "ufw"


def test_two_that_drop_by_default_are_told_as_two(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.load("inet filter output", policy="drop")
    host.write("proc/net/ip_tables_names", "filter\nnat\n")
    host.saved["iptables-legacy-save"] = RULES
    found = host.detect()
    assert found.active == ("iptables", "nftables")
    assert "the legacy iptables has rules" in found.evidence["iptables"] and "chain 'inet filter output'" in found.evidence["nftables"]
    host.saved["iptables-legacy-save"] = EMPTY
    assert host.detect().active == ("nftables",)


def test_who_drops_by_default_comes_before_who_only_has_rules(host: Host) -> None:
    """A VPN's chain beside a default-drop of iptables: ways are opened in the latter."""
    host.load("ip wg-quick-wg0 postmangle", hook="postrouting")
    host.load("ip filter OUTPUT", policy="drop")
    assert host.detect().active == ("iptables",)


def test_a_chain_that_iptables_made_along_with_others_says_nothing(host: Host) -> None:
    """Docker's iptables makes OUTPUT, too, and puts nothing there."""
    host.load("ip filter OUTPUT")
    host.saved["iptables-nft-save"] = EMPTY
    assert host.detect().active == ()
    host.saved["iptables-nft-save"] = EMPTY.replace("COMMIT", "-A OUTPUT -p tcp --dport 25 -j REJECT\nCOMMIT")
    assert host.detect().active == ("iptables",)


def test_legacy_tables_are_only_looked_into_where_there_are_any(host: Host) -> None:
    host.write("proc/net/ip6_tables_names", "nat\n")
    assert host.detect().active == () and host.called == []
    host.write("proc/net/ip6_tables_names", "filter\n")
    host.saved["ip6tables-legacy-save"] = EMPTY.replace("COMMIT", "-A OUTPUT -p tcp --dport 25 -j REJECT\nCOMMIT")
    found = host.detect()
    assert found.manager == "iptables" and "ip6tables" in found.evidence["iptables"]
    host.saved["ip6tables-legacy-save"] = RULES.replace("COMMIT", ":ufw6-before-output - [0:0]\nCOMMIT")
    assert host.detect().manager == "ufw"


def test_without_chains_nft_is_asked_and_without_nft_there_are_none(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "find", lambda: None)
    assert look(host.run, str(host.root)).active == ()

    def run(arguments: t.Sequence[str], _text: str) -> t.Tuple[int, str, str]:
        return 1, "", "Operation not permitted"

    monkeypatch.setattr(nft, "find", lambda: "/usr/sbin/nft")
    with pytest.raises(EgressError, match="CAP_NET_ADMIN"):
        look(run, str(host.root))


def test_the_places_are_those_of_the_kernel() -> None:
    assert iptables_save.LEGACY_TABLES == {4: "/proc/net/ip_tables_names", 6: "/proc/net/ip6_tables_names"}
