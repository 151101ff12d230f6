# SPDX-License-Identifier: GPL-3.0-or-later
"""SASLprep: the examples of RFC 4013 section 3, and each of its rules."""

from __future__ import annotations

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.saslprep import prepare


@pytest.mark.parametrize(
    ("text", "prepared"),
    [("I\u00adX", "IX"), ("user", "user"), ("USER", "USER"), ("\u00aa", "a"), ("\u2168", "IX")],
)
def test_the_examples_of_the_rfc(text: str, prepared: str) -> None:
    assert prepare(text, stored=True) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u0627\u0031"], ids=["prohibited", "bidirectional"])
def test_the_examples_of_the_rfc_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="it ") as caught:
        prepare(text, stored=True)

    assert text not in str(caught.value)


def test_composed_and_decomposed_are_the_same() -> None:
    assert prepare("p\u00e4ss", stored=True) == prepare("pa\u0308ss", stored=True) == "p\u00e4ss"


def test_blanks_of_every_sort_become_the_common_one() -> None:
    assert prepare("a\u00a0b\u3000c", stored=True) == "a b c"


@pytest.mark.parametrize(
    "char",
    ["\x00", "\x7f", "\u0085", "\u2028", "\ue000", "\U000f0000", "\ufdd0", "\ufffe", "\ud800", "\ufffd", "\u2ff0", "\u202e", "\U000e0001"],
    ids=lambda char: f"U+{ord(char):04X}",
)
def test_prohibited_characters(char: str) -> None:
    for text in (char, f"\u00e4{char}"):
        with pytest.raises(ValueError, match="it holds"):
            prepare(text, stored=False)


def test_what_unicode_3_2_did_not_know_may_be_asked_for_and_not_stored() -> None:
    assert prepare("\u0221\U0001f600", stored=False) == "\u0221\U0001f600"
    with pytest.raises(ValueError, match="newer than Unicode 3.2"):
        prepare("\U0001f600", stored=True)


def test_from_right_to_left() -> None:
    assert prepare("\u05d0\u05d1 1 \u05d2", stored=True) == "\u05d0\u05d1 1 \u05d2"
    for mixed in ("\u05d0a\u05d1", "1\u05d0", "\u05d0 1"):
        with pytest.raises(ValueError, match="directions"):
            prepare(mixed, stored=True)
