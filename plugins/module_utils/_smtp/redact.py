# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Takes credentials out of text that a server wrote, in every form in which SMTP and careless servers carry them.

Ansible's ``no_log`` masks the plain password only. SMTP sends ``base64("\\0user\\0password")``, and some servers quote
what they got in their reply. Base64 of a text looks different at each of three alignments, so all three are known here.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import printable

MASK = "********"

_WINDOW = 8
"""Characters of base64 or hex that are enough to recognise a secret, so that a blob cut in pieces is found, too."""
_TOKEN_WINDOW = 12
"""Characters of an access token itself; fewer may be the base64 of words that any server writes."""
_SHORTEST = 4
"""A shorter piece of an encoding would match ordinary words."""
_INDEXED = 16384
"""Octets of a secret whose encodings are known; a longer one is recognised by its beginning. Bounds the memory."""
_DENSE = 4096
"""Characters of an encoding up to which each piece of it is known; of a longer one, pieces side by side."""
_ENHANCED_CODE = re.compile(r"[245]\.\d{1,3}\.\d{1,3} ", re.ASCII)
_BLOB = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-")
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
_JSON = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~")
"""RFC 3986 section 2.3."""

Span = t.Tuple[int, int]


class Redactor:
    """Knows secrets; :meth:`clean` masks them. Threads may share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Replaced, never changed: another thread may be going through them. The sets of pieces only grow.
        self._plain: frozenset[str] = frozenset()
        self._pieces: dict[int, set[str]] = {}
        self._protected: set[tuple[str | None, ...]] = set()
        self._version = 0
        self._cleaned = threading.local()

    def protect(self, username: str | None, password: str | None, access_token: str | None = None) -> None:
        """Mask *password* and *access_token* in any form, and encoded forms of *username* (readable, it is no secret)."""
        if (username, password, access_token) in self._protected:
            return
        passwords = [password, _prepared(password)] if password else []
        for secret in (username, *passwords, access_token):
            if secret:
                self._learn_encodings(secret)
        for secret in (*passwords, access_token):
            if secret:
                self._learn(_spellings(secret), {})
        if access_token:
            self._learn(set(), {_TOKEN_WINDOW: _windows(access_token, _TOKEN_WINDOW)})
        with self._lock:
            self._protected.add((username, password, access_token))

    def clean(self, text: str) -> str:
        """Return *text* with each secret replaced by :data:`MASK`."""
        return _masked(text, self._plain_spans(text) + _widened(text, self._encoded_spans(text)))

    def clean_lines(self, lines: t.Sequence[str]) -> list[str]:
        """The lines of one reply, cleaned: each by itself, and what runs on from one into the next."""
        # A reply is cleaned for the dialogue and again for whoever reads it.
        known = (self._version, list(lines))
        if getattr(self._cleaned, "known", None) != known:
            self._cleaned.known, self._cleaned.lines = known, self._clean_lines(lines)
        return list(self._cleaned.lines)

    def _clean_lines(self, lines: t.Sequence[str]) -> list[str]:
        if len(lines) < 2:
            return [self.clean(line) for line in lines]
        heads = [_ENHANCED_CODE.match(line) for line in lines]
        begins = [head.end() if head else 0 for head in heads]
        joined = "".join(line[begin:] for line, begin in zip(lines, begins))
        plain, encoded = _merged(self._plain_spans(joined)), _merged(self._encoded_spans(joined))
        cleaned, offset = [], 0
        for line, begin in zip(lines, begins):
            window = (offset, offset + len(line) - begin)
            offset = window[1]
            shift = begin - window[0]
            spans = _within(plain, window, shift) + _widened(line, _within(encoded, window, shift))
            cleaned.append(self.clean(_masked(line, spans)))
        return cleaned

    def _learn(self, plain: set[str], pieces: dict[int, set[str]]) -> None:
        with self._lock:
            self._plain |= plain
            known = dict(self._pieces)
            for size, windows in pieces.items():
                known.setdefault(size, set()).update(windows)
            self._pieces = known
            self._version += 1

    def _learn_encodings(self, secret: str) -> None:
        raw = secret.encode("utf-8", "surrogatepass")[:_INDEXED]
        encodings = [raw.hex(), raw.hex().upper()]
        for alignment in range(3):
            piece = _base64_core(raw, alignment)
            encodings += [piece, piece.replace("+", "-").replace("/", "_")]
        pieces: dict[int, set[str]] = {}
        for encoding in encodings:
            size = min(_WINDOW, len(encoding))
            if size >= _SHORTEST:
                pieces.setdefault(size, set()).update(_windows(encoding, size))
        self._learn(set(), pieces)

    def _plain_spans(self, text: str) -> list[Span]:
        spans = []
        for secret in self._plain:
            at = text.find(secret)
            while at >= 0:
                spans.append((at, at + len(secret)))
                at = text.find(secret, at + 1)
        return spans

    def _encoded_spans(self, text: str) -> list[Span]:
        spans = []
        for size, known in self._pieces.items():
            for at in range(len(text) - size + 1):
                if text[at : at + size] in known:
                    spans.append((at, at + size))
        return spans


def _prepared(password: str) -> str:
    """The password as a server may have prepared it (RFC 4616 section 2); empty if it can not be prepared."""
    if password.isascii():
        return ""
    # Imported here, as in late.py: few passwords need it.
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl import saslprep

    try:
        return saslprep.prepare(password, stored=False)
    except ValueError:
        return ""


def _windows(text: str, size: int) -> set[str]:
    """Pieces of *text*, of which any run of twice their *size* has one."""
    step = 1 if len(text) <= _DENSE else size
    return {text[at : at + size] for at in range(0, len(text) - size + 1, step)}


def _spellings(secret: str) -> set[str]:
    """The secret as readable text: as it is, and as common code would quote it.

    Written out where the standard library has it in modules (html, json, urllib.parse) that take milliseconds to import.
    """
    spellings = {
        secret,
        secret.upper(),
        secret.lower(),
        printable(secret),
        ascii(secret)[1:-1],  # the escapes of printable() for Latin-1, too
        repr(secret.encode("utf-8"))[2:-1],
        secret.translate(_HTML),
        _in_json(secret, "~"),
        _in_json(secret, "\U0010ffff"),
        repr(secret)[1:-1],
        binascii.b2a_qp(secret.encode("utf-8")).decode("ascii"),
        secret.replace("\\", "\\\\").replace('"', '\\"'),
        secret.encode("utf-8").decode("latin-1"),
        base64.b64encode(secret.encode("utf-8")).decode("ascii"),
    }
    for safe in (b"", b"/"):
        quoted = _percent_encoded(secret, safe)
        for spelling in (quoted, quoted.replace("%20", "+")):
            spellings |= {spelling, _lower_escapes(spelling)}
    return spellings


def _in_json(secret: str, last: str) -> str:
    """By RFC 8259 section 7, with all characters after *last* escaped."""
    return "".join(char if " " <= char <= last and char not in _JSON else _json_escape(char) for char in secret)


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return _JSON.get(char) or "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _percent_encoded(secret: str, safe: bytes) -> str:
    """By RFC 3986 section 2.1; the octets of *safe* stay as they are."""
    return "".join(chr(octet) if octet in _UNRESERVED or octet in safe else f"%{octet:02X}" for octet in secret.encode("utf-8"))


def _lower_escapes(quoted: str) -> str:
    """``%2F`` as ``%2f``."""
    parts = quoted.split("%")
    return "%".join(parts[:1] + [part[:2].lower() + part[2:] for part in parts[1:]])


def _base64_core(raw: bytes, alignment: int) -> str:
    """What *raw* alone decides in the base64 of any text that has it at an offset of *alignment* (modulo 3)."""
    encoded = base64.b64encode(b"\0" * alignment + raw).decode("ascii")
    return encoded[-(-8 * alignment // 6) : 8 * (alignment + len(raw)) // 6]


def _whole_blob(text: str, start: int, end: int) -> Span:
    """Widen a match to the whole encoded word around it: the characters beside it carry bits of the secret, too."""
    while start > 0 and text[start - 1] in _BLOB:
        start -= 1
    while end < len(text) and text[end] in _BLOB:
        end += 1
    return start, end


def _widened(text: str, spans: list[Span]) -> list[Span]:
    blobs: list[Span] = []
    for start, end in _merged(spans):
        if not blobs or end > blobs[-1][1]:
            blobs.append(_whole_blob(text, start, end))
    return blobs


def _within(spans: list[Span], window: Span, shift: int) -> list[Span]:
    """The parts of *spans* that lie in *window*, moved by *shift*."""
    parts = ((max(start, window[0]), min(end, window[1])) for start, end in spans)
    return [(start + shift, end + shift) for start, end in parts if start < end]


def _masked(text: str, spans: list[Span]) -> str:
    for start, end in reversed(_merged(spans)):
        text = text[:start] + MASK + text[end:]
    return text


def _merged(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
