# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking the queue: real child processes that behave like postqueue -j, and some that misbehave."""

from __future__ import annotations

import json
import sys
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._mail import postqueue
from ansible_collections.outpost.smtp.plugins.module_utils._mail.postqueue import QueueEntry, QueueUnreadable, find_in_queue

REASON = "SASL authentication failed; server smtp.example.net[192.0.2.1] said: 535 5.7.8 Error: authentication failed:"


def line(queue_id: str, queue: str = "deferred", reason: t.Optional[str] = REASON) -> str:
    recipient = {"address": "inbox@example.net"}
    if reason:
        recipient["delay_reason"] = reason
    return json.dumps(
        {
            "queue_name": queue, "queue_id": queue_id, "arrival_time": 1795435200, "message_size": 600, "forced_expire": False,
            "sender": "alerts@example.net", "recipients": [recipient],
        }
    )  # fmt: skip


def program(tmp_path: Path, source: str) -> t.List[str]:
    script = tmp_path / "postqueue.py"
    script.write_text(source)
    return [sys.executable, str(script)]


def listing(tmp_path: Path, *lines: str) -> t.List[str]:
    return program(tmp_path, f"for line in {list(lines)!r}: print(line)")


def test_the_reason_of_the_delay_is_found(tmp_path: Path) -> None:
    command = listing(tmp_path, line("4AAAA", reason="connection refused"), line("4BBBB"))
    assert find_in_queue(command, "4BBBB", 10) == QueueEntry("deferred", [REASON])


def test_a_message_not_tried_yet_has_no_reason(tmp_path: Path) -> None:
    assert find_in_queue(listing(tmp_path, line("4BBBB", "active", None)), "4BBBB", 10) == QueueEntry("active", [])


def test_a_message_that_left_the_queue(tmp_path: Path) -> None:
    command = listing(tmp_path, line("4AAAA"), line("4BBBBx", reason="about 4BBBB"), "no json with 4BBBB", '{"queue_id": "4BBBB"}')
    assert find_in_queue(command, "4BBBB", 10) is None


def test_reading_ends_at_the_message(tmp_path: Path) -> None:
    source = f"import time\nprint({line('4BBBB')!r}, flush=True)\nwhile True: print({line('4CCCC')!r})"
    assert find_in_queue(program(tmp_path, source), "4BBBB", 10) is not None


@pytest.mark.parametrize("source", ["import time; time.sleep(60)", "import os, time; os.close(1); time.sleep(60)"])
def test_a_program_that_hangs_is_ended(tmp_path: Path, source: str) -> None:
    begin = time.monotonic()
    with pytest.raises(QueueUnreadable, match=r"no complete answer within 0\.5 s"):
        find_in_queue(program(tmp_path, source), "4BBBB", 0.5)
    assert time.monotonic() - begin < 10


def test_an_endless_listing_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postqueue, "MAX_BYTES", 1_000_000)
    with pytest.raises(QueueUnreadable, match="longer than 1000000 bytes"):
        find_in_queue(program(tmp_path, "import sys\nwhile True: sys.stdout.write('x' * 65536)"), "4BBBB", 30)


def test_a_program_that_fails_or_is_absent(tmp_path: Path) -> None:
    with pytest.raises(QueueUnreadable, match="no complete answer"):
        find_in_queue(program(tmp_path, "raise SystemExit(69)"), "4BBBB", 10)
    with pytest.raises(QueueUnreadable, match="could not be run: No such file"):
        find_in_queue([str(tmp_path / "absent")], "4BBBB", 10)
