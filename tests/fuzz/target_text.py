# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials: how they are prepared, what a token says of itself, and that no text gives them away."""

from __future__ import annotations

import base64
import datetime
import json
import stringprep
import typing as t

from hostile import encodings
from source import Source

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.diagnoses import BY_CODE
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.redact import MASK, Redactor
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl import oauth_token, saslprep

NOW = datetime.datetime(2026, 11, 23, tzinfo=datetime.timezone.utc)
_SIGNATURE = "~c2lnbmF0dXJl~"
_TEXTS = ("issuer", "account", "application")
_LISTS = ("audience", "scopes", "roles")
_USERNAME = "alerts@provider.test"

# -- preparation -------------------------------------------------------------------------------------------------------


def preparations(data: bytes) -> None:
    """SASLprep gives a text that it leaves as it is, or says without quoting why it can not."""
    text = data.decode("utf-8", "surrogateescape")
    queried, stored = _prepared(text, False), _prepared(text, True)
    assert stored in (None, queried)
    for prepared, as_stored in ((queried, False), (stored, True)):
        if prepared is not None:
            assert _prepared(prepared, as_stored) == prepared
            assert not any(map(_prohibited, prepared))
    if text.isascii() and text.isprintable():
        assert stored == text


def _prepared(text: str, stored: bool) -> t.Optional[str]:
    try:
        return saslprep.prepare(text, stored)
    except ValueError as exc:
        assert str(exc).isascii() and (len(text) < 20 or text not in str(exc))
        return None


def _prohibited(char: str) -> bool:
    """RFC 4013 section 2.3, but for unassigned code points."""
    tables = (stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c5, stringprep.in_table_c8)
    return any(table(char) for table in tables)


# -- tokens ------------------------------------------------------------------------------------------------------------


def tokens(data: bytes) -> None:
    """Looking into a token raises nothing, says nothing of its signature, and finds complaints of the catalogue only."""
    source = Source(data)
    parts = [source.text(300), source.text(300), _SIGNATURE][source.number(2) :]
    if source.boolean():
        parts = [base64.urlsafe_b64encode(part.encode("utf-8", "surrogateescape")).rstrip(b"=").decode() for part in parts[:-1]] + parts[-1:]
    facts = oauth_token.inspect(".".join(parts), NOW)
    assert facts["kind"] in ("jwt", "opaque")
    assert all(facts[name] is None or (isinstance(facts[name], str) and facts[name].isprintable()) for name in _TEXTS)
    assert all(isinstance(text, str) and text.isprintable() for name in _LISTS for text in facts[name])
    assert facts["kind"] == "jwt" or not any(facts[name] for name in facts if name != "kind")
    assert isinstance(facts["expired"], bool) and isinstance(facts["not_yet_valid"], bool)
    found = oauth_token.complaints(facts, source.choice((None, "", _USERNAME)), source.choice(("", "microsoft365", "gmail")))
    assert all(code in BY_CODE and sentence.isprintable() for code, sentence in found)
    assert {"oauth_token_expired"} & {code for code, _sentence in found} == ({"oauth_token_expired"} if facts["expired"] else set())
    assert _SIGNATURE not in json.dumps([facts, found])


# -- secrets -----------------------------------------------------------------------------------------------------------


def secrets(data: bytes) -> None:
    """No encoding of a password gets through, whatever is around it, and text that has nothing to do with it does."""
    source = Source(data)
    password = source.octets(64).decode("utf-8", "ignore")
    redactor = Redactor()
    redactor.protect(_USERNAME, password)
    plain = source.text(60)
    if not _related(plain, password):
        assert redactor.clean(plain) == plain
        assert redactor.clean_lines([plain[:9], plain[9:]]) == [plain[:9], plain[9:]]
    forms = [password, *sorted(form for form in encodings(password) - {password[::-1]} if len(form) >= 8)]
    if not password or set(password) & set(MASK):
        return  # what is left beside a mask may look like such a password
    text = ""
    for _count in range(1 + source.number(4)):
        text += source.choice((" ", "", "=", "x")) + source.choice([*forms, source.text()])
    cleaned = redactor.clean(text)
    assert not [form for form in forms if form in cleaned], (password, text, cleaned)
    at = source.number(len(text) + 1)
    lines = redactor.clean_lines([text[:at], text[at:]])
    assert not [form for form in forms if form in "".join(lines)], (password, text, at, lines)


def _related(text: str, password: str) -> bool:
    """Whether *text* has anything that could be a piece of the password or of an encoding of password or user name."""
    if any(char in text for char in password):
        return True
    pieces: t.Set[str] = set()
    for secret in filter(None, (password, _USERNAME)):
        raw = secret.encode("utf-8")
        forms = [raw.hex(), raw.hex().upper()]
        forms += [base64.b64encode(b"\0" * shift + raw, altchars).decode() for shift in range(3) for altchars in (b"+/", b"-_")]
        pieces |= {form[at : at + 4] for form in forms for at in range(len(form) - 3)}
    # Escapes of all spellings begin with one of these.
    return any(piece in text for piece in pieces) or any(char in text for char in "\\%&=") or not text.isascii()
