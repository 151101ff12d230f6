# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python3 -m ansible_collections.outpost.smtp.plugins.module_utils._smtp``: the login test without Ansible; see cli.py."""

from __future__ import annotations

import gc

gc.disable()  # what is imported is no garbage, and looking for some among it takes a tenth of the time of a login

import contextlib
import os
import sys
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.cli.cli import main

gc.freeze()
gc.enable()


def run() -> t.NoReturn:
    """Do what the arguments say, and end the process.

    At once: threads that still wait for a resolver can not be ended, and to take Python down in order takes another tenth.
    """
    status = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # whoever reads them is gone
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    run()
