# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""What can be seen of a running Postfix while its configuration is exchanged: that it took it up, and what it complains of.

`postfix reload` only sends a signal. master(8) then reads the configuration and starts new processes of the services
that work without being asked (qmgr(8), pickup(8)), or it logs what is wrong and ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.files import read_file
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Host

#: Seconds that master(8) may take for the new processes, and to say why it ended; and between two looks.
TIMEOUT, _REASON_TIMEOUT, _INTERVAL = 10.0, 1.0, 0.02
#: Seconds that a delivery may still take through a service that is about to go.
_DRAIN = 5.0
#: Seconds back to what Postfix complained of already, and octets of a log file that hold about as much.
_BEFORE, _TAIL = 120, 65536
_JOURNAL_SOCKET = "/run/systemd/journal/socket"
_LOG_FILES = ("/var/log/mail.log", "/var/log/maillog", "/var/log/messages")
#: master(8) and the programs that it runs for every message; those that people run complain of what people do.
_DAEMONS = ("master", "qmgr", "pickup", "cleanup", "trivial-rewrite", "tlsmgr", "smtp")

Process = t.Tuple[int, str]
"""A process, by its number and the time of its start."""


class Witness:
    """Looks on from before the exchange."""

    def __init__(self, host: Host, proc: str = "/proc", journal_socket: str = _JOURNAL_SOCKET, log_files: t.Sequence[str] = _LOG_FILES) -> None:
        self._host = host
        self._proc = proc
        self._journal_socket = journal_socket
        self.pid = host.master_pid()
        self._children = self._children_of(self.pid)
        names = ("maillog_file", "syslog_name")
        result = host.run(["postconf", "-x", "-c", host.config_directory, *names], "")
        values = {name.strip(): value.strip() for name, _equals, value in (line.partition("=") for line in result.out.splitlines())}
        of_postfix = re.escape(values.get("syslog_name") or "postfix")
        self._complaint = re.compile(rf"(?:^|\s){of_postfix}(?:/[^\s\[]*)?/([^\s/\[]+)\[\d+\]: (?:fatal|panic): (.*)")
        candidates = [values["maillog_file"]] if values.get("maillog_file") else log_files
        self._file = next((path for path in candidates if os.path.isfile(path)), "")
        self._size = os.path.getsize(self._file) if self._file else 0
        self._use_journal = not values.get("maillog_file") and os.path.exists(journal_socket)
        self._since = time.time()

    def await_processes(self, timeout: float = TIMEOUT) -> None:
        """Wait until master(8) has started new processes or has ended; who calls asks it which."""
        limit = time.monotonic() + timeout
        while time.monotonic() < limit:
            pid = self._host.master_pid() if self.pid is None or not self._lives(self.pid) else self.pid
            if pid is None or not self._lives(pid) or self._children_of(pid) - self._children:
                return
            time.sleep(_INTERVAL)

    def drain(self, services: t.Collection[str], timeout: float = _DRAIN) -> None:
        """Wait until the processes of services, as ``name/type``, have ended; after ``timeout`` end those that are still at work.

        After a reload, processes end when they have nothing to do. When a service is gone from master.cf, master(8) ends the
        others, and does nothing else until they have ended. That is for long where its unit denies it CAP_KILL, as in Debian 13.
        """
        limit = time.monotonic() + timeout
        left = self._processes_of(services)
        while left and time.monotonic() < limit:
            time.sleep(_INTERVAL)
            left = self._processes_of(services)
        for pid in left:
            with contextlib.suppress(OSError):  # it has just ended
                os.kill(pid, signal.SIGTERM)
        limit = time.monotonic() + _REASON_TIMEOUT
        while self._processes_of(services) and time.monotonic() < limit:
            time.sleep(_INTERVAL)

    def _processes_of(self, services: t.Collection[str]) -> t.List[int]:
        """The children of master(8) with these names and types, which it gives them as arguments (master_ent.c)."""
        found = []
        for pid, _start in self._children_of(self.pid):
            try:
                words = (read_file(os.path.join(self._proc, str(pid), "cmdline")) or b"").decode("utf-8", "replace").split("\0")
            except OSError:
                continue
            options = dict(zip(words, words[1:]))
            if f"{options.get('-n')}/{options.get('-t')}" in services:
                found.append(pid)
        return found

    def restarted(self) -> bool:
        """Whether another master(8) runs than at the beginning."""
        return self._host.master_pid() != self.pid

    def complaints(self) -> t.List[str]:
        """What made one of the daemons end since the beginning, and not shortly before as well."""
        before, after = self._journal() if self._use_journal else self._log()
        known = set(self._fatal(before))
        return [text for program, text in dict.fromkeys(self._fatal(after)) if program in _DAEMONS and (program, text) not in known]

    def reason(self) -> str:
        """Why Postfix does not run, as a remark in brackets; empty if its log does not tell. Waits for that for a moment."""
        limit = time.monotonic() + _REASON_TIMEOUT
        while True:
            _before, after = self._journal() if self._use_journal else self._log()
            found = dict.fromkeys(text for _program, text in self._fatal(after))
            if found or time.monotonic() >= limit:
                return f" ({'; '.join(found)})" if found else ""
            time.sleep(10 * _INTERVAL)

    def _fatal(self, lines: t.Iterable[str]) -> t.Iterator[t.Tuple[str, str]]:
        """The programs that ended of something, and of what."""
        for line in lines:
            match = self._complaint.search(line)
            if match is not None:
                # What is quoted of main.cf may be a password.
                yield match.group(1), re.sub(r'"[^"\n]*"?', "...", match.group(2))

    def _journal(self) -> t.Tuple[t.List[str], t.List[str]]:
        """Lines of log of before and after the beginning. Postfix logs with facility mail, and what is fatal as critical."""
        since = f"--since=@{int(self._since) - _BEFORE}"
        result = self._host.run(["journalctl", "--quiet", "--no-pager", "--output=short-unix", "--priority=crit", since, "SYSLOG_FACILITY=2"], "")
        lines: t.Tuple[t.List[str], t.List[str]] = ([], [])
        for line in result.out.split("\n"):
            stamp = line.partition(" ")[0]
            if re.match(r"\d+\.\d+\Z", stamp):
                lines[float(stamp) >= self._since].append(line)
        return lines

    def _log(self) -> t.Tuple[t.List[str], t.List[str]]:
        if not self._file:
            return [], []
        try:
            with open(self._file, "rb") as file:
                start = max(0, self._size - _TAIL)
                file.seek(start)
                text = file.read(2 * _TAIL)
        except OSError:
            return [], []
        before, after = text[: self._size - start], text[self._size - start :]
        return before.decode("utf-8", "replace").split("\n"), after.decode("utf-8", "replace").split("\n")

    def _lives(self, pid: int) -> bool:
        return self._stat(pid)[:1] not in ([], ["Z"])

    def _children_of(self, pid: t.Optional[int]) -> t.Set[Process]:
        if pid is None or not os.path.isdir(self._proc):
            return set()
        numbers = [int(name) for name in os.listdir(self._proc) if name.isdigit()]
        stats = [(number, self._stat(number)) for number in numbers]
        return {(number, stat[19]) for number, stat in stats if stat[1:2] == [str(pid)]}

    def _stat(self, pid: int) -> t.List[str]:
        """What follows the name in /proc/PID/stat (proc(5)): state, parent, 18th the time of the start; nothing for none."""
        try:
            content = read_file(os.path.join(self._proc, str(pid), "stat")) or b""
        except OSError:  # it has just ended
            return []
        return content.decode("utf-8", "replace").rpartition(")")[2].split()
