# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the collection and may change at any time.

"""The log of this host's Postfix in the place of a mailbox: it shows that the relay took the message, not that it arrived.

cleanup(8) logs the Message-ID under the queue id, and each delivery agent a line with relay and status. A filter or another
instance on this host takes a message as well, and gives it a new queue id with the same Message-ID, so only what left counts.
"""

from __future__ import annotations

import os
import re
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._mail.mailbox import Arrived, MailboxError, MessageRefused
from ansible_collections.outpost.smtp.plugins.module_utils._mail.message import Header
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Run, run_program

#: Where syslog daemons write what mail servers say: Debian and SUSE, Red Hat.
_LOG_FILES = ("/var/log/mail.log", "/var/log/maillog", "/var/log/mail")
_JOURNAL_DIRECTORY = "/run/systemd/journal"
_MAX_BYTES = 4 * 1024 * 1024  # of a log since the message was sent

_MESSAGE_ID = re.compile(r"(?:^|: )(?P<id>[0-9A-Za-z]+): message-id=(?P<message_id>.*)")
_DELIVERY = re.compile(r"(?:^|: )(?P<id>[0-9A-Za-z]+): to=<.*?>, .*?relay=(?P<relay>[^,]+), .*?status=(?P<status>[a-z]+) \((?P<text>.*)\)")
_LOOPBACK = re.compile(r"\[(?:127\.|::1\])")


class Source(t.Protocol):
    """One place where the log is kept."""

    def lines(self) -> t.List[str]:
        """What was logged since open(), oldest first. Raises MailboxError."""


class LogFile:
    """A file that a syslog daemon or postlogd(8) appends to."""

    def __init__(self, path: str) -> None:
        """Raise OSError where it can not be read."""
        with open(path, "rb"):
            self._status = os.stat(path)
        self._path = path

    def lines(self) -> t.List[str]:
        try:
            with open(self._path, "rb") as log:
                status = os.fstat(log.fileno())
                rotated = (status.st_dev, status.st_ino) != (self._status.st_dev, self._status.st_ino)
                log.seek(0 if rotated or status.st_size < self._status.st_size else self._status.st_size)
                return log.read(_MAX_BYTES).decode("utf-8", "replace").splitlines()
        except OSError as exc:
            raise MailboxError(f"{self._path} can not be read: {exc.strerror}") from exc


class Journal:
    """systemd's journal."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._since = int(time.time()) - 1

    def lines(self) -> t.List[str]:
        # 2 is the facility "mail" of syslog(3), to which all of Postfix logs whatever syslog_name is.
        try:
            result = self._run(["journalctl", "--no-pager", "--output=cat", f"--since=@{self._since}", "SYSLOG_FACILITY=2"], "")
        except PostfixError as exc:
            raise MailboxError(exc.message) from None
        if "insufficient permissions" in result.err or "not seeing messages" in result.err:
            raise MailboxError("this user may not read the journal; root may")
        return result.out.splitlines()


class MailLog:
    """Follows the message through the log, in every place where there is one."""

    def __init__(self, find: t.Optional[t.Callable[[], t.List[Source]]] = None) -> None:
        self._find = find or find_sources
        self._sources: t.List[Source] = []

    def open(self) -> None:
        """Remember where the log ends."""
        self._sources = self._find()
        if not self._sources:
            raise MailboxError("the log of the mail server was found neither in the journal nor in maillog_file nor in " + ", ".join(_LOG_FILES))
        self.poll("no message has this token")  # a log that may not be read shows now

    def poll(self, token: str) -> t.Optional[Arrived]:
        """Return the message as soon as a server outside of this host took it; raise MessageRefused if none will."""
        for source in self._sources:
            arrived = _followed(source.lines(), token)
            if arrived is not None:
                return arrived
        return None

    def remove(self, arrived: Arrived) -> None:
        """Nothing can be removed from here."""
        raise MailboxError("the log does not tell where the message is now")

    def close(self) -> None:
        """Nothing is held open."""


def find_sources(run: t.Optional[Run] = None, journal_directory: str = _JOURNAL_DIRECTORY, log_files: t.Sequence[str] = _LOG_FILES) -> t.List[Source]:
    """The places where this host's Postfix may log: maillog_file alone if it is set (MAILLOG_README), else what syslog has."""
    run = run or run_program
    try:
        maillog_file = run(["postconf", "-xh", "maillog_file"], "").out.strip()
    except PostfixError:
        maillog_file = ""
    found: t.List[Source] = []
    if not maillog_file and os.path.isdir(journal_directory):
        found.append(Journal(run))
    for path in [maillog_file] if maillog_file else log_files:
        try:
            found.append(LogFile(path))
        except OSError:
            continue
    return found


def _followed(lines: t.Iterable[str], token: str) -> t.Optional[Arrived]:
    """What became of the message whose Message-ID has `token`; None while it is on its way."""
    ids: t.Set[str] = set()
    message_id = None
    for line in lines:
        named = _MESSAGE_ID.search(line)
        if named and token in named["message_id"]:
            ids.add(named["id"])
            message_id = named["message_id"].strip()
        delivery = _DELIVERY.search(line)
        if not delivery or delivery["id"] not in ids:
            continue
        relay, status = delivery["relay"], delivery["status"]
        if status == "sent" and "[" not in relay:
            raise MessageRefused(f"was delivered on this host, by {relay}, and did not go to a relay")
        if status == "sent" and not _LOOPBACK.search(relay):
            return Arrived(relay, Header(token, message_id, []), None, frozenset(ids))
        if status in ("bounced", "expired"):
            raise MessageRefused(f"was returned to its sender ({status}): {delivery['text']}")
    return None
