# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Files that smtp(8) reads in its chroot, and that are not what they are outside of it (BASIC_CONFIGURATION_README)."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import local_files
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import Finding, finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.instance import Instance

#: What the resolver and getservbyname(3) read.
_FILES = ("resolv.conf", "hosts", "nsswitch.conf", "services")


def check(instance: Instance) -> t.Iterator[Finding]:
    chrooted = [service for service in instance.clients() if instance.settings.chrooted(service)]
    if not chrooted or not instance.is_running:
        return  # Debian copies the files when Postfix starts
    root = instance.parameters.get("queue_directory")
    for name in _FILES:
        fault = local_files.fault_of_copy(root, name)
        if fault:
            yield finding("lint_chroot_differs", os.path.join(root, "etc", name), fault, [service.name for service in chrooted])
