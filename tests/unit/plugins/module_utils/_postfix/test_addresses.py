# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.addresses import AddressError, normalise_aliases, normalise_sender_rewrite


def test_aliases() -> None:
    given = {"root": ["a+b@example.com", "oncall"], "info@example.org": "c@example.com"}
    assert normalise_aliases(given, "v") == [
        {"name": "root", "targets": "a+b@example.com, oncall"},
        {"name": "info@example.org", "targets": "c@example.com"},
    ]


@pytest.mark.parametrize(
    "aliases",
    [
        ["root"],
        {"root": ""},
        {"root": []},
        {"root": None},
        {"root": "|/bin/sh"},
        {"root": "/etc/passwd"},
        {"root": ":include:/etc/passwd"},
        {"root": "a@b\nevil x"},
        {"root": "a@b, c@d"},
        {"root": "a@-b"},
        {"root": ["a@b", 1]},
        {"#root": "a@b"},
        {"a b": "a@b"},
        {"root": "a@b", "ROOT": "a@b"},
        {1: "a@b"},
        {"@example.com": "a@b"},
    ],
)
def test_aliases_that_are_refused(aliases: t.Any) -> None:
    with pytest.raises(AddressError, match="^my_var"):
        normalise_aliases(aliases, "my_var")


def test_sender_rules() -> None:
    rules = [{"from": sender, "to": "x@example.com"} for sender in ("root", "a@example.org", "@example.org", "*")]
    assert normalise_sender_rewrite(rules, "v") == {
        "rules": rules[:3],
        "everybody": "x@example.com",
        "others": r"^(double-bounce|root)@|@example\.org$",
    }
    assert normalise_sender_rewrite([], "v") == {"rules": [], "everybody": None, "others": "^(double-bounce)@"}


def test_special_characters_in_a_name_are_taken_literally() -> None:
    assert normalise_sender_rewrite([{"from": "a.b+c", "to": "x@y"}], "v")["others"] == r"^(double-bounce|a\.b\+c)@"


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ("root", r"\[0\]:"),
        ({"from": "root"}, r"\[0\]:"),
        ({"from": "root", "to": "a@b", "extra": 1}, r"\[0\]:"),
        ({"from": "", "to": "a@b"}, r"\[0\]\.from:"),
        ({"from": "@", "to": "a@b"}, r"\[0\]\.from:"),
        ({"from": "r\nx", "to": "a@b"}, r"\[0\]\.from:"),
        ({"from": "root", "to": "root"}, r"\[0\]\.to:"),
        ({"from": "root", "to": "a@b hash:/x"}, r"\[0\]\.to:"),
        ({"from": "root", "to": "a@b\n"}, r"\[0\]\.to:"),
    ],
)
def test_sender_rules_that_are_refused(rule: t.Any, field: str) -> None:
    with pytest.raises(AddressError, match=f"^my_var{field}"):
        normalise_sender_rewrite([rule], "my_var")


def test_a_sender_has_one_rule() -> None:
    with pytest.raises(AddressError, match=r"my_var\[1\].from"):
        normalise_sender_rewrite([{"from": "root", "to": "a@b"}, {"from": "Root", "to": "a@c"}], "my_var")
