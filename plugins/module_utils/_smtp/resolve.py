# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Name resolution that ends at a deadline: getaddrinfo(3) itself can not be interrupted."""

from __future__ import annotations

import queue
import socket
import threading
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import printable


class Address(t.NamedTuple):
    """One address of a host, as connect(2) takes it."""

    family: int
    sockaddr: tuple[t.Any, ...]

    @property
    def host(self) -> str:
        return str(self.sockaddr[0])

    @property
    def family_name(self) -> str:
        return "ipv6" if self.family == socket.AF_INET6 else "ipv4"


_Answer = t.Union[t.List[t.Any], Exception]


def resolve(host: str, port: int, deadline: Deadline) -> list[Address]:
    """All addresses of *host* in the order the system prefers (RFC 6724). Raises :class:`SmtpError` (``resolve``).

    The look-up runs in a daemon thread, so a resolver that hangs delays neither this call nor the end of the process.
    """
    answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
    threading.Thread(target=_look_up, args=(host, port, answers), daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.remaining())
    except queue.Empty:
        raise SmtpError(Kind.RESOLVE, f"no answer from the resolver about {host}", stage="resolve") from None
    if isinstance(answer, socket.gaierror):
        raise SmtpError(Kind.RESOLVE, f"{host}: {printable(str(answer.strerror))}", stage="resolve", errno=answer.errno) from answer
    if isinstance(answer, UnicodeError):
        # Raised by the IDNA codec for a label that is empty or too long.
        raise SmtpError(Kind.RESOLVE, f"{host} is not a valid host name", stage="resolve", errno=socket.EAI_NONAME) from answer
    if isinstance(answer, Exception):
        raise answer
    addresses = [Address(entry[0], entry[4]) for entry in answer if entry[0] in (socket.AF_INET, socket.AF_INET6)]
    if not addresses:
        raise SmtpError(Kind.RESOLVE, f"{host} has no IP address", stage="resolve", errno=socket.EAI_NODATA)
    return addresses


def _look_up(host: str, port: int, answers: queue.SimpleQueue[_Answer]) -> None:
    try:
        answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except Exception as exc:  # handed over whole: it is raised again in the thread that asked
        answers.put(exc)
