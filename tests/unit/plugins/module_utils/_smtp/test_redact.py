# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials are found in whatever form a server writes them."""

from __future__ import annotations

import base64
import html
import json
import quopri
import random
import re
import string
import threading
import time
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


@pytest.mark.parametrize(
    "quote",
    [
        html.escape,
        lambda text: json.dumps(text)[1:-1],
        lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
        lambda text: quopri.encodestring(text.encode()).decode(),
        urllib.parse.quote,
        urllib.parse.quote_plus,
        lambda text: urllib.parse.quote(text, safe=""),
        lambda text: re.sub("%..", lambda match: match.group().lower(), urllib.parse.quote(text)),
    ],
    ids=["html", "json", "json-unicode", "quoted-printable", "url", "form", "url-all", "url-lower"],
)
def test_passwords_are_found_as_the_standard_library_quotes_them(quote: t.Callable[[str], str]) -> None:
    source = random.Random(3)
    for _count in range(300):
        password = "".join(source.choice("aZ9 _.-~/+%&<>\"'\\=\t\n\x01\x7f\u00e9\u20ac\U0001f600?#@:") for _index in range(12))
        assert cleaner(password).clean(f"<<{quote(password)}>>") == f"<<{MASK}>>", password


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


TOKEN = "ya29." + "".join(random.Random(3).choices(string.ascii_letters + string.digits + "-_", k=2500))


def knows_token(token: str = TOKEN) -> Redactor:
    redactor = Redactor()
    redactor.protect(USERNAME, None, token)
    return redactor


def test_an_access_token_is_found_whole_and_in_parts() -> None:
    redactor = knows_token()
    source = random.Random(4)

    assert redactor.clean(f"<{TOKEN}>") == f"<{MASK}>"
    for _count in range(200):
        start = source.randrange(len(TOKEN) - 24)
        part = TOKEN[start : start + source.randrange(24, 200)]
        assert part[:12] not in redactor.clean(f"no: {part}") and part[-12:] not in redactor.clean(f"no: {part}")
        for alignment in ("", "x", "xy"):
            encoded = base64.b64encode((alignment + part).encode()).decode()
            assert encoded[4:] not in redactor.clean(f"no: {encoded}") and MASK in redactor.clean(f"no: {encoded}")


def test_an_xoauth2_response_is_found_in_pieces() -> None:
    blob = base64.b64encode(f"user={USERNAME}\x01auth=Bearer {TOKEN}\x01\x01".encode()).decode()
    cleaned = knows_token().clean_lines([f"5.7.8 {blob[at : at + 76]}" for at in range(0, len(blob), 76)])

    # The first characters say "user=", the last ones are too few to tell anything.
    assert cleaned[1:-1] == [f"5.7.8 {MASK}"] * (len(cleaned) - 2) and cleaned[0] in (f"5.7.8 {MASK}", f"5.7.8 {blob[:8]}{MASK}")


def test_words_of_servers_are_not_taken_for_a_token() -> None:
    token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (b'{"alg":"RS256","typ":"JWT"}', b'{"scp":"x"}', b"sig" * 9))
    text = 'the token is refused: {"status":"401","schemes":"bearer","scope":"https://mail.google.com/"} (see https://provider.test/help)'

    assert knows_token(token).clean(text) == text


def test_a_password_in_pieces_on_several_lines_is_found() -> None:
    password = "correct horse battery"
    redactor = cleaner(password)

    assert redactor.clean_lines(["you said correct ho", "rse battery, no"]) == [f"you said {MASK}", f"{MASK}, no"]
    assert redactor.clean_lines(["5.7.8 you said correct ho", "5.7.8 rse bat", "5.7.8 tery, no"]) == [
        f"5.7.8 you said {MASK}",
        f"5.7.8 {MASK}",
        f"5.7.8 {MASK}, no",
    ]
    for size in range(1, len(password)):
        cleaned = redactor.clean_lines([f"5.7.8 {password[at : at + size]}" for at in range(0, len(password), size)])
        assert set(cleaned) == {f"5.7.8 {MASK}"}, size


