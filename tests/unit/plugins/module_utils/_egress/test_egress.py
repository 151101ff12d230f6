# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole way from a request to a host, with the kernel's part of nft played by a stand-in and files in a directory."""

from __future__ import annotations

import os
import pwd
import typing as t
from pathlib import Path

import pytest
from egress_host import DROPPING, MARK, TEXT, WAYS, Host, Init, Kernel, Killed

from ansible_collections.outpost.smtp.plugins.module_utils._egress import blocking, helper, own_table, probe, rollback_file, selinux_ports, state
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.units import (
    DROP_IN_PATH,
    ROLLBACK_PATH,
    ROLLBACK_UNIT,
    UNIT,
    UNIT_PATH,
)

RULES_PATH = own_table.RULES_PATH


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(probe, "outside", lambda _address: True)
    monkeypatch.setattr(blocking, "_LEGACY", {})
    service = tmp_path / "lib/systemd/system/nftables.service"
    service.parent.mkdir(parents=True)
    service.write_text("")
    return Host(tmp_path)


def kernel(host: Host) -> Kernel:
    assert host.kernel is not None
    return host.kernel


def test_first_run_second_run_and_check_mode(host: Host) -> None:
    untouched = host.snapshot()
    predicted = host.present(check_mode=True)
    assert host.snapshot() == untouched and kernel(host).calls == ["check"]

    first = host.present()
    assert first["changed"] and first["diff"] == predicted["diff"]
    written = [RULES_PATH, helper.PATH, UNIT_PATH, ROLLBACK_PATH, DROP_IN_PATH, UNIT, ROLLBACK_UNIT]
    assert [entry["after_header"] for entry in first["diff"]] == written
    addresses = {"ipv4": ["192.0.2.10"], "ipv6": ["2001:db8::10"], "source": "dns", "leaving": []}
    assert first["addresses"] == [{"name": "primary", "host": "smtp.example.net", "port": 465, **addresses}]
    assert first["manager"] == "nftables" and first["opened"] == [] and first["rollback"] == {"armed": False, "seconds": 0}
    assert first["rules"][0] == "output: ip daddr { 192.0.2.10 } tcp dport 465 accept"
    assert first["persistent"] and host.init.reloads == 1

    kernel(host).counted = 3
    done = host.snapshot()
    second = host.present()
    assert not second["changed"] and second["diff"] == [] and second["counters"]["accepted"] == 3
    assert host.snapshot() == done
    assert kernel(host).calls == ["check", "check", "load"]


def test_absent_leaves_nothing_of_ours(host: Host) -> None:
    untouched = host.snapshot()
    assert not host.absent()["changed"]
    host.present()
    done = host.snapshot()
    predicted = host.absent(check_mode=True)
    assert host.snapshot() == done
    removed = host.absent()
    assert removed["changed"] and removed["diff"] == predicted["diff"]
    assert host.snapshot() == untouched
    assert not host.absent()["changed"]


@pytest.mark.parametrize("lost", ["table", "rule", "file", "text", "memory", "unit", "drop-in", "helper", "enabled", "way"])
def test_what_was_lost_comes_back(host: Host, lost: str) -> None:
    kernel(host).foreign = [DROPPING]
    host.present()
    done = host.snapshot()
    if lost == "table":
        kernel(host).loaded = None
    elif lost == "rule":
        kernel(host).loaded = [MARK]
    elif lost == "enabled":
        host.init.disable(UNIT)
    elif lost == "way":
        host.open("nftables", WAYS[:1])
    else:
        paths = {"text": RULES_PATH, "file": RULES_PATH, "memory": state.PATH, "unit": UNIT_PATH, "drop-in": DROP_IN_PATH, "helper": helper.PATH}
        path = Path(str(host.root) + paths[lost])
        path.unlink()
        if lost == "text":
            path.write_text("other")
    predicted = host.present(check_mode=True)
    healed = host.present()
    assert healed["changed"] and healed["diff"] and healed["diff"] == predicted["diff"]
    assert host.snapshot() == done
    assert not host.present()["changed"]


def test_a_changed_address_is_loaded_and_a_failed_query_is_not(host: Host) -> None:
    host.present()
    host.dns = {"ipv4": None, "ipv6": None}
    failed = host.present()
    assert not failed["changed"] and failed["addresses"][0]["source"] == "last_good"
    host.dns = {"ipv4": ["192.0.2.11"], "ipv6": None}
    moved = host.present()
    assert moved["changed"] and moved["addresses"][0]["ipv6"] == ["2001:db8::10"]
    assert "{ 192.0.2.10, 192.0.2.11 }" in host.path(RULES_PATH).read_text() and moved["addresses"][0]["leaving"] == ["192.0.2.10"]


