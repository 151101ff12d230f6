# SPDX-License-Identifier: GPL-3.0-or-later
"""Child processes, locks that outlive a killed run, private files, and progress lines."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shlex
import subprocess
import threading
import time
import typing as t

_START = time.monotonic()
_PRINTING = threading.Lock()


class RigError(Exception):
    """A failure whose text says to a person what to do; the command line prints it without a traceback."""


def say(subject: str, text: str) -> None:
    """Print one progress line with the seconds since this command began."""
    with _PRINTING:
        print(f"[{time.monotonic() - _START:6.1f}s] {subject}: {text}", flush=True)


def run(argv: t.Sequence[str], *, stdin: str = "", lock: Lock | None = None) -> str:
    """Run a command and return its standard output; RigError with the end of its messages when it fails.

    With ``lock``, the lock stays taken until the command has ended even if this process is killed meanwhile: a
    wrapping shell holds it. The command itself does not get the descriptor, or a daemon that it starts (conmon)
    would keep the lock for as long as the container lives. The umask is 022 then, whatever the caller's: it shows in
    the images that are built.
    """
    command = list(argv)
    descriptors: tuple[int, ...] = ()
    if lock is not None:
        command = ["bash", "-c", f'umask 022; "$@" {lock.fileno}<&-; exit $?', "bash", *command]
        descriptors = (lock.fileno,)
    done = subprocess.run(
        command, input=stdin, text=True, capture_output=True, check=False, pass_fds=descriptors
    )
    if done.returncode != 0:
        messages = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise RigError(f"exit status {done.returncode} from: {shlex.join(argv)}\n{messages}")
    return done.stdout


def write_private(path: pathlib.Path, text: str) -> None:
    """Write a file with mode 0600 from its first byte, and put it in place whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


class Lock:
    """An exclusive flock(2) on ``path``. The file names its holder and is never removed (removing it would race)."""

    def __init__(self, path: pathlib.Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.fileno = -1

    @contextlib.contextmanager
    def held(self, *, refuse_if_busy: bool) -> t.Iterator[Lock]:
        """Hold the lock. When another run has it: RigError if asked to refuse, otherwise wait for its end.

        A holder that was killed is always waited for: what it started still works for a moment (see run()).
        """
        self.fileno = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._acquire(refuse_if_busy)
            os.truncate(self.fileno, 0)
            os.pwrite(self.fileno, str(os.getpid()).encode(), 0)
            yield self
        finally:
            os.close(self.fileno)

    def _acquire(self, refuse_if_busy: bool) -> None:
        try:
            fcntl.flock(self.fileno, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = os.pread(self.fileno, 32, 0).decode() or "?"
        alive = holder.isdigit() and pathlib.Path("/proc", holder).exists()
        if refuse_if_busy and alive:
            raise RigError(f"{self.path.stem} is being changed by process {holder}; wait for it to end")
        say(self.path.stem, f"waiting for what process {holder} started")
        fcntl.flock(self.fileno, fcntl.LOCK_EX)
