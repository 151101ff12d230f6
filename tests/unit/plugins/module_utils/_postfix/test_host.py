# SPDX-License-Identifier: GPL-3.0-or-later
"""Which unit is asked to do what, from recorded answers of systemctl."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import host as host_module
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Host, Result, complaint, run_program

DEBIAN_12 = """\
Id=postfix@-.service
LoadState=loaded
ActiveState=active
UnitFileState=indirect

Id=postfix.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
"""
DEBIAN_13 = """\
Id=postfix@-.service
LoadState=not-found
ActiveState=inactive
UnitFileState=

Id=postfix.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
"""
STARTED_BY_HAND = DEBIAN_13.replace("ActiveState=active", "ActiveState=inactive").replace("enabled", "disabled")


def make_host(tmp_path: Path, units: str, directory: str = "/etc/postfix") -> t.Tuple[Host, t.List[str]]:
    calls: t.List[str] = []

    def run(argv: t.Sequence[str], _stdin: str) -> Result:
        if argv[:2] != ["systemctl", "show"]:
            calls.append(" ".join(argv))
        return Result(0, units if argv[0] == "systemctl" else "", "")

    return Host(directory, run, systemd_directory=str(tmp_path)), calls


@pytest.mark.parametrize(
    ("units", "expected", "enabled"),
    [
        (DEBIAN_12, ["systemctl restart postfix@-.service"], True),
        (DEBIAN_13, ["systemctl restart postfix.service"], True),
        (STARTED_BY_HAND, ["postfix -c /etc/postfix stop", "postfix -c /etc/postfix start"], False),
    ],
)
def test_who_restarts(tmp_path: Path, units: str, expected: t.List[str], enabled: bool) -> None:
    host, calls = make_host(tmp_path, units)
    host.restart()
    assert calls == expected and host.enabled() is enabled


def test_systemd_is_not_asked_about_another_instance_or_where_it_does_not_run(tmp_path: Path) -> None:
    for directory, systemd in (("/etc/postfix-out", tmp_path), ("/etc/postfix", tmp_path / "absent")):
        host, calls = make_host(systemd, DEBIAN_13, directory)
        assert host.enabled() is None
        host.stop()
        assert calls == [f"postfix -c {directory} stop"]


def test_what_postfix_says_becomes_one_line() -> None:
    text = "postconf: warning: /x/main.cf, line 3: bad\npostconf: fatal: no\n"
    assert complaint(Result(1, "", text)) == "/x/main.cf, line 3: bad; no"
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