def test_a_name_that_never_resolved_changes_nothing(host: Host) -> None:
    untouched = host.snapshot()
    host.dns = {"ipv4": None, "ipv6": None}
    with pytest.raises(EgressError, match="no address is known"):
        host.present()
    assert host.snapshot() == untouched


@pytest.mark.parametrize("step", ["check", "load"])
def test_a_refused_load_leaves_the_old_rules_everywhere(host: Host, step: str) -> None:
    host.present()
    done = host.snapshot()
    host.dns["ipv4"] = ["192.0.2.11"]
    kernel(host).fails_on = step
    with pytest.raises(EgressError, match=f"{step} failed"):
        host.present()
    assert host.snapshot() == done


def test_a_run_killed_after_the_load_is_completed_by_the_next(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.present()
    host.dns["ipv4"] = ["192.0.2.11"]

    def killed(*_arguments: t.Any) -> None:
        raise Killed

    for point in ("ansible_collections.outpost.smtp.plugins.module_utils._egress.files.Staged.commit", f"{state.__name__}.save"):
        with monkeypatch.context() as patch:
            patch.setattr(point, killed)
            with pytest.raises(Killed):
                host.present()
    assert host.present()["changed"]
    assert not host.present()["changed"]
    assert [path.name for path in (host.root / "etc/outpost-smtp").iterdir()] == ["egress.nft"]


def test_a_run_killed_before_systemd_has_read_the_units_is_completed_by_the_next(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_init: Init) -> None:
        raise Killed

    def interrupted(run: t.Callable[[], t.Any]) -> None:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Init, "reload", killed)
            run()

    host.present()
    Path(str(host.root) + DROP_IN_PATH).unlink()
    for run in (host.present, host.absent):
        interrupted(run)
        before = host.init.reloads
        assert run()["changed"] and host.init.reloads == before + 1
        assert not run()["changed"] and host.init.reloads == before + 1


@pytest.mark.parametrize("path", [RULES_PATH, UNIT_PATH, DROP_IN_PATH, state.PATH, rollback_file.PATH, helper.PATH])
def test_absent_removes_what_a_killed_run_left(host: Host, path: str) -> None:
    directory, name = os.path.split(str(host.root) + path)
    os.makedirs(directory)
    Path(directory, f".{name}.new").touch()
    host.absent()
    assert not list(host.root.rglob("*.new"))


def test_a_strangers_table_is_refused_and_left_alone(host: Host) -> None:
    kernel(host).loaded = [{"chain": {"name": "theirs"}}]
    untouched = host.snapshot()
    for check_mode in (True, False):
        with pytest.raises(EgressError, match="not made by this module"):
            host.present(check_mode)
    assert not host.absent()["changed"]
    assert host.snapshot() == untouched


def test_without_nft(host: Host) -> None:
    host.kernel = None
    untouched = host.snapshot()
    with pytest.raises(EgressError, match="install the package nftables") as caught:
        host.present()
    assert caught.value.facts == {"missing_packages": ["nftables"]}
    assert host.present(report_missing=True) == {"changed": False, "missing_packages": ["nftables"]}
    predicted = host.present(check_mode=True)
    assert predicted["changed"] and predicted["missing_packages"] == ["nftables"] and predicted["diff"]
    assert not host.absent()["changed"]
    assert host.snapshot() == untouched
    host.kernel = Kernel()
    assert host.present()["diff"] == predicted["diff"]


def test_without_the_user(host: Host) -> None:
    host.request = host.request._replace(user="nobody-of-that-name")
    with pytest.raises(EgressError, match="user 'nobody-of-that-name' does not exist"):
        host.present()
    assert host.present(check_mode=True)["changed"]
    assert kernel(host).calls == []  # nft would refuse a text with a number to come


@pytest.mark.parametrize("name", ["root accept\n\t\tdrop", "@uid:user@", "", "0", "x\0y"])
def test_a_user_is_looked_up_and_never_written(host: Host, name: str) -> None:
    host.request = host.request._replace(user=name)
    with pytest.raises(EgressError, match="does not exist"):
        host.present()


def test_exempt_users_become_ids(host: Host) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    text = TEXT.replace("@uid:user@", "@uid:exempt_users@")
    host.request = host.request._replace(user="no such user", exempt_users=["nobody", "root"], text=text)
    result = host.present()
    assert f"output: meta skuid {{ 0, {nobody} }} accept" in result["rules"]


def test_without_systemd_the_rules_are_loaded_and_do_not_last(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Init, "installed", False)
    result = host.present()
    assert result["changed"] and not result["persistent"] and kernel(host).loaded
    assert not (host.root / "etc/systemd").exists()
    assert not host.present()["changed"]


def test_the_drop_in_is_only_there_for_a_service_that_flushes(host: Host) -> None:
    host.present()
    (host.root / "lib/systemd/system/nftables.service").unlink()
    assert host.present()["changed"]
    assert not Path(str(host.root) + DROP_IN_PATH).parent.exists()


