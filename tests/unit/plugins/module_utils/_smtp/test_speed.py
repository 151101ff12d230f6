# SPDX-License-Identifier: GPL-3.0-or-later
"""What would make a test slow although nothing is wrong. Figures against other programs: tests/bench/probe.py."""

from __future__ import annotations

from smtp_server import Certificates, Peer, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.endpoint import normalise_endpoints
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.probe import probe_all

DELAYED_ACK_MS = 40  # tcp(7), Linux: TCP_DELACK_MIN


def test_the_greeting_does_not_wait_for_a_delayed_acknowledgement(certificates: Certificates) -> None:
    """With TLS 1.3, session tickets and the greeting are two writes of a server, and Nagle's algorithm holds back the second.

    The best of some tries counts, since on a busy machine any of them may take long.
    """
    context = certificates.good()
    tickets = []

    def greet(peer: Peer) -> None:
        peer.start_tls(context)
        tickets.append(peer.connection.version())
        conversation()(peer)

    with Server(greet) as server:
        fields = {"name": "one", "host": "127.0.0.1", "port": server.port, "tls": "implicit", "ca_file": certificates.ca_file}
        results = [probe_all(normalise_endpoints([fields]), 10, "client.example.org")[0] for _count in range(5)]
    elapsed = [stage["elapsed_ms"] for result in results for stage in result["stages"] if stage["stage"] == "greeting"]
    assert set(tickets) == {"TLSv1.3"}
    assert min(elapsed) < DELAYED_ACK_MS / 2
