# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One wall-clock limit for a whole operation, shared by everything that waits."""

from __future__ import annotations

import time
import typing as t


class Deadline:
    """A point in time, *seconds* from now, on the monotonic clock."""

    def __init__(self, seconds: float, clock: t.Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Seconds that are left, never negative."""
        return max(0.0, self._end - self._clock())

    @property
    def expired(self) -> bool:
        return self.remaining() <= 0.0

    def within(self, seconds: float) -> Deadline:
        """A deadline *seconds* from now, or this one if it comes earlier."""
        return Deadline(min(seconds, self.remaining()), self._clock)
