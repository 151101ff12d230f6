# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that Postfix reads."""

from __future__ import annotations

import os
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import files


def test_no_program_of_postfix_has_to_wait_for_a_file_to_cool_down(tmp_path: t.Any) -> None:
    """dict_load_file_xt() of Postfix's util/dict.c reads a file again and again until its time is two seconds ago."""
    live = tmp_path / "main.cf"
    live.write_text("old")
    for path in (live, tmp_path / "new"):
        files.replace_file(str(path), b"new", 0o600)
        assert int(os.stat(path).st_mtime) < int(time.time()) - 1
