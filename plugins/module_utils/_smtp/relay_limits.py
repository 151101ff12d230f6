# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The fields of a relay that say whose mail it takes, and how much of it at a time."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import Fields

FIELDS = ("senders", "concurrency_limit", "rate_delay", "recipient_limit")
UNSET: t.Mapping[str, t.Any] = dict.fromkeys(FIELDS)

MAX_LIMIT = 1000
"""Many more than any provider allows; also smtpd_recipient_limit, the default of Postfix as a server."""
MAX_DELAY = 86400
"""Seconds."""

#: The characters of RFC 5322 "atext" that mean nothing special to Postfix or to a lookup table.
_LOCAL = r"[A-Za-z0-9_&'*+=?^~][A-Za-z0-9_&'*+=?^~.-]{0,63}"
_DOMAIN = r"(?:(?!-)[A-Za-z0-9-]{1,63}(?<!-)\.)*(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
#: A lone "*" is a name to Postfix here, and stands for anybody only to those who write it.
_SENDER = re.compile(rf"(?!\*(?:@|\Z))(?:{_LOCAL}|(?:{_LOCAL})?@{_DOMAIN})\Z")
_DELAY = re.compile(r"([1-9][0-9]{0,5})([smhd]?)\Z")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def read(fields: Fields) -> t.Dict[str, t.Any]:
    """The fields of :data:`FIELDS`, checked. Raises :class:`RelayError`."""
    return {
        "senders": _senders(fields),
        "concurrency_limit": fields.number("concurrency_limit", 1, MAX_LIMIT),
        "rate_delay": _delay(fields),
        "recipient_limit": fields.number("recipient_limit", 1, MAX_LIMIT),
    }


def _senders(fields: Fields) -> t.Optional[t.List[str]]:
    """Addresses, ``@domain`` and local names in lower case, as Postfix looks them up; None for everybody."""
    if not fields.has("senders"):
        return None
    if not fields.texts("senders"):
        raise fields.refuse("senders", "is empty; leave it out for a relay that everybody uses")
    found: t.List[str] = []
    for sender in fields.texts("senders"):
        if len(sender) > 254 or not _SENDER.match(sender):
            raise fields.refuse("senders", "must be mail addresses, @domain or local names such as root")
        if sender.lower() in found:
            raise fields.refuse("senders", f"names {sender!r} twice; upper and lower case are one to Postfix")
        found.append(sender.lower())
    return found


def _delay(fields: Fields) -> t.Optional[str]:
    """The pause between two messages, as Postfix writes a time: a number and its unit (postconf(5), "Time units")."""
    given = fields.plain("rate_delay")
    match = _DELAY.match(given) if given is not None else None
    if given is None:
        return None
    if match is None or int(match.group(1)) * _SECONDS[match.group(2)] > MAX_DELAY:
        raise fields.refuse("rate_delay", "must be a number of seconds, or a number with s, m, h or d, and at most a day")
    return match.group(1) + (match.group(2) or "s")
