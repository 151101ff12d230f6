# SPDX-License-Identifier: GPL-3.0-or-later
"""Counting mail: every message has a name of its own, and what was sent is compared with what lies in the provider's mailbox."""

from __future__ import annotations

import collections
import secrets
import time

from system_lab import Lab

#: Begins the name of every message, so that a lab can be used again.
RUN = secrets.token_hex(4)
_SEND = "printf 'From: alerts@provider.test\\nTo: inbox@provider.test\\nSubject: count %s\\n\\n' {name} | sendmail -f {sender} inbox@provider.test"
# One every 0.2 seconds, until the file /run/count.stop is there; then the number of them is in /run/count.sent.
_STREAM = f"""rm -f /run/count.stop /run/count.sent
cat >/run/count.sh <<'SH'
n=0
while ! [ -e /run/count.stop ]; do
    n=$((n + 1))
    {_SEND.format(name="$1-$n", sender="alerts@provider.test")} || exit
    sleep 0.2
done
echo $n >/run/count.sent
SH
systemd-run --quiet --collect sh /run/count.sh """


def send(lab: Lab, host: str, name: str, sender: str = "alerts@provider.test") -> str:
    """Give a host's Postfix one message; its name."""
    lab.shell(_SEND.format(name=f"{RUN}-{name}", sender=sender), host)
    return f"{RUN}-{name}"


def stream(lab: Lab, host: str, name: str) -> None:
    """Let a host send one message after the other until end_of_stream()."""
    lab.shell(f"{_STREAM}{RUN}-{name}", host)


def end_of_stream(lab: Lab, host: str, name: str) -> list[str]:
    """The names of all messages that the host has sent."""
    lab.shell("touch /run/count.stop", host)
    await_that(lambda: bool(_sent(lab, host)), f"the stream of {host} ends")
    return [f"{RUN}-{name}-{number}" for number in range(1, int(_sent(lab, host)) + 1)]


def _sent(lab: Lab, host: str) -> str:
    """How many messages a stream that has ended has sent."""
    return lab.shell("cat /run/count.sent 2>/dev/null || true", host).stdout.strip()


def queued(lab: Lab, host: str) -> list[str]:
    """The queues in which a host's messages are, one for each message."""
    return lab.shell("""postqueue -j | sed 's/.*"queue_name": "\\([a-z]*\\)".*/\\1/'""", host).stdout.split()


def await_queue(lab: Lab, host: str, *expected: str) -> None:
    """Return when exactly these queues are what is left of the messages, after another attempt where none is expected."""
    if not expected:
        lab.shell("postqueue -f", host)
    await_that(lambda: sorted(queued(lab, host)) == sorted(expected), f"the queue of {host} is {expected or 'empty'}")


def received(lab: Lab, mailbox: str = "inbox") -> collections.Counter[str]:
    """How often a message of each name lies in a mailbox of the provider."""
    found = lab.shell(f"grep -rhoP --binary-files=without-match '^Subject: count \\K{RUN}-.*' /var/mail/{mailbox}/Maildir || true", "provider").stdout
    return collections.Counter(found.split())


def await_received(lab: Lab, names: list[str]) -> None:
    """Return when every one of these messages has arrived exactly once. Fails with those that were lost or came twice."""

    def wrong() -> list[str]:
        there = received(lab)
        return [f"{name}: {there[name]} times" for name in names if there[name] != 1]

    await_that(lambda: not wrong(), "all messages arrive exactly once", wrong)


def await_that(condition, what: str, seen=lambda: "", timeout: float = 30.0) -> None:
    """Return when a condition is true; fail after `timeout` seconds with what was seen instead."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {timeout:.0f} s; {seen()}"
        time.sleep(0.1)
