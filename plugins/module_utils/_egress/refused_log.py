# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Who was refused by our rules: their lines in the kernel's log, by user.

The rules log at a limited rate, so what is found here is who, not how often; the counters tell how often.
"""

from __future__ import annotations

import pwd
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress.kernel_log import Line

#: How the lines begin, in the rule set of the role.
PREFIX = "outpost-smtp refused"
#: Destinations that are named for one user, and users that are named.
MAX_DESTINATIONS = 5
MAX_USERS = 50

_FIELD = re.compile(r"\b(DST|DPT|UID)=(\S+)")


class Refused(t.NamedTuple):
    """What was refused one user. ``uid`` is None where the kernel knew none: the socket was gone, or the packet another host's."""

    uid: t.Optional[int]
    user: str
    logged: int
    last: str
    destinations: t.List[str]


def refused(lines: t.Sequence[Line]) -> t.List[Refused]:
    """The refused attempts that the kernel's log still has; who was refused last comes first."""
    found: t.Dict[t.Optional[int], t.List[t.Tuple[Line, str]]] = {}
    for line in lines:
        _begin, _prefix, rest = line.text.partition(PREFIX)
        fields = dict(_FIELD.findall(rest))
        if "DST" in fields and "DPT" in fields:
            uid = int(fields["UID"]) if fields.get("UID", "").isdigit() else None
            # The last one to the end, so that the order is that of the last attempts.
            found[uid] = [*found.pop(uid, []), (line, f"{fields['DST']} port {fields['DPT']}")]
    return [_refused(uid, found[uid]) for uid in list(reversed(list(found)))[:MAX_USERS]]


def _refused(uid: t.Optional[int], entries: t.Sequence[t.Tuple[Line, str]]) -> Refused:
    destinations = list(dict.fromkeys(where for _line, where in reversed(entries)))[:MAX_DESTINATIONS]
    return Refused(uid, _name(uid), len(entries), entries[-1][0].time, destinations)


def _name(uid: t.Optional[int]) -> str:
    """The login name; empty without a user or for one that is gone."""
    try:
        return pwd.getpwuid(uid).pw_name if uid is not None else ""
    except KeyError:
        return ""
