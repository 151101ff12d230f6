# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.tables import REGEXP, TEXTHASH, check_table, masked_table, parse_table

CANARY = "CANARY-3f9a"


@pytest.mark.parametrize("password", ["#x", "$x", "${x}", "{x}", "'\"\\", "a b", "a\tb", "x:y:z", "%s", "!", "pä\u00df\u20ac", "\u00a0", "x" * 5000])
def test_what_a_value_may_hold(password: str) -> None:
    assert parse_table("sasl", f"# note\n\n[h]:587 user:{password}\n") == {"[h]:587": f"user:{password}"}


@pytest.mark.parametrize(
    "line",
    [
        f" [h]:587 u:{CANARY}",
        f"[h]:587 u:{CANARY} ",
        f"[h]:587 u:{CANARY}\t",
        f"[h]:587 u:{CANARY}\r",
        f"[h]:587 u:{CANARY}\x00",
        f"[h]:587 u:{CANARY}\u2028",
        f"[h]:587 u:{CANARY}\udce4",
        f"{CANARY}",
        f"[h]:587 u:{CANARY}\n[H]:587 u:x",
        f'"quoted key" u:{CANARY}',
        f"key: u:{CANARY}",
    ],
)
def test_what_is_refused_and_never_shown(line: str) -> None:
    with pytest.raises(PostfixError, match="table sasl: line [12]") as caught:
        check_table("sasl", line, TEXTHASH)
    assert CANARY not in str(caught.value)


def test_a_name_that_could_leave_the_directory_is_refused() -> None:
    for name in ("../x", "x/y", "", ".x", "X", "state.json"):
        with pytest.raises(PostfixError, match="no name for a table"):
            check_table(name, "", TEXTHASH)


def test_a_mask_tells_which_secret_changed() -> None:
    before, after = "[a]:1 u:old\n[b]:1 u:same\n", "[a]:1 u:new\n[b]:1 u:same\n[c]:1 u:x\n"
    assert masked_table(after, before) == "[a]:1 ******** (changed)\n[b]:1 ********\n[c]:1 ********\n"
    assert masked_table(before, None) == "[a]:1 ********\n[b]:1 ********\n"


def test_patterns_may_look_like_anything_but_hold_no_control_characters() -> None:
    check_table("x", "if !/a b/\n  /.+/ c d\nendif\n", REGEXP)
    with pytest.raises(PostfixError, match="line 1"):
        check_table("x", "/a/ b\r\n", REGEXP)
