# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SASLprep (RFC 4013): makes what people type the same octets on both ends, whatever the keyboard composed them of."""

from __future__ import annotations


def prepare(text: str, stored: bool) -> str:
    """Return *text* as SASLprep has it. Raises :class:`ValueError`, whose words do not quote *text*.

    A *stored* string (a password) must not hold code points that Unicode 3.2 did not assign; a query (a user name) may.
    """
    if text.isascii():
        # Nothing is mapped, normalised or written from right to left; only controls are prohibited.
        if any(char < " " or char == "\x7f" for char in text):
            raise ValueError("it holds a control character")
        return text
    return _prepare(text, stored)


def _prepare(text: str, stored: bool) -> str:
    # Imported here: these tables are large, and almost nobody needs them.
    import stringprep
    import unicodedata

    kept = (char for char in text if not stringprep.in_table_b1(char))  # RFC 4013 section 2.1
    mapped = "".join(" " if stringprep.in_table_c12(char) else char for char in kept)
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)  # section 2.2
    prohibited = (
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
    )  # section 2.3
    if any(is_prohibited(char) for char in prepared for is_prohibited in prohibited):
        raise ValueError("it holds a character that SASLprep (RFC 4013) prohibits")
    if stored and any(stringprep.in_table_a1(char) for char in prepared):
        raise ValueError("it holds a character newer than Unicode 3.2, which SASLprep (RFC 4013) does not know")
    if any(stringprep.in_table_d1(char) for char in prepared):  # section 2.4, RFC 3454 section 6
        ends = stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])
        if not ends or any(stringprep.in_table_d2(char) for char in prepared):
            raise ValueError("it mixes directions of writing in a way that SASLprep (RFC 4013) prohibits")
    return prepared
