# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks outlive a killed run for as long as its commands work, and no longer."""

from __future__ import annotations

import fcntl
import os
import pathlib
import subprocess
import sys

import pytest
from riglib import process

HOLDER = """
import pathlib, sys
from riglib import process
with process.Lock(pathlib.Path(sys.argv[1])).held(refuse_if_busy=True) as lock:
    process.run(["sh", "-c", "echo started > $0; read line < $1", *sys.argv[2:]], lock=lock)
"""


def is_locked(path: pathlib.Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_the_lock_of_a_killed_run_is_free_when_its_command_ends(tmp_path: pathlib.Path) -> None:
    lock, started, end = (tmp_path / name for name in ("lab.lock", "started", "end"))
    os.mkfifo(started)
    os.mkfifo(end)
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(process.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", HOLDER, lock, started, end], env=environment) as holder:
        started.read_text(encoding="utf-8")  # returns when the command runs
        with pytest.raises(process.RigError, match=f"lab is being changed by process {holder.pid}"), process.Lock(
            lock
        ).held(refuse_if_busy=True):
            pass
        holder.kill()
    assert is_locked(lock)
    end.write_text("\n", encoding="utf-8")
    with process.Lock(lock).held(refuse_if_busy=True):  # waits
        pass
    assert not is_locked(lock)


def test_a_command_does_not_inherit_the_lock(tmp_path: pathlib.Path) -> None:
    with process.Lock(tmp_path / "lab.lock").held(refuse_if_busy=True) as lock:
        shown = process.run(["sh", "-c", "ls -l /proc/$$/fd"], lock=lock)
    assert "/dev/" in shown or "pipe:" in shown
    assert "lab.lock" not in shown


def test_a_failed_command_is_shown_with_its_last_words() -> None:
    with pytest.raises(process.RigError, match=r"exit status 3 from: sh -c .*\nno such thing"):
        process.run(["sh", "-c", "echo no such thing >&2; exit 3"])


def test_private_files_are_private_and_whole(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old", encoding="utf-8")
    process.write_private(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
