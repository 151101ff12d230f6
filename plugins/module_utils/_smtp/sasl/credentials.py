# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a login is done with."""

from __future__ import annotations

import typing as t


class Credentials(t.NamedTuple):
    """Of *password* and *access_token* (OAuth 2.0) one is set, or neither where a client certificate is all (EXTERNAL)."""

    username: t.Optional[str]
    password: t.Optional[str] = None
    access_token: t.Optional[str] = None

    def __repr__(self) -> str:
        """Without the secrets: a traceback or a debugger may show it."""
        return f"Credentials({self.username!r}, ...)"
