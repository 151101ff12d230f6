# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Our own table, inet outpost_smtp: compared by content, loaded in one transaction, kept in a file for the next boot."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import files, nft, ruleset
from ansible_collections.outpost.smtp.plugins.module_utils._egress.change import Change
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError

#: In /etc, where nft may read it under SELinux (nft runs as iptables_t, which may not read var_lib_t).
RULES_PATH = "/etc/outpost-smtp/egress.nft"
_NAME = f"table {ruleset.FAMILY} {ruleset.TABLE}"

Listing = t.Optional[t.List[nft.Json]]


class OwnTable:
    """The table of one host. ``nft`` is None where the command is missing; ``root`` is where the host's files are."""

    def __init__(self, command: t.Optional[nft.Nft], root: str = "") -> None:
        self.nft = command
        self.path = root + RULES_PATH

    def listed(self) -> Listing:
        """The table as nft lists it. Raises :class:`EgressError` for somebody else's table of that name."""
        found = self.nft.own_table() if self.nft else None
        if found is not None and not nft.is_ours(found):
            raise EgressError(
                f"this host has a {_NAME} that was not made by this module (it has no chain {ruleset.MARKER}); it was left alone. "
                f"If nobody needs it, remove it with: nft delete {_NAME}"
            )
        return found

    def counters(self) -> t.Dict[str, int]:
        return nft.counters(self.nft.own_table() if self.nft else None)

    def plan(self, text: str, live: Listing, remembered: t.Optional[t.List[t.Any]]) -> t.List[Change]:
        """Why the rules must be loaded; empty when file and kernel hold them already.

        The kernel's rules are compared with what nft listed right after they were loaded from this very text, so no
        translation between nft's input and output stands between the two.
        """
        stored = files.read(self.path)
        if stored != text:
            return [Change(RULES_PATH, stored or "", text)]
        if live is None or nft.normalised(live) != remembered:
            return [Change(_NAME, self.nft.own_table_text() if self.nft else "", text)]
        return []

    def check(self, text: str) -> None:
        if self.nft and ruleset.UID_TO_COME not in text:
            self.nft.check(text)

    def load(self, text: str, live: Listing, remembered: t.Optional[t.List[t.Any]]) -> t.List[t.Any]:
        """Load the rules, keep them for the next boot, and return how nft lists them. Counters go on where nothing but rules differs."""
        if self.nft is None:
            raise EgressError("the nft command is not installed on this host")
        stored = files.read(self.path)
        undisturbed = live is not None and nft.normalised(live) == remembered
        keeps = undisturbed and stored is not None and ruleset.alike(stored, text)
        with files.Staged(self.path, text) as staged:
            self.nft.load(ruleset.keeping_counters(text) if keeps else text)
            staged.commit()
        listed = self.listed()
        if listed is None:
            raise EgressError(f"{_NAME} is not there although nft loaded it; another program removes it")
        return nft.normalised(listed)

    def removal(self) -> t.List[Change]:
        """What :meth:`remove` would remove: the table if it bears our mark, and its file."""
        changes = []
        listed = self.nft.own_table() if self.nft else None
        if self.nft and listed is not None and nft.is_ours(listed):
            changes.append(Change(_NAME, self.nft.own_table_text(), ""))
        stored = files.read(self.path)
        return changes + ([Change(RULES_PATH, stored, "")] if stored is not None else [])

    def remove(self) -> None:
        self.unload()
        files.remove(self.path)
        files.remove_directory(os.path.dirname(self.path))

    def unload(self) -> None:
        """Take the table out of the kernel if it bears our mark."""
        listed = self.nft.own_table() if self.nft else None
        if self.nft and listed is not None and nft.is_ours(listed):
            self.nft.delete_own_table()
