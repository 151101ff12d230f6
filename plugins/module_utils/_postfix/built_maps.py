# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Lookup tables that Postfix does not read from their text, but from a file that postmap(1) builds beside it.

They are built in a generation that is not live yet, so nothing of an earlier build can be reused: postmap keeps the mode
of a file that exists, and one that is killed or has no space left leaves half a map. What came out, once it is known to
hold every entry, is remembered as a checksum. So each run can tell whether Postfix still reads what was built, and
asks no program for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.files import create_file, is_own, read_file
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.tables import BUILT_TYPES

#: The checksums of the maps of a generation. No table is called so: their names have no dot.
RECORD = "built.json"

#: The types of the tables to build, by name.
Types = t.Mapping[str, str]
#: Builds the map of a type beside the text at a path. Raises PostfixError.
Build = t.Callable[[str, str], None]


def file_name(table: str, map_type: str) -> str:
    return table + BUILT_TYPES[map_type]


def file_names(types: Types) -> t.Set[str]:
    """The files that a generation has because of these maps."""
    return {RECORD, *(file_name(*item) for item in types.items())} if types else set()


def type_of(table: str, names: t.Container[str]) -> str:
    """The type of the map that stands beside a table among the files ``names``; empty for none."""
    return next((map_type for map_type in BUILT_TYPES if file_name(table, map_type) in names), "")


def derived(names: t.Collection[str]) -> t.Set[str]:
    """Those of the files of a generation that are made from the others."""
    maps = {file_name(name, map_type) for name in names for map_type in [type_of(name, names)] if map_type}
    return {name for name in names if name in maps or name == RECORD}


def build_all(directory: str, types: Types, build: Build) -> None:
    """Build the map of each table in ``directory`` with the mode of its text. Raises PostfixError, OSError."""
    checksums = {}
    for table, map_type in types.items():
        source = os.path.join(directory, table)
        build(map_type, source)
        name = file_name(table, map_type)
        checksums[name] = _settle(os.path.join(directory, name), stat.S_IMODE(os.stat(source).st_mode))
    if types:
        create_file(os.path.join(directory, RECORD), json.dumps(checksums, indent=1, sort_keys=True).encode() + b"\n", 0o600)


def _settle(path: str, mode: int) -> str:
    """Make a map that was just built durable and return its checksum."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise PostfixError(f"postmap made no {os.path.basename(path)}") from None
    with os.fdopen(descriptor, "rb") as file:
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
        return hashlib.sha256(file.read()).hexdigest()


def intact(directory: str, table: str, map_type: str) -> bool:
    """Whether the map of a table is what was built, and not older than its text: Postfix would warn of it each time."""
    name = file_name(table, map_type)
    path, source = os.path.join(directory, name), os.path.join(directory, table)
    try:
        status = os.stat(source)
        if not is_own(path, stat.S_IMODE(status.st_mode)) or os.stat(path).st_mtime < status.st_mtime:
            return False
        return _recorded(directory).get(name) == hashlib.sha256(read_file(path) or b"").hexdigest()
    except OSError:
        return False


def described(directory: str) -> t.Dict[str, str]:
    """What there is of the maps in a generation, in words for a diff, by file name."""
    types = {suffix: map_type for map_type, suffix in BUILT_TYPES.items()}
    found = {}
    for name in sorted({*_recorded(directory), *os.listdir(directory)} if os.path.isdir(directory) else ()):
        table, suffix = os.path.splitext(name)
        if suffix in types:
            found[name] = as_built(table) if intact(directory, table, types[suffix]) else f"missing, or not as it was built from {table}\n"
    return found


def as_built(table: str) -> str:
    return f"built from {table}\n"


def _recorded(directory: str) -> t.Dict[str, str]:
    """The checksums by file name; none where the record is missing or damaged."""
    try:
        recorded = json.loads(read_file(os.path.join(directory, RECORD)) or b"{}")
    except ValueError:
        return {}
    return recorded if isinstance(recorded, dict) else {}
