# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a TLS handshake came to."""

from __future__ import annotations

import typing as t


class Session(t.NamedTuple):
    """What the handshake came to. It stays known after the connection is closed, or when the server was refused.

    * *verified*: the server proved who it is: to a trusted root, a pinned fingerprint or its TLSA records
    * *certificate*: the server's, in DER; *chain*: all that it sent, in DER and in its order, its own first
    * *fingerprint*: the pinned one that it has; empty where none was pinned
    * *dane*: ``status`` and ``detail`` (see dane.py), None if it was not asked for
    """

    version: str
    cipher: str
    verified: bool
    certificate: bytes
    chain: t.Tuple[bytes, ...] = ()
    fingerprint: str = ""
    dane: t.Optional[t.Dict[str, str]] = None
