# SPDX-License-Identifier: GPL-3.0-or-later
"""What is seen of a running Postfix, from a /proc and logs that are made of files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import witness as witness_module
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Host, Result
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.witness import Witness


class Machine:
    """Processes, a log file and a journal."""

    def __init__(self, root: Path) -> None:
        self.root, self.proc, self.log = root, root / "proc", root / "mail.log"
        self.settings, self.journal = "maillog_file =\nsyslog_name = postfix\n", ""
        self.calls: t.List[t.List[str]] = []
        (root / "spool/pid").mkdir(parents=True)
        self.log.write_text("")
        self.starts(7, parent=1)
        (root / "spool/pid/master.pid").write_text("          7\n")

    def starts(self, pid: int, parent: int = 7, state: str = "S", at: int = 100) -> None:
        path = self.proc / str(pid) / "stat"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{pid} (a) name) {state} {parent} " + "0 " * 17 + f"{at} 0\n")

    def ends(self, pid: int) -> None:
        (self.proc / str(pid) / "stat").unlink()
        (self.proc / str(pid)).rmdir()

    def run(self, argv: t.Sequence[str], _stdin: str) -> Result:
        self.calls.append(list(argv))
        if argv[0] == "journalctl":
            return Result(0, self.journal, "")
        return Result(0, f"{self.root}/spool\n" if argv[-1] == "queue_directory" else self.settings, "")

    def witness(self, journal: bool = False) -> Witness:
        host = Host("/etc/postfix", self.run)
        return Witness(host, str(self.proc), str(self.root if journal else self.root / "none"), [str(self.root / "none"), str(self.log)])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "proc").mkdir()
    return Machine(tmp_path)


def awaits(witness: Witness, timeout: float = 20.0) -> float:
    """Seconds that it waits for processes."""
    began = time.monotonic()
    witness.await_processes(timeout)
    return time.monotonic() - began


@pytest.mark.parametrize("event", ["a process", "a number used again", "the end", "a zombie", "another master", "no number"])
def test_it_waits_for_new_processes_or_the_end(machine: Machine, event: str) -> None:
    machine.starts(8)
    witness = machine.witness()
    happenings: t.Dict[str, t.Callable[[], None]] = {
        "a process": lambda: machine.starts(9),
        "a number used again": lambda: machine.starts(8, at=200),
        "the end": lambda: machine.ends(7),
        "a zombie": lambda: machine.starts(7, parent=1, state="Z"),
        "another master": lambda: (machine.starts(20, parent=1), machine.starts(21, parent=20), machine.ends(7), None)[-1],
        "no number": lambda: machine.ends(7),
    }
    if event == "another master":
        (machine.root / "spool/pid/master.pid").write_text("20\n")
    if event == "no number":
        (machine.root / "spool/pid/master.pid").unlink()
    happened = threading.Event()
    threading.Timer(0.2, lambda: (happened.set(), happenings[event]())).start()
    assert awaits(witness) < 15 and happened.is_set()
    assert witness.restarted() is (event in ("another master", "no number"))


def test_it_does_not_wait_for_ever(machine: Machine) -> None:
    machine.starts(8)
    machine.starts(9, parent=8)  # a process of somebody else
    witness = machine.witness()
    machine.starts(10, parent=8)
    assert 0.2 < awaits(witness, 0.2) < 15


def test_without_a_master_nothing_is_waited_for(machine: Machine) -> None:
    (machine.root / "spool/pid/master.pid").unlink()
    assert awaits(machine.witness()) < 15


def line(program: str, text: str, pid: int = 3) -> str:
    return f"Nov 23 10:00:00 host {program}[{pid}]: {text}\n"


def test_what_is_a_complaint_in_a_log_file(machine: Machine) -> None:
    machine.log.write_text("x" * 200_000 + "\n" + line("postfix/qmgr", "fatal: known", pid=1))
    witness = machine.witness()
    assert witness.complaints() == []
    with machine.log.open("a") as file:
        file.write(line("postfix/qmgr", "fatal: known", pid=2) + line("postfix/master", "warning: fatal: not this"))
        file.write(line("postfix/sendmail", "fatal: of a person") + line("postfix-out/master", "fatal: of another instance"))
        file.write(line("other", "postfix/master fatal: no"))
        file.write(line("postfix/primary/smtp", 'panic: in "static:user:CANARY"') + line("postfix/smtp", "fatal: twice") * 2)
    assert witness.complaints() == ["in ...", "twice"]
    assert witness.reason() == " (known; of a person; in ...; twice)"


def test_the_log_that_postfix_writes_itself_counts_before_others(machine: Machine) -> None:
    own = machine.root / "own.log"
    own.write_text("")
    machine.settings = f"maillog_file = {own}\nsyslog_name = postfix-out\n"
    witness = machine.witness(journal=True)
    own.write_text(line("postfix-out/master", "fatal: ours") + line("postfix/master", "fatal: theirs"))
    machine.log.write_text(line("postfix-out/master", "fatal: elsewhere"))
    assert witness.complaints() == ["ours"]


def test_the_journal_is_divided_by_time(machine: Machine) -> None:
    witness = machine.witness(journal=True)
    now = time.time()
    machine.journal = f"{now - 50:.6f} host postfix/master[7]: fatal: known\n{now + 1:.6f} host postfix/master[7]: fatal: known\n"
    assert witness.complaints() == []
    machine.journal += f"{now + 2:.6f} host postfix/master[7]: fatal: new\n-- No entries --\n"
    assert witness.complaints() == ["new"]
    assert f"--since=@{int(now) - 120}" in machine.calls[-1] or f"--since=@{int(now) - 121}" in machine.calls[-1]
    assert "--priority=crit" in machine.calls[-1], "two minutes of a busy server's log are more than is read"


def test_a_reason_that_comes_late_is_waited_for(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness_module, "_REASON_TIMEOUT", 20.0)
    witness = machine.witness()
    timer = threading.Timer(0.3, machine.log.write_text, [line("postfix/master", "fatal: late")])
    timer.start()
    assert witness.reason() == " (late)"
    monkeypatch.setattr(witness_module, "_REASON_TIMEOUT", 0.0)
    assert machine.witness().reason() == ""


@pytest.mark.parametrize("stubborn", [False, True])
def test_processes_of_a_service_are_waited_for_and_then_ended(machine: t.Any, stubborn: bool) -> None:
    """Of other services and of other masters none is."""
    script = "import time; time.sleep(float(__import__('sys').argv[1]))"

    def start(service: str, seconds: float) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["smtp", "-c", script, str(seconds), "-n", service, "-t", "unix", "-u"], executable=sys.executable)

    ours, other = start("outpost_x", 60 if stubborn else 0.5), start("outpost_xy", 60)
    try:
        witness = machine.witness()
        witness.pid, witness._proc = os.getpid(), "/proc"
        threading.Thread(target=ours.wait).start()  # as master(8) would
        began = time.monotonic()
        witness.drain({"outpost_x/unix", "outpost_xy/inet"}, timeout=1.0 if stubborn else 30.0)
        assert time.monotonic() - began < 20
        assert ours.wait(10) == (-signal.SIGTERM if stubborn else 0)
        assert other.poll() is None
    finally:
        for process in (ours, other):
            process.kill()
            process.wait()
