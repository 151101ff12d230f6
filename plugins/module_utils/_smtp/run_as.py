# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A function called as another user, in a child process that has become this user before it opens anything.

Egress rules that let only the MTA out look at the user of the socket (nftables: ``meta skuid``), so only a socket that
was made by this user tells whether mail gets out. Files are read as this user, too, unless they were read before (see
as_user.py). Secrets reach the child in its copy of the memory, never through a file or an argument.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pwd
import select
import signal
import threading
import typing as t

# Loads what could not be read any more.
from ansible_collections.outpost.smtp.plugins.module_utils._smtp import late  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline

MAX_RESULT = 16 * 1024 * 1024
"""Octets of JSON that the child may return."""
_CHUNK = 65536
_LOADED_LATE = ("encodings.idna", "encodings.utf_16_be")
"""What the standard library loads at first use (socket, str): a Python in root's home can not be read any more then."""
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
"""From linux/prctl.h."""

Prctl = t.Callable[[int, int], int]


class RunAsError(ValueError):
    """*field* is the option that can not be followed, *reason* says why. Holds nothing that the function knows."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


def call(username: str, function: t.Callable[[], t.Any], seconds: float) -> t.Any:
    """What *function* returns (as JSON carries it) when *username* calls it; it is ended after *seconds*.

    Nothing is left running, whatever happens, also when this process is killed meanwhile. Call this before any thread is
    started: the child has a copy of the locks, but not of the threads that would release them. Modules that *function*
    needs must be imported by now: the user may be unable to read their files. Raises :class:`RunAsError`.
    """
    user = _user(username)
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    for name in _LOADED_LATE:
        importlib.import_module(name)
    prctl = _prctl()
    reading, writing = os.pipe()
    try:
        child = os.fork()
    except OSError as exc:
        os.close(reading)
        raise RunAsError("run_as", f"no process can be started: {exc.strerror}") from exc
    else:
        if child == 0:
            _be_the_child(lambda: _answer(user, groups, function, writing, prctl), writing)
    finally:
        os.close(writing)
    try:
        received = _receive(reading, Deadline(seconds))
    finally:
        os.close(reading)
        _end(child)
    if received is None:
        raise RunAsError("run_as", f"what was started as user {username} did not end within {seconds:g} seconds")
    return _result(received, username)


def _user(username: str) -> pwd.struct_passwd:
    try:
        user = pwd.getpwnam(username)
    except (KeyError, ValueError):
        raise RunAsError("run_as", f"there is no user {username!r} on this host") from None
    if user.pw_uid == 0:
        raise RunAsError("run_as", f"{username} has all rights, so nothing would be learned; leave run_as out or name the user of the MTA")
    if os.geteuid() != 0:
        raise RunAsError("run_as", f"only root can become user {username} (use become: true)")
    return user


def _prctl() -> Prctl | None:
    """prctl(2), or None on a Python without ctypes."""
    try:
        import ctypes

        return t.cast(Prctl, ctypes.CDLL(None).prctl)
    except (ImportError, OSError, AttributeError):
        return None


# -- in the child ------------------------------------------------------------------------------------------------------


def _be_the_child(answer: t.Callable[[], dict[str, t.Any]], writing: int) -> t.NoReturn:
    try:
        view = memoryview(json.dumps(answer()).encode("ascii"))
        while view:
            view = view[os.write(writing, view) :]
    finally:
        os._exit(0)  # nothing of the parent's may run here: no exception handlers, no clean-up at exit


def _answer(
    user: pwd.struct_passwd, groups: list[int], function: t.Callable[[], t.Any], writing: int, prctl: Prctl | None
) -> dict[str, t.Any]:
    try:
        _forget_signals()
        _forget_descriptors(writing)
        _become(user, groups)
        _die_with_the_parent(writing, prctl)
    except OSError as exc:
        return {"refused": f"can not become user {user.pw_name}: {exc.strerror}"}
    try:
        return {"result": function()}
    except Exception as exc:
        # Only the type: the text of a foreign exception might quote a secret.
        return {"refused": f"what was started as user {user.pw_name} failed: {type(exc).__name__}"}


def _forget_signals() -> None:
    """Handlers of the parent would run its code here."""
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _forget_descriptors(kept: int) -> None:
    """Point every descriptor but *kept* at /dev/null, standard output included.

    They stay occupied because objects of the parent believe to own them, and would close what had taken their number.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in (kept, null):
            os.dup2(null, int(name), inheritable=False)


def _become(user: pwd.struct_passwd, groups: list[int]) -> None:
    """Become *user* in all respects and for good. Raises :class:`OSError`."""
    os.chdir("/")
    os.umask(0o077)
    os.setgroups(groups)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    for regain in (os.setuid, os.setgid):
        try:
            regain(0)
        except OSError:
            continue
        raise OSError(0, "the rights of root could be taken back")


def _die_with_the_parent(writing: int, prctl: Prctl | None) -> None:
    """End when the parent does; and let no process of the same user read the memory, which holds secrets."""
    threading.Thread(target=_watch, args=(writing,), daemon=True).start()
    if prctl is not None:
        # Becoming another user had reset both (prctl(2)). The signal needs no turn of the interpreter, as the thread does.
        prctl(_PR_SET_DUMPABLE, 0)
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(writing: int) -> None:
    """End this process when nobody can read its result any more."""
    watcher = select.poll()
    watcher.register(writing, 0)  # POLLERR is always reported
    watcher.poll()
    os._exit(1)


# -- in the parent -----------------------------------------------------------------------------------------------------


def _receive(reading: int, deadline: Deadline) -> bytes | None:
    """All that comes until the other end is closed; None if the deadline came first."""
    received = bytearray()
    watcher = select.poll()
    watcher.register(reading, select.POLLIN)
    while watcher.poll(deadline.remaining() * 1000):
        data = os.read(reading, _CHUNK)
        if not data or len(received) > MAX_RESULT:
            return bytes(received)
        received += data
    return None


def _end(child: int) -> None:
    """Kill and reap *child*, whose result nobody can read any more: without the right to kill, that ends it, too."""
    with contextlib.suppress(PermissionError):
        os.kill(child, signal.SIGKILL)  # its number is its own until it is reaped
    os.waitpid(child, 0)


def _result(received: bytes, username: str) -> t.Any:
    try:
        message = json.loads(received)
    except ValueError:
        raise RunAsError("run_as", f"what was started as user {username} ended without a whole result") from None
    if "refused" in message:
        raise RunAsError("run_as", message["refused"])
    return message["result"]
