# SPDX-License-Identifier: GPL-3.0-or-later
"""Our directory beside main.cf."""

from __future__ import annotations

import fcntl
import json
import os
import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.directory import Journal, OwnDirectory, State
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError


def test_a_directory_that_a_killed_run_left_closed_is_opened(tmp_path: t.Any) -> None:
    """Who submits mail reads tables that are not secret as the user they are, and postconf(1) too."""
    own = OwnDirectory(str(tmp_path))
    (tmp_path / "outpost_smtp").mkdir(0o700)
    own.create()
    assert (tmp_path / "outpost_smtp").stat().st_mode & 0o777 == 0o755


def test_a_directory_that_another_run_removes_at_that_moment_is_made_again(tmp_path: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own, real, removed = OwnDirectory(str(tmp_path)), os.open, []

    def remove_first(path: str, *arguments: t.Any) -> int:
        if path.endswith("lock") and not removed:
            removed.append(os.rmdir(own.path))
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", remove_first)
    with own.locked():
        assert removed and (tmp_path / "outpost_smtp" / "lock").exists()


def test_a_lock_that_its_holder_has_removed_is_none(tmp_path: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes everything back removes the lock, too. Who waited for it would hold a file that nobody else finds."""
    own, lock = OwnDirectory(str(tmp_path)), tmp_path / "outpost_smtp" / "lock"
    real, removed = fcntl.flock, []

    def flock(descriptor: int, operation: int) -> None:
        real(descriptor, operation)
        if not removed:
            removed.append(os.fstat(descriptor).st_ino)
            lock.rename(tmp_path / "removed")
            lock.touch()

    monkeypatch.setattr(fcntl, "flock", flock)
    with own.locked(), lock.open() as file, pytest.raises(BlockingIOError):
        real(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert removed


@pytest.mark.parametrize("name", ["state.json", "journal.json"])
def test_what_a_later_release_wrote_is_left_alone(tmp_path: t.Any, name: str) -> None:
    own = OwnDirectory(str(tmp_path))
    own.create()
    own.write_state(State())
    own.write_journal(Journal(State(), State(), "nothing"))
    path = tmp_path / "outpost_smtp" / name
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(PostfixError, match=f"{name} was written by a newer release of this collection"):
        (own.state() if name == "state.json" else own.journal())
    path.write_text(path.read_text()[:-5])
    with pytest.raises(PostfixError, match=f"{name} is damaged"):
        (own.state() if name == "state.json" else own.journal())