def test_an_encoded_password_in_pieces_on_several_lines_is_found() -> None:
    password = "correct horse battery"
    for blob in (base64.b64encode(password.encode()).decode(), password.encode().hex()):
        for size in range(1, 8):
            cleaned = cleaner(password).clean_lines([f"5.7.8 {blob[at : at + size]}" for at in range(0, len(blob) - len(blob) % 4, size)])
            assert sum(line == f"5.7.8 {MASK}" for line in cleaned) >= len(cleaned) - 2, (size, cleaned)


def test_lines_that_hold_nothing_stay_as_they_are() -> None:
    lines = ["5.7.8 Error: authentication failed:", "", "5.7.8 see https://provider.test/help", "5.7.8"]

    assert cleaner("Tr0ub4dor&3").clean_lines(lines) == lines and cleaner("x").clean_lines([]) == []


def test_a_redactor_learns_while_it_is_used() -> None:
    """One redactor serves all relays of a call, each in a thread of its own, and proofs are learnt during the login."""
    redactor = cleaner("Tr0ub4dor&3")
    failures: t.List[BaseException] = []
    done = threading.Event()

    def learn() -> None:
        try:
            for count in range(150):
                redactor.protect(f"user{count}", f"secret-number-{count}")
        except BaseException as exc:
            failures.append(exc)
        done.set()

    thread = threading.Thread(target=learn)
    thread.start()
    while not done.is_set():
        redactor.clean("nothing to be found in here " * 20)
    thread.join()

    assert not failures
    assert all(redactor.clean(f"<secret-number-{count}>") == f"<{MASK}>" for count in range(150))


def test_a_huge_access_token_costs_little_memory_and_time() -> None:
    token = "".join(random.Random(5).choices(string.ascii_letters + string.digits, k=12000))
    tracemalloc.start()
    redactor = knows_token(token)
    _current, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 8 * 1024 * 1024
    assert token[6000:6024] not in redactor.clean(token[5990:6040])


@pytest.mark.parametrize(
    ("password", "prepared"),
    [("I\u00adXyz\u00ad-code", "IXyz-code"), ("\u2168-\ufb01nal-\u00aa", "IX-final-a"), ("non\u00a0breaking", "non breaking")],
)
def test_a_password_that_the_server_prepared_is_found(password: str, prepared: str) -> None:
    """By SASLprep (RFC 4013), which is the server's part where the password itself is sent (RFC 4616 section 2)."""
    assert cleaner(password).clean(f"no {prepared}") == f"no {MASK}"
    assert cleaner(password).clean(f"no {base64.b64encode(prepared.encode()).decode()}") == f"no {MASK}"


def test_many_long_tokens_are_learned_soon_and_once() -> None:
    """Fifty relays with tokens of the usual size: what they cost is lost for the tests themselves."""
    source = random.Random(7)
    tokens = ["".join(source.choice(string.ascii_letters) for _count in range(1500)) for _token in range(50)]
    redactor = Redactor()
    started = time.process_time()
    for _each in range(3):
        for number, token in enumerate(tokens):
            redactor.protect(f"user{number}@example.org", None, token)
    assert time.process_time() - started < 6
    assert all(redactor.clean(token) == MASK for token in tokens)


@pytest.mark.parametrize("later", [("later@somewhere.test", None), (None, "secret of another")])
def test_what_is_learned_later_counts_for_a_reply_that_was_seen_before(later: t.Tuple[t.Optional[str], t.Optional[str]]) -> None:
    redactor = cleaner("correct horse battery")
    lines = ["who is", base64.b64encode(f"{later[0]} {later[1]}".encode()).decode()]
    assert redactor.clean_lines(lines) == lines
    redactor.protect(*later)
    assert redactor.clean_lines(lines) == ["who is", MASK]
