# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Takes credentials out of text that a server wrote, in every form in which SMTP and careless servers carry them.

Ansible's ``no_log`` masks the plain password only. SMTP sends ``base64("\\0user\\0password")``, and some servers quote
what they got in their reply. Base64 of a text looks different at each of three alignments, so all three are known here.
"""

from __future__ import annotations

import base64
import html
import json
import quopri
import urllib.parse

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import printable

MASK = "********"

_WINDOW = 8
"""Characters of base64 or hex that are enough to recognise a secret, so that a blob cut in pieces is found, too."""
_SHORTEST = 4
"""A shorter piece of an encoding would match ordinary words."""
_INDEXED = 2048
"""Octets of a secret whose encodings are known; a longer one is recognised by its beginning. Bounds the memory."""
_BLOB = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-")


class Redactor:
    """Knows secrets; :meth:`clean` masks them."""

    def __init__(self) -> None:
        self._plain: set[str] = set()
        self._pieces: dict[int, set[str]] = {}

    def protect(self, username: str | None, password: str | None) -> None:
        """Mask *password* in any form, and encoded forms of *username* (which is no secret when it is readable)."""
        if username:
            self._add_encodings(username)
        if password:
            self._add_encodings(password)
            self._plain |= _spellings(password)

    def clean(self, text: str) -> str:
        """Return *text* with each secret replaced by :data:`MASK`."""
        spans = self._plain_spans(text) + self._encoded_spans(text)
        for start, end in reversed(_merged(spans)):
            text = text[:start] + MASK + text[end:]
        return text

    def _add_encodings(self, secret: str) -> None:
        raw = secret.encode("utf-8", "surrogatepass")[:_INDEXED]
        encodings = [raw.hex(), raw.hex().upper()]
        for alignment in range(3):
            piece = _base64_core(raw, alignment)
            encodings += [piece, piece.replace("+", "-").replace("/", "_")]
        for encoding in encodings:
            size = min(_WINDOW, len(encoding))
            if size >= _SHORTEST:
                known = self._pieces.setdefault(size, set())
                known.update(encoding[at : at + size] for at in range(len(encoding) - size + 1))

    def _plain_spans(self, text: str) -> list[tuple[int, int]]:
        spans = []
        for secret in self._plain:
            at = text.find(secret)
            while at >= 0:
                spans.append((at, at + len(secret)))
                at = text.find(secret, at + 1)
        return spans

    def _encoded_spans(self, text: str) -> list[tuple[int, int]]:
        spans = []
        for size, known in self._pieces.items():
            at = 0
            while at <= len(text) - size:
                if text[at : at + size] in known:
                    spans.append(_whole_blob(text, at, at + size))
                    at = spans[-1][1]
                else:
                    at += 1
        return spans


def _spellings(secret: str) -> set[str]:
    """The secret as readable text: as it is, and as common code would quote it."""
    spellings = {
        secret,
        secret.upper(),
        secret.lower(),
        printable(secret),
        ascii(secret)[1:-1],  # the escapes of printable() for Latin-1, too
        repr(secret.encode("utf-8"))[2:-1],
        html.escape(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        quopri.encodestring(secret.encode("utf-8")).decode("ascii"),
        secret.replace("\\", "\\\\").replace('"', '\\"'),
        secret.encode("utf-8").decode("latin-1"),
        base64.b64encode(secret.encode("utf-8")).decode("ascii"),
    }
    for quote in (urllib.parse.quote, urllib.parse.quote_plus):
        for safe in ("", "/"):
            quoted = quote(secret, safe=safe)
            spellings |= {quoted, _lower_escapes(quoted)}
    return spellings


def _lower_escapes(quoted: str) -> str:
    """``%2F`` as ``%2f``."""
    parts = quoted.split("%")
    return "%".join(parts[:1] + [part[:2].lower() + part[2:] for part in parts[1:]])


def _base64_core(raw: bytes, alignment: int) -> str:
    """What *raw* alone decides in the base64 of any text that has it at an offset of *alignment* (modulo 3)."""
    encoded = base64.b64encode(b"\0" * alignment + raw).decode("ascii")
    return encoded[-(-8 * alignment // 6) : 8 * (alignment + len(raw)) // 6]


def _whole_blob(text: str, start: int, end: int) -> tuple[int, int]:
    """Widen a match to the whole encoded word around it: the characters beside it carry bits of the secret, too."""
    while start > 0 and text[start - 1] in _BLOB:
        start -= 1
    while end < len(text) and text[end] in _BLOB:
        end += 1
    return start, end


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
