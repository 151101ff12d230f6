# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server says it can do: the reply to EHLO (RFC 5321 section 4.1.1.1)."""

from __future__ import annotations

import re
import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply

_MASKED_STARTTLS = re.compile(r"X{4,}[A-Z]?|\*{4,}")
"""What middleboxes write over STARTTLS: XXXXXXXA (Cisco ASA), XXXXXXXX, asterisks. The length is kept by some only."""


class Capabilities:
    """The extensions of one EHLO reply. The first line names the server and is not an extension."""

    def __init__(self, reply: Reply) -> None:
        self.lines = reply.lines[1:]
        self._extensions: dict[str, list[str]] = {}
        for line in self.lines:
            words = line.upper().split()
            if words:
                self._add(words[0], words[1:])

    def _add(self, keyword: str, parameters: list[str]) -> None:
        # "AUTH=LOGIN PLAIN" is the form of an early draft; servers still send it beside or instead of the right one.
        if keyword.startswith("AUTH="):
            keyword, parameters = "AUTH", [keyword[len("AUTH=") :], *parameters]
        known = self._extensions.setdefault(keyword, [])
        known.extend(parameter for parameter in dict.fromkeys(parameters) if parameter and parameter not in known)

    def __contains__(self, keyword: str) -> bool:
        return keyword.upper() in self._extensions

    @property
    def starttls(self) -> bool:
        return "STARTTLS" in self._extensions

    @property
    def starttls_masked(self) -> str:
        """The keyword that looks like a STARTTLS overwritten by a middlebox, or an empty string."""
        return next((keyword for keyword in self._extensions if _MASKED_STARTTLS.fullmatch(keyword)), "")

    @property
    def auth(self) -> list[str]:
        """Names of the SASL mechanisms, upper case, in the server's order; empty if AUTH is not offered."""
        return list(self._extensions.get("AUTH", []))
