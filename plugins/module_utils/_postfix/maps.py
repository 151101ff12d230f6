# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Lookups in tables of any type, done by postmap(1), so that they find what Postfix finds.

Keys go in by standard input and values come out by standard output: neither is ever an argument of a program, since a
table may hold passwords.
"""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import literal_tables
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import split_list
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Run, complaint

#: Entries that are read of a table at most; nobody has more relays, and a table of recipients may have millions.
MAX_ENTRIES = 1000


#: Types whose entries are patterns: Postfix asks them for whole keys only, never for a part of an address.
_PATTERN_TYPES = ("regexp", "pcre", "cidr", "tcp", "socketmap")


class MapError(Exception):
    """A table that can not be asked, with what Postfix says about it."""

    def __init__(self, table: str, reason: str) -> None:
        self.table = literal_tables.shown(table)
        super().__init__(f"{self.table}: {reason}")
        self.reason = reason


class Found(t.NamedTuple):
    """What a lookup came to, the key that was found and the table that it is in (as messages call it)."""

    key: str
    table: str
    value: str

    def __repr__(self) -> str:
        """Without the value, which may be a password: a traceback or a debugger may show it."""
        return f"Found({self.key!r}, {self.table!r}, ...)"


class Maps:
    """The tables of one Postfix instance."""

    def __init__(self, config_directory: str, run: Run) -> None:
        self._config_directory = config_directory
        self._run = run
        self._known: t.Dict[t.Tuple[str, str], t.Optional[str]] = {}
        self._broken: t.Dict[str, str] = {}

    def find(self, tables: str, keys: t.Sequence[str], partial: t.Container[str] = ()) -> t.Optional[Found]:
        """Look the first key up in one table after the other, then the next key.

        ``tables`` is the value of a parameter such as ``smtp_sasl_password_maps``. Keys in ``partial`` are parts of an
        address, which tables of patterns are not asked for. Raises MapError for a table that is in the way and can not
        be asked; Postfix defers the mail then.
        """
        for key in keys:
            for table in split_list(tables):
                if key in partial and _type(table) in _PATTERN_TYPES:
                    continue
                value = self._query(table, key, keys)
                if value is not None:
                    return Found(key, literal_tables.shown(table), value)
        return None

    def known_keys(self, tables: str, keys: t.Sequence[str]) -> t.List[str]:
        """Those of ``keys`` that a readable table has."""
        found = []
        for key in keys:
            try:
                if self.find(tables, [key]):
                    found.append(key)
            except MapError:
                continue
        return found

    def preload(self, tables: str, keys: t.Sequence[str]) -> None:
        """Ask each table for all keys at once, so that later lookups of them start no further program."""
        for table in split_list(tables):
            try:
                self._query(table, keys[0], keys)
            except MapError:
                continue

    def entries(self, table: str) -> t.Dict[str, str]:
        """The first entries of a table; empty for a type that can not be listed, such as regexp."""
        if literal_tables.is_literal(table):
            return _literal_entries(table)
        if not literal_tables.has_type(table):
            return {}
        result = self._run(["postmap", "-c", self._config_directory, "-s", table], "")
        # A table with more than anybody wants to read was cut (see run_program), and its beginning is good.
        lines = result.out.split("\n", MAX_ENTRIES)[:MAX_ENTRIES]
        return dict(_key_and_value(line) for line in lines if "\t" in line)

    def _query(self, table: str, key: str, keys: t.Sequence[str]) -> t.Optional[str]:
        if (table, key) not in self._known and table not in self._broken:
            self._ask(table, [one for one in keys if (table, one) not in self._known])
        if (table, key) not in self._known:
            raise MapError(table, self._broken[table])
        return self._known[table, key]

    def _ask(self, table: str, keys: t.Sequence[str]) -> None:
        if literal_tables.is_literal(table):
            self._read(table, keys)
            return
        if _type(table) == "fail":  # DATABASE_README; postmap(1) sleeps for a second before it says so
            self._broken[table] = "every lookup in a table of this type fails"
            return
        if not literal_tables.has_type(table):  # postmap(1) would take it for a file of its default type, which Postfix does not
            self._broken[table] = "it has no type of table before it, such as hash:"
            return
        asked = [key for key in keys if key and "\n" not in key]
        result = self._run(["postmap", "-c", self._config_directory, "-q", "-", table], "".join(f"{key}\n" for key in asked))
        answers = dict(_key_and_value(line) for line in result.out.split("\n") if "\t" in line)
        # An exit status of 1 without a word means that no key was found.
        if result.rc != 0 and any(word in result.err for word in ("fatal:", "error:", "unavailable")):
            self._broken[table] = complaint(result._replace(err=_without_warnings(result.err)))
            self._known.update({(table, key): value for key, value in answers.items()})
            return
        self._known.update({(table, key): answers.get(key) for key in keys})

    def _read(self, table: str, keys: t.Sequence[str]) -> None:
        try:
            answers = literal_tables.answers(table, keys)
        except literal_tables.SyntaxFault as error:
            self._broken[table] = str(error)
            return
        self._known.update({(table, key): answers.get(key) for key in keys})


def _without_warnings(err: str) -> str:
    """Warnings are about single lines of a table, and quote them."""
    return "\n".join(line for line in err.splitlines() if "warning:" not in line)


def _literal_entries(table: str) -> t.Dict[str, str]:
    try:
        return literal_tables.entries(table)
    except literal_tables.SyntaxFault:
        return {}


def address_keys(address: str, delimiters: str, local: t.Callable[[str], bool]) -> t.List[str]:
    """What Postfix looks up for a mail address, in this order (canonical(5), "TABLE SEARCH ORDER" and "ADDRESS EXTENSION").

    All but the first are parts of the address. ``local`` tells whether a domain is one that this host delivers for.
    """
    user, at, domain = address.rpartition("@")
    if not at:
        return [address]
    bare = _without_extension(user, delimiters)
    users = [user] if bare == user else [user, bare]
    keys = [f"{name}@{domain}" for name in users]
    if local(domain):
        keys += users
    return [*keys, f"@{domain}"]


def _without_extension(user: str, delimiters: str) -> str:
    """``user+extension`` without the extension; a user that starts with a delimiter has none."""
    positions = [user.find(char, 1) for char in delimiters if user.find(char, 1) > 0]
    return user[: min(positions)] if positions else user


def _type(table: str) -> str:
    """The type of a table, also of one that is reached through proxymap(8)."""
    kind = table.partition(":")[0]
    return _type(table.partition(":")[2]) if kind == "proxy" else kind


def _key_and_value(line: str) -> t.Tuple[str, str]:
    key, _tab, value = line.partition("\t")
    return key, value
