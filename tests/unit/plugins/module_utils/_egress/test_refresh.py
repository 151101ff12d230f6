# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules follow the relays' addresses by themselves, and keep those of before for as long as others may use them."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from egress_host import DROPPING, WAYS, Host, Kernel

from ansible_collections.outpost.smtp.plugins.module_utils._egress import addresses, blocking, probe, rollback_file, state
from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import Relay
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Way
from ansible_collections.outpost.smtp.plugins.module_utils._egress.own_table import RULES_PATH
from ansible_collections.outpost.smtp.plugins.module_utils._egress.request import Terms
from ansible_collections.outpost.smtp.plugins.module_utils._egress.units import REFRESH_PATH, REFRESH_TIMER, REFRESH_TIMER_PATH

HOST = "smtp.example.net"
NOW = 1_700_000_000


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(probe, "outside", lambda _address: True)
    monkeypatch.setattr(blocking, "_LEGACY", {})
    made = Host(tmp_path)
    made.terms = Terms(refresh=300)
    made.present()
    return made


def kernel(host: Host) -> Kernel:
    assert host.kernel is not None
    return host.kernel


def test_a_new_address_is_loaded_and_opened_beside_the_old_one(host: Host) -> None:
    kernel(host).foreign = [DROPPING]
    host.present()
    kernel(host).counted = 7
    host.dns["ipv4"] = ["192.0.2.11"]
    assert host.program("refresh") == 0
    assert "{ 192.0.2.10, 192.0.2.11 }" in (host.read(RULES_PATH) or "")
    assert host.opened["nftables"] == {*WAYS, Way(4, "192.0.2.11", 465)}
    assert kernel(host).counted == 7, "counters go on"
    assert not host.present()["changed"], "a run finds the rules as it would have made them"


def test_nothing_is_written_where_nothing_changed(host: Host) -> None:
    done = host.snapshot()
    calls = list(kernel(host).calls)
    assert host.program("refresh") == 0
    assert host.snapshot() == done and kernel(host).calls == calls


def test_what_somebody_took_away_comes_back(host: Host) -> None:
    kernel(host).foreign = [DROPPING]
    host.present()
    done = host.snapshot()
    kernel(host).loaded = None
    host.open("nftables", ())
    assert host.program("refresh") == 0
    assert host.snapshot() == done


@pytest.mark.parametrize("answer", [None, []])
def test_a_failed_or_empty_answer_takes_nothing_away(host: Host, answer: addresses.Answer) -> None:
    done = host.snapshot()
    host.dns = {"ipv4": answer, "ipv6": answer}
    assert host.program("refresh") == 0
    assert host.snapshot() == done


def test_a_change_that_waits_for_its_confirmation_is_left_alone(host: Host) -> None:
    host.dns["ipv4"] = ["192.0.2.11"]
    host.terms = host.terms._replace(rollback_timeout=60)
    host.present()
    assert rollback_file.load(str(host.root)) is not None
    done = host.snapshot()
    host.dns["ipv4"] = ["192.0.2.12"]
    assert host.program("refresh") == 0
    assert host.snapshot() == done


@pytest.mark.parametrize("text", [None, "{}", '{"request": {"relays": "x"}}'])
def test_without_a_request_nothing_is_done(host: Host, text: t.Optional[str]) -> None:
    path = host.path(state.PATH)
    path.unlink()
    if text is not None:
        path.write_text(text)
    done = host.snapshot()
    assert host.program("refresh") == 0
    assert host.snapshot() == done


def test_the_timer_is_there_where_a_name_may_change(host: Host) -> None:
    assert "OnUnitInactiveSec=300s" in (host.read(REFRESH_TIMER_PATH) or "") and "egress.pyz refresh" in (host.read(REFRESH_PATH) or "")
    host.terms = Terms(refresh=600)
    changed = host.present()
    assert [entry["after_header"] for entry in changed["diff"]] == [REFRESH_TIMER_PATH]
    assert not host.present()["changed"]


def test_a_timer_that_somebody_stopped_is_started_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(host.init), "running", True)
    assert not host.present()["changed"]
    host.init.fails = "systemctl is-active"
    host.init.told.clear()
    assert host.present(check_mode=True)["changed"] and f"systemctl restart {REFRESH_TIMER}" not in host.init.told
    assert [entry["after"] for entry in host.present()["diff"]] == ["started\n"]
    assert f"systemctl restart {REFRESH_TIMER}" in host.init.told


