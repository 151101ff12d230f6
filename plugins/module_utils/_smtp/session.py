# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a TLS handshake came to."""

from __future__ import annotations

import typing as t


class Session(t.NamedTuple):
    """What the handshake came to. *certificate* is the server's, in DER; it stays known after the connection is closed."""

    version: str
    cipher: str
    verified: bool
    certificate: bytes
