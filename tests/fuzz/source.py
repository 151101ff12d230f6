# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes values of any kind out of the octets that a fuzzer gives."""

from __future__ import annotations

import typing as t

T = t.TypeVar("T")


class Source:
    """Takes values out of *data*; zeros and blanks when it is used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def number(self, limit: int) -> int:
        """From 0 to below *limit*."""
        return int.from_bytes(self.take(1 if limit <= 256 else 2), "big") % limit

    def boolean(self) -> bool:
        return self.number(2) == 1

    def octets(self, limit: int = 300) -> bytes:
        return self.take(self.number(limit + 1))

    def text(self, limit: int = 20) -> str:
        return self.octets(limit).decode("utf-8", "surrogateescape")

    def choice(self, values: t.Sequence[T]) -> T:
        return values[self.number(len(values))]

    def some(self, make: t.Callable[[], T], limit: int) -> t.List[T]:
        """Up to *limit* values that *make* makes."""
        return [make() for _count in range(self.number(limit + 1))]
