# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""A difference between what is on the host and what is wanted, as people read it in a diff."""

from __future__ import annotations

import typing as t


class Change(t.NamedTuple):
    """One difference, for people: ``what`` is a path, or a thing as the manager calls it."""

    what: str
    before: str
    after: str

    def diff(self) -> t.Dict[str, str]:
        return {"before_header": self.what, "after_header": self.what, "before": self.before, "after": self.after}
