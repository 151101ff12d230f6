# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""The helper program on a host (program.py): put there, compared, removed."""

from __future__ import annotations

import hashlib
import os
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils import _zipapp
from ansible_collections.outpost.smtp.plugins.module_utils._egress import files
from ansible_collections.outpost.smtp.plugins.module_utils._egress.change import Change

PATH = "/usr/local/lib/outpost-smtp/egress.pyz"


class Helper:
    """The program of one host. `entry` is the name of the module that it runs; empty where it is only to be called or removed."""

    def __init__(self, entry: str = "", root: str = "") -> None:
        self._entry = entry
        self._path = root + PATH

    @staticmethod
    def command() -> t.List[str]:
        """How it is called. -I: neither the environment nor the working directory gets into it."""
        return [_zipapp.python(), "-I", PATH]

    def plan(self) -> t.List[Change]:
        """What :meth:`install` would change; the content is told by its hash."""
        before, after = files.read_bytes(self._path), _zipapp.pack(self._entry)
        return [] if before == after else [Change(PATH, _told(before), _told(after))]

    def install(self) -> None:
        files.write(self._path, _zipapp.pack(self._entry))

    def removal(self) -> t.List[Change]:
        before = files.read_bytes(self._path)
        return [] if before is None else [Change(PATH, _told(before), "")]

    def remove(self) -> None:
        files.remove(self._path)
        files.remove_directory(os.path.dirname(self._path))


def _told(content: t.Optional[bytes]) -> str:
    return "" if content is None else f"sha256 {hashlib.sha256(content).hexdigest()}\n"
