# SPDX-License-Identifier: GPL-3.0-or-later
"""The probes, on loopback."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import threading
import time
import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import probe


def test_an_address_of_this_host_is_not_outside() -> None:
    """Loopback is open in every default-deny rule set, and our own chain lets it pass before it counts."""
    assert not probe.outside("127.0.0.1")
    assert not probe.outside("127.0.0.99")


def test_an_address_without_a_route(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_arguments: t.Any) -> None:
        raise OSError("Network is unreachable")

    class Socket(socket.socket):
        connect = unreachable

    monkeypatch.setattr(socket, "socket", Socket)
    assert not probe.outside("192.0.2.1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_connection_is_tried_and_counted_at_once() -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        came = []

        def connections() -> int:
            with contextlib.suppress(BlockingIOError):
                came.append(server.accept()[0])
            return len(came)

        assert probe.leaves("127.0.0.1", server.getsockname()[1], nobody, connections)
        assert not probe.leaves("127.0.0.1", server.getsockname()[1], nobody, lambda: 0)
    for connection in came:
        connection.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_child_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked child of a process with threads may find any lock taken for ever."""
    monkeypatch.setattr(probe, "DEADLINE", 1)
    monkeypatch.setattr(os, "setuid", lambda _uid: threading.Event().wait())
    started = time.monotonic()
    assert not probe.leaves("127.0.0.1", 9, 0, lambda: 0)
    assert time.monotonic() - started < 5


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_the_child_asks_no_user_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver thread may hold the C library's lock on it at the time of the fork."""
    parent = os.getpid()
    lookup = pwd.getpwuid

    def only_in_the_parent(uid: int) -> pwd.struct_passwd:
        if os.getpid() != parent:
            threading.Event().wait()
        return lookup(uid)

    monkeypatch.setattr(pwd, "getpwuid", only_in_the_parent)
    monkeypatch.setattr(os, "initgroups", lambda *_arguments: threading.Event().wait())
    test_a_connection_is_tried_and_counted_at_once()
