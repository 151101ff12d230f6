# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The text of lookup tables.

A table of type texthash, hash, lmdb or cdb has one ``key value`` per line (postmap(1), "TABLE FILE FORMAT"), a regexp
table has patterns (regexp_table(5)). Postfix reads texthash and regexp from the text itself. Both are built into every
Postfix and need no package. The text of the others is the source of a map that postmap(1) builds (built_maps.py).
smtp(8) and cleanup(8) open all of them as root before they enter the chroot.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import check_characters
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError

MASK = "********"

TEXTHASH, REGEXP = "texthash", "regexp"
#: The types that postmap(1) builds a file for, and how the name of this file ends.
BUILT_TYPES = {"hash": ".db", "lmdb": ".lmdb", "cdb": ".cdb"}
TABLE_TYPES = (TEXTHASH, REGEXP, *BUILT_TYPES)

_TABLE_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


def check_table(name: str, content: str, table_type: str) -> None:
    """Raise PostfixError for a table that Postfix would not read as it is meant.

    Messages name the table and the line, never what is in it: a line may hold a password.
    """
    if not _TABLE_NAME.match(name):
        raise PostfixError(f"tables: {name!r} is no name for a table; use a-z, 0-9 and '_', starting with a letter")
    check_characters(content, f"table {name}")
    if table_type != REGEXP:
        parse_table(name, content)


def parse_table(name: str, content: str) -> t.Dict[str, str]:
    """Return the entries of a table with keys. Raises PostfixError for anything that would not be read back unchanged."""
    entries: t.Dict[str, str] = {}
    seen: t.Set[str] = set()
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip(" \t") or line.startswith("#"):
            continue
        key, value = _entry(line, f"table {name}: line {number}")
        if key.lower() in seen:  # Postfix folds the case of keys and silently uses the first of two
            raise PostfixError(f"table {name}: line {number} repeats the key of an earlier line")
        seen.add(key.lower())
        entries[key] = value
    return entries


def _entry(line: str, place: str) -> t.Tuple[str, str]:
    if line[0] in " \t":
        raise PostfixError(f"{place} starts with a blank, so Postfix would join it to the line above")
    if line[-1] in " \t":
        raise PostfixError(f"{place} ends with a blank, which Postfix would cut off")
    key, value = (re.split(r"[ \t]+", line, maxsplit=1) + [""])[:2]
    if not value:
        raise PostfixError(f"{place} has a key but no value")
    if '"' in key or "\\" in key or key.endswith(":"):
        raise PostfixError(f"{place} has a key with a quote, a backslash or a colon at its end, which Postfix would read differently")
    return key, value


def masked_table(content: str, other: t.Optional[str]) -> str:
    """Return a secret table for a diff: its keys, each with a mask; a mark where ``other`` has the key with another value."""
    theirs = _loose_entries(other or "")
    lines = []
    for key, value in _loose_entries(content).items():
        mark = " (changed)" if key in theirs and theirs[key] != value else ""
        lines.append(f"{key} {MASK}{mark}\n")
    return "".join(lines)


def _loose_entries(content: str) -> t.Dict[str, str]:
    """The entries of a table that may be damaged."""
    lines = [line for line in content.split("\n") if line.strip() and not line.startswith("#")]
    return dict((re.split(r"[ \t]+", line, maxsplit=1) + [""])[:2] for line in lines)
