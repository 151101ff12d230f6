# SPDX-License-Identifier: GPL-3.0-or-later
"""The name for EHLO comes from the host or its resolver, and a resolver that is slow or broken does not matter."""

from __future__ import annotations

import socket
import threading
import time
import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import own_name
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., None]:
    """Gives this host a name, and a resolver that answers with a canonical name or by an exception."""

    def setup(name: str, resolver: t.Callable[[], str]) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: name)
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda *_asked, **_how: [(socket.AF_INET, socket.SOCK_STREAM, 6, resolver(), ("192.0.2.1", 0))]
        )

    return setup


def failing(exception: Exception) -> t.Callable[[], str]:
    def fail() -> str:
        raise exception

    return fail


def test_a_qualified_name_is_taken_without_asking(host: t.Any) -> None:
    host("web1.example.org", failing(AssertionError("asked")))
    assert own_name.own_name(Deadline(5)) == "web1.example.org"


def test_the_resolver_completes_a_short_name(host: t.Any) -> None:
    host("web1", lambda: "web1.example.org")
    assert own_name.own_name(Deadline(5)) == "web1.example.org"


@pytest.mark.parametrize("name", ["localhost", "web_1.example.org", "web1.example.org\r\nRCPT TO:<x@example.net>", "", "web1."])
def test_what_rfc_5321_does_not_allow_is_no_name(host: t.Any, name: str) -> None:
    host("web1", lambda: name)
    assert own_name.own_name(Deadline(5)) is None


def test_a_resolver_that_knows_nothing(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shouted: t.List[t.Any] = []
    monkeypatch.setattr(threading, "excepthook", shouted.append)
    host("web1", failing(socket.gaierror(socket.EAI_NONAME, "unknown")))
    assert own_name.own_name(Deadline(5)) is None
    assert not shouted


def test_a_resolver_that_hangs_is_not_waited_for(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_name, "PATIENCE", 0.2)
    released = threading.Event()
    host("web1", lambda: "too.late.example" if released.wait(20) else "")
    started = time.monotonic()
    try:
        assert own_name.own_name(Deadline(5)) is None
        assert time.monotonic() - started < 2
    finally:
        released.set()


def test_a_name_that_is_not_ascii(host: t.Any) -> None:
    host("b\u00fcro", lambda: "unused.example")
    assert own_name.own_name(Deadline(5)) is None
