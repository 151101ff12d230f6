# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""One at a time: runs of the module, the refresh, and the taking back of what was not confirmed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError

PATH = "/run/outpost-smtp-egress.lock"
#: Seconds to wait for another one. A proof may take long, and so may a manager's reload.
PATIENCE = 90.0
_PAUSE = 0.1


class Busy(EgressError):
    """Somebody else holds the lock for longer than can be waited."""


@contextlib.contextmanager
def held(root: str = "", patience: float = PATIENCE) -> t.Iterator[None]:
    """Hold the lock. Raises :class:`Busy` when somebody else does for too long. The kernel frees that of a killed process."""
    os.makedirs(os.path.dirname(root + PATH), exist_ok=True)
    descriptor = os.open(root + PATH, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(descriptor, patience)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, patience: float) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() >= end:
                raise Busy(f"another run works on the outbound rules of this host (it holds {PATH}); nothing was changed") from None
        time.sleep(_PAUSE)
