# SPDX-License-Identifier: GPL-3.0-or-later
"""The client that looks around: how far it goes, and that nothing of a login or a mail ever leaves it."""

from __future__ import annotations

import typing as t

import pytest
from smtp_server import AUTH_OFFER, PASSWORD, USERNAME, Certificates, Peer, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.visitor import Visitor
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust


def visitor(port: int, tls: str, certificates: Certificates, **options: t.Any) -> Visitor:
    trust = Trust(ca_file=certificates.ca_file)
    return Visitor("127.0.0.1", port, tls, deadline=Deadline(5), ehlo_name="client.example.org", trust=trust, **options)


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_it_looks_as_far_as_the_offer_of_a_login(certificates: Certificates, tls: str) -> None:
    with Server(conversation(tls=tls, context=certificates.good())) as server:
        visit = visitor(server.port, tls, certificates).look()
        server.settle()

    assert visit.error is None and visit.offers_login
    assert visit.after_tls is not None and visit.after_tls.auth == ["PLAIN", "LOGIN"]
    assert visit.address == "127.0.0.1" and visit.connect_ms is not None and visit.connect_ms <= visit.elapsed_ms
    hello = b"EHLO client.example.org"
    assert server.lines == ([hello, b"QUIT"] if tls == "implicit" else [hello, b"STARTTLS", hello, b"QUIT"])


def test_without_tls_no_login_is_offered_to_it(certificates: Certificates) -> None:
    with Server(conversation(offer=[AUTH_OFFER])) as server:
        visit = visitor(server.port, "none", certificates).look()

    assert visit.error is None and visit.before_tls is not None and visit.before_tls.auth and not visit.offers_login


def test_a_server_that_proved_nothing_offers_no_login_to_it(certificates: Certificates) -> None:
    with Server(conversation(tls="implicit", context=certificates.self_signed())) as server:
        blind = visitor(server.port, "implicit", certificates, verify=False).look()
        refused = visitor(server.port, "implicit", certificates).look()

    assert blind.error is None and blind.after_tls is not None and blind.after_tls.auth and not blind.offers_login
    assert refused.error is not None and refused.error.verify_code and not refused.offers_login


def test_a_failure_is_told_and_not_raised(certificates: Certificates) -> None:
    def reset(peer: Peer) -> None:
        peer.connection.recv(1)
        peer.reset()

    with Server(reset) as server:
        broken = visitor(server.port, "implicit", certificates).look()
        port = server.port
    closed = visitor(port, "implicit", certificates).look()

    assert broken.error is not None and broken.error.stage == "tls"
    assert closed.error is not None and closed.error.kind == Kind.CONNECT and closed.address == ""
    assert [attempt.outcome for attempt in closed.attempts] == ["refused"]


WAYS_OUT: t.List[t.Tuple[str, t.Callable[[Visitor], t.Any]]] = [
    ("authenticate", lambda client: client.authenticate(Credentials(USERNAME, PASSWORD), "plain")),
    ("command", lambda client: client.command(f"AUTH PLAIN {PASSWORD}")),
    ("exchange", lambda client: client.exchange(f"AUTH PLAIN {PASSWORD}", "AUTH PLAIN", secret=True, begins="PLAIN")),
    ("pipeline", lambda client: list(client.pipeline("EHLO x", f"AUTH PLAIN {PASSWORD}"))),
    ("mail", lambda client: client.command("MAIL FROM:<x@example.org>")),
    ("data", lambda client: client.data(PASSWORD.encode())),
]


@pytest.mark.parametrize("way", [way for _name, way in WAYS_OUT], ids=[name for name, _way in WAYS_OUT])
def test_nothing_else_leaves_it_even_to_a_trusted_server(certificates: Certificates, way: t.Callable[[Visitor], t.Any]) -> None:
    with Server(conversation(tls="implicit", context=certificates.good())) as server:
        with visitor(server.port, "implicit", certificates) as client:
            client.connect()
            client.greeting()
            client.ehlo()
            assert client.session is not None and client.session.verified and not client.trusted
            with pytest.raises(SmtpError) as caught:
                way(client)
        server.settle()

    assert caught.value.kind == Kind.UNPROTECTED
    assert server.lines == [b"EHLO client.example.org"]
