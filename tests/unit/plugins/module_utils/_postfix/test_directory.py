# SPDX-License-Identifier: GPL-3.0-or-later
"""Our directory beside main.cf."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.directory import OwnDirectory


def test_a_directory_that_a_killed_run_left_closed_is_opened(tmp_path: t.Any) -> None:
    """Who submits mail reads tables that are not secret as the user they are, and postconf(1) too."""
    own = OwnDirectory(str(tmp_path))
    (tmp_path / "outpost_smtp").mkdir(0o700)
    own.create()
    assert (tmp_path / "outpost_smtp").stat().st_mode & 0o777 == 0o755