def test_without_a_manager_a_chain_that_drops_is_named_before_anything_is_changed(host: Host) -> None:
    host.request = host.request._replace(manager="none")
    kernel(host).foreign = [DROPPING]
    untouched = host.snapshot()
    for check_mode in (True, False):
        with pytest.raises(EgressError) as caught:
            host.present(check_mode)
        assert caught.value.facts["changed"] is False
        assert "chain 'inet filter output' stops mail to 192.0.2.10 port 465, 2001:db8::10 port 465 (its policy is drop)" in str(caught.value)
        assert "ip daddr { 192.0.2.10 } tcp dport 465 accept; and ip6 daddr { 2001:db8::10 } tcp dport 465 accept" in str(caught.value)
    assert host.snapshot() == untouched


def test_an_address_without_a_route_is_not_missed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.request = host.request._replace(manager="none")
    kernel(host).foreign = [{**DROPPING, "family": "ip6"}]
    with pytest.raises(EgressError):
        host.present()
    monkeypatch.setattr(probe, "outside", lambda address: ":" not in address)
    assert host.present()["blocking_chains"] == []


def test_a_chain_behind_ours_stays_in_doubt(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our counter has moved before such a chain sees the packet, so it proves nothing there."""
    host.request = host.request._replace(manager="none")
    kernel(host).foreign_rules = [{"rule": {"chain": "output", "handle": 4, "expr": [{"limit": {"rate": 1, "per": "second"}}, {"accept": None}]}}]
    monkeypatch.setattr(probe, "leaves", lambda *_arguments: True)
    for behind in ({"prio": 61}, {"prio": 60}, {"prio": -300, "hook": "postrouting"}):
        kernel(host).foreign = [{**DROPPING, **behind}]
        assert [entry["certain"] for entry in host.present()["blocking_chains"]] == [False]


@pytest.mark.parametrize("gets_out", [True, False])
def test_what_the_rules_do_not_tell_a_packet_does(host: Host, monkeypatch: pytest.MonkeyPatch, gets_out: bool) -> None:
    host.request = host.request._replace(manager="none")
    kernel(host).foreign = [DROPPING]
    kernel(host).foreign_rules = [{"rule": {"chain": "output", "handle": 4, "expr": [{"limit": {"rate": 1, "per": "second"}}, {"accept": None}]}}]
    sent = []

    def leaves(address: str, port: int, uid: int, counter: t.Callable[[], int]) -> bool:
        sent.append((address, port, uid, counter()))
        return gets_out

    monkeypatch.setattr(probe, "leaves", leaves)
    assert [entry["certain"] for entry in host.present(check_mode=True)["blocking_chains"]] == [False]
    assert sent == []
    if gets_out:
        assert host.present()["blocking_chains"] == []
        assert len(sent) == 2 and not host.present()["changed"] and len(sent) == 4, "each run tries again"
        del sent[2:]
    else:
        with pytest.raises(EgressError, match="a packet sent to try it did not get out") as caught:
            host.present()
        assert caught.value.facts["changed"] is False and caught.value.facts["rolled_back"]
        assert not kernel(host).loaded
    assert sorted(sent) == [("192.0.2.10", 465, 0, 0), ("2001:db8::10", 465, 0, 0)]


def test_a_port_that_selinux_keeps_from_postfix_is_labelled_and_the_label_removed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    labels: t.Set[str] = set()

    def run_semanage(_run: t.Any, _port: int, *arguments: str) -> str:
        if arguments[0] == "-a":
            labels.add(arguments[-1])
        elif arguments[0] == "-d":
            labels.remove(arguments[-1])
        return "".join(f"smtp_port_t tcp {port}\n" for port in labels)

    monkeypatch.setattr(selinux_ports, "_semanage", run_semanage)
    monkeypatch.setattr(selinux_ports, "_allowed", lambda kind, _root: kind == "smtp_port_t")
    host.path("/sys/fs/selinux").mkdir(parents=True)
    host.path("/sys/fs/selinux/enforce").write_text("1")
    host.request = host.request._replace(relays=[relay._replace(port=2526) for relay in host.request.relays])
    untouched = host.snapshot()

    predicted = host.present(check_mode=True)
    assert host.snapshot() == untouched and not labels
    first = host.present()
    assert first["diff"] == predicted["diff"] and labels == {"2526"}
    assert "SELinux label of TCP port 2526" in [entry["after_header"] for entry in first["diff"]]
    assert not host.present()["changed"]
    assert "SELinux label of TCP port 2526" in [entry["after_header"] for entry in host.absent()["diff"]]
    assert not labels and host.snapshot() == untouched and not host.absent()["changed"]
