# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SMTP replies (RFC 5321 section 4.2, enhanced codes by RFC 2034), parsed as bytes arrive, within hard limits."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import printable

MAX_LINE = 1000
"""Octets of one line, its end included. RFC 5321 section 4.5.3.1.5 allows 512; some servers send more."""
MAX_LINES = 100
MAX_REPLY = 16384
"""Octets of one reply. With a line of the largest size on each of its lines, a reply would be larger than this."""

_SEPARATORS = (b" ", b"-")
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?=\s|$)", re.ASCII)
_LEADING_ENHANCED = re.compile("^" + _ENHANCED.pattern + r"\s*", re.ASCII)

if t.TYPE_CHECKING:
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.redact import Redactor


class ReplyError(Exception):
    """What came can not be a reply. *sample* is its beginning, escaped; it may hold credentials."""

    def __init__(self, kind: str, message: str, sample: bytes = b"") -> None:
        super().__init__(message)
        self.kind = kind
        self.sample = printable(sample)


class Reply(t.NamedTuple):
    """One complete reply: the code, and the text of each line without the code, safe to print."""

    code: int
    lines: t.List[str]

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code at the beginning of the first line, if its class fits the reply's (RFC 2034)."""
        match = _ENHANCED.match(self.lines[0])
        if match is None or int(match.group(1)[0]) != self.code // 100:
            return None
        return match.group(1)

    @property
    def text(self) -> str:
        """All lines joined by one blank, the enhanced code left out of each."""
        return " ".join(_LEADING_ENHANCED.sub("", line, count=1) for line in self.lines)

    def redacted(self, redactor: Redactor) -> Reply:
        """The same reply without credentials."""
        return Reply(self.code, redactor.clean_lines(self.lines))

    def __str__(self) -> str:
        """The reply in one line, as people quote it: ``535 5.7.8 Authentication failed``."""
        return " ".join(part for part in (str(self.code), self.enhanced or "", self.text) if part)


class ReplyParser:
    """Takes bytes by :meth:`feed`, gives replies by :meth:`take`. Holds at most one chunk and one reply."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._reset()

    def _reset(self) -> None:
        self._code = 0
        self._lines: list[str] = []
        self._begun = bytearray()

    @property
    def pending(self) -> bytes:
        """What has arrived and is not part of a reply that was taken."""
        return bytes(self._begun + self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def take(self) -> Reply | None:
        """The next reply, or None until it is complete. Raises :class:`ReplyError`."""
        while True:
            end = self._buffer.find(b"\n")
            if end < 0:
                self._check_unfinished_line()
                return None
            line = bytes(self._buffer[: end + 1])
            del self._buffer[: end + 1]
            if self._add(line):
                reply = Reply(self._code, self._lines)
                self._reset()
                return reply

    def _check_unfinished_line(self) -> None:
        """Refuse at once what can not become a reply, so that nobody waits for the end of its line."""
        # A CR at the end may belong to the line's end.
        if not _starts_like_a_code(self._buffer) or self._buffer.rstrip(b"\r")[3:4] not in (b"", *_SEPARATORS):
            raise ReplyError("malformed", "this is not an SMTP reply", bytes(self._buffer))
        if len(self._buffer) >= MAX_LINE:
            raise ReplyError("line_too_long", f"a line is longer than {MAX_LINE} bytes", bytes(self._buffer))

    def _add(self, line: bytes) -> bool:
        """Take one line; return whether it was the reply's last."""
        # Line ends of LF alone and CR CR LF are seen in the field and do no harm when reading replies.
        body = line.rstrip(b"\r\n")
        if len(body) < 3 or not _starts_like_a_code(body) or body[3:4] not in (b"", *_SEPARATORS):
            raise ReplyError("malformed", "this is not an SMTP reply", line)
        if len(line) > MAX_LINE:
            raise ReplyError("line_too_long", f"a line is longer than {MAX_LINE} bytes", line)
        self._begun += line
        code = int(body[:3])
        if self._lines and code != self._code:
            raise ReplyError("malformed", f"one reply carries the codes {self._code} and {code}", line)
        self._code = code
        self._lines.append(printable(body[4:]))
        if body[3:4] != b"-":
            return True
        if len(self._lines) >= MAX_LINES or len(self._begun) > MAX_REPLY - MAX_LINE:
            raise ReplyError("reply_too_large", f"the reply has more than {MAX_LINES} lines or {MAX_REPLY} bytes", line)
        return False


def _starts_like_a_code(data: bytes | bytearray) -> bool:
    """Whether the first three octets (or as many as there are) are a code by RFC 5321: 2 to 5, then two digits."""
    head = bytes(data[:3])
    return (not head) or (head[:1] in (b"2", b"3", b"4", b"5") and all(0x30 <= octet <= 0x39 for octet in head))
