# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Lines of a table's text that postmap(1) passes over with a warning at most, and that therefore are not in the table."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import Finding, finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.instance import Instance
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.table_files import ALIASES, tables
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.table_types import BUILT

#: Characters that are read of one text; a table of a large site may have millions of lines.
MAX_READ = 1 << 20
_SHOWN_LINES = 10


def check(instance: Instance) -> t.Iterator[Finding]:
    aliases = {table.path for table in tables(instance) if table.parameter in ALIASES}
    texts = {table.path: table for table in tables(instance) if table.type in (*BUILT, "texthash") and not table.is_cache}
    for path, table in texts.items():
        if path in aliases:
            continue  # aliases(5) has a format of its own
        doubled, empty = _faults(_text(path))
        file, names = os.path.basename(path), table.names()
        # Lines are told by their number: a line of a wrong form may hold a password anywhere.
        if doubled:
            yield finding("lint_table_duplicate_key", f"{file}:{doubled[0]}", f"{_listed(doubled)} of {path} has a key that is there already", names)
        if empty:
            yield finding("lint_table_no_value", f"{file}:{empty[0]}", f"{_listed(empty)} of {path} has a key and no value", names)


def _text(path: str) -> str:
    if not os.path.isfile(path):
        return ""  # a named pipe would be waited for
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            text = file.read(MAX_READ)
    except OSError:
        return ""
    return text if len(text) < MAX_READ else text.rpartition("\n")[0]  # half a line has no value


def _faults(text: str) -> t.Tuple[t.List[int], t.List[int]]:
    """The numbers of lines with a key that an earlier line has, and of those without a value."""
    doubled, empty, seen = [], [], set()
    for number, entry in _entries(text):
        words = entry.split(None, 1)
        if len(words) < 2:
            empty.append(number)
            continue
        key = words[0].lower()
        if key in seen:
            doubled.append(number)
        seen.add(key)
    return doubled, empty


def _entries(text: str) -> t.Iterator[t.Tuple[int, str]]:
    """Each logical line with the number of the line that it begins at (postmap(1), "TABLE FORMAT")."""
    begun = 0
    parts: t.List[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] not in " \t":
            if parts:
                yield begun, " ".join(parts)
            begun, parts = number, []
        parts.append(line.strip())
    if parts:
        yield begun, " ".join(parts)


def _listed(numbers: t.Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:_SHOWN_LINES])
    rest = len(numbers) - _SHOWN_LINES
    return f"line {shown}" + (f" (and {rest} more)" if rest > 0 else "")
