# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""The helper program of a host, run as root by our systemd units: /usr/local/lib/outpost-smtp/egress.pyz.

::

    reopen                      put back the ways that a start or reload of the firewall's manager has taken away
    refresh                     ask for the relays' addresses again, and let the rules follow
    rollback [SECONDS TOKEN]    take back the change that waits for its confirmation; where there is no systemd, after so many seconds,
                                and only if it is still that one

Exit status: 0 done or nothing to do, 1 failed (said on standard error), 2 wrong usage.
"""

from __future__ import annotations

import sys
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import command, lock, nft, rollback_file, state
from ansible_collections.outpost.smtp.plugins.module_utils._egress.egress import Egress
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError

_USAGE = "usage: egress.pyz reopen | refresh | rollback [SECONDS TOKEN]"
#: Seconds that a manager's start is held up for another run; what is to be opened is then opened all the same.
_REOPEN_PATIENCE = 20.0


def main(arguments: t.Sequence[str]) -> int:
    found = nft.find()
    egress = Egress(nft.Nft(found, command.run) if found else None, command.run, check_mode=False)
    return call(egress, arguments)


def call(egress: Egress, arguments: t.Sequence[str], root: str = "") -> int:
    """Do what the arguments say on the host of `egress`, whose files are in `root`; returns the exit status."""
    try:
        if list(arguments) == ["reopen"]:
            return reopen(egress, root)
        if list(arguments) == ["refresh"]:
            with lock.held(root):
                egress.refresh()
            return 0
        if list(arguments) == ["rollback"] or (len(arguments) == 3 and arguments[0] == "rollback"):
            return rollback(egress, arguments[1:], root)
    except EgressError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(f"{_USAGE}\n")
    return 2


def reopen(egress: Egress, root: str) -> int:
    try:
        with lock.held(root, _REOPEN_PATIENCE):
            return _reopen(egress, root)
    except lock.Busy:
        return _reopen(egress, root)


def _reopen(egress: Egress, root: str) -> int:
    remembered = state.load(root)
    if remembered.manager and remembered.ways:
        egress.make(remembered.manager).reopen(remembered.ways)
    return 0


def rollback(egress: Egress, when: t.Sequence[str], root: str) -> int:
    if when:
        time.sleep(int(when[0]))
    try:
        with lock.held(root):
            return _rollback(egress, when, root)
    except lock.Busy:
        # Who has it for so long hangs, with what it has begun in force.
        return _rollback(egress, when, root)


def _rollback(egress: Egress, when: t.Sequence[str], root: str) -> int:
    former = rollback_file.load(root)
    if former is None or (when and when[1] != former.token):
        return 0
    egress.rollback.perform(former)
    rollback_file.leave_note("nobody confirmed it in time, or the host was restarted before", root)
    return 0
