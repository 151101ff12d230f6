# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Tables that Postfix can not ask, or that do not hold what their text says."""

from __future__ import annotations

import os
import pwd
import stat
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import Finding, finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.instance import Instance
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.table_files import Table, tables
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.table_types import BUILT

#: Types that Berkeley DB makes, which some distributions have left out (NON_BERKELEYDB_README).
_BERKELEY = ("hash", "btree")


def check(instance: Instance) -> t.Iterator[Finding]:
    for table in tables(instance):
        if table.type not in instance.table_types and instance.table_types:
            yield _no_such_type(instance, table)
        elif not table.is_cache:
            yield from _of_file(instance, table)


def _no_such_type(instance: Instance, table: Table) -> Finding:
    found = f"{table.parameter} names {table.type}:{table.path}, and this Postfix has no tables of type {table.type}"
    if table.type in _BERKELEY:
        default = instance.parameters.get("default_database_type")
        remedy = f"This Postfix comes without Berkeley DB: build the table as {default} and name it {default}:{table.path}, or use texthash."
    else:
        packages = " and ".join(instance.platform.package_names([table.type]))
        remedy = f"Install {packages}, or use a type that 'postconf -m' lists."
    return finding("lint_table_type", table.assignment.place, found, table.names(), remedy=remedy)


def _of_file(instance: Instance, table: Table) -> t.Iterator[Finding]:
    place, names = table.assignment.place, table.names()
    try:
        status = os.stat(table.file)
    except PermissionError:
        yield not_read(table.file, names)
        return
    except OSError:
        yield _missing(table)
        return
    if not stat.S_ISREG(status.st_mode):
        yield finding("lint_table_unreadable", place, f"{table.parameter} reads {table.file}, which is no regular file", names)
        return
    if table.reference.proxied and not _readable_by(status, instance.parameters.get("mail_owner")):
        owner = instance.parameters.get("mail_owner")
        found = f"{table.parameter} reads {table.file} through proxymap(8), which runs as {owner} and may not read it"
        yield finding("lint_table_unreadable", place, found, names)
    if not os.access(table.file, os.R_OK):
        yield not_read(table.file, names)
    if table.type in BUILT and _newer(table.path, status):
        yield finding(
            "lint_table_stale", place, f"{table.path} was changed after {table.file} was built from it", names, remedy=f"Run {table.command}."
        )


def not_read(path: str, names: t.Iterable[str]) -> Finding:
    """That a file was not looked into, because who runs the linter may not."""
    return finding("lint_not_read", os.path.basename(path), f"{path} can only be read by others than who runs this", names)


def _missing(table: Table) -> Finding:
    place, names = table.assignment.place, table.names()
    if table.type in BUILT and os.path.exists(table.path):
        found = f"{table.parameter} reads {table.file}, which was not built from {table.path} yet"
        return finding("lint_table_not_built", place, found, names, remedy=f"Run {table.command}.")
    return finding("lint_table_missing", place, f"{table.parameter} reads {table.file}, which does not exist", names)


def _newer(source: str, built: os.stat_result) -> bool:
    try:
        return os.stat(source).st_mtime > built.st_mtime
    except OSError:
        return False


def _readable_by(status: os.stat_result, user: str) -> bool:
    """Whether a user may read a file by its mode. Unknown users are given the benefit of the doubt."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return True
    if status.st_uid == entry.pw_uid:
        return bool(status.st_mode & stat.S_IRUSR)
    if status.st_gid in os.getgrouplist(user, entry.pw_gid):
        return bool(status.st_mode & stat.S_IRGRP)
    return bool(status.st_mode & stat.S_IROTH)
