# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""What to go back to when a change is not confirmed, and the note that tells the next run of it."""

from __future__ import annotations

import json
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import files, state
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Way

#: There while a change waits for its confirmation.
PATH = "/var/lib/outpost-smtp/rollback.json"
#: There from a rollback until a run has told of it.
NOTE_PATH = "/var/lib/outpost-smtp/rolled-back.json"


class Former(t.NamedTuple):
    """The host before the change: the text of our rules and of the state file (None: there was none), and the ways that were open.

    ``opened_by`` are the managers through which the change opens ways. ``token`` tells one change from another.
    """

    token: str
    rules: t.Optional[str]
    state: t.Optional[str]
    manager: str
    ways: t.Tuple[Way, ...]
    opened_by: t.Tuple[str, ...]


def load(root: str = "") -> t.Optional[Former]:
    """The change that waits for its confirmation; None where there is none, or its file is damaged."""
    try:
        stored = json.loads(files.read(root + PATH) or "null")
        return Former(
            str(stored["token"]),
            _text(stored["rules"]),
            _text(stored["state"]),
            str(stored["manager"]),
            state.ways_of(stored["ways"]),
            tuple(str(name) for name in stored["opened_by"]),
        )
    except (ValueError, TypeError, KeyError):
        return None


def save(former: Former, root: str = "") -> None:
    files.write(root + PATH, json.dumps(former._asdict(), indent=1, sort_keys=True) + "\n")


def forget(root: str = "") -> None:
    files.remove(root + PATH)


def leave_note(why: str, root: str = "") -> None:
    files.write(root + NOTE_PATH, json.dumps({"at": now(), "why": why}) + "\n")


def now() -> str:
    """The time as notes tell it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def note(root: str = "") -> t.Optional[t.Dict[str, str]]:
    """When (``at``) and ``why`` a change was taken back of which no run has told yet."""
    try:
        stored = json.loads(files.read(root + NOTE_PATH) or "null")
        return {"at": str(stored["at"]), "why": str(stored["why"])}
    except (ValueError, TypeError, KeyError):
        return None


def _text(value: t.Any) -> t.Optional[str]:
    if value is not None and not isinstance(value, str):
        raise TypeError("not a text")
    return value
