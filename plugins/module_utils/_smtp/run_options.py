# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked of a run as a whole, whatever the endpoints are."""

from __future__ import annotations

import re

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import RelayError

DEFAULT_TIMEOUT = 30.0
"""Seconds."""
MAX_TIMEOUT = 3600

EHLO_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,253}[A-Za-z0-9])?|\[[0-9A-Za-z:.]{2,60}\]")


def check_run_options(timeout: float, ehlo_name: str | None) -> None:
    """Raise :class:`RelayError`, naming the option, if one of them can not be used."""
    if not 0 < timeout <= MAX_TIMEOUT:
        raise RelayError("timeout", f"must be more than 0 and at most {MAX_TIMEOUT} seconds")
    if ehlo_name is not None and not EHLO_NAME.fullmatch(ehlo_name):
        raise RelayError("ehlo_name", "must be a host name or an address in brackets (RFC 5321 section 4.1.1.1)")
