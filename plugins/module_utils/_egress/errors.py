# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The one error of this package: a sentence for a person, and the facts behind it."""

from __future__ import annotations

import typing as t


class EgressError(Exception):
    """Nothing more can be done. ``facts`` is what was learned; it is returned together with the message."""

    def __init__(self, message: str, **facts: t.Any) -> None:
        super().__init__(message)
        self.facts = facts
