# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""What goes wrong with a Postfix configuration, as one exception that carries facts for the caller."""

from __future__ import annotations

import typing as t


class PostfixError(Exception):
    """A change that can not be made. The text is one sentence to act on and never holds a secret.

    ``facts`` are returned with the failure: what was learned or done before it.
    """

    def __init__(self, message: str, **facts: t.Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts
