# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS a chunk at a time: everything arrives in both directions, and no call goes on for as long as the server likes."""

from __future__ import annotations

import contextlib
import functools
import selectors
import socket
import ssl
import threading
import typing as t

import pytest
from smtp_server import Certificates

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import tls
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.tls_socket import TlsSocket

SIZE = 3_000_000
"""More than the buffers of both ends hold."""

Serve = t.Callable[[ssl.SSLSocket], None]


@contextlib.contextmanager
def connected(certificates: Certificates, serve: Serve) -> t.Iterator[TlsSocket]:
    """The client's end, while *serve* has the server's in a thread."""
    near, far = socket.socketpair()
    near.setblocking(False)

    def run() -> None:
        with certificates.good().wrap_socket(far, server_side=True, suppress_ragged_eofs=False) as secured, contextlib.suppress(OSError):
            serve(secured)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates.ca_file)
    client = tls.handshake(context, near, "localhost", Deadline(5))
    try:
        yield client
    finally:
        client.close()
        thread.join(5)


def persist(sock: TlsSocket, operation: t.Callable[[], t.Any]) -> t.Any:
    """Do *operation* until it is through, waiting as it says."""
    while True:
        try:
            return operation()
        except ssl.SSLWantReadError:
            assert tls.wait(sock, selectors.EVENT_READ, Deadline(5))
        except ssl.SSLWantWriteError:
            assert tls.wait(sock, selectors.EVENT_WRITE, Deadline(5))


def test_much_arrives_at_the_server(certificates: Certificates) -> None:
    sent, received = bytes(range(256)) * (SIZE // 256), bytearray()

    def collect(peer: ssl.SSLSocket) -> None:
        threading.Event().wait(0.2)  # until the buffers are full
        while len(received) < len(sent):
            received.extend(peer.recv(65536))
        peer.send(b"thanks")

    with connected(certificates, collect) as client:
        view = memoryview(sent)
        while view:
            view = view[persist(client, functools.partial(client.send, view)) :]
        assert persist(client, lambda: client.recv(100)) == b"thanks"
    assert bytes(received) == sent


def test_much_arrives_at_the_client(certificates: Certificates) -> None:
    sent, received = bytes(range(256)) * (SIZE // 256), bytearray()
    with connected(certificates, lambda peer: peer.sendall(sent)) as client:
        while len(received) < len(sent):
            received += persist(client, lambda: client.recv(4096))
    assert bytes(received) == sent


def test_both_ends_of_a_stream_are_its_end(certificates: Certificates) -> None:
    """With close_notify, and without."""
    with connected(certificates, lambda peer: t.cast(None, peer.unwrap())) as client:
        assert persist(client, lambda: client.recv(100)) == b""
    with connected(certificates, lambda peer: peer.shutdown(socket.SHUT_RDWR)) as client:
        assert persist(client, lambda: client.recv(100)) == b""


def test_the_server_is_told_why_it_is_not_trusted(certificates: Certificates) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    reasons: t.List[t.Optional[str]] = []

    def serve() -> None:
        try:
            certificates.good().wrap_socket(far, server_side=True).recv(1)
        except ssl.SSLError as exc:
            reasons.append(exc.reason)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with pytest.raises(Exception, match="unable to get local issuer certificate|certificate verification failed"):
        tls.handshake(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), near, "localhost", Deadline(5))
    thread.join(5)

    assert reasons == ["TLSV1_ALERT_UNKNOWN_CA"]


def test_a_refusal_after_the_handshake_is_heard_though_the_server_is_gone(certificates: Certificates) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    context = certificates.good()
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3

    def demand() -> None:
        with far, contextlib.suppress(ssl.SSLError):
            context.wrap_socket(far, server_side=True)

    thread = threading.Thread(target=demand, daemon=True)
    thread.start()
    verifying = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    verifying.load_verify_locations(certificates.ca_file)
    client = tls.handshake(verifying, near, "localhost", Deadline(5))
    thread.join(5)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED|certificate required"):
        client.send(b"EHLO client.example.org\r\n")
    client.close()


def test_one_call_reads_one_chunk(certificates: Certificates) -> None:
    """However much is there, so that the caller can look at the clock."""
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        hello_request = b"\x16\x03\x03\x00\x04\x00\x00\x00\x00"
        client = TlsSocket(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), near, "localhost")
        far.sendall(hello_request * 10000)
        for _call in range(3):
            with pytest.raises(ssl.SSLWantReadError):
                client.do_handshake()
        assert len(client.answer) == 16384
        left = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                left += len(near.recv(65536))
        assert left == len(hello_request) * 10000 - 3 * 16384
