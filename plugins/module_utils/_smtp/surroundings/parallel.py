# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several looks at once, in threads that are left behind at the deadline."""

from __future__ import annotations

import threading
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline

T = t.TypeVar("T")

_MARGIN = 0.2
"""Seconds, at most, between the end of the looks and that of waiting for them."""


class Parallel(t.Generic[T]):
    """Starts every one of *tasks* in a thread of its own. The threads do not keep the process from ending."""

    def __init__(self, tasks: t.Sequence[t.Callable[[], T]]) -> None:
        self._results: list[T | Exception] = [TimeoutError() for _task in tasks]
        self._threads = [threading.Thread(target=self._run, args=(index, task), daemon=True) for index, task in enumerate(tasks)]
        for thread in self._threads:
            thread.start()

    def _run(self, index: int, task: t.Callable[[], T]) -> None:
        try:
            self._results[index] = task()
        except Exception as exc:  # handed over whole to whoever asks for the results
            self._results[index] = exc

    def results(self, deadline: Deadline) -> list[T | Exception]:
        """What came of each, in order: its result, what it raised, or TimeoutError if it had not ended by *deadline*."""
        for thread in self._threads:
            thread.join(deadline.remaining())
        return list(self._results)


def before(deadline: Deadline) -> Deadline:
    """A moment before *deadline*: when looks must end, so that what they saw until then is there at *deadline*."""
    left = deadline.remaining()
    return deadline.within(left - min(_MARGIN, left / 5))
