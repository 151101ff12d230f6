# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The name by which this host introduces itself."""

from __future__ import annotations

import re
import socket
import threading

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline


def own_name(deadline: Deadline) -> str | None:
    """The fully qualified name of this host, or None if it has none that RFC 5321 allows in EHLO."""
    name = socket.gethostname()
    if "." not in name:
        name = _canonical_name(name, deadline)
    return name if re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", name) else None


def _canonical_name(name: str, deadline: Deadline) -> str:
    """What the resolver calls *name*. In a thread, because getfqdn() waits for name servers as long as it likes."""
    names: list[str] = []
    thread = threading.Thread(target=lambda: names.append(socket.getfqdn(name)), daemon=True)
    thread.start()
    thread.join(deadline.within(1.0).remaining())
    return names[0] if names else name
