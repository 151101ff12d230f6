# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Credentials: keys that nobody looks up, and files with passwords that too many can read or that nobody needs any more."""

from __future__ import annotations

import glob
import os
import re
import stat
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import split_list
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import Finding, finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.instance import MAIN, Instance
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.relays import is_direct
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.table_files import CREDENTIALS, Table, tables
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.table_types import BUILT
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.maps import MAX_ENTRIES
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.routing import SENDER_RELAYHOST, SENDER_TRANSPORT, TRANSPORT_MAPS

#: A key that is a next hop, a host or a mail address. One of another form may be a password in the wrong place.
_SHOWN_KEY = re.compile(r"(\[[\w.:-]+\]|[\w-]+(\.[\w-]+)+)(:[\w-]+)?|[\w.+-]*@[\w.-]+")
#: Suffixes of everything that postmap(1) ever made of a text.
_MADE = (".db", ".lmdb", ".cdb", ".pag", ".dir")
_ROUTING = (SENDER_RELAYHOST, SENDER_TRANSPORT, TRANSPORT_MAPS)
_LISTABLE = (*BUILT, "texthash", "inline", "static")


def check(instance: Instance) -> t.Iterator[Finding]:
    held = [table for table in tables(instance) if table.parameter in CREDENTIALS]
    yield from _unused_keys(instance, held)
    yield from _readable(instance, held)
    yield from _in_main(instance)
    yield from _leftovers(instance, held)


# -- keys ---------------------------------------------------------------------------------------------------------------


def _unused_keys(instance: Instance, held: t.Sequence[Table]) -> t.Iterator[Finding]:
    if not _all_ways_are_known(instance):
        return
    for path in dict.fromkeys(f"{table.type}:{table.path}" for table in held):
        users = [table for table in held if f"{table.type}:{table.path}" == path]
        services = {table.assignment.service.name for table in users if table.assignment.service is not None}
        relays = [relay for relay in instance.relays if relay.host and (relay.way.transport in services or len(services) < len(users))]
        known = {key.lower() for relay in relays for key in relay.lookup.keys}
        by_mx = any(not is_direct(relay) for relay in relays)
        keys = instance.maps.entries(path)
        if len(keys) >= MAX_ENTRIES:
            continue
        for key in keys:
            if key.lower() in known or not _SHOWN_KEY.fullmatch(key) or "@" in key or (by_mx and not re.search(r"[\[:]", key)):
                continue
            wanted = [relay.destination for relay in relays if _same_host(relay.destination, key)]
            instead = f"; the next hop is written {wanted[0]}" if wanted else "; no next hop is on that host"
            remedy = f"Write {wanted[0]} as the key, or the host's name alone." if wanted else ""
            place, names = os.path.basename(users[0].path), [name for table in users for name in table.names()]
            yield finding("lint_credential_unused", place, f"Postfix never looks for {key} in {path}{instead}", names, remedy=remedy)


def _all_ways_are_known(instance: Instance) -> bool:
    """Whether every next hop is listed: not one of a table that only answers, and not the servers of any domain there is."""
    tables_of_ways = [word for name in _ROUTING for word in split_list(instance.parameters.get(name))]
    listable = all(word.partition(":")[0] in _LISTABLE for word in tables_of_ways)
    return listable and bool(instance.relays) and all(relay.host for relay in instance.relays)


def _same_host(destination: str, key: str) -> bool:
    return _host(destination) == _host(key)


def _host(nexthop: str) -> str:
    return re.sub(r"\]?(:[\w-]+)?\Z", "", nexthop.lstrip("[")).lower()


# -- files --------------------------------------------------------------------------------------------------------------


def _readable(instance: Instance, held: t.Sequence[Table]) -> t.Iterator[Finding]:
    """Texts and what is built from them, that any user of this host may read."""
    files = {file: table for table in held for file in (table.path, *_made_of(table.path))}
    for file, table in files.items():
        if _is_open(file):
            yield _open(os.path.basename(file), file, table.names(), f"chmod 600 {file}; chown root {file}")


def _in_main(instance: Instance) -> t.Iterator[Finding]:
    """Passwords that stand in main.cf or master.cf themselves, which everybody reads by postconf(1)."""
    for assignment in instance.assignments():
        literal = re.search(r"\b(static|inline):", instance.expanded(assignment) or "")
        file = os.path.join(instance.config_directory, assignment.file)
        if assignment.name in CREDENTIALS and literal and _is_open(file):
            do = f"move the credential to a table of mode 0600; {MAIN} has to stay readable"
            yield _open(assignment.place, file, assignment.names(), do)


def _open(place: str, file: str, names: t.Iterable[str], do: str) -> Finding:
    remedy = f"{do[0].upper()}{do[1:]}. Change the password if others use this host."
    return finding("lint_credential_readable", place, f"every user of this host may read {file}, which holds passwords", names, remedy=remedy)


def _leftovers(instance: Instance, held: t.Sequence[Table]) -> t.Iterator[Finding]:
    """What was built as an older type, or a whole table that nothing refers to any more."""
    in_use = {file for table in tables(instance) for file in (table.path, table.file)}
    in_use |= {file.replace(".pag", ".dir") for file in in_use}
    beside = [file for table in held for file in _made_of(table.path)]
    directory = glob.escape(instance.config_directory)
    named = [file for pattern in ("*sasl*passw*", "sasl/*passw*") for file in glob.glob(os.path.join(directory, pattern))]
    for file in dict.fromkeys([*beside, *named]):
        if os.path.isfile(file) and file not in in_use and not re.search(rf"{re.escape(file)}(?![\w.])", instance.main_text):
            found = f"nothing refers to {file}, and it holds passwords" + (", for every user of this host to read" if _is_open(file) else "")
            names = [name for table in held for name in table.names() if file.startswith(table.path)]
            yield finding("lint_credential_leftover", os.path.basename(file), found, [*names, os.path.basename(file)])


def _made_of(path: str) -> t.List[str]:
    return [path + suffix for suffix in _MADE if os.path.isfile(path + suffix)]


def _is_open(path: str) -> bool:
    """Whether any user may read a file: by its mode, and by those of the directories that it is in."""
    try:
        modes = [os.stat(path).st_mode]
        while path != os.path.dirname(path):
            path = os.path.dirname(path)
            modes.append(os.stat(path).st_mode)
    except OSError:
        return False
    return bool(modes[0] & stat.S_IROTH) and all(mode & stat.S_IXOTH for mode in modes[1:])
