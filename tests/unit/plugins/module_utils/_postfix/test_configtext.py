# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import (
    BEGIN,
    END,
    Document,
    main_cf_key,
    master_cf_key,
    parameter_value,
    parse,
    parse_parameters,
    parse_services,
    references,
    same_entry,
    split_list,
)
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError

TRICKY = """\

# comment
a = 1
b = x,
  # inside
\t y

# after
 # indented comment
c=3
a = 2
no newline"""


def test_parsing_loses_nothing() -> None:
    assert "".join(chunk.raw for chunk in parse(TRICKY, main_cf_key)) == TRICKY


def test_comments_inside_of_a_logical_line_belong_to_it_and_those_after_it_do_not() -> None:
    entries = Document(TRICKY, main_cf_key).entries()
    assert entries["b"] == "b = x,\n  # inside\n\t y\n"
    assert parameter_value(entries["b"]) == "x, y"


def test_the_last_of_several_entries_counts_and_is_the_one_replaced() -> None:
    document = Document(TRICKY, main_cf_key)
    assert document.entries()["a"] == "a = 2\n"
    assert document.edited({"a": "a = 9\n"}, {}).text == TRICKY.replace("a = 2", "a = 9")


def test_an_entry_after_the_block_overrides_one_before_it() -> None:
    text = f"a = 1\n{BEGIN}b = 1\n{END}a = 2\n"
    assert Document(text, main_cf_key).edited({"a": "a = 3\n"}, {"b": "b = 1\n"}).text == f"a = 1\n{BEGIN}b = 1\n{END}a = 3\n"


def test_the_block_comes_and_goes_without_a_trace() -> None:
    document = Document(TRICKY, main_cf_key)
    with_block = document.edited({}, {"z": "z = 1\n"})
    assert with_block.text == f"{TRICKY}\n{BEGIN}z = 1\n{END}"
    assert with_block.in_block() == {"z": "z = 1\n"} and "z" not in with_block.outside()
    assert with_block.edited({}, {}, final_newline=False).text == TRICKY


def test_what_an_administrator_adds_after_the_block_keeps_its_newline() -> None:
    text = f"a = 1\n{BEGIN}z = 1\n{END}b = 2\n"
    assert Document(text, main_cf_key).edited({}, {}, final_newline=False).text == "a = 1\nb = 2\n"


def test_an_entry_of_the_block_that_means_the_same_keeps_its_text() -> None:
    text = f"{BEGIN}z=1\n{END}"
    assert Document(text, main_cf_key).edited({}, {"z": "z = 1\n"}).text == text


def test_services_are_known_by_name_and_type() -> None:
    text = "smtp inet n - y - - smtpd\nsmtp unix - - y - - smtp\n  -o a=b\n"
    assert list(Document(text, master_cf_key).entries()) == ["smtp/inet", "smtp/unix"]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("a = b\n", "a=b", True),
        ("a = b,\n  c\n", "a = b, c", True),
        ("a = b  c", "a = b c", False),  # blanks inside of a value count
        ("a = b", None, False),
        (None, None, True),
        ("a = x=y", "a = x = y", False),
    ],
)
def test_same_entry(first: str, second: str, same: bool) -> None:
    assert same_entry(first, second) is same


def test_lists_are_split_as_postfix_splits_them() -> None:
    assert split_list("hash:/a, inline:{ x=1, y=2 }\tstatic:z") == ["hash:/a", "inline:{ x=1, y=2 }", "static:z"]


def test_references() -> None:
    assert references("-o a=$b -o c=${d?x} -o e=$(f) -o g=$$h") == ["b", "d", "f"]


def test_wanted_parameters() -> None:
    assigned, appended = parse_parameters("# no\na = 1\nb =\n  x\n  # no\n  y\nc += z\n", "parameters")
    assert assigned == {"a": "a = 1\n", "b": "b =\n  x\n  y\n"}
    assert appended == {"c": "z"}


@pytest.mark.parametrize(
    "text",
    ["a", "a b = c", "a = 1\na = 2", "a = 1\na += 2", " a = 1", "a = \x00", "a = 1\r", "a = \u2028b = c", "a-b = 1", "= 1", "a = \udce9"],
)
def test_wanted_parameters_that_are_refused(text: str) -> None:
    with pytest.raises(PostfixError, match="^parameters: "):
        parse_parameters(text, "parameters")


@pytest.mark.parametrize(
    "text", ["x unix - - n - smtp", "x tcp - - n - - smtp", "x unix - - n - - smtp\nx unix - - n - - lmtp", "  x unix - - n - - smtp"]
)
def test_wanted_services_that_are_refused(text: str) -> None:
    with pytest.raises(PostfixError, match="^services: "):
        parse_services(text)
