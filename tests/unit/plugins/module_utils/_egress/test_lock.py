# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import lock


def test_one_at_a_time(tmp_path: Path) -> None:
    with lock.held(str(tmp_path)), pytest.raises(lock.Busy, match="another run works on the outbound rules"), lock.held(str(tmp_path), 0.2):
        raise AssertionError("two at once")
    with lock.held(str(tmp_path), 0):
        pass


def test_who_waits_gets_its_turn(tmp_path: Path) -> None:
    order = []
    holds, ends = threading.Event(), threading.Event()

    def first() -> None:
        with lock.held(str(tmp_path)):
            holds.set()
            ends.wait(10)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    holds.wait(10)
    threading.Timer(0.2, ends.set).start()
    with lock.held(str(tmp_path), 10):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
