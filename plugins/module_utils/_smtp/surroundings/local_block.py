# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether this host's own firewall stops the connections that failed, and by which rule."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Observation

Explain = t.Callable[[t.Sequence[str], int], t.List[str]]
"""Names the rules that stop connections to addresses and a port, each in words; empty if none, or they can not be read."""

_SUSPICIOUS = ("timeout", "refused", "reset", "host_unreachable", "net_unreachable", "not_permitted", "access_denied", "failed")
"""What a rule can make of a connection: DROP, REJECT in all its forms, and a hook that forbids connect(2)."""


def find(seen: Observation, explain: Explain | None) -> None:
    """Add to *seen* what of this host blocks it, after no address could be connected to. *explain* needs a privilege."""
    if seen.error is None or seen.error.kind != Kind.CONNECT:
        return
    suspects = [attempt.address.host for attempt in seen.attempts if attempt.outcome in _SUSPICIOUS]
    rules = explain(suspects, seen.port) if explain is not None and suspects else []
    # Who may not read the rules still sees who sent the ICMP error.
    seen.blocked_by += rules or [f"a rule that rejects with ICMP {found.meaning}" for found in seen.refusals[:1] if found.is_own_rule]
