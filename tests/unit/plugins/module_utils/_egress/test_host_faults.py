# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the host during a run: the disk is full, the user has another number, two runs at once."""

from __future__ import annotations

import pwd
import typing as t
from pathlib import Path

import pytest
from egress_host import DROPPING, Host

from ansible_collections.outpost.smtp.plugins.module_utils._egress import blocking, files, lock, own_table, probe, rollback_file
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.request import Terms


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host whose own chain drops, with the rules of no run yet."""
    monkeypatch.setattr(probe, "outside", lambda _address: True)
    monkeypatch.setattr(blocking, "_LEGACY", {})
    made = Host(tmp_path)
    assert made.kernel is not None
    made.kernel.foreign = [DROPPING]
    made.terms = Terms(proof_timeout=5, rollback_timeout=60)
    return made


def in_force(host: Host) -> t.Tuple[t.Any, ...]:
    """What filters now, and after a boot."""
    assert host.kernel is not None
    return host.kernel.loaded, {name: set(ways) for name, ways in host.opened.items() if ways}, host.read(own_table.RULES_PATH)


class Disk:
    """A file system that takes so many files, and no more from then on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int = 0) -> None:
        self.room = room
        write = files.Staged.__enter__

        def enter(staged: files.Staged) -> files.Staged:
            self.room -= 1
            if self.room < 0:
                raise EgressError(f"{staged.path} can not be written: No space left on device; nothing was changed")
            return write(staged)

        monkeypatch.setattr(files.Staged, "__enter__", enter)


@pytest.mark.parametrize("first", [True, False], ids=["first run", "later run"])
def test_a_disk_that_is_full_leaves_the_rules_as_they_were(host: Host, monkeypatch: pytest.MonkeyPatch, first: bool) -> None:
    """At whichever write it is. Where even going back needs room, the timer does it later; and the next run completes the change."""
    disk = Disk(monkeypatch, room=1000)
    if not first:
        host.present()
        host.egress().confirmed()
        host.dns["ipv4"] = ["192.0.2.11"]
    before = in_force(host)
    room, told = 0, "No space left on device"
    while told:
        disk.room = room
        told = outcome_of(host)
        assert not told or "No space left on device" in told
        disk.room = 1000
        if "Going back failed" in told:
            assert host.program("rollback", "0", host.spawned[-1][-1]) == 0
        assert not told or in_force(host) == before, (room, told)
        room += 1
    assert room > 3
    host.egress().confirmed()
    assert not host.present()["changed"]


def outcome_of(host: Host) -> str:
    """Why a run failed; empty for one that did not."""
    try:
        host.present()
    except EgressError as error:
        return str(error)
    return ""


def test_a_timer_runs_on_until_what_replaces_it_is_written(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(host.init), "running", True)
    host.present()
    waiting = rollback_file.load(str(host.root))
    assert waiting is not None
    host.init.told.clear()
    Disk(monkeypatch)
    with pytest.raises(EgressError, match="No space left on device"):
        host.egress().rollback.arm(waiting, 60)
    assert host.init.told == [] and rollback_file.load(str(host.root)) == waiting


def test_the_user_has_another_number(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a reinstallation of the mail server. The refresh notices it, and so does the next run."""
    host.present()
    host.egress().confirmed()
    root = pwd.getpwnam("root")
    monkeypatch.setattr(pwd, "getpwnam", lambda name: pwd.struct_passwd((name, "x", 4711, *root[3:])))
    assert host.present(check_mode=True)["changed"]
    assert host.program("refresh") == 0
    assert "meta skuid 4711 accept" in str(host.read(own_table.RULES_PATH))
    assert not host.present()["changed"]


def test_two_runs_at_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits too long for the other says so. Check mode changes nothing, and waits for nobody."""
    take = lock._take
    monkeypatch.setattr(lock, "_take", lambda descriptor, _patience: take(descriptor, 0))
    with lock.held(str(host.root)):
        for run in (host.present, host.absent, host.egress().confirmed):
            with pytest.raises(lock.Busy, match="another run works on the outbound rules"):
                run()
        assert host.program("refresh") == 1
        assert host.program("reopen") == 0, "a manager that starts is not held up"
        assert host.present(check_mode=True)["changed"]
    assert host.present()["changed"]
