# SPDX-License-Identifier: GPL-3.0-or-later
"""The probes, on loopback."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import probe


def test_loopback_has_a_route() -> None:
    assert probe.routable("127.0.0.1")


def test_an_address_without_a_route(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_arguments: t.Any) -> None:
        raise OSError("Network is unreachable")

    class Socket(socket.socket):
        connect = unreachable

    monkeypatch.setattr(socket, "socket", Socket)
    assert not probe.routable("192.0.2.1")


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
