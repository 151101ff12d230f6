# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Lines of a credential table whose password is on the managed host and not with the caller."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import Fields, RelayError, credential_fault
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.secret_sources import read_credential, read_file

FIELDS = ("key", "username", "file", "credential", "name")

Sources = t.Mapping[str, t.Sequence[t.Mapping[str, t.Any]]]


def with_host_secrets(tables: t.Mapping[str, str], sources: Sources) -> t.Dict[str, str]:
    """Return the tables with a line ``key username:secret`` at the end for each source. Raises PostfixError naming the field."""
    filled = dict(tables)
    for table, entries in sources.items():
        if not isinstance(entries, (list, tuple)):
            raise PostfixError(f"secret_sources: {table!r} must be a list of dictionaries with {', '.join(FIELDS)}")
        lines = [_line(entry, f"secret_sources.{table}[{number}]") for number, entry in enumerate(entries)]
        content = filled.get(table, "")
        filled[table] = content + ("\n" if content and not content.endswith("\n") else "") + "".join(lines)
    return filled


def _line(entry: t.Any, place: str) -> str:
    try:
        if not isinstance(entry, dict):
            raise RelayError(place, f"must be a dictionary with {', '.join(FIELDS)}")
        fields = Fields(entry, place)
        fields.only(FIELDS, "a secret's source")
        return f"{_word(fields, 'key')} {_username(fields)}:{_secret(fields)}\n"
    except RelayError as error:
        raise PostfixError(str(error)) from None


def _word(fields: Fields, field: str) -> str:
    """A text without blanks. A key must not look like a comment either."""
    value = fields.text(field)
    if not value:
        raise fields.refuse(field, "is required")
    if credential_fault(value) or any(char.isspace() for char in value) or value.startswith("#"):
        raise fields.refuse(field, "can not be a key of a lookup table: it holds a blank or a control character, or starts with '#'")
    return value


def _username(fields: Fields) -> str:
    value = fields.credential("username")
    if value is None:
        raise fields.refuse("username", "is required")
    if ":" in value:
        raise fields.refuse("username", "holds a colon, which separates user name and password in Postfix's table")
    return value


def _secret(fields: Fields) -> str:
    path, credential = fields.path("file"), fields.text("credential")
    if (path is None) == (credential is None):
        raise fields.refuse("file", "or 'credential' is required, and not both")
    name = fields.text("name")
    if path is not None:
        return read_file(path, name or f"{fields.place}.file")
    return read_credential(t.cast(str, credential), name or f"{fields.place}.credential")
