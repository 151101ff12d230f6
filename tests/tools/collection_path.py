# SPDX-License-Identifier: GPL-3.0-or-later
"""Give this checkout the path that Ansible expects of a collection: .dev/collections/ansible_collections/outpost/smtp.

Run as a program it prints the directory for ANSIBLE_COLLECTIONS_PATH.
"""

from __future__ import annotations

import contextlib
from pathlib import Path


def ensure_collection_path(root: Path) -> Path:
    """Return the collections directory of the checkout `root`, with a relative link to `root` in it (made when absent)."""
    collections = root / ".dev" / "collections"
    link = collections / "ansible_collections" / "outpost" / "smtp"
    link.parent.mkdir(parents=True, exist_ok=True)
    target = Path("..", "..", "..", "..")
    if not link.is_symlink():
        with contextlib.suppress(FileExistsError):  # another test process was faster
            link.symlink_to(target, target_is_directory=True)
    return collections


if __name__ == "__main__":
    print(ensure_collection_path(Path(__file__).resolve().parents[2]))
