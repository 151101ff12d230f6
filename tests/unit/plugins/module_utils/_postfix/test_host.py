# SPDX-License-Identifier: GPL-3.0-or-later
"""Which unit is asked to do what, from recorded answers of systemctl."""

from __future__ import annotations

import os
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import host as host_module
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Host, Result, complaint, run_program

ENABLED, DISABLED = "LoadState=loaded\nUnitFileState=enabled\n", "LoadState=loaded\nUnitFileState=disabled\n"
NOT_THERE = "LoadState=not-found\n"
#: The first lines of /proc/PID/cgroup of master(8): on cgroup version 1 in a container, and on version 2.
DEBIAN_12 = "9:name=systemd:/libpod-a08d/system.slice/system-postfix.slice/postfix@-.service\n8:pids:/libpod-a08d\n"
DEBIAN_12_INSTANCE = "0::/system.slice/system-postfix.slice/postfix@postfix-out.service\n"
DEBIAN_13 = "0::/system.slice/postfix.service\n"
DEBIAN_13_INSTANCE = "0::/system.slice/system-postfix.slice/postfix@out.service\n"
STARTED_BY_HAND = "0::/user.slice/user-0.slice/session-3.scope\n"


def make_host(
    tmp_path: Path, cgroup: str = "", unit: str = ENABLED, directory: str = "/etc/postfix", failing: str = ""
) -> t.Tuple[Host, t.List[str]]:
    """A host on which master(8) is process 42 in this control group; the command ``failing`` fails once."""
    calls: t.List[str] = []
    for path, text in (("spool/pid/master.pid", "             42\n"), ("proc/42/cgroup", cgroup)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    def run(argv: t.Sequence[str], _stdin: str) -> Result:
        if argv == ["postconf", "-c", directory, "-h", "queue_directory"]:
            return Result(0, f"{tmp_path}/spool\n", "")
        if argv[:2] == ["systemctl", "show"]:
            return Result(0, unit, "")
        calls.append(" ".join(argv))
        return Result(1, "", "refused\n") if calls[-1] == failing and calls.count(failing) == 1 else Result(0, "", "")

    return Host(directory, run, systemd_directory=str(tmp_path), proc=str(tmp_path / "proc")), calls


@pytest.mark.parametrize(
    ("directory", "cgroup", "unit"),
    [
        ("/etc/postfix", DEBIAN_12, "postfix@-.service"),
        ("/etc/postfix", DEBIAN_13, "postfix.service"),
        ("/etc/postfix-out", DEBIAN_12_INSTANCE, "postfix@postfix-out.service"),
        ("/etc/postfix-out", DEBIAN_13_INSTANCE, "postfix@out.service"),
    ],
)
def test_the_unit_that_holds_the_instance_restarts_and_stops_it(tmp_path: Path, directory: str, cgroup: str, unit: str) -> None:
    host, calls = make_host(tmp_path, cgroup, directory=directory)
    host.restart(host.active_unit())
    host.stop(host.active_unit())
    assert calls == [f"systemctl restart {unit}", f"systemctl stop {unit}"]


@pytest.mark.parametrize("result", ["start-limit-hit", "exit-code"])
def test_only_the_limit_of_starts_is_a_reason_to_start_again(tmp_path: Path, result: str) -> None:
    host, calls = make_host(tmp_path, DEBIAN_12, f"Result={result}\n", failing="systemctl restart postfix@-.service")
    if result == "start-limit-hit":
        host.restart("postfix@-.service")
        assert calls == ["systemctl restart postfix@-.service", "systemctl reset-failed postfix@-.service", "systemctl restart postfix@-.service"]
    else:
        with pytest.raises(PostfixError, match="Postfix did not start: refused"):
            host.restart("postfix@-.service")
        assert calls == ["systemctl restart postfix@-.service"]


def test_what_was_started_by_hand_is_restarted_by_hand(tmp_path: Path) -> None:
    host, calls = make_host(tmp_path, STARTED_BY_HAND)
    host.restart(host.active_unit())
    assert calls == ["postfix -c /etc/postfix stop", "postfix -c /etc/postfix start"]


def test_without_systemd_a_postfix_is_stopped_by_its_own_program(tmp_path: Path) -> None:
    _host, calls = make_host(tmp_path, DEBIAN_13)
    host = Host("/etc/postfix", _host.run, systemd_directory=str(tmp_path / "absent"), proc=str(tmp_path / "proc"))
    host.stop(host.active_unit())
    assert calls == ["postfix -c /etc/postfix stop"] and host.enabled() is None


@pytest.mark.parametrize(("locked", "pid", "runs"), [(0, None, False), (1, None, True), (1, "alive", True), (1, "ended", False)])
def test_a_master_that_only_says_it_runs_because_it_can_not_start_does_not(tmp_path: Path, locked: int, pid: t.Optional[str], runs: bool) -> None:
    """As with a main.cf that it can not read: "master -t" ends with 1 then, too, and without a word."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    host, _calls = make_host(tmp_path, directory=str(tmp_path))
    (tmp_path / "main.cf").touch()
    file = tmp_path / "spool/pid/master.pid"
    file.unlink()
    if pid is not None:
        file.write_text(f"{ended.pid if pid == 'ended' else os.getpid()}\n")
    run = host.run
    host.run = lambda argv, stdin: Result(locked, "", "") if "-t" in argv else run(argv, stdin)
    assert host.running() is runs


@pytest.mark.parametrize(("unit", "enabled"), [(ENABLED, True), (DISABLED, False), (NOT_THERE, None)])
def test_whether_it_starts_at_boot(tmp_path: Path, unit: str, enabled: t.Optional[bool]) -> None:
    assert make_host(tmp_path, unit=unit)[0].enabled() is enabled
    assert make_host(tmp_path, unit=unit, directory="/etc/postfix-out")[0].enabled() is None


@pytest.mark.parametrize(
    ("directory", "listed", "is_one"),
    [
        ("/etc/postfix", "", True),
        ("/usr/local/etc/postfix", "\n\n", True),  # the default of this build
        ("/etc/postfix-out", "/etc/postfix-in, /etc/postfix-out\n\n", True),
        ("/etc/postfix-out/", "\n/etc/postfix-out\n", True),
        ("/etc/postfix-out", "/etc/postfix-in\n\n", False),
        ("/etc", "\n\n", False),
    ],
)
def test_a_directory_that_is_no_instance_is_refused(directory: str, listed: str, is_one: bool) -> None:
    def run(argv: t.Sequence[str], _stdin: str) -> Result:
        return Result(0, "/usr/local/etc/postfix\n" if "-d" in argv else listed, "")

    if is_one:
        Host(directory, run).check_is_instance()
    else:
        with pytest.raises(PostfixError, match=f"^config_directory: {directory} is no Postfix instance of this host; they are /usr/local/etc"):
            Host(directory, run).check_is_instance()


def test_what_postfix_says_becomes_one_line() -> None:
    text = "postconf: warning: /x/main.cf, line 3: bad\npostconf: fatal: no\n"
    assert complaint(Result(1, "", text)) == "no; /x/main.cf, line 3: bad"
    assert complaint(Result(3, "", "")) == "exit code 3"


def test_a_program_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PostfixError, match="^There is no program no-such-program$"):
        run_program(["no-such-program"])
    monkeypatch.setattr(host_module, "find_program", lambda _name: None)
    with pytest.raises(PostfixError, match="^Postfix is not on this host: there is no program postconf$"):
        run_program(["postconf"])


Program = t.Callable[[str], Path]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Make a shell script the program that runs whatever is asked for."""

    def make(script: str) -> Path:
        path = tmp_path / "program"
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(0o755)
        monkeypatch.setattr(host_module, "find_program", lambda _name: str(path))
        return path

    return make


def test_what_a_program_is_given_and_what_it_writes(program: Program) -> None:
    program('cat; echo "$1 $LC_ALL ${HOME-no home}"; echo problem >&2; exit 3\n')
    text = "key\n" * 100_000
    assert run_program(["x", "first"], text) == Result(3, text + "first C no home\n", "problem\n")


def test_a_program_that_does_not_read(program: Program) -> None:
    program("exec <&-; echo done\n")
    assert run_program(["x"], "key\n" * 100_000).out == "done\n"


@pytest.mark.parametrize("script", ["", "exec >&- 2>&-\n"])
def test_a_program_that_does_not_end(program: Program, tmp_path: Path, script: str) -> None:
    program(f'echo $$ > "$1"\n{script}exec sleep 60\n')
    with pytest.raises(PostfixError, match="did not end within 1 seconds"):
        run_program(["x", str(tmp_path / "pid")], timeout=0.6)
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_a_program_that_writes_without_end(program: Program) -> None:
    program("exec yes relay.example\n")
    found = run_program(["x"], timeout=30)
    assert found.rc != 0 and "fatal: it wrote more than" in found.err
    assert len(found.out) < 2 * host_module.MAX_OUTPUT


#: What postconf(1) and postmap(1) of Postfix 3.7 say of an entry that an administrator has twice; the last one counts.
TWICE = "x: warning: /stage/main.cf, line 6: overriding earlier entry: mydestination=old.example.org\n"


def test_an_entry_that_the_administrator_has_twice_is_no_fault_of_ours() -> None:
    host = Host("/etc/postfix", lambda _argv, _stdin: Result(0, "", TWICE))
    host.check("/stage", {"mydestination"})
    host.check_patterns("/stage", "/etc/postfix/outpost_smtp/1/x")


def test_a_pattern_that_postfix_would_ignore_is_a_fault_beside_it() -> None:
    said = "postmap: warning: regexp map /etc/postfix/outpost_smtp/1/x, line 1: Unmatched ( or \\(\n"
    host = Host("/etc/postfix", lambda _argv, _stdin: Result(1, "", TWICE + said))
    with pytest.raises(PostfixError, match="^Postfix does not accept table x: regexp map .*Unmatched [^;]*$"):
        host.check_patterns("/stage", "/etc/postfix/outpost_smtp/1/x")


@pytest.mark.parametrize(("rc", "said"), [(1, "open a.lmdb: No space left"), (-9, "postmap was ended by signal 9")])
def test_a_map_that_is_not_built_is_named_with_the_cause(rc: int, said: str) -> None:
    host = Host("/etc/postfix", lambda argv, stdin: Result(rc, "", "postmap: fatal: open a.lmdb: No space left\n" if rc > 0 else ""))
    with pytest.raises(PostfixError, match=f"^Postfix does not build table a as lmdb: {said}$"):
        host.build_map("/stage", "lmdb", "/1/a")
