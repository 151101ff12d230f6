# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Takes a change back that nobody confirms: a timer is armed before the change, and stopped by who finds that all is well.

What goes back are the rules of our table, the ways through the managers, and what we remember; our units stay, since
they load and open only what is there. A reboot before the confirmation takes the change back, too.
"""

from __future__ import annotations

import subprocess
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import files, rollback_file, state, units
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Manager
from ansible_collections.outpost.smtp.plugins.module_utils._egress.own_table import OwnTable
from ansible_collections.outpost.smtp.plugins.module_utils._egress.rollback_file import Former
from ansible_collections.outpost.smtp.plugins.module_utils._egress.systemd import Systemd

_TIMER = units.ROLLBACK_UNIT.replace(".service", ".timer")

Make = t.Callable[[str], Manager]
Spawn = t.Callable[[t.Sequence[str]], None]


def spawn(arguments: t.Sequence[str]) -> None:
    """Start a process that outlives this one and its session."""
    # pylint: disable-next=consider-using-with,ansible-bad-function  # it is to go on when this process has ended
    subprocess.Popen(
        list(arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


class Rollback:
    """The taking back of changes on one host. ``program`` is the helper's command line, ``make`` makes managers by name."""

    def __init__(self, table: OwnTable, systemd: Systemd, make: Make, program: t.Sequence[str], root: str = "", spawn: Spawn = spawn) -> None:
        self._table = table
        self._systemd = systemd
        self._make = make
        self._program = list(program)
        self._root = root
        self._spawn = spawn

    def arm(self, former: Former, seconds: int) -> None:
        """Remember what to go back to, and see to it that it is done in so many seconds. One that is armed already is replaced."""
        # Another token: who still waits for the former time must not act. It does until this is written, which may fail.
        former = former._replace(token=str(time.time_ns()))
        rollback_file.save(former, self._root)
        self._stop()
        timer = ("systemd-run", "--quiet", f"--on-active={seconds}s", *_PRECISELY, f"--unit={units.ROLLBACK_UNIT}")
        if not self._systemd.running or not self._systemd.run(*timer, tolerate=True):
            self._spawn([*self._program, "rollback", str(seconds), former.token])

    def disarm(self) -> None:
        """Let the change stand."""
        self._stop()
        rollback_file.forget(self._root)

    def perform(self, former: Former) -> None:
        """Go back. What closes goes first. All is tried, whatever fails; raises :class:`EgressError` with everything that did."""
        complaints = []
        for step in (self._rules, self._ways, self._memory):
            try:
                step(former)
            except EgressError as error:
                complaints.append(str(error))
        if complaints:
            raise EgressError("; ".join(complaints))
        rollback_file.forget(self._root)

    def _rules(self, former: Former) -> None:
        if former.rules is None:
            self._table.remove()
        elif self._table.plan(former.rules, self._table.listed(), state.parse(former.state).loaded):
            self._table.load(former.rules, None, None)

    def _ways(self, former: Former) -> None:
        for name in former.opened_by:
            if name != former.manager:
                self._make(name).apply([])
        if former.manager:
            self._make(former.manager).apply(former.ways)

    def _memory(self, former: Former) -> None:
        if former.state is None:
            files.remove(self._root + state.PATH)
        elif files.read(self._root + state.PATH) != former.state:
            files.write(self._root + state.PATH, former.state)

    def _stop(self) -> None:
        """Stop the timer, and a rollback that waits for its turn."""
        if self._systemd.running:
            self._systemd.run("systemctl", "stop", "--quiet", _TIMER, units.ROLLBACK_UNIT, tolerate=True)


_PRECISELY = ("--timer-property=AccuracySec=100ms", "--timer-property=RemainAfterElapse=no")
