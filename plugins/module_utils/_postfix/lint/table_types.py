# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""How a value names a table that is a file, and which file Postfix reads for it (DATABASE_README)."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.literal_tables import is_composite
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.tables import BUILT_TYPES

#: Types that postmap(1) builds from a text beside it, with what it appends to the name.
BUILT = {**BUILT_TYPES, "btree": ".db", "dbm": ".pag", "sdbm": ".pag"}
#: Types that are read from their text.
TEXT = ("texthash", "regexp", "pcre", "cidr")
#: Types whose file says how to reach a server or a database.
CLIENT = ("ldap", "mysql", "pgsql", "sqlite", "mongodb", "memcache")
#: Types that are no files here, but ask a server each time.
REMOTE = ("ldap", "mysql", "pgsql", "mongodb", "memcache", "tcp", "socketmap", "nis", "nisplus")

_SERVER = re.compile(rf"(?:\A|[{{,\s:])({'|'.join(REMOTE)}):")
_REFERENCE = re.compile(r"(?P<proxy>(?:proxy:)*)(?P<type>[a-z0-9_]+):(?P<path>/.*)")


class Reference(t.NamedTuple):
    """``proxied`` means that proxymap(8) opens the table, which is not root."""

    type: str
    path: str
    proxied: bool

    @property
    def file(self) -> str:
        """The file that Postfix reads."""
        return self.path + BUILT.get(self.type, "")

    @property
    def is_known(self) -> bool:
        return self.type in (*BUILT, *TEXT, *CLIENT)


def asks_a_server(table: str) -> bool:
    """Whether a table asks a server, or is made of others (unionmap, pipemap, randmap) of which one does."""
    return (_SERVER.search if is_composite(table) else _SERVER.match)(table) is not None


def parse_reference(word: str) -> t.Optional[Reference]:
    """Take ``type:/path`` apart; None for what is no table, or one that is no file."""
    match = _REFERENCE.fullmatch(word)
    return Reference(match["type"], match["path"], bool(match["proxy"])) if match else None
