# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""systemd of a host: our units are written, enabled and started, or taken away."""

from __future__ import annotations

import os
import shutil
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import files, units
from ansible_collections.outpost.smtp.plugins.module_utils._egress.change import Change
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Run

Wanted = t.Mapping[str, t.Optional[str]]


class Systemd:
    """systemd of this host; ``root`` is where the host's files are."""

    def __init__(self, run: Run, root: str = "") -> None:
        self._run = run
        self.root = root

    @property
    def installed(self) -> bool:
        return shutil.which("systemctl") is not None

    @property
    def running(self) -> bool:
        """Whether it is the init of this host, which it is not in an image build."""
        return os.path.isdir(self.root + "/run/systemd/system")

    def plan(self, wanted: Wanted) -> t.List[Change]:
        """What differs from the wanted files; a unit of ours that is to be enabled and is not, or the other way round, is a difference, too."""
        found = {path: files.read(self.root + path) for path in wanted}
        changes = [Change(path, found[path] or "", text or "") for path, text in wanted.items() if found[path] != text]
        for unit, link in units.ENABLED.items():
            enabled, is_wanted = os.path.islink(self.root + link), bool(_text(wanted, unit))
            if enabled != is_wanted:
                changes.append(Change(unit, _ENABLED[enabled], _ENABLED[is_wanted]))
        if not changes and wanted.get(units.REFRESH_TIMER_PATH) and self.running and not self._refreshes():
            changes.append(Change(units.REFRESH_TIMER, _STOPPED, _STARTED))
        return changes

    def apply(self, changes: t.Sequence[Change], *, unread: bool = False) -> None:
        """Make the changes of :meth:`plan`: disable what goes, write and remove files, have systemd read them, enable what comes.

        With `unread`, systemd may not have read what an earlier run has written, and does it now.
        """
        enabling = [change for change in changes if change.what in units.ENABLED and change.after != _STARTED]
        written = [change for change in changes if change.what not in units.ENABLED]
        for change in enabling:
            if change.before == _ENABLED[True]:
                self._disable(change.what)
        for change in written:
            if change.after:
                files.write(self.root + change.what, change.after)
            else:
                files.remove(self.root + change.what)
                self._remove_drop_in_directory(change.what)
        if written or unread:
            self.reload()
        for change in enabling:
            if change.after == _ENABLED[True]:
                self.enable(change.what)
        if any(change.what == units.REFRESH_TIMER_PATH and change.after or change.after == _STARTED for change in changes) and self.running:
            # Anew where it runs, with another interval then.
            self.run("systemctl", "restart", units.REFRESH_TIMER)

    def _refreshes(self) -> bool:
        return self.run("systemctl", "is-active", "--quiet", units.REFRESH_TIMER, tolerate=True)

    def reload(self) -> None:
        """Read the unit files again; nothing to do where systemd is not the running init, as in an image build."""
        if self.running:
            self.run("systemctl", "daemon-reload")

    def enable(self, unit: str) -> None:
        self.run("systemctl", "enable", "--quiet", unit)

    def disable(self, unit: str) -> None:
        self.run("systemctl", "disable", "--quiet", unit)

    def run(self, *arguments: str, tolerate: bool = False) -> bool:
        """Run a command of systemd; whether it succeeded. Raises :class:`EgressError` when it did not and that is not to be tolerated."""
        code, out, err = self._run(arguments, "")
        if code != 0 and not tolerate:
            raise EgressError(f"{' '.join(arguments)} failed: {(err or out).strip()}")
        return code == 0

    def _disable(self, unit: str) -> None:
        if unit == units.REFRESH_TIMER and self.running:
            self.run("systemctl", "stop", unit)
        self.disable(unit)

    def _remove_drop_in_directory(self, path: str) -> None:
        directory = os.path.dirname(path)
        if directory.endswith(".d"):
            files.remove_directory(self.root + directory)


_STARTED, _STOPPED = "started\n", "stopped\n"
_ENABLED = {True: "enabled\n", False: "disabled\n"}


def _text(wanted: Wanted, unit: str) -> t.Optional[str]:
    return next((text for path, text in wanted.items() if os.path.basename(path) == unit), None)
