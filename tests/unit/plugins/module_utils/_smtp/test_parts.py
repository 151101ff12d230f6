# SPDX-License-Identifier: GPL-3.0-or-later
"""The small parts: deadline, stages, transcript, connector, catalogue."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
from smtp_server import Certificates

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import connect, transcript
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import Connector
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.stages import Stages
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import tls
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.transcript import Transcript


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_deadline() -> None:
    clock = Clock()
    deadline = Deadline(10, clock)
    clock.now += 4

    assert deadline.remaining() == 6 and not deadline.expired
    assert deadline.within(2).remaining() == 2 and deadline.within(60).remaining() == 6
    clock.now += 7
    assert deadline.remaining() == 0 and deadline.expired and deadline.within(1).expired


def test_stages() -> None:
    clock = Clock()
    stages = Stages(clock)
    stages.enter("connect")
    clock.now += 0.25
    stages.enter("greeting")
    clock.now += 1
    stages.leave(failed=True)
    clock.now += 5
    stages.enter("quit")
    stages.leave()

    assert stages.report(["connect", "greeting", "ehlo", "quit"]) == [
        {"stage": "connect", "status": "ok", "elapsed_ms": 250},
        {"stage": "greeting", "status": "failed", "elapsed_ms": 1000},
        {"stage": "ehlo", "status": "skipped", "elapsed_ms": None},
        {"stage": "quit", "status": "ok", "elapsed_ms": 0},
    ]


def test_transcript_is_bounded() -> None:
    record = Transcript()
    for _count in range(transcript.MAX_LINES):
        record.received(Reply(250, ["x" * 2000, "y"]))

    lines = record.lines()
    assert len(lines) == transcript.MAX_LINES + 1 and lines[-1] == f"-- {transcript.MAX_LINES} more lines were not recorded"
    assert max(map(len, lines)) < 320 and lines[1] == "S: 250 y"


def test_a_secret_is_cut_after_it_was_masked() -> None:
    """A cut through the middle of a password would hide it from the redactor."""
    record = Transcript()
    record.redactor.protect("u", "correct horse battery staple")

    assert "c" not in record.show("x" * 250 + "correct horse battery staple").split("...")[0]


def _address(port: int, host: str = "127.0.0.1") -> Address:
    return Address(socket.AF_INET, (host, port))


@pytest.fixture
def listener() -> socket.socket:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(64)
        yield sock


@pytest.fixture
def silent() -> int:
    """A port that does not answer: its queue is full."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        fillers = [socket.socket() for _count in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        yield sock.getsockname()[1]
        for filler in fillers:
            filler.close()


def test_a_dead_address_costs_its_head_start_only(listener: socket.socket, silent: int) -> None:
    connector = Connector([_address(silent), _address(listener.getsockname()[1])])
    started = time.monotonic()
    sock, address = connector.connect(Deadline(5))
    elapsed = time.monotonic() - started
    sock.close()
    connector.finish()

    assert address.sockaddr == listener.getsockname() and elapsed < connect.HEAD_START + 0.5
    assert [attempt.outcome for attempt in connector.attempts] == ["no_answer", "connected"]


def test_the_preferred_address_is_taken_if_both_answer(listener: socket.socket) -> None:
    other = socket.socket()
    other.bind(("127.0.0.2", 0))
    other.listen(5)
    connector = Connector([_address(*reversed(other.getsockname())), _address(listener.getsockname()[1])])
    sock, address = connector.connect(Deadline(5))
    sock.close()
    connector.finish()
    other.close()

    assert address.host == "127.0.0.2"
    assert [attempt.outcome for attempt in connector.attempts] == ["connected", "connected"]


def test_the_preferred_address_may_be_a_little_slower(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    connector = Connector([_address(listener.getsockname()[1]), _address(listener.getsockname()[1], "127.0.0.3")])
    answers = iter([1, 0])
    monkeypatch.setattr(connector, "_collect", lambda _seconds: connector._settle(next(answers), 0))
    sock, address = connector.connect(Deadline(5))
    sock.close()
    monkeypatch.undo()
    connector.finish()

    assert address.host == "127.0.0.1"


def test_addresses_beyond_the_limit_are_not_tried(listener: socket.socket) -> None:
    connector = Connector([_address(listener.getsockname()[1])] * (connect.MAX_ADDRESSES + 2))
    sock, _address_taken = connector.connect(Deadline(5))
    sock.close()
    connector.finish()

    assert [attempt.outcome for attempt in connector.attempts].count("not_tried") == 2
    assert connector.attempts[-1].elapsed_ms is None


def test_the_outcomes_of_all_addresses_are_told() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        connector = Connector([_address(unused.getsockname()[1])] * 2)
        with pytest.raises(SmtpError) as caught:
            connector.connect(Deadline(5))
        connector.finish()

    assert caught.value.kind == Kind.CONNECT and str(caught.value).count("refused") == 4


# -- TLS ---------------------------------------------------------------------------------------------------------------

_HELLO_REQUEST = b"\x16\x03\x03\x00\x04\x00\x00\x00\x00"
"""A record that a client ignores during a handshake (RFC 5246 section 7.4.1.1)."""


def test_a_handshake_is_not_mistaken_for_another_protocol_where_its_beginning_was_read_already(certificates: Certificates) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.sendall(_HELLO_REQUEST[:7])

    def serve() -> None:
        far.recv(1, socket.MSG_PEEK)  # the client has read the first part and said its ClientHello
        far.sendall(_HELLO_REQUEST[7:])
        with certificates.good().wrap_socket(far, server_side=True) as secured, contextlib.suppress(ConnectionResetError):
            secured.recv(1)  # a client that closes with something unread, such as a session ticket, resets

    far.settimeout(5)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    secured = tls.handshake(tls.verifying_context(Trust(ca_file=certificates.ca_file)), near, "localhost", Deadline(5))
    secured.close()
    thread.join()


def test_a_handshake_ends_though_the_server_is_never_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    monkeypatch.setattr(tls, "wait", lambda *_args: far.send(_HELLO_REQUEST) > 0)
    started = time.monotonic()
    with far, pytest.raises(SmtpError) as caught:
        tls.handshake(tls.inspecting_context(), near, "localhost", Deadline(0.2))

    assert caught.value.kind == Kind.TIMEOUT and time.monotonic() - started < 2
