# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes text from a peer safe to print: no control byte reaches a terminal or a log."""

from __future__ import annotations

import datetime

MAX_SHOWN = 256
"""Characters of one line that are shown; the rest is cut, and the cut is marked."""


def printable(raw: bytes | str) -> str:
    """Return *raw* with every byte or character that is not printable written as an escape (``\\x1b``, ``\\u202e``).

    Bytes that are not UTF-8 become ``\\xNN``. Printable is what :meth:`str.isprintable` says, so C0, C1, DEL, line
    separators and bidirectional controls are all escaped.
    """
    text = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    point = ord(char)
    if point <= 0xFF:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


def shorten(text: str, limit: int = MAX_SHOWN) -> str:
    """Return *text* cut to *limit* characters, with the number of characters left out at its end."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}... ({len(text) - limit} more characters)"


def timestamp(moment: datetime.datetime) -> str:
    """ISO 8601 in UTC, to the second."""
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
