# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""What a run remembers for the next one: the last good addresses, and how nft listed the rules right after the load."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import files

PATH = "/var/lib/outpost-smtp/egress.json"


class State(t.NamedTuple):
    """``loaded`` is the normalised listing of our table; None when it is not known, so the rules are loaded again."""

    addresses: t.Dict[str, t.Dict[str, t.List[str]]]
    loaded: t.Optional[t.List[t.Any]]


def load(root: str = "") -> State:
    """Read the state. A missing or damaged file is an empty state: the worst it costs is one load of the rules."""
    try:
        stored = json.loads(files.read(root + PATH) or "{}")
        addresses = {
            str(host): {family: [str(address) for address in known.get(family, [])] for family in ("ipv4", "ipv6")}
            for host, known in stored.get("addresses", {}).items()
        }
        return State(addresses, stored.get("loaded"))
    except (ValueError, AttributeError, TypeError):
        return State({}, None)


def save(state: State, root: str = "") -> None:
    """Write the state where it differs from what is stored."""
    text = json.dumps(state._asdict(), indent=1, sort_keys=True) + "\n"
    if files.read(root + PATH) != text:
        files.write(root + PATH, text)
