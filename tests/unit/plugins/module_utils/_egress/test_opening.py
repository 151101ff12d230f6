# SPDX-License-Identifier: GPL-3.0-or-later
"""Where other rules stop mail, the way is opened through their manager, as narrowly as it was asked for, and closed again."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from egress_host import DROPPING, RELAYS, TEXT, WAYS, Host, Kernel

from ansible_collections.outpost.smtp.plugins.module_utils._egress import blocking, probe, request, state, ways
from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import Addresses, Relay
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers import detect
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Way
from ansible_collections.outpost.smtp.plugins.module_utils._egress.request import Request
from ansible_collections.outpost.smtp.plugins.module_utils._egress.units import DROP_IN_PATH, UNIT_PATH


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(probe, "outside", lambda _address: True)
    monkeypatch.setattr(blocking, "_LEGACY", {})
    service = tmp_path / "lib/systemd/system/nftables.service"
    service.parent.mkdir(parents=True)
    service.write_text("[Service]\nExecReload=/usr/sbin/nft -f /etc/nftables.conf\n")
    made = Host(tmp_path)
    kernel(made).foreign = [DROPPING]
    return made


def kernel(host: Host) -> Kernel:
    assert host.kernel is not None
    return host.kernel


def test_nothing_is_opened_where_nothing_stops_mail(host: Host) -> None:
    kernel(host).foreign = [{**DROPPING, "policy": "accept"}]
    assert host.present()["opened"] == [] and host.order == []
    assert "reopen" not in (host.read(UNIT_PATH) or "")


def test_what_is_stopped_is_opened_before_our_own_table_is_loaded(host: Host) -> None:
    untouched = host.snapshot()
    predicted = host.present(check_mode=True)
    assert host.snapshot() == untouched
    kernel(host).calls = host.order  # both in one list
    first = host.present()
    assert first["diff"] == predicted["diff"] and first["opened"] == [str(way) for way in WAYS]
    assert first["manager"] == "nftables" and "drops by default" in first["evidence"]["nftables"]
    assert [call for call in host.order if call != "check"] == ["nftables 2", "load"]
    assert host.opened == {"nftables": set(WAYS)}
    done = host.snapshot()
    second = host.present()
    assert not second["changed"] and second["opened"] == first["opened"] and host.snapshot() == done


def test_what_a_service_takes_away_is_opened_again_at_boot_and_after_it(host: Host) -> None:
    host.present()
    assert "ExecStart=-" in (host.read(UNIT_PATH) or "") and "egress.pyz reopen" in (host.read(UNIT_PATH) or "")
    drop_in = (host.read(DROP_IN_PATH) or "").splitlines()
    for when in ("ExecStartPost", "ExecReload"):
        lines = [line for line in drop_in if line.startswith(f"{when}=-")]
        assert len(lines) == 2 and "nft -f" in lines[0] and lines[1].endswith("egress.pyz reopen")
    host.open("nftables", ())
    assert host.program("reopen") == 0
    assert host.opened == {"nftables": set(WAYS)}


def test_a_way_goes_when_it_is_no_longer_wanted(host: Host) -> None:
    host.present()
    host.request = host.request._replace(relays=[Relay("primary", "smtp.example.net", 587)])
    changed = host.present()
    assert changed["changed"] and host.opened["nftables"] == {way._replace(port=587) for way in WAYS}
    assert host.absent()["changed"] and host.opened["nftables"] == set()


def test_with_manager_none_what_was_opened_is_closed(host: Host) -> None:
    host.present()
    kernel(host).foreign = [{**DROPPING, "policy": "accept"}]
    host.request = host.request._replace(manager="none")
    assert host.present()["changed"] and host.opened["nftables"] == set()
    assert state.load(str(host.root)).manager == ""


def test_who_moves_to_another_manager_leaves_nothing_behind(host: Host) -> None:
    host.present()
    host.request = host.request._replace(manager="iptables")
    kernel(host).foreign = [{**DROPPING, "family": family, "table": "filter", "name": "OUTPUT"} for family in ("ip", "ip6")]
    moved = host.present()
    assert moved["changed"] and host.opened == {"nftables": set(), "iptables": set(WAYS)}


def test_what_comes_before_the_ways_that_are_open_is_named(host: Host) -> None:
    """Such as a policy of firewalld with a lower priority than ours, made since the last run."""
    host.present()
    done = host.snapshot()
    kernel(host).foreign_rules = []
    with pytest.raises(EgressError, match="chain 'inet filter output' stops mail to 192.0.2.10 port 465"):
        host.present()
    assert host.snapshot() == done


def test_of_two_managers_that_are_active_the_one_that_stops_mail_is_asked(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "_services", lambda _run, _root: {"ufw": "it is enabled", "nftables": "it is active"})
    first, second = host.present(), host.present()
    assert first["manager"] == second["manager"] == "nftables" and set(first["evidence"]) == {"nftables", "ufw"}
    assert not second["changed"]
    kernel(host).foreign += [{**DROPPING, "family": "ip", "table": "filter", "name": name} for name in ("OUTPUT", "ufw-before-output")]
    with pytest.raises(EgressError, match="more than one manager"):
        host.present()


def test_a_chain_of_somebody_else_than_the_manager_is_named(host: Host) -> None:
    host.request = host.request._replace(manager="ufw")
    untouched = host.snapshot()
    with pytest.raises(EgressError, match="chain 'inet filter output' stops mail to 192.0.2.10 port 465"):
        host.present()
    assert host.snapshot() == untouched


def test_a_way_without_a_route_is_not_opened(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "outside", lambda address: ":" not in address)
    host.present()
    assert host.opened["nftables"] == {WAYS[0]}


def test_a_manager_that_opens_without_effect_is_found_out_and_taken_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Host, "rule", lambda _host, _chain, _way: {"rule": {"chain": "other", "handle": 1, "expr": [{"accept": None}]}})
    untouched = host.snapshot()
    with pytest.raises(EgressError, match="chain 'inet filter output' stops mail .* The former rules are back in force") as caught:
        host.present()
    assert caught.value.facts["changed"] is False
    assert host.snapshot() == untouched


RESOLVED = {"smtp.example.net": Addresses(["192.0.2.10"], ["2001:db8::10"], "dns")}


def asking(*destinations: str) -> Request:
    return Request(RELAYS, "root", [], TEXT, destinations=destinations)


@pytest.mark.parametrize(
    ("destinations", "expected"),
    [
        (("relays",), list(WAYS)),
        (("any",), [Way(4, "", 465), Way(6, "", 465)]),
        (("192.0.2.0/24", "2001:db8::/32"), [Way(4, "192.0.2.0/24", 465), Way(6, "2001:db8::/32", 465)]),
    ],
)
def test_the_ways_are_as_wide_as_the_destinations(destinations: t.Tuple[str, ...], expected: t.List[Way]) -> None:
    assert ways.wanted(asking(*destinations), RESOLVED) == expected


def test_any_is_asked_about_with_an_address_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "outside", lambda _address: True)
    asked = ways.packets(asking("any"), RESOLVED)
    assert [syn.address for syn in asked[Way(4, "", 465)]] == ["192.0.2.10", "198.51.100.1"]
    asked = ways.packets(asking("198.51.100.0/24", "192.0.2.10", "2001:db8::/32"), RESOLVED)
    assert [syn.address for syn in asked[Way(4, "198.51.100.0/24", 465)]] == ["198.51.100.0"]


def test_a_relay_outside_the_networks_is_an_error_that_names_it() -> None:
    with pytest.raises(EgressError, match="relay primary has the addresses 192.0.2.10, 2001:db8::10, and none of them is among"):
        ways.single(asking("198.51.100.0/24"), RESOLVED)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("relays", ("relays",)),
        ("any", ("any",)),
        (["192.0.2.0/25", "192.0.2.128/25", "2001:DB8::/32", "192.0.2.7"], ("192.0.2.0/24", "2001:db8::/32")),
        (["198.51.100.7"], ("198.51.100.7/32",)),
    ],
)
def test_destinations_are_brought_into_canonical_form(given: t.Any, expected: t.Tuple[str, ...]) -> None:
    assert request.destinations(given) == expected


@pytest.mark.parametrize(
    "given", ["", "all", [], ["host.example"], ["192.0.2.1/24"], ["192.0.2.10 } } chain evil {"], [3221226000], [None], {"any": 1}, None, ["any"]]
)
def test_no_other_destination_is_understood(given: t.Any) -> None:
    with pytest.raises(EgressError, match="destinations"):
        request.destinations(given)


def test_a_request_comes_back_from_the_state_file(host: Host) -> None:
    host.request = host.request._replace(destinations=("192.0.2.0/24", "2001:db8::/32"), text=TEXT, exempt_users=["root"])
    host.present()
    remembered = state.load(str(host.root))
    assert remembered.request == host.request and remembered.manager == "nftables"
    assert remembered.ways == tuple(Way.to(network, 465) for network in host.request.destinations)


@pytest.mark.parametrize(
    "damage",
    [
        {"relays": [{"name": "a", "host": "a b", "port": 1}]},
        {"relays": [{"name": "a", "host": "192.0.2.1 } flush ruleset", "port": 465}]},
        {"relays": "x"},
        {"user": 1},
        {"exempt_users": [1]},
        {"text": None},
        {"destinations": ["0.0.0.0/0 }"]},
        {"destinations": []},
    ],
)
def test_a_damaged_request_is_none(damage: t.Dict[str, t.Any]) -> None:
    assert request.restored(asking("relays").stored()) == asking("relays")
    assert request.restored({**asking("relays").stored(), **damage}) is None
