# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the collection and may change at any time.

"""What the local Postfix says about one message in its queue (postqueue(1), option -j, Postfix 3.1 or newer)."""

from __future__ import annotations

import json
import subprocess
import threading
import typing as t

MAX_LINE_BYTES = 65536  # one message with some hundred recipients
MAX_BYTES = 64 * 1024 * 1024  # some 100,000 messages


class QueueEntry(t.NamedTuple):
    """A message that is still in the queue. `queue` is Postfix's name for where, such as active or deferred."""

    queue: str
    reasons: t.List[str]


class QueueUnreadable(Exception):
    """The queue could not be asked. The text is one sentence."""


def find_in_queue(command: t.Sequence[str], queue_id: str, timeout: float) -> t.Optional[QueueEntry]:
    """Return the entry of `queue_id`, None if the message is not in the queue, by running `command` (postqueue -j).

    Reads line by line and stops at the message, so a long queue is never held in memory. `timeout` is in seconds.
    """
    try:
        # pylint: disable-next=ansible-bad-function  # AnsibleModule.run_command would hold the whole queue in memory
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError as exc:
        raise QueueUnreadable(f"{command[0]} could not be run: {exc.strerror}") from exc
    timer = threading.Timer(timeout, process.kill)
    timer.start()
    try:
        entry = _search(t.cast(t.IO[bytes], process.stdout), queue_id)
        if entry is None and process.wait() != 0:
            raise QueueUnreadable(f"{' '.join(command)} gave no complete answer within {timeout:g} s")
        return entry
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _search(stream: t.IO[bytes], queue_id: str) -> t.Optional[QueueEntry]:
    total = 0
    needle = queue_id.encode("ascii", "replace")
    while total < MAX_BYTES:
        line = stream.readline(MAX_LINE_BYTES)
        if not line:
            return None
        total += len(line)
        entry = _entry(line, queue_id) if needle in line else None
        if entry:
            return entry
    raise QueueUnreadable(f"the queue listing is longer than {MAX_BYTES} bytes")


def _entry(line: bytes, queue_id: str) -> t.Optional[QueueEntry]:
    try:
        message = json.loads(line)
        if message["queue_id"] != queue_id:
            return None
        reasons = [recipient["delay_reason"] for recipient in message["recipients"] if recipient.get("delay_reason")]
        return QueueEntry(str(message["queue_name"]), list(dict.fromkeys(reasons)))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # the rest of a line that was cut, or no line of postqueue's
