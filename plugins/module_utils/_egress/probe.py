# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""What only trying can tell: whether an address has a route, and what becomes of a connection of a certain user.

Rules that look at the user of a packet look at who made its socket, and they look once, when it is made. So each socket
is made by a child process that has become that user; it is handed to this process, which does all the rest.
"""

from __future__ import annotations

import array
import contextlib
import errno
import ipaddress
import os
import pwd
import selectors
import signal
import socket
import time
import typing as t

#: Seconds after which the kernel ends a child that should have taken none.
DEADLINE = 5
#: The group of a user whom no account describes; the number that Linux gives to what it can not name (user_namespaces(7)).
_NO_GROUP = 65534

REACHED = "reached"
TIMEOUT = "timeout"
#: What connect(2) or socket(2) says, in the words that smtp_auth_info uses for it.
_WORDS = {
    0: REACHED,
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: TIMEOUT,
    errno.ENETUNREACH: "net_unreachable",
    errno.EHOSTUNREACH: "host_unreachable",
    errno.ECONNRESET: "reset",
    errno.EPERM: "not_permitted",
    errno.EACCES: "access_denied",
    errno.EINVAL: "invalid",
    errno.EADDRNOTAVAIL: "no_source_address",
    errno.EAFNOSUPPORT: "family_not_supported",
}


class Try(t.NamedTuple):
    """A connection to begin: to TCP ``port`` of ``address``, by user ``uid``."""

    address: str
    port: int
    uid: int


class Outcome(t.NamedTuple):
    """What came of it after ``ms`` milliseconds: ``reached``, or the name of the error. ``errno`` is 0 without one."""

    word: str
    errno: int
    ms: int


def outside(address: str) -> bool:
    """Whether this host has a route to an address that leads out of it, so that firewalls see more than loopback.

    Connecting a UDP socket looks the route up and sends nothing.
    """
    return route(address) == 0 and not here(address)


def route(address: str) -> int:
    """The errno with which the routing table refuses an address (routes may be made to refuse, ip-route(8)); 0 where there is a way."""
    try:
        with socket.socket(_family(address), socket.SOCK_DGRAM) as looking:
            looking.connect((address, 9))
            return 0
    except OSError as error:
        return error.errno or errno.ENETUNREACH


def here(address: str) -> bool:
    """Whether an address is this host itself."""
    if ipaddress.ip_address(address).is_loopback:
        return True
    try:
        with socket.socket(_family(address), socket.SOCK_DGRAM) as looking:
            looking.connect((address, 9))
            return bool(looking.getsockname()[0] == address)
    except OSError:
        return False


def leaves(address: str, port: int, uid: int, counter: t.Callable[[], int]) -> bool:
    """Whether a SYN of user `uid` to the address passes every other output chain and reaches our own, which is the last.

    The kernel runs those chains inside connect(2), so the counter has moved, or not, when the call returns; nothing is
    waited for, and what the network does with the packet does not matter. The connection is given up at once.
    """
    before = counter()
    send_syn(address, port, uid)
    return counter() > before


def send_syn(address: str, port: int, uid: int) -> None:
    """Begin a connection as user `uid`, and give it up at once. Another user than that of this process needs root."""
    connect([Try(address, port, uid)], 0)


def connect(tries: t.Sequence[Try], seconds: float) -> t.List[Outcome]:
    """Begin all connections at once and wait for all of them, `seconds` at most; the outcomes in the order of the tries.

    Nothing is sent in a connection that is made; it is closed. Other users than that of this process need root.
    """
    outcomes: t.Dict[int, Outcome] = {}
    with contextlib.ExitStack() as stack:
        waiting = stack.enter_context(selectors.DefaultSelector())
        begun: t.Dict[int, float] = {}
        sockets = [found if isinstance(found, int) else stack.enter_context(found) for found in _made(tries)]
        end = time.monotonic() + seconds
        for index, (found, wanted) in enumerate(zip(sockets, tries)):
            begun[index] = time.monotonic()
            error = found if isinstance(found, int) else _begin(found, wanted)
            if isinstance(found, int) or error != errno.EINPROGRESS:
                outcomes[index] = _outcome(error, begun[index])
            else:
                waiting.register(found, selectors.EVENT_WRITE, index)
        while waiting.get_map() and time.monotonic() < end:
            for key, _events in waiting.select(end - time.monotonic()):
                waiting.unregister(key.fileobj)
                error = t.cast(socket.socket, key.fileobj).getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                outcomes[key.data] = _outcome(error, begun[key.data])
        for key in waiting.get_map().values():
            outcomes[key.data] = _outcome(errno.ETIMEDOUT, begun[key.data])
    return [outcomes[index] for index in range(len(tries))]


def _begin(found: socket.socket, wanted: Try) -> int:
    found.setblocking(False)
    return found.connect_ex((wanted.address, wanted.port))


def _outcome(error: int, begun: float) -> Outcome:
    return Outcome(_WORDS.get(error, "failed"), error, round((time.monotonic() - begun) * 1000))


def _made(tries: t.Sequence[Try]) -> t.List[t.Union[socket.socket, int]]:
    """A socket for each try, made by its user and not connected; or the errno with which that failed."""
    made: t.Dict[int, t.Union[socket.socket, int]] = {}
    for uid in dict.fromkeys(wanted.uid for wanted in tries):
        indices = [index for index, wanted in enumerate(tries) if wanted.uid == uid]
        families = [_family(tries[index].address) for index in indices]
        made.update(zip(indices, map(_socket, families) if uid == os.geteuid() else _made_by(uid, families)))
    return [made[index] for index in range(len(tries))]


def _socket(family: socket.AddressFamily) -> t.Union[socket.socket, int]:
    try:
        return socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        return error.errno or errno.EAFNOSUPPORT


def _made_by(uid: int, families: t.Sequence[socket.AddressFamily]) -> t.List[t.Union[socket.socket, int]]:
    """As _socket(), by another user. A child that ends too early leaves ECHILD."""
    try:
        gid = pwd.getpwuid(uid).pw_gid
    except KeyError:
        gid = _NO_GROUP
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            child = os.fork()
            if child == 0:
                _make_sockets_as(uid, gid, families, theirs)
        try:
            return [_received(ours) for _family_of_it in families]
        finally:
            os.waitpid(child, 0)


def _make_sockets_as(uid: int, gid: int, families: t.Sequence[socket.AddressFamily], parent: socket.socket) -> t.NoReturn:
    """In a child process. The user is changed before the sockets are made, since a socket keeps the user who made it.

    Only system calls are made: a resolver thread may have held a lock of the C library when the process was forked.
    """
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(DEADLINE)
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        for family in families:
            found = _socket(family)
            if isinstance(found, int):
                parent.sendmsg([found.to_bytes(4, "big")])
            else:
                with found:
                    parent.sendmsg([bytes(4)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [found.fileno()]))])
    finally:
        os._exit(0)


def _received(child: socket.socket) -> t.Union[socket.socket, int]:
    """The next socket of the child, or its errno."""
    message, ancillary, _flags, _address = child.recvmsg(4, socket.CMSG_SPACE(array.array("i").itemsize))
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            return socket.socket(fileno=array.array("i", data)[0])
    return int.from_bytes(message, "big") or errno.ECHILD


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
