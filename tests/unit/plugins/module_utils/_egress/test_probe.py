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


def test_a_silent_address_is_not_waited_for_beyond_the_deadline() -> None:
    """Its own user needs no child, and so no privilege. A full queue of connections is as silent as a firewall that drops."""
    with socket.socket() as server, contextlib.ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        for _number in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        started = time.monotonic()
        (outcome,) = probe.connect([probe.Try("127.0.0.1", port, os.geteuid())], 0.3)
    assert outcome.word == probe.TIMEOUT and 0.3 <= time.monotonic() - started < 2


def test_outcomes_keep_the_order_of_the_tries() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        tries = [probe.Try("127.0.0.1", number, os.geteuid()) for number in (port, 1, port)]
        assert [outcome.word for outcome in probe.connect(tries, 2)] == ["reached", "refused", "reached"]
