# SPDX-License-Identifier: GPL-3.0-or-later
"""The service as systemd runs it: it tells when it is ready, serves, renews, and ends in good order."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from sasl_server import bearer
from smtp_server import Certificates, Server, conversation
from token_server import TOKEN, TokenServer

from ansible_collections.outpost.smtp.plugins.module_utils._oauth import install, peer, settings
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.settings import RelaySettings

Make = t.Callable[..., RelaySettings]
SASL = {"XOAUTH2": bearer(f"user=alerts@provider.test\x01auth=Bearer {TOKEN}\x01\x01".encode(), b"")}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def service(tmp_path: Path) -> t.Iterator[t.Callable[[RelaySettings], t.Any]]:
    """Starts the program and waits until it says that it is ready."""
    started = []

    def start(relay: RelaySettings) -> t.Any:
        program, given, tokens = tmp_path / "oauth.pyz", tmp_path / "settings.json", tmp_path / "tokens"
        program.write_bytes(install.program())
        given.touch(0o600)
        given.write_text(settings.to_json([relay]))
        tokens.mkdir(0o700)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind(str(tmp_path / "notify"))
            notified.settimeout(20)
            argv = [sys.executable, "-I", str(program), "serve", str(given), str(tokens)]
            process = subprocess.Popen(argv, env={"NOTIFY_SOCKET": str(tmp_path / "notify")}, stderr=subprocess.PIPE, text=True)
            started.append(process)
            assert notified.recv(100) == b"READY=1"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_service_fetches_a_token_and_logs_in_with_it(service: t.Any, endpoint: TokenServer, settings: Make, certificates: Certificates) -> None:
    port = free_port()
    with Server(conversation(tls="implicit", context=certificates.good(), sasl=SASL)) as relay:
        process = service(settings(token_endpoint=endpoint.url, port=relay.port, local_port=port))
        answer = b""
        while not answer.startswith(b"220"):  # 421 until there is a token
            with socket.create_connection(("127.0.0.1", port), 10) as client:
                answer = client.recv(1000)
                if answer.startswith(b"220"):
                    client.sendall(b"EHLO x\r\n")
                    assert client.recv(1000).startswith(b"250")
        process.send_signal(signal.SIGTERM)
        _out, err = process.communicate(timeout=20)
    assert process.returncode == 0 and TOKEN not in err and "CANARY" not in err


def test_a_failure_is_an_error_in_the_journal_without_a_secret(service: t.Any, endpoint: TokenServer, settings: Make) -> None:
    endpoint.status, endpoint.body = "401 Unauthorized", {"error": "invalid_client", "error_description": "CANARY-client/secret&="}
    process = service(settings(token_endpoint=endpoint.url, local_port=free_port()))
    line = process.stderr.readline()
    assert line.startswith("<3>primary: the token endpoint refuses: HTTP 401 invalid_client; mail for this relay waits in the queue, next ")
    assert "CANARY" not in line


def test_the_kernel_tells_whose_connection_it_is(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        with socket.create_connection(listener.getsockname()):
            accepted, _address = listener.accept()
            with accepted:
                assert peer.uid_of(accepted) == os.geteuid()
                empty = tmp_path / "tcp"
                empty.write_text("  sl  local_address rem_address   st\n")
                assert peer.uid_of(accepted, str(empty)) is None


def test_a_connection_that_was_closed_is_nobodys(tmp_path: Path) -> None:
    """Many kernels call it root's then, although what it has sent can still be read."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        client = socket.create_connection(listener.getsockname())
        accepted, _address = listener.accept()
        with accepted, client:
            ends = [f"{peer._shown(address)} " for address in (client.getsockname(), listener.getsockname())]
            for state, uid in (("01", 0), ("04", None), ("05", None), ("06", None)):
                rest = "00000000:00000000 00:00000000 00000000     0        0 17 2 0 20 4 27 10 -1"
                (tmp_path / "tcp").write_text(f"   6: {''.join(ends)}{state} {rest}\n")
                assert peer.uid_of(accepted, str(tmp_path / "tcp")) == uid, state
            client.close()
            assert peer.uid_of(accepted) is None
