# SPDX-License-Identifier: GPL-3.0-or-later
"""Twenty tests at the same time: each one sees its own server only, and all together stay small and quick."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

import pytest
from smtp_server import Certificates, Handler, Peer, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.endpoint import normalise_endpoints
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.probe import probe_all

COUNT = 20
WAIT = 20.0


class Crowd:
    """Servers of which each has a marker of its own in all that it says, and takes no login before all have been asked for one."""

    def __init__(self, certificates: Certificates) -> None:
        self._together = threading.Barrier(COUNT)
        self._context = certificates.good()
        self._ca_file = certificates.ca_file
        self.servers = [Server(self._handler(number)) for number in range(COUNT)]

    def _handler(self, number: int) -> Handler:
        def take_login(peer: Peer) -> None:
            self._together.wait(WAIT)
            peer.send(f"{'235 2.7.0' if number % 2 else '535 5.7.8'} verdict-{number:02} not secret-of-{(number + 1) % COUNT:02}")
            if peer.line() == b"QUIT":
                peer.send("221 2.0.0 bye")

        return conversation(
            tls="implicit" if number % 3 else "starttls",
            context=self._context,
            greeting=(f"220 greeting-{number:02}",),
            offer_tls=(f"X-OFFER-{number:02}", "AUTH PLAIN"),
            replies={"AUTH": take_login},
        )

    def endpoints(self) -> t.List[t.Dict[str, t.Any]]:
        entries = []
        for number, server in enumerate(self.servers):
            login = {"username": f"user-{number:02}", "password": f"secret-of-{number:02}"}
            tls = {"tls": "implicit" if number % 3 else "starttls", "ca_file": self._ca_file}
            entries.append({"name": f"relay-{number:02}", "host": "127.0.0.1", "port": server.port, **tls, **login})
        return normalise_endpoints(entries)


@pytest.fixture
def crowd(certificates: Certificates) -> t.Iterator[Crowd]:
    crowd = Crowd(certificates)
    for server in crowd.servers:
        server.__enter__()
    yield crowd
    for server in crowd.servers:
        server.__exit__()


def test_each_test_sees_its_own_server_only(crowd: Crowd) -> None:
    """That all logins wait for each other proves that all tests run at the same time."""
    results = probe_all(crowd.endpoints(), WAIT, "client.example.org", investigate=False)

    assert [result["name"] for result in results] == [f"relay-{number:02}" for number in range(COUNT)]
    for number, (result, server) in enumerate(zip(results, crowd.servers)):
        own = f"{number:02}"
        assert result["ok"] is bool(number % 2)
        assert result["auth"]["text"] == f"verdict-{own} not ********"
        assert f"X-OFFER-{own}" in result["capabilities"]["after_tls"]
        assert any(f"greeting-{own}" in line for line in result["transcript"])
        told = json.dumps(result)
        for other in range(COUNT):
            if other != number:
                for word in ("verdict", "greeting", "OFFER", "user", "relay"):
                    assert f"{word}-{other:02}" not in told
        (login,) = [line for line in server.lines if line.startswith(b"AUTH")]
        assert base64.b64decode(login.split()[2]) == f"\0user-{own}\0secret-of-{own}".encode()


def test_no_result_has_the_secret_of_another(crowd: Crowd) -> None:
    """One server may serve several relays, and quote what it got from any of them: here each quotes the next one's."""
    told = json.dumps(probe_all(crowd.endpoints(), WAIT, "client.example.org", investigate=False))
    assert "secret-of-" not in told


MEASURE = """
import json, resource, sys
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.endpoint import normalise_endpoints
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.probe import probe_all
import ansible_collections.outpost.smtp.plugins.module_utils._smtp.cli.cli  # all that a run needs
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
entries = [{"name": f"relay-{port}", "host": "127.0.0.1", "port": port, "tls": "none"} for port in map(int, sys.argv[1:])]
results = probe_all(normalise_endpoints(entries), 3.0, "client.example.org")
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"grown": after - before, "codes": sorted({result["diagnosis"]["code"] for result in results})}))
"""


def test_memory_stays_small_whatever_the_servers_send() -> None:
    """KiB of resident memory that twenty endless greetings at once take. A line alone would be more, if it were kept."""

    def endless(peer: Peer) -> None:
        line = b"220-" + b"x" * 60 + b"\r\n"
        while True:
            peer.send_raw(line * 1000)

    servers = [Server(endless) for _number in range(COUNT)]
    for server in servers:
        server.__enter__()
    try:
        root = Path(__file__).resolve().parents[5]
        environment = {**os.environ, "PYTHONPATH": str(root / ".dev" / "collections")}
        ports = [str(server.port) for server in servers]
        done = subprocess.run([sys.executable, "-c", MEASURE, *ports], env=environment, stdout=subprocess.PIPE, timeout=WAIT, check=True)
    finally:
        for server in servers:
            server.__exit__()
    measured = json.loads(done.stdout)
    assert measured["codes"] == ["reply_too_large"]
    assert measured["grown"] < 16 * 1024
