# SPDX-License-Identifier: GPL-3.0-or-later
"""Which unit is asked to do what, from recorded answers of systemctl."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

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


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(PostfixError, match="no-such-program is not on this host"):
        run_program(["no-such-program"])