@pytest.mark.parametrize(
    "change",
    [
        {"terms": Terms()},
        {"request": {"destinations": ("any",)}},
        {"request": {"destinations": ("192.0.2.0/24", "2001:db8::/32")}},
        {"request": {"relays": [Relay("primary", "192.0.2.10", 465)], "text": "literal"}},
    ],
)
def test_the_timer_goes_where_no_name_can_change(host: Host, change: t.Dict[str, t.Any]) -> None:
    wanted = change.get("request", {})
    if wanted.get("text") == "literal":
        wanted = {**wanted, "text": host.request.text.replace(HOST, "192.0.2.10")}
    host.request = host.request._replace(**wanted)
    host.terms = change.get("terms", host.terms)
    assert REFRESH_TIMER in [entry["after_header"] for entry in host.present()["diff"]]
    assert host.read(REFRESH_TIMER_PATH) is None and host.read(REFRESH_PATH) is None
    assert not host.present()["changed"]


class Names:
    """A name server whose answer can be set, and a clock."""

    def __init__(self) -> None:
        self.answers: t.Dict[str, addresses.Answer] = {"ipv4": ["192.0.2.1"], "ipv6": []}
        self.time_to_live: t.Optional[int] = 600
        self.now = NOW
        self.known: addresses.Known = {}

    def resolve(self, after: int = 0) -> addresses.Addresses:
        self.now += after
        found = addresses.resolve(
            [Relay("primary", HOST, 465)],
            self.known,
            lambda _host, family: self.answers[family],
            now=self.now,
            time_to_live=lambda _host, _family: self.time_to_live,
        )[HOST]
        self.known = {HOST: found.remembered()}
        return found


def test_an_address_that_left_the_answer_stays_for_its_time_to_live() -> None:
    names = Names()
    assert names.resolve() == (["192.0.2.1"], [], "dns", {})
    names.answers["ipv4"] = ["192.0.2.2"]
    both = (["192.0.2.1", "192.0.2.2"], [], "dns", {"192.0.2.1": NOW + 300 + 600})
    assert names.resolve(300) == both
    assert names.resolve(599) == both, "the time does not begin anew"
    assert names.resolve(1) == (["192.0.2.2"], [], "dns", {})


def test_an_address_that_comes_back_stays() -> None:
    names = Names()
    names.resolve()
    names.answers["ipv4"] = ["192.0.2.2"]
    names.resolve()
    names.answers["ipv4"] = ["192.0.2.1"]
    assert names.resolve(10) == (["192.0.2.1", "192.0.2.2"], [], "dns", {"192.0.2.2": NOW + 10 + 600})


@pytest.mark.parametrize(("told", "kept"), [(5, 300), (None, 3600), (0, 3600), (10**6, 86400)])
def test_the_time_is_kept_within_bounds(told: t.Optional[int], kept: int) -> None:
    names = Names()
    names.resolve()
    names.answers["ipv4"], names.time_to_live = ["192.0.2.2"], told
    assert names.resolve().leaving == {"192.0.2.1": NOW + kept}


def test_a_family_that_left_the_answer_stays_as_long_and_a_failed_one_for_ever() -> None:
    names = Names()
    names.answers["ipv6"] = ["2001:db8::1"]
    names.resolve()
    names.answers["ipv6"] = None
    assert names.resolve(10**6).ipv6 == ["2001:db8::1"]
    names.answers["ipv6"] = []
    assert names.resolve().ipv6 == ["2001:db8::1"]
    assert names.resolve(600).ipv6 == []


def test_while_nothing_answers_even_an_address_that_leaves_stays() -> None:
    names = Names()
    names.resolve()
    names.answers["ipv4"] = ["192.0.2.2"]
    names.resolve()
    names.answers = {"ipv4": None, "ipv6": None}
    assert names.resolve(10**6).ipv4 == ["192.0.2.1", "192.0.2.2"]


def test_a_clock_that_was_put_back_does_not_keep_an_address_for_years() -> None:
    names = Names()
    names.resolve()
    names.answers["ipv4"] = ["192.0.2.2"]
    names.resolve()
    assert names.resolve(-(10**8)).leaving == {"192.0.2.1": names.now + 86400}


def test_a_name_with_a_new_address_each_time_does_not_fill_the_rules() -> None:
    names = Names()
    names.time_to_live = 86400
    for number in range(300):
        names.answers["ipv4"] = [f"198.51.{number // 200}.{number % 200}"]
        found = names.resolve(1)
    assert len(found.ipv4) == addresses.MAX_KEPT and "198.51.1.99" in found.ipv4 and "198.51.0.1" not in found.ipv4


def test_an_older_release_kept_a_list() -> None:
    kept = state.parse('{"addresses": {"smtp.example.net": {"ipv4": ["192.0.2.1"], "ipv6": []}}, "loaded": []}').addresses
    assert kept == {HOST: {"ipv4": {"192.0.2.1": None}, "ipv6": {}}}
