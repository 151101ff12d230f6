# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Tables whose entries are written in main.cf itself: ``static:`` and ``inline:`` (DATABASE_README).

What their names hold may be a password, as in ``smtp_sasl_password_maps = static:user:password``. So they are read here: as
an argument of postmap(1), each user of the host could see it. For the same reason messages call such a table by its type.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import split_list

_LITERAL = re.compile(r"(?:proxy:)*(static|inline):(.*)", re.DOTALL)
#: Every type of table that Postfix ever had (DATABASE_README).
_TYPES = re.compile(
    r"(?:proxy:)*(btree|cdb|cidr|dbm|environ|fail|hash|inline|internal|ldap|lmdb|memcache|mongodb|mysql|netinfo|nis|nisplus|pcre|pgsql|pipemap"
    r"|randmap|regexp|sdbm|socketmap|sqlite|static|tcp|texthash|unionmap|unix):"
)
_COMPOSITE = re.compile(r"(?:proxy:)*(randmap|pipemap|unionmap):")


class SyntaxFault(ValueError):
    """A table that Postfix can not read. The text quotes nothing of it."""


def is_literal(table: str) -> bool:
    return _LITERAL.fullmatch(table) is not None


def is_composite(table: str) -> bool:
    """Whether a table is made of others, or of values, that are named within its own name."""
    return _COMPOSITE.match(table) is not None


def has_type(table: str) -> bool:
    """Whether it is a table of any type. What is not may be a password in the wrong place."""
    return _TYPES.match(table) is not None


def shown(tables: str) -> str:
    """The tables of a parameter as messages may call them, without what is written into their names."""
    return ", ".join(_shown(table) for table in split_list(tables))


def _shown(table: str) -> str:
    match = _LITERAL.fullmatch(table) or _COMPOSITE.match(table)
    if match:
        return f"{match.group(1)}:..."
    return table if has_type(table) else "..."


def answers(table: str, keys: t.Sequence[str]) -> t.Dict[str, str]:
    """What a literal table has for keys. Raises SyntaxFault."""
    match = _LITERAL.fullmatch(table)
    if match is None:
        raise SyntaxFault("it is neither static: nor inline:")
    kind, text = match.groups()
    if kind == "static":
        return dict.fromkeys(keys, _without_braces(text))
    found = entries(table)
    return {key: found[key.lower()] for key in keys if key.lower() in found}


def entries(table: str) -> t.Dict[str, str]:
    """The entries of an ``inline:`` table by their keys in lower case; a ``static:`` one has no keys. Raises SyntaxFault."""
    match = _LITERAL.fullmatch(table)
    if match is None or match.group(1) == "static":
        return {}
    text = match.group(2)
    if not (text.startswith("{") and text.endswith("}")):
        raise SyntaxFault("it has no braces around its entries")
    found: t.Dict[str, str] = {}
    for entry in split_list(text[1:-1]):
        key, equals, value = _without_braces(entry).partition("=")
        if not equals or not key.strip():
            raise SyntaxFault("one of its entries is not of the form name = value")
        found[key.strip().lower()] = value.strip()
    return found


def _without_braces(text: str) -> str:
    """A text that holds blanks is written in braces."""
    return text[1:-1].strip() if text.startswith("{") and text.endswith("}") else text
