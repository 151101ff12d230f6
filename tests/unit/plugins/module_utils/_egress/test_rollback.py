# SPDX-License-Identifier: GPL-3.0-or-later
"""A change that does not turn out well goes back at once; one that nobody confirms goes back by itself."""

from __future__ import annotations

import os
import sys
import time
import typing as t
from pathlib import Path

import pytest
from egress_host import DROPPING, TEXT, WAYS, Gate, Host, Kernel, Killed

from ansible_collections.outpost.smtp.plugins.module_utils._egress import (
    blame,
    blocking,
    files,
    helper,
    lock,
    own_table,
    probe,
    program,
    rollback,
    rollback_file,
    state,
)
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.request import Terms
from ansible_collections.outpost.smtp.plugins.module_utils._egress.rollback_file import Former
from ansible_collections.outpost.smtp.plugins.module_utils._egress.units import ROLLBACK_UNIT

GUARD = TEXT.replace("meta skuid @uid:user@ accept", "meta skuid @uid:user@ accept\n\t\treject with tcp reset")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host whose rules are those of an earlier run; its relay is about to get another address."""
    monkeypatch.setattr(probe, "outside", lambda _address: True)
    monkeypatch.setattr(blocking, "_LEGACY", {})
    monkeypatch.setattr(blame, "find", lambda *_arguments: None)
    made = Host(tmp_path)
    kernel(made).foreign = [DROPPING]
    made.present()
    made.dns = {"ipv4": ["192.0.2.11"], "ipv6": ["2001:db8::11"]}
    return made


def kernel(host: Host) -> Kernel:
    assert host.kernel is not None
    return host.kernel


def in_force(host: Host) -> t.Tuple[t.Any, ...]:
    """What filters now and after a boot, and what the next run knows."""
    opened = {name: ways for name, ways in host.opened.items() if ways}
    return kernel(host).loaded, opened, host.read(own_table.RULES_PATH), host.read(state.PATH)


def test_a_change_waits_for_its_confirmation(host: Host) -> None:
    host.terms = Terms(rollback_timeout=60)
    changed = host.present()
    assert changed["changed"] and changed["rollback"] == {"armed": True, "seconds": 60}
    waiting = rollback_file.load(str(host.root))
    assert waiting is not None and host.spawned[-1][-3:] == ["rollback", "60", waiting.token]
    assert host.egress().confirmed() == {"changed": False, "confirmed": True}
    done = in_force(host)
    assert rollback_file.load(str(host.root)) is None and in_force(host) == done
    assert host.program("rollback", "0", waiting.token) == 0 and in_force(host) == done, "it comes too late"
    assert host.egress().confirmed() == {"changed": False, "confirmed": False}


def test_a_change_that_nobody_confirms_goes_back_and_the_next_run_says_so(host: Host) -> None:
    before = in_force(host)
    host.terms = Terms(rollback_timeout=60)
    host.present()
    assert in_force(host) != before
    assert host.program("rollback", "0", host.spawned[-1][-1]) == 0
    assert in_force(host) == before and rollback_file.load(str(host.root)) is None

    with pytest.raises(EgressError, match="the change was taken back at .*: nobody confirmed it in time"):
        host.egress().confirmed()
    predicted = host.present(check_mode=True)
    again = host.present()
    assert again["changed"] and again["diff"] == predicted["diff"] and again["rolled_back"] == predicted["rolled_back"] != {}
    host.egress().confirmed()
    assert host.present()["rolled_back"] is None, "told once"


def test_the_first_change_goes_back_to_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "outside", lambda _address: True)
    host = Host(tmp_path)
    kernel(host).foreign = [DROPPING]
    host.terms = Terms(rollback_timeout=60)
    host.present()
    assert host.program("rollback") == 0
    assert in_force(host) == (None, {}, None, None)


def test_who_waits_for_another_change_does_nothing(host: Host) -> None:
    host.terms = Terms(rollback_timeout=60)
    host.present()
    done = in_force(host)
    assert host.program("rollback", "0", "another") == 0
    assert in_force(host) == done and rollback_file.load(str(host.root)) is not None


def test_a_run_that_hangs_does_not_keep_the_change_from_going_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    before = in_force(host)
    host.terms = Terms(rollback_timeout=60)
    host.present()
    take = lock._take
    monkeypatch.setattr(lock, "_take", lambda descriptor, _patience: take(descriptor, 0))
    with lock.held(str(host.root)):
        assert host.program("rollback", "0", host.spawned[-1][-1]) == 0
    assert in_force(host) == before


def test_without_a_timeout_a_change_stands_once_it_is_made(host: Host) -> None:
    changed = host.present()
    assert changed["changed"] and changed["rollback"] == {"armed": False, "seconds": 0}
    assert rollback_file.load(str(host.root)) is None


def test_systemd_keeps_the_time_where_it_runs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(host.init), "running", True)
    host.terms = Terms(rollback_timeout=60)
    before = len(host.spawned)
    host.present()
    armed = [told for told in host.init.told if told.startswith("systemd-run")]
    assert armed[-1].split()[2] == "--on-active=60s" and armed[-1].endswith(f"--unit={ROLLBACK_UNIT}") and len(host.spawned) == before
    host.init.told.clear()
    host.egress().confirmed()
    assert host.init.told == [f"systemctl stop --quiet {ROLLBACK_UNIT.replace('service', 'timer')} {ROLLBACK_UNIT}"]


def test_where_systemd_can_not_keep_the_time_a_process_does(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(host.init), "running", True)
    host.init.fails = "systemd-run"
    host.terms = Terms(rollback_timeout=60)
    before = len(host.spawned)
    host.present()
    assert len(host.spawned) == before + 2 and host.spawned[-1][-3:-1] == ["rollback", "60"]


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        ({"mta": "timeout"}, r"user root does not reach relay primary \(192.0.2.11 port 465: timeout after 1 ms, 2001:db8::11 port 465: timeout"),
        ({"others": "reached"}, "another user is not kept from 192.0.2.11 port 465: reached"),
        ({"others": "refused", "counted": False}, "another user is not kept from 192.0.2.11 port 465: refused, and our table did not count it"),
    ],
)
def test_what_packets_disprove_goes_back_at_once(host: Host, seen: t.Dict[str, t.Any], complaint: str) -> None:
    done = host.snapshot()
    host.terms = Terms(proof_timeout=5, rollback_timeout=60)
    host.proof.update(seen)
    with pytest.raises(EgressError, match=f"{complaint}.*The former rules are back in force") as caught:
        host.present()
    assert caught.value.facts["changed"] is False and caught.value.facts["rolled_back"]["why"] in str(caught.value)
    assert len(caught.value.facts["proof"]) == 2
    assert host.snapshot() == done
    assert host.present(check_mode=True)["rolled_back"] is None, "it was told already"


def test_a_failed_first_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "outside", lambda _address: True)
    monkeypatch.setattr(blame, "find", lambda *_arguments: None)
    host = Host(tmp_path)
    kernel(host).foreign = [DROPPING]
    untouched = host.snapshot()
    host.terms, host.proof["mta"] = Terms(proof_timeout=5), "timeout"
    with pytest.raises(EgressError):
        host.present()
    assert host.snapshot() == untouched


def test_one_address_is_enough(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.terms = Terms(proof_timeout=5)
    one_way = Host.prove

    def prove(*arguments: t.Any) -> t.Any:
        first, second = one_way(*arguments)
        return [first, second._replace(mta="timeout")]

    monkeypatch.setattr(Host, "prove", prove)
    result = host.present()
    assert result["changed"] and [entry["ok"] for entry in result["proof"]] == [True, False]


def test_the_proof_knows_who_is_kept_in(host: Host) -> None:
    host.terms = Terms(proof_timeout=5)
    host.present()
    host.request = host.request._replace(text=GUARD)
    host.proof.update(others="refused", counted=True)
    host.present()
    allowed, guarded = host.proved
    # The addresses of before are let through for a while, and are nothing to prove.
    ways = tuple(way._replace(network=way.network.replace("10", "11")) for way in WAYS)
    assert allowed == (ways, 0, False, 5, 65534)
    assert guarded == (ways, 0, True, 5, 65534)


def test_the_cause_is_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def find(addresses: t.Sequence[str], port: int, uid: int, *_more: t.Any) -> blame.BlockedBy:
        asked.append((list(addresses), port, uid, host.opened["nftables"] != set(WAYS)))
        return blame.BlockedBy(blame.OTHER_CHAIN, "what shows it", "what to do")

    monkeypatch.setattr(blame, "find", find)
    host.terms, host.proof["mta"] = Terms(proof_timeout=5), "timeout"
    with pytest.raises(EgressError, match="what shows it: what to do") as caught:
        host.present()
    assert caught.value.facts["blocked_by"]["cause"] == "other_chain"
    assert asked == [(["192.0.2.11", "2001:db8::11"], 465, 0, True)], "asked while the new rules are in force"


def killed(*_arguments: t.Any, **_options: t.Any) -> t.NoReturn:
    raise Killed


POINTS = [
    (Gate, "apply"),
    (Kernel, "load"),
    (files.Staged, "commit"),
    (Host, "prove"),
    (state, "save"),
]


@pytest.mark.parametrize("point", POINTS, ids=[f"{where.__name__.rsplit('.', 1)[-1]}.{name}" for where, name in POINTS])
@pytest.mark.parametrize("then", ["rollback", "run"])
def test_a_killed_run_goes_back_by_itself_or_is_completed_by_the_next(
    host: Host, monkeypatch: pytest.MonkeyPatch, point: t.Tuple[t.Any, str], then: str
) -> None:
    before = in_force(host)
    host.terms = Terms(proof_timeout=5, rollback_timeout=60)
    real_save = rollback_file.save

    def save(former: Former, root: str) -> None:
        real_save(former, root)
        patch.setattr(*point, killed)

    with monkeypatch.context() as patch:
        patch.setattr(rollback_file, "save", save)
        with pytest.raises(Killed):
            host.present()
    waiting = rollback_file.load(str(host.root))
    assert waiting is not None and host.spawned[-1][-2:] == [str(60 + 5 + 120), waiting.token]
    if then == "rollback":
        assert host.program("rollback", "0", waiting.token) == 0
        assert in_force(host) == before
        return
    second = host.present()
    assert second["proof"] and second["rollback"]["armed"], "what was not proved is proved, even if nothing differs"
    assert host.program("rollback") == 0
    assert in_force(host) == before, "what to go back to is what was before the run that was killed"
    host.present()
    host.egress().confirmed()
    assert not host.present()["changed"]


def test_what_a_killed_run_did_not_prove_is_proved_by_the_next_even_if_nothing_differs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    before = in_force(host)
    host.terms = Terms(proof_timeout=5, rollback_timeout=60)
    real_save = state.save

    def save_and_die(remembered: state.State, root: str) -> None:
        real_save(remembered, root)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(state, "save", save_and_die)
        with pytest.raises(Killed):
            host.present()
    host.proof["mta"] = "timeout"
    with pytest.raises(EgressError, match="does not reach relay"):
        host.present()
    assert in_force(host) == before


def test_who_moves_to_another_manager_in_vain_goes_back_to_the_former(host: Host) -> None:
    before = in_force(host)
    host.request = host.request._replace(manager="iptables")
    kernel(host).foreign = [{**DROPPING, "family": family, "table": "filter", "name": "OUTPUT"} for family in ("ip", "ip6")]
    host.terms, host.proof["mta"] = Terms(proof_timeout=5), "timeout"
    with pytest.raises(EgressError, match="The former rules are back in force"):
        host.present()
    assert host.order[-5:] == ["iptables 4", "nftables 0", "iptables 4", "iptables 0", "nftables 2"]
    assert in_force(host) == before


def test_what_nobody_has_thought_of_goes_back_too(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    done = host.snapshot()
    host.terms = Terms(proof_timeout=5)

    def prove(*_arguments: t.Any) -> t.NoReturn:
        raise OSError("out of processes")

    monkeypatch.setattr(Host, "prove", prove)
    with pytest.raises(EgressError, match="unexpected OSError: out of processes; please report this as a bug. The former rules are back"):
        host.present()
    assert host.snapshot() == done


def test_what_can_not_go_back_at_once_is_tried_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    before = in_force(host)
    host.terms, host.proof["mta"] = Terms(proof_timeout=5), "timeout"
    works = Gate.apply

    def stuck(gate: Gate, ways: t.Any) -> None:
        if set(ways) == set(WAYS):
            raise EgressError("the manager does not answer")
        works(gate, ways)

    with monkeypatch.context() as patch:
        patch.setattr(Gate, "apply", stuck)
        with pytest.raises(EgressError, match="Going back failed, too: the manager does not answer") as caught:
            host.present()
    assert caught.value.facts["changed"] is True
    assert host.program("rollback", "0", host.spawned[-1][-1]) == 0
    assert in_force(host) == before


def test_who_waits_without_systemd_outlives_the_session(tmp_path: Path) -> None:
    said = tmp_path / "said"
    code = "import os, sys; open(sys.argv[1] + '.new', 'w').write(str(os.getsid(0))); os.rename(sys.argv[1] + '.new', sys.argv[1])"
    rollback.spawn([sys.executable, "-c", code, str(said)])
    end = time.monotonic() + 20
    while not said.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert int(said.read_text()) != os.getsid(0)


def test_absent_disarms(host: Host) -> None:
    host.terms = Terms(rollback_timeout=60)
    host.present()
    token = host.spawned[-1][-1]
    host.absent()
    done = host.snapshot()
    assert host.program("rollback", "0", token) == 0 and host.snapshot() == done


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"token": 1, "rules": 2, "state": null, "manager": "", "ways": [], "opened_by": []}'])
def test_a_damaged_file_is_no_change_that_waits(host: Host, text: str) -> None:
    files.write(str(host.root) + rollback_file.PATH, text)
    assert rollback_file.load(str(host.root)) is None
    files.write(str(host.root) + rollback_file.NOTE_PATH, text)
    assert rollback_file.note(str(host.root)) is None


@pytest.mark.parametrize("arguments", [[], ["other"], ["rollback", "5"], ["reopen", "now"]])
def test_a_wrong_call_of_the_program_is_told(arguments: t.List[str], capsys: pytest.CaptureFixture[str], host: Host) -> None:
    done = host.snapshot()
    assert program.call(host.egress(), arguments, str(host.root)) == 2
    assert "usage: egress.pyz reopen | refresh | rollback" in capsys.readouterr().err
    assert host.snapshot() == done


def test_the_program_says_what_failed(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    kernel(host).fails_on = "load"
    assert host.program("refresh") == 1
    assert capsys.readouterr().err == "load failed\n"


def test_the_helper_is_called_where_it_is_put(host: Host) -> None:
    assert host.egress().helper.command()[1:] == ["-I", helper.PATH] and host.path(helper.PATH).is_file()
