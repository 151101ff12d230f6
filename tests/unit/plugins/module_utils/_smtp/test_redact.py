# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials are found in whatever form a server writes them."""

from __future__ import annotations

import base64
import random
import string
import tracemalloc
import typing as t
import urllib.parse

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.redact import MASK, Redactor
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import printable

USERNAME = "alerts@example.net"


def cleaner(password: str, username: str = USERNAME) -> Redactor:
    redactor = Redactor()
    redactor.protect(username, password)
    return redactor


def test_random_passwords_are_found_at_every_alignment() -> None:
    source = random.Random(1)
    for _count in range(300):
        password = "".join(source.choice(string.printable[:95] + "äöü€") for _count in range(source.randrange(6, 40)))
        before = "".join(source.choice(string.ascii_letters) for _count in range(source.randrange(9)))
        after = "".join(source.choice(string.ascii_letters) for _count in range(source.randrange(9)))
        redactor = cleaner(password)
        blob = base64.b64encode((before + password + after).encode()).decode()
        assert redactor.clean(f"x {blob} y") == f"x {MASK} y"
        url_safe = base64.urlsafe_b64encode((before + password + after).encode()).decode()
        assert redactor.clean(f"x {url_safe} y") == f"x {MASK} y"
        assert redactor.clean(f"<{password}>") == f"<{MASK}>"
        assert redactor.clean(f"({password.encode().hex()})") == f"({MASK})"
        assert redactor.clean(f"({password.encode().hex().upper()})") == f"({MASK})"
        assert redactor.clean("=" + urllib.parse.quote(password, safe="")) in (f"={MASK}", MASK)


def test_the_url_safe_alphabet_is_known() -> None:
    """Every piece of this one has a character that differs between the alphabets."""
    assert cleaner("?" * 9).clean(base64.urlsafe_b64encode(b"?" * 9).decode()) == MASK


def test_a_blob_in_pieces_is_found() -> None:
    blob = base64.b64encode(f"\0{USERNAME}\0correct horse battery".encode()).decode()

    assert cleaner("correct horse battery").clean(f"{blob[:20]} {blob[20:40]} {blob[40:]}") == f"{MASK} {MASK} {MASK}"


def test_the_encoded_user_name_is_masked_and_the_readable_one_is_not() -> None:
    encoded = base64.b64encode(USERNAME.encode()).decode()

    assert cleaner("sesame-street").clean(f"{USERNAME} {encoded}") == f"{USERNAME} {MASK}"


@pytest.mark.parametrize("password", ["ok", "250", "x"])
def test_short_passwords_are_masked_as_they_are(password: str) -> None:
    cleaned = cleaner(password).clean(f"535 [{password}]")

    assert f"[{MASK}]" in cleaned


def test_a_password_that_had_to_be_escaped_is_found() -> None:
    assert cleaner("pass\u202eword").clean(printable("no: pass\u202eword")) == f"no: {MASK}"


@pytest.mark.parametrize(
    "spelling",
    [str.upper, str.lower, ascii, lambda text: repr(text.encode()), lambda text: printable(text.encode("latin-1"))],
    ids=["upper", "lower", "ascii", "bytes", "latin-1"],
)
def test_other_spellings_of_the_password_are_found(spelling: t.Callable[[str], str]) -> None:
    cleaned = cleaner("Pässword-Ünique").clean(f"no: {spelling('Pässword-Ünique')}")

    assert MASK in cleaned and "nique" not in cleaned.lower()


def test_other_text_stays() -> None:
    text = "5.7.8 Error: authentication failed: UGFzc3dvcmQ6 (https://support.example/?p=BadCredentials) 98e67ed59e1d1-2e5"

    assert cleaner("Tr0ub4dor&3").clean(text) == text
    assert Redactor().clean(text) == text


def test_overlapping_finds_are_masked_once() -> None:
    assert cleaner("aaaa").clean("-aaaaaa-") == f"-{MASK}-"


def test_a_huge_password_costs_little_memory() -> None:
    password = "".join(random.Random(2).choices(string.ascii_letters, k=65536))
    tracemalloc.start()
    redactor = cleaner(password)
    _current, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 8 * 1024 * 1024
    blob = base64.b64encode(f"\0{USERNAME}\0{password}".encode()).decode()
    assert redactor.clean(f"you said {blob}") == f"you said {MASK}"
