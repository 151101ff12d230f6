# SPDX-License-Identifier: GPL-3.0-or-later
"""References in values of parameters. The system tests compare the same code with postconf -x of three releases."""

from __future__ import annotations

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.macros import MacroError, expand, level

VALUES = {
    "a": "one",
    "b": "$a two",
    "empty": "",
    "seven": "7",
    "compatibility_level": "3.10",
    "loop": "${loop}",
}


def of(text: str) -> str:
    return expand(text, lambda name: VALUES.get(name, ""))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$a", "one"),
        ("${a}", "one"),
        ("$(a)", "one"),
        ("<$b>", "<one two>"),
        ("$a.x", "one.x"),
        ("$unknown", ""),
        ("costs $$5", "costs $5"),
        ("${a?yes}", "yes"),
        ("${empty?yes}", ""),
        ("${a:no}", ""),
        ("${empty:no}", "no"),
        ("${empty:$b}", "one two"),
        ("${a?{yes}:{no}}", "yes"),
        ("${empty?{yes}:{no}}", "no"),
        ("${empty?{yes}:{${a?{in}:{out}}}}", "in"),
        ("${{$a} == {one} ? {x} : {y}}", "x"),
        ("${{$a} != {one} ? {x} : {y}}", "y"),
        ("${{$a} == {one}}", "true"),
        ("${{10} > {9} ? {number} : {text}}", "number"),
        ("${{10a} > {9} ? {number} : {text}}", "text"),
        ("${{\u00b2} > {10} ? {text} : {number}}", "text"),
        ("${{%s} > {9} ? {number} : {text}}" % ("1" * 5000), "text"),
        ("${{$seven} <= {7} ? {x} : {y}}", "x"),
        ("${{$compatibility_level} <level {3.6} ? {md5} : {sha256}}", "sha256"),
        ("${{$compatibility_level} < {3.6} ? {md5} : {sha256}}", "md5"),
        ("${{3.6.1} >=level {3.6} ? {x} : {y}}", "x"),
    ],
)
def test_expansion(text, expected):
    assert of(text) == expected


@pytest.mark.parametrize("text", ["$", "a $. b", "$loop", "${a", "${}", "${a!x}", "${{1} ~ {1}}", "${{1}"])
def test_what_postfix_would_refuse(text):
    with pytest.raises(MacroError):
        of(text)


def test_levels():
    assert level("3.10") > level("3.6") > level("2") > level("") == (0, 0, 0)
    assert level("3.10.13-20260101") == (3, 10, 13)
    assert level("9" * 5000) > level("3.10")
