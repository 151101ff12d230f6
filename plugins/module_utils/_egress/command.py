# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Runs commands where there is no Ansible module to do it: for the helper program, as for its questions AnsibleModule.run_command."""

from __future__ import annotations

import os
import subprocess
import typing as t

#: Seconds after which a command is given up. iptables-restore waits up to that for others, firewall-cmd for its daemon.
PATIENCE = 60


def run(arguments: t.Sequence[str], text: str, seconds: float = PATIENCE) -> t.Tuple[int, str, str]:
    """Exit status (127 where the command can not be run, 124 where it took too long), output and error output."""
    try:
        # pylint: disable-next=ansible-bad-function  # run_command belongs to AnsibleModule, which this program does not have
        done = subprocess.run(
            list(arguments),
            input=text,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C"},
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, "", f"{arguments[0]} did not end within {seconds:.0f} seconds"
    except OSError as error:
        return 127, "", f"{arguments[0]} can not be run: {error.strerror}"
    return done.returncode, done.stdout, done.stderr
