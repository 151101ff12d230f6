# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a dialogue came, and how long each step of it took."""

from __future__ import annotations

import time
import typing as t


class Stages:
    """Takes note of the step that is under way. One that is entered again goes on where it was left."""

    def __init__(self, clock: t.Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._elapsed: dict[str, float] = {}
        self._failed = ""
        self.current = ""
        self._since = clock()

    def enter(self, stage: str) -> None:
        """*stage* begins; the one before it was fine."""
        self.leave()
        self.current = stage
        self._elapsed.setdefault(stage, 0.0)

    def leave(self, failed: bool = False) -> None:
        """The current stage is over. Nothing happens if there is none."""
        now = self._clock()
        if self.current:
            self._elapsed[self.current] += now - self._since
            self._failed = self.current if failed else self._failed
        self.current = ""
        self._since = now

    def report(self, planned: t.Sequence[str]) -> list[dict[str, t.Any]]:
        """Each of *planned* with ``status`` (ok, failed, skipped) and ``elapsed_ms`` (None if skipped)."""
        return [{"stage": stage, "status": self._status(stage), "elapsed_ms": self._milliseconds(stage)} for stage in planned]

    def _status(self, stage: str) -> str:
        if stage not in self._elapsed:
            return "skipped"
        return "failed" if stage == self._failed else "ok"

    def _milliseconds(self, stage: str) -> int | None:
        return round(self._elapsed[stage] * 1000) if stage in self._elapsed else None
