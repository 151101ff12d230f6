# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""The kernel's log, as far as this user may read it: of this boot, its last lines only, each with its time.

It belongs to the machine. A container mostly can not read it, and what the kernel logs about a container's packets is not
in it unless the machine wants it (nf_log_all_netns).
"""

from __future__ import annotations

import datetime
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Run

#: The last lines that are read; a noisy kernel is not read to the end.
MAX_LINES = 5000

#: journalctl --output=short-unix begins with seconds since 1970, dmesg with seconds since boot in brackets.
_SINCE_1970 = re.compile(r"(\d+\.\d+) ")
_SINCE_BOOT = re.compile(r"(?:<\d+>)?\[ *(\d+\.\d+)\]")


class Line(t.NamedTuple):
    """``seconds`` since 1970, 0 where that is not known."""

    seconds: float
    text: str

    @property
    def time(self) -> str:
        """In UTC; empty where it is not known."""
        return datetime.datetime.fromtimestamp(self.seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if self.seconds else ""


class KernelLog(t.NamedTuple):
    """``source`` is ``journal`` or ``dmesg``; it is empty where neither can be read, and ``why`` says why that is so."""

    source: str
    why: str
    lines: t.List[Line]


def read(run: Run, root: str = "") -> KernelLog:
    """``run`` runs a command, with 127 as the status of one that is not there; ``root`` is where the host's files are."""
    code, out, _err = run(["journalctl", "--dmesg", "--quiet", "--no-pager", "--output=short-unix", f"--lines={MAX_LINES}"], "")
    # A user who may not read the journal of the kernel gets no line of it, and no error either.
    if code == 0 and out.strip():
        return KernelLog("journal", "", [Line(_seconds(_SINCE_1970, text, 0.0), text) for text in out.splitlines()])
    code, out, err = run(["dmesg"], "")
    if code == 0 and out.strip():
        boot = _boot_time(root)
        return KernelLog("dmesg", "", [Line(_seconds(_SINCE_BOOT, text, boot), text) for text in out.splitlines()[-MAX_LINES:]])
    reason = err.strip().splitlines()[0] if err.strip() else "it is empty, as in a container, whose kernel writes to the log of its machine"
    return KernelLog("", f"the kernel's log can not be read here: {reason}", [])


def _seconds(pattern: t.Pattern[str], text: str, begin: float) -> float:
    found = pattern.match(text)
    return begin + float(found.group(1)) if found else 0.0


def _boot_time(root: str) -> float:
    try:
        with open(f"{root}/proc/stat", encoding="ascii") as file:
            return next((float(line.split()[1]) for line in file if line.startswith("btime ")), 0.0)
    except (OSError, ValueError):
        return 0.0
