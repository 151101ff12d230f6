# SPDX-License-Identifier: GPL-3.0-or-later
"""Every target with octets that hypothesis finds, and proof that each of them can fail."""

from __future__ import annotations

import pytest
import strategies
import targets
from hypothesis import given


@pytest.mark.parametrize("name", targets.TARGETS)
def test_it_holds(name: str) -> None:
    @given(strategies.BY_TARGET[name])
    def holds(data: bytes) -> None:
        targets.TARGETS[name](data)

    holds()


@pytest.mark.parametrize("name", targets.TARGETS)
def test_it_holds_for_nothing_and_for_much(name: str) -> None:
    for data in (b"", b"\0" * 10000, bytes(range(256)) * 40, b"\xff" * 10000):
        targets.TARGETS[name](data)
