# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""What a run remembers for the next one, and for the refresh: what was asked for, the last good addresses, what was loaded and opened."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import files
from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import IPV4, IPV6, Known
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Way
from ansible_collections.outpost.smtp.plugins.module_utils._egress.request import Request, restored

PATH = "/var/lib/outpost-smtp/egress.json"


class State(t.NamedTuple):
    """``loaded`` is the normalised listing of our table; None when it is not known, so the rules are loaded again.

    ``ways`` are what is opened through ``manager``. ``request`` is None where it is not known, as after an older release.
    """

    addresses: Known
    loaded: t.Optional[t.List[t.Any]]
    request: t.Optional[Request] = None
    manager: str = ""
    ways: t.Tuple[Way, ...] = ()


def load(root: str = "") -> State:
    """Read the state. A missing or damaged file is an empty state: the worst it costs is one load of the rules."""
    return parse(files.read(root + PATH))


def parse(text: t.Optional[str]) -> State:
    """The state of a text that anybody may have written; an empty one where it can not be one."""
    try:
        stored = json.loads(text or "{}")
        loaded = stored.get("loaded")
        return State(
            {
                str(host): {family: _addresses(known.get(family, {})) for family in (IPV4, IPV6)}
                for host, known in stored.get("addresses", {}).items()
            },
            loaded if isinstance(loaded, list) else None,
            restored(stored.get("request")),
            str(stored.get("manager", "")),
            ways_of(stored.get("ways", [])),
        )
    except (ValueError, AttributeError, TypeError):
        return State({}, None)


def _addresses(stored: t.Any) -> t.Dict[str, t.Optional[int]]:
    """Addresses with the time until which they stay; an older release kept a list of them."""
    if isinstance(stored, list):
        return {str(address): None for address in stored}
    return {str(address): None if until is None else int(until) for address, until in stored.items()}


def ways_of(stored: t.Any) -> t.Tuple[Way, ...]:
    """Ways out of JSON. Raises ValueError or TypeError for anything else."""
    found = []
    for version, network, port in stored:
        way = Way.to(network, port) if network else Way(version, "", port)
        if way.version not in (4, 6) or not isinstance(port, int) or not 0 < port < 65536:
            raise ValueError("not a way")
        found.append(way)
    return tuple(found)


def text(state: State) -> str:
    """The state as it is stored."""
    request = state.request.stored() if state.request else None
    return json.dumps({**state._asdict(), "request": request, "ways": sorted(state.ways)}, indent=1, sort_keys=True) + "\n"


def save(state: State, root: str = "") -> None:
    """Write the state where it differs from what is stored."""
    if files.read(root + PATH) != text(state):
        files.write(root + PATH, text(state))
