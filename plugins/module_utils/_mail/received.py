# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the collection and may change at any time.

"""Trace fields: what each server on the way wrote into its Received header (RFC 5321 4.4).

Nothing here fails on odd input: what a header does not tell is None, and a clock that went backwards is reported as it is.
"""

from __future__ import annotations

import re
import typing as t
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

MAX_HOPS = 100  # a message with more Received fields is a mail loop (RFC 5321 6.3)

# Clauses of RFC 5321 4.4, and "tls" of RFC 8314 4.3.
_CLAUSES = frozenset(("from", "by", "via", "with", "id", "for", "tls"))
# RFC 3848 and RFC 6531 4.3: a final A means authenticated, an S before it means TLS.
_PROTOCOL = re.compile(r"(?:E?SMTP|LMTP|UTF8SMTP|UTF8LMTP)(?P<tls>S?)(?P<auth>A?)\Z", re.IGNORECASE)
_TLS_VERSION = re.compile(r"\b(?P<family>TLS|SSL)[ _]?v?(?P<number>[1-3](?:[._][0-9])?)(?![0-9A-Za-z])", re.IGNORECASE)
_CIPHER = re.compile(
    r"\bcipher[ =]+(?P<named>[A-Z0-9][A-Z0-9_-]+)"  # Postfix, Gmail, Exchange, sendmail
    r"|\bTLSv?[0-9._]+:(?P<short>[A-Z0-9][A-Z0-9_-]+)",  # Exim, OpenSMTPD
    re.IGNORECASE,
)
_AUTHENTICATED = re.compile(
    r"\bauthenticated sender:? (?P<sender>[^\s;,]+)"  # Postfix with smtpd_sasl_authenticated_header, Cyrus
    r"|\bAUTH: \S+ (?P<courier>[^\s;,]+)"  # Courier
    r"|\bauth=yes(?: user=(?P<opensmtpd>[^\s;,]+))?"  # OpenSMTPD
    r"|\bauthenticated bits=",  # sendmail
    re.IGNORECASE,
)


class Tls(t.NamedTuple):
    """How a hop was encrypted; version and cipher are None where the header says only that it was."""

    version: t.Optional[str]
    cipher: t.Optional[str]


class Hop(t.NamedTuple):
    """One Received field. `delay_s` counts from the hop before; None where one of the two times is unknown."""

    by: t.Optional[str]
    from_host: t.Optional[str]
    protocol: t.Optional[str]
    queue_id: t.Optional[str]
    tls: t.Optional[Tls]
    authenticated: bool
    authenticated_as: t.Optional[str]
    time: t.Optional[datetime]
    delay_s: t.Optional[float]

    def as_dict(self) -> t.Dict[str, t.Any]:
        """The hop as plain data; times as ISO 8601 in UTC."""
        return {
            **self._asdict(),
            "tls": self.tls._asdict() if self.tls else None,
            "time": self.time.strftime("%Y-%m-%dT%H:%M:%SZ") if self.time else None,
        }


def parse_hops(fields: t.Sequence[str]) -> t.List[Hop]:
    """Read Received field bodies in the order of the header (newest first); return hops oldest first."""
    hops: t.List[Hop] = []
    for field in reversed(fields[:MAX_HOPS]):
        hop = _parse_hop(field)
        before = hops[-1].time if hops else None
        if before and hop.time:
            hop = hop._replace(delay_s=(hop.time - before).total_seconds())
        hops.append(hop)
    return hops


def _parse_hop(field: str) -> Hop:
    text, comments = _split_comments(field)
    clauses_text, _semicolon, date = text.rpartition(";")
    clauses = _clauses(clauses_text or date)
    protocol = clauses.get("with")
    match = _PROTOCOL.match(protocol or "")
    remarks = " ".join(comments)
    # OpenSMTPD writes auth=yes user=NAME outside of a comment.
    authenticated = _AUTHENTICATED.search(f"{remarks} {text}")
    return Hop(
        by=_first_word(clauses.get("by")),
        from_host=_first_word(clauses.get("from")),
        protocol=protocol,
        queue_id=(_first_word(clauses.get("id")) or "").strip("<>") or None,
        tls=_tls(remarks, clauses.get("tls"), bool(match and match.group("tls"))),
        authenticated=bool(authenticated or (match and match.group("auth"))),
        authenticated_as=_authenticated_name(authenticated),
        time=_time(date),
        delay_s=None,
    )


def _split_comments(field: str) -> t.Tuple[str, t.List[str]]:
    """Return the text without comments (RFC 5322 3.2.2: nested, with backslash escapes), and the outermost comments."""
    outside: t.List[str] = []
    comments: t.List[str] = []
    inside: t.List[str] = []
    depth = 0
    escaped = False
    for char in field:
        if depth and escaped:
            inside.append(char)
            escaped = False
        elif depth and char == "\\":
            escaped = True
        elif char == "(":
            depth += 1
            inside.append(" ")
        elif char == ")" and depth:
            depth -= 1
            inside.append(" ")
            if not depth:
                comments.append(" ".join("".join(inside).split()))
                inside.clear()
                outside.append(" ")
        else:
            (inside if depth else outside).append(char)
    return "".join(outside), comments


def _clauses(text: str) -> t.Dict[str, str]:
    """Split `from a by b with c` at its key words; the first of each counts."""
    clauses: t.Dict[str, str] = {}
    name = None
    words: t.List[str] = []
    for word in [*text.split(), None]:
        if word is None or (word.lower() in _CLAUSES and word.lower() not in clauses and word.lower() != name):
            if name:
                clauses[name] = " ".join(words)
            name, words = (word or "").lower(), []
        else:
            words.append(word)
    return clauses


def _first_word(value: t.Optional[str]) -> t.Optional[str]:
    words = (value or "").split()
    return words[0] if words else None


def _tls(remarks: str, tls_clause: t.Optional[str], by_protocol: bool) -> t.Optional[Tls]:
    version = _TLS_VERSION.search(remarks)
    cipher = _CIPHER.search(remarks)
    if not (version or cipher or tls_clause or by_protocol):
        return None
    return Tls(
        version=f"{version.group('family').upper()}v{version.group('number').replace('_', '.')}" if version else None,
        cipher=(cipher.group("named") or cipher.group("short")) if cipher else _first_word(tls_clause),
    )


def _authenticated_name(match: t.Optional[t.Match[str]]) -> t.Optional[str]:
    if not match:
        return None
    return match.group("sender") or match.group("courier") or match.group("opensmtpd")


def _time(date: str) -> t.Optional[datetime]:
    try:
        moment = parsedate_to_datetime(" ".join(date.split()))
        # "-0000" says: UTC, and the sender's zone is unknown (RFC 5322 3.3)
        return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
