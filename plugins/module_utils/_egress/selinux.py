# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""SELinux: our files get the labels that the host's policy has for their paths, whatever label the directory had that they were made in."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import nft
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError

#: There where a policy is loaded.
_LOADED = "/sys/fs/selinux/enforce"


def restore(paths: t.Iterable[str], run: nft.Run, root: str = "") -> None:
    """Let restorecon(8) label what there is of these files and directories; nothing to do without SELinux. Raises :class:`EgressError`."""
    existing = [root + path for path in paths if os.path.exists(root + path)]
    command = nft.find("restorecon") if existing and os.path.exists(root + _LOADED) else None
    if command is None:
        return
    code, _out, err = run([command, "-R", *existing], "")
    if code != 0:
        raise EgressError(f"restorecon could not label {' '.join(existing)}: {err.strip()}")
