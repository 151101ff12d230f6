# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dialogue as it may be shown: who said what, without credentials, bounded in length."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.redact import MASK, Redactor
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import printable, shorten

if t.TYPE_CHECKING:
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply

MAX_LINES = 300


class Transcript:
    """Lines as ``C: EHLO host.example`` (sent), ``S: 250 ok`` (received), ``-- TLSv1.3 ...`` (what else happened).

    What belongs to an authentication is recorded by :meth:`secret` only, which never gets to see it. Transcripts that
    share a *redactor* hide the same secrets.
    """

    def __init__(self, redactor: Redactor | None = None) -> None:
        self.redactor = redactor or Redactor()
        self._lines: list[str] = []
        self._left_out = 0

    def sent(self, line: str) -> None:
        self._add("C: ", line)

    def secret(self, shown: str = "") -> None:
        """Record that credentials were sent after *shown* (such as ``AUTH PLAIN``)."""
        self._add("C: ", f"{shown} {MASK}".strip(), clean=False)

    def received(self, reply: Reply) -> None:
        last = len(reply.lines) - 1
        for index, line in enumerate(self.redactor.clean_lines(reply.lines)):
            self._add("S: ", shorten(f"{reply.code}{' ' if index == last else '-'}{line}".rstrip()), clean=False)

    def noted(self, text: str) -> None:
        self._add("-- ", text)

    def lines(self) -> list[str]:
        """What was recorded, with the number of lines left out as the last one, if any."""
        if not self._left_out:
            return list(self._lines)
        return [*self._lines, f"-- {self._left_out} more lines were not recorded"]

    def show(self, text: str) -> str:
        """Return any text of a peer as it may be shown: escaped, redacted, then cut."""
        return shorten(self.redactor.clean(printable(text)))

    def _add(self, prefix: str, text: str, clean: bool = True) -> None:
        if len(self._lines) >= MAX_LINES:
            self._left_out += 1
            return
        self._lines.append(prefix + (self.show(text) if clean else text))
