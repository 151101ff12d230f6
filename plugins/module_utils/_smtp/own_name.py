# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The name by which this host introduces itself."""

from __future__ import annotations

import contextlib
import re
import socket
import threading

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline

PATIENCE = 1.0
"""Seconds that a resolver may take to tell the own name; introducing oneself by the address does as well."""


def own_name(deadline: Deadline) -> str | None:
    """The fully qualified name of this host, or None if it has none that RFC 5321 allows in EHLO."""
    name = socket.gethostname()
    if "." not in name:
        name = _canonical_name(name, deadline)
    return name if re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", name) else None


def _canonical_name(name: str, deadline: Deadline) -> str:
    """What the resolver calls *name*, as ``hostname --fqdn`` does. In a thread, because it takes as long as it likes.

    Not by :func:`socket.getfqdn`: it also looks up the name of the address, for which name servers that know nothing of
    private addresses take longest.
    """
    names: list[str] = []
    thread = threading.Thread(target=_look_up, args=(name, names), daemon=True)
    thread.start()
    thread.join(deadline.within(PATIENCE).remaining())
    return names[0] if names else name


def _look_up(name: str, names: list[str]) -> None:
    with contextlib.suppress(OSError, UnicodeError):
        names.append(socket.getaddrinfo(name.encode("ascii"), None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)[0][3])
