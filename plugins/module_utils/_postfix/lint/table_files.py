# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""The lookup tables that a configuration names, and what for."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import split_list
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.instance import Assignment, Instance
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.table_types import Reference, parse_reference

ALIASES = ("alias_maps", "alias_database")
CREDENTIALS = ("smtp_sasl_password_maps", "lmtp_sasl_password_maps")
#: Tables that Postfix fills itself, and makes where they are missing.
_CACHES = re.compile(r"\w*(_cache_map|_cache_database|_cache_name|address_verify_map)")
#: Parameters that name nothing but tables, so that what is of no known type is of a wrong one.
_LOOKUPS = re.compile(r"\w+(_maps?|_checks|_database)")
#: Lists of tables that proxymap(8) may open, and that need not be there.
_PERMISSIONS = ("proxy_read_maps", "proxy_write_maps")
#: A map type that is no file, although its name may look so.
_NO_FILE = ("unix", "socketmap", "tcp")


class Table(t.NamedTuple):
    """A table, and the parameter that names it."""

    reference: Reference
    assignment: Assignment

    @property
    def path(self) -> str:
        """What postmap(1) calls it: the text that it is built from, if it is built."""
        return self.reference.path

    @property
    def type(self) -> str:
        return self.reference.type

    @property
    def file(self) -> str:
        return self.reference.file

    @property
    def parameter(self) -> str:
        return self.assignment.name

    @property
    def is_cache(self) -> bool:
        return _CACHES.fullmatch(self.parameter) is not None

    @property
    def command(self) -> str:
        """What builds it."""
        return "newaliases" if self.parameter in ALIASES else f"postmap {self.type}:{self.path}"

    def names(self) -> t.List[str]:
        file = self.path.rsplit("/", 1)[-1]
        # A list in main.cf may have tables of several owners, and only this one is at fault.
        shared = self.assignment.service is None and len(split_list(self.assignment.value)) > 1
        return [file] if shared else [file, *self.assignment.names()]


def tables(instance: Instance) -> t.List[Table]:
    """The tables that are files and that somebody set, each once for each parameter that Postfix itself has."""
    found = []
    for assignment in instance.assignments():
        value = instance.expanded(assignment) or ""
        of_postfix = assignment.name in instance.defaults and assignment.name not in _PERMISSIONS
        for word in split_list(value) if of_postfix and ":/" in value else []:
            reference = parse_reference(word)
            if reference is None or reference.type in _NO_FILE:
                continue
            if reference.is_known or _LOOKUPS.fullmatch(assignment.name):
                found.append(Table(reference, assignment))
    return found
