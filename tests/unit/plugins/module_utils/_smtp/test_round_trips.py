# SPDX-License-Identifier: GPL-3.0-or-later
"""The test of a login takes as few round trips as the protocols allow: counted at a server that is far away."""

from __future__ import annotations

import os
import ssl
import time
import typing as t
from pathlib import Path

import pytest
import sasl_server
from delaying_proxy import DELAY, Far
from round_trips import CONNECTIONS, PERMISSIONS, minimum, page
from smtp_server import PASSWORD, USERNAME, Certificates, Peer, SaslExchange, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.probe import probe_all

PAGE = Path(__file__).resolve().parents[5] / "docs" / "round-trips.md"
LONG = "many words " * 40 + "end"


def long_plain(_peer: Peer) -> SaslExchange:
    response = yield None
    return sasl_server.verdict(response == f"\0{USERNAME}\0{LONG}".encode())


def bearer(_peer: Peer) -> SaslExchange:
    """What both mechanisms for tokens have in common."""
    response = yield None
    return sasl_server.verdict(response.endswith(f"\1auth=Bearer {sasl_server.TOKEN}\1\1".encode()))


WITH_PASSWORD = {"username": USERNAME, "password": PASSWORD}
WITH_TOKEN = {"username": USERNAME, "access_token": sasl_server.TOKEN}
SERVERS: t.Dict[str, t.Tuple[sasl_server.Make, t.Dict[str, str]]] = {
    "PLAIN": (sasl_server.plain, WITH_PASSWORD),
    "PLAIN, more than 512 octets": (long_plain, {"username": USERNAME, "password": LONG}),
    "LOGIN": (sasl_server.login, WITH_PASSWORD),
    "CRAM-MD5": (sasl_server.cram_md5, WITH_PASSWORD),
    "DIGEST-MD5": (sasl_server.digest_md5(), WITH_PASSWORD),
    "SCRAM-SHA-256": (sasl_server.Scram(), WITH_PASSWORD),
    "SCRAM-SHA-256-PLUS": (sasl_server.Scram(plus=True), WITH_PASSWORD),
    "XOAUTH2": (bearer, WITH_TOKEN),
    "OAUTHBEARER": (bearer, WITH_TOKEN),
    "EXTERNAL": (sasl_server.external, {"username": USERNAME}),
}


class Measured(t.NamedTuple):
    round_trips: int
    seconds: float


@pytest.fixture
def measure(relay: t.Callable[..., t.Dict[str, t.Any]], certificates: Certificates) -> t.Callable[..., Measured]:
    def run(tls: str, version: str, login: str = "none", permission: str = "none", delay: float = DELAY) -> Measured:
        name = login.partition(",")[0]
        make, fields = SERVERS.get(login, (sasl_server.plain, {}))
        if login == "EXTERNAL":
            fields = {**fields, "client_certificate": certificates.client()}
        if permission != "none":
            fields = {**fields, "sender": USERNAME, "recipient": USERNAME}
        context = certificates.good()
        context.minimum_version = context.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
        offer = [f"AUTH {name}", *(["PIPELINING"] if permission == "PIPELINING" else [])]
        handler = conversation(tls=tls, context=context, offer_tls=offer, sasl={name: make})
        with Server(handler) as server:
            with Far(server.port, delay=delay) as far:
                started = time.monotonic()
                entry = relay(far.port, tls, ca_file=certificates.ca_file, mechanism=name.lower() if fields.get("username") else "auto", **fields)
                (result,) = probe_all([entry], 20, "client.example.org")
                seconds = time.monotonic() - started
                measured = Measured(far.round_trips, seconds)
            server.settle()
        assert result["ok"] is True, result["diagnosis"]
        print(f"{tls}, TLS {version}, {login}, {permission}: {measured.round_trips} round trips, {seconds * 1000:.0f} ms")
        return measured

    return run


def cases() -> t.Iterator[t.Any]:
    """Each mode without login and with PLAIN, and each mechanism where all of them work."""
    chosen = [(mode, login) for mode in CONNECTIONS for login in ("none", "PLAIN")]
    chosen += [(("starttls", "1.2"), login) for login in SERVERS if login != "PLAIN"]
    for (tls, version), login in chosen:
        yield pytest.param(tls, version, login, id=f"{tls}-{version}-{login}")


@pytest.mark.parametrize(("tls", "version", "login"), list(cases()))
def test_a_login_takes_as_few_as_it_can(measure: t.Callable[..., Measured], tls: str, version: str, login: str) -> None:
    expected = minimum(tls, version, login)
    measured = measure(tls, version, login)
    assert measured.round_trips == expected
    assert measured.seconds >= expected * 2 * DELAY


@pytest.mark.parametrize("permission", [name for name in PERMISSIONS if name != "none"])
def test_sender_and_recipient_are_asked_in_as_few_as_the_server_allows(measure: t.Callable[..., Measured], permission: str) -> None:
    assert measure("implicit", "1.3", "PLAIN", permission).round_trips == minimum("implicit", "1.3", "PLAIN", permission)


@pytest.mark.parametrize(("tls", "version"), list(CONNECTIONS))
def test_nothing_but_the_round_trips_takes_time(measure: t.Callable[..., Measured], tls: str, version: str) -> None:
    """What the distance adds to the same test next door. Once is enough, because the machine may have other things to do."""

    def added() -> float:
        return measure(tls, version, "PLAIN").seconds - measure(tls, version, "PLAIN", delay=0.0).seconds

    limit = (minimum(tls, version, "PLAIN") + 1.5) * 2 * DELAY
    assert any(added() < limit for _attempt in range(10))


def test_the_count_sees_a_client_that_waits_for_nothing(certificates: Certificates) -> None:
    """Commands sent one by one and commands sent at once, to a server of the same distance."""
    import smtplib

    def count(at_once: bool) -> int:
        with Server(conversation()) as server, Far(server.port) as far:
            client = smtplib.SMTP("127.0.0.1", far.port, "client.example.org")
            client.ehlo()
            if at_once:
                client.send("NOOP\r\nNOOP\r\nNOOP\r\n")
                assert [client.getreply()[0] for _reply in range(3)] == [250, 250, 250]
            else:
                assert [client.noop()[0] for _reply in range(3)] == [250, 250, 250]
            client.quit()
            return far.round_trips

    # SYN, greeting, EHLO, NOOP (once or three times), QUIT.
    assert (count(at_once=True), count(at_once=False)) == (5, 7)


def test_the_page_in_the_docs() -> None:
    if os.environ.get("OUTPOST_SMTP_WRITE_DOCS"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()
