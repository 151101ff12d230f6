# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that do not want TLS, or break it, or are not who they say. What holds for all is in hostile.py."""

from __future__ import annotations

import contextlib
import socket
import ssl
import typing as t

import pytest
from hostile import Hostile, failed, raw
from openssl_server import s_server
from pki import Pki
from smtp_server import AUTH_OFFER, Certificates, Handler, Peer, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import resolve

MODES = pytest.mark.parametrize("tls", ["implicit", "starttls"])


# -- STARTTLS ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offer", "code"),
    [
        (["SIZE 1", AUTH_OFFER], "cap_starttls_absent"),
        (["XXXXXXXA", AUTH_OFFER], "cap_starttls_stripped"),
        (["250-STARTTLS", "X-STARTTLS", "STARTTLSX", AUTH_OFFER], "cap_starttls_absent"),
    ],
    ids=["absent", "masked", "similar"],
)
def test_a15_starttls_is_not_offered(hostile: Hostile, offer: t.List[str], code: str) -> None:
    failed(hostile(conversation(offer=offer), "starttls"), code, "starttls")


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("454 4.7.0 TLS not available due to temporary reason", "starttls_454"),
        ("500 5.5.1 Unrecognized command", "starttls_500_502"),
        ("502 5.5.1 Not implemented", "starttls_500_502"),
        ("354 go ahead", "reply_refused"),
        ("250 ok", "reply_refused"),
        ("235 2.7.0 Authentication successful", "reply_refused"),
        ("421 4.3.2 shutting down", "service_closing"),
    ],
)
def test_a16_starttls_is_refused(hostile: Hostile, reply: str, code: str) -> None:
    failed(hostile(conversation(offer=["STARTTLS", AUTH_OFFER], replies={"STARTTLS": reply}), "starttls"), code, "starttls")


def test_a16_consent_in_several_lines(hostile: Hostile, certificates: Certificates) -> None:
    def consent(peer: Peer) -> None:
        peer.send("220-2.0.0 Ready", "220 2.0.0 to start TLS")
        peer.start_tls(certificates.good())
        conversation(greeting=[], offer_tls=[AUTH_OFFER])(peer)

    assert hostile(conversation(replies={"STARTTLS": consent}), "starttls", logins=1)["ok"]


@pytest.mark.parametrize(
    "injected",
    [b"250 mx\r\n", b"250-mx\r\n250 AUTH PLAIN\r\n", b"2", b"\r\n", b"\0", b"\x16\x03\x01"],
    ids=["reply", "ehlo", "octet", "line end", "nul", "tls"],
)
def test_a17_clear_text_after_consent(hostile: Hostile, injected: bytes) -> None:
    failed(hostile(conversation(replies={"STARTTLS": raw(b"220 go ahead\r\n" + injected)}), "starttls"), "starttls_injection", "starttls")


def test_a17_clear_text_a_moment_after_consent(hostile: Hostile) -> None:
    """It comes after the ClientHello: so it is no TLS, and no reply either."""

    def inject(peer: Peer) -> None:
        peer.send("220 go ahead")
        peer.connection.recv(1)
        peer.send("250-mx", "250 AUTH PLAIN", "235 2.7.0 welcome")
        peer.wait_until_closed()

    failed(hostile(conversation(replies={"STARTTLS": inject}), "starttls"), "tls_not_tls", "tls")


def test_a17_clear_text_before_the_first_encrypted_reply(hostile: Hostile, certificates: Certificates) -> None:
    def inject(peer: Peer) -> None:
        peer.send("220 go ahead")
        clear = peer.connection.dup()
        peer.start_tls(certificates.good())
        clear.sendall(b"250 mx\r\n")
        clear.close()
        peer.wait_until_closed()

    failed(hostile(conversation(replies={"STARTTLS": inject}), "starttls"), "tls_handshake_failed", "ehlo_tls")


def test_a18_auth_before_tls_only(hostile: Hostile, certificates: Certificates) -> None:
    handler = conversation(context=certificates.good(), offer=["STARTTLS", AUTH_OFFER], offer_tls=["SIZE 1"])

    failed(hostile(handler, "starttls"), "cap_auth_only_in_clear", "auth")


def test_a19_credentials_do_not_go_without_tls(hostile: Hostile, relay: t.Callable[..., t.Any]) -> None:
    """A relay that is set up so is refused before anything is connected, see test_endpoint.py; nor does the client do it."""
    with pytest.raises(ValueError, match="tls: 'none' would send the password in clear text"):
        relay(2500, "none", username="u", password="p")
    login = {"username": "alerts", "password": "in clear text?"}

    failed(hostile(conversation(offer=[AUTH_OFFER]), "none", unchecked=login), "auth_unprotected", "auth")


@pytest.mark.parametrize("greeting", ["220 mx.provider.test ESMTP", "220-mx", "554 5.7.1 no", "421 4.3.2 later"])
def test_a20_clear_text_where_tls_is_expected(hostile: Hostile, greeting: str) -> None:
    def handle(peer: Peer) -> None:
        peer.send(greeting)
        peer.wait_until_closed()

    failed(hostile(handle, timeout=2), "tls_wrong_mode", "tls")


def test_a20_tls_where_clear_text_is_expected(hostile: Hostile, certificates: Certificates) -> None:
    failed(hostile(conversation(tls="implicit", context=certificates.good()), "starttls"), "tls_wrong_mode", "greeting")


# -- certificates ------------------------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("expired", "tls_cert_expired"),
        ("not_yet_valid", "tls_cert_not_yet_valid"),
        ("self_signed", "tls_cert_self_signed"),
        ("wrong_name", "tls_name_mismatch"),
    ],
)
def test_a21_certificates_that_do_not_verify(hostile: Hostile, certificates: Certificates, kind: str, code: str, tls: str) -> None:
    result = hostile(conversation(tls=tls, context=getattr(certificates, kind)()), tls)

    failed(result, code, "tls")
    assert result["tls"]["verified"] is False and result["tls"]["names"]


@MODES
def test_a21_missing_intermediate(hostile: Hostile, pki: Pki, tls: str) -> None:
    result = hostile(conversation(tls=tls, context=pki.context("leaf")), tls, ca_file=pki.path("root"))

    failed(result, "tls_cert_missing_intermediate", "tls")


def test_a21_unknown_root(hostile: Hostile, pki: Pki) -> None:
    result = hostile(conversation(tls="implicit", context=pki.context("leaf", "inter")), ca_file=pki.path("stranger"))

    failed(result, "tls_cert_untrusted_issuer", "tls")


def test_a21_sha_1(hostile: Hostile, pki: Pki) -> None:
    pki.server("old", "root", digest="sha1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # or the server would refuse its own certificate
    context.load_cert_chain(pki.path("old"), pki.key("old"))

    failed(hostile(conversation(tls="implicit", context=context), ca_file=pki.path("root")), "tls_weak_key", "tls")


@pytest.mark.parametrize(
    ("names", "host", "good"),
    [
        ("DNS:*.provider.test", "smtp.provider.test", True),
        ("DNS:*.provider.test", "eu.smtp.provider.test", False),
        ("DNS:*.provider.test", "provider.test", False),
        ("DNS:s*.provider.test", "smtp.provider.test", False),
        ("DNS:*", "localhost", False),
        ("DNS:SMTP.Provider.Test", "smtp.provider.test", True),
        ("DNS:xn--bcher-kva.test", "xn--bcher-kva.test", True),
        ("DNS:*.test", "provider.test", False),
        ("IP:127.0.0.1", "127.0.0.1", True),
        ("IP:127.0.0.2", "127.0.0.1", False),
        ("DNS:127.0.0.1", "127.0.0.1", False),
        ("IP:127.0.0.1", "smtp.provider.test", False),
    ],
)
def test_a22_names(hostile: Hostile, pki: Pki, monkeypatch: pytest.MonkeyPatch, names: str, host: str, good: bool) -> None:
    pki.server("named", "root", names=names)
    monkeypatch.setattr(
        resolve.socket, "getaddrinfo", lambda _host, port, *_a, **_k: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    )
    result = hostile(conversation(tls="implicit", context=pki.context("named")), host=host, ca_file=pki.path("root"), logins=int(good))

    if good:
        assert result["ok"]
    else:
        failed(result, "tls_name_mismatch", "tls")


@pytest.mark.parametrize("years", [-2, 2])
def test_a50_a_clock_that_is_wrong_is_suspected(hostile: Hostile, pki: Pki, years: int) -> None:
    """For a clock that is wrong by two years, a good certificate of three months is as far away as this one is."""
    start = 730 - 45 if years < 0 else -730 - 45
    pki.server("skewed", "root", start=start, end=start + 90)
    result = hostile(conversation(tls="implicit", context=pki.context("skewed")), ca_file=pki.path("root"))

    diagnosis = failed(result, "tls_cert_not_yet_valid" if years < 0 else "tls_cert_expired", "tls")
    assert any("clock" in line for line in diagnosis["evidence"])
    assert "clock" in diagnosis["remedy"] or years > 0


# -- the handshake -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@MODES
def test_a23_old_versions_only(hostile: Hostile, certificates: Certificates, tls: str) -> None:
    context = certificates.good()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1

    failed(hostile(conversation(tls=tls, context=context), tls), "tls_protocol_too_old", "tls")


@MODES
def test_a23_no_shared_cipher(hostile: Hostile, certificates: Certificates, tls: str) -> None:
    context = certificates.good()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")  # needs an RSA key, and this server has none

    failed(hostile(conversation(tls=tls, context=context), tls), "tls_no_shared_cipher", "tls")


def stalling(context: ssl.SSLContext, flight: int, part: float) -> Handler:
    """Do the handshake up to *part* of the server's flight of that number, then say nothing."""

    def handle(peer: Peer) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        flights = 0
        while flights < flight:
            received = peer.connection.recv(65536)
            if not received:
                return
            incoming.write(received)
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
            data = outgoing.read()
            if data:
                flights += 1
                peer.send_raw(data if flights < flight else data[: int(len(data) * part)])
        peer.wait_until_closed()

    return handle


@pytest.mark.parametrize("part", [0.001, 0.5, 0.99])
@pytest.mark.parametrize(("newest", "flight"), [("1.2", 1), ("1.2", 2), ("1.3", 1)])
def test_a23_stall_at_each_flight(hostile: Hostile, pki: Pki, newest: str, flight: int, part: float) -> None:
    handler = stalling(pki.context("leaf", "inter", newest=newest), flight, part)

    failed(hostile(handler, timeout=1.5, ca_file=pki.path("root")), "tls_handshake_timeout", "tls")


def test_a23_stall_after_the_handshake(hostile: Hostile, pki: Pki) -> None:
    handler = stalling(pki.context("leaf", "inter"), 2, 1.0)

    failed(hostile(handler, timeout=1.5, ca_file=pki.path("root")), "greet_timeout", "greeting")


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
@pytest.mark.parametrize(("newest", "flight"), [("1.2", 1), ("1.2", 2), ("1.3", 1)])
@pytest.mark.parametrize("ending", ["end", "reset"])
def test_a07_end_at_each_flight(hostile: Hostile, pki: Pki, newest: str, flight: int, part: float, ending: str) -> None:
    stall = stalling(pki.context("leaf", "inter", newest=newest), flight, part)

    def handle(peer: Peer) -> None:
        peer.wait_until_closed = lambda: None  # type: ignore[method-assign]  # leaves where it would stall
        stall(peer)
        if ending == "reset":
            peer.reset()

    diagnosis = hostile(handle, ca_file=pki.path("root"))["diagnosis"]
    # What has not been read when a connection is reset is lost with it, so an end may look like a reset.
    assert (diagnosis["code"], diagnosis["stage"]) in (("tls_eof", "tls"), ("tls_reset", "tls"))


_HELLO_REQUEST = b"\x16\x03\x03\x00\x04\x00\x00\x00\x00"
"""A client ignores it during a handshake (RFC 5246 section 7.4.1.1)."""


@pytest.mark.parametrize(
    "flood",
    [_HELLO_REQUEST * 7000, b"\x16\x03\x03\x3e\x80" + b"\0\0\0\0" * 4000, b"\x16\x03\x03\x00\x01\x02", b"\x15\x03\x03\x00\x02\x01\x64" * 7000],
    ids=["HelloRequest", "many in a record", "octet in a record", "warnings"],
)
def test_a23_a_flood_within_the_handshake(hostile: Hostile, flood: bytes) -> None:
    """One call of OpenSSL must not go on for as long as the server likes."""

    def handle(peer: Peer) -> None:
        peer.connection.recv(1)
        while True:
            peer.send_raw(flood)

    result = hostile(handle, timeout=1.5)
    assert result["diagnosis"]["code"] in ("tls_handshake_timeout", "tls_handshake_failed")


@pytest.mark.parametrize(
    ("alert", "code"),
    [
        (b"\x02\x00", "tls_eof"),  # close_notify
        (b"\x02\x28", "tls_no_shared_cipher"),  # handshake_failure
        (b"\x02\x46", "tls_protocol_too_old"),  # protocol_version
        (b"\x02\x50", "tls_handshake_failed"),  # internal_error
        (b"\x02\x70", "tls_handshake_failed"),  # unrecognized_name
        (b"\x02\xff", "tls_eof"),  # none that there is
    ],
)
def test_alerts(hostile: Hostile, alert: bytes, code: str) -> None:
    def handle(peer: Peer) -> None:
        peer.connection.recv(4096)
        peer.send_raw(b"\x15\x03\x03\x00\x02" + alert)
        peer.wait_until_closed()

    failed(hostile(handle), code, "tls")


# -- size --------------------------------------------------------------------------------------------------------------


def _chain_of(pki: Pki, count: int, size: int) -> ssl.SSLContext:
    """A good chain and *count* certificates after it that nobody needs, each of about *size* octets."""
    comment = ("-addext", "nsComment=" + "x" * size)
    pki.openssl("req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", "big.key", "-out", "big.pem", "-subj", "/CN=Big", *comment)
    pki.server("short", "root")
    return pki.context("short", *["big"] * count)


def test_a24_a_hundred_certificates(hostile: Hostile, pki: Pki) -> None:
    """They are of no use, and of no harm: the chain that is told has an end."""
    result = hostile(conversation(tls="implicit", context=_chain_of(pki, 100, 10)), ca_file=pki.path("root"), logins=1)

    assert result["ok"] and len(result["tls"]["chain"]) == 10


def test_a24_a_megabyte_of_certificates(hostile: Hostile, pki: Pki) -> None:
    result = hostile(conversation(tls="implicit", context=_chain_of(pki, 100, 10000)), ca_file=pki.path("root"))

    diagnosis = failed(result, "tls_handshake_failed", "tls")
    assert "EXCESSIVE_MESSAGE_SIZE" in str(diagnosis["evidence"])


# -- after the handshake -----------------------------------------------------------------------------------------------


_TALK = [("", "220 mx"), ("EHLO", "250-mx"), ("", "250 AUTH PLAIN"), ("AUTH", "235 2.7.0 welcome"), ("QUIT", "221 bye")]


def test_the_server_of_openssl_is_one(hostile: Hostile, pki: Pki) -> None:
    assert hostile(s_server(pki, _TALK), ca_file=pki.path("root"), logins=1)["ok"]


def test_a25_renegotiation(hostile: Hostile, pki: Pki) -> None:
    script = [*_TALK[:1], ("EHLO", "r"), ("SSL_do_handshake", "250-mx"), *_TALK[2:]]
    result = hostile(s_server(pki, script, "-tls1_2"), ca_file=pki.path("root"), logins=1)

    assert result["ok"]


def test_a25_a_flood_of_session_tickets(hostile: Hostile, pki: Pki) -> None:
    """As many messages as fit that are no data."""
    result = hostile(s_server(pki, [], "-tls1_3", "-num_tickets", "200000"), ca_file=pki.path("root"), timeout=1.5)

    failed(result, "greet_timeout", "greeting")


@pytest.mark.parametrize("announced", [True, False], ids=["close_notify", "none"])
def test_a25_the_end_of_tls_announced_or_not(hostile: Hostile, certificates: Certificates, announced: bool) -> None:
    def handle(peer: Peer) -> None:
        peer.start_tls(certificates.good())
        peer.send_raw(b"220 mx.provider.test\r\n")
        peer.line()
        if announced:
            t.cast(ssl.SSLSocket, peer.connection).unwrap()
        peer.connection.shutdown(socket.SHUT_RDWR)

    failed(hostile(handle), "connection_closed", "ehlo_tls")


def test_a25_the_end_of_tls_and_clear_text_after_it(hostile: Hostile, certificates: Certificates) -> None:
    """What comes after close_notify, in the same packet, is not read as a reply."""

    def handle(peer: Peer) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = certificates.good().wrap_bio(incoming, outgoing, server_side=True)

        def until_done(step: t.Callable[[], t.Any]) -> None:
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    step()
                    return
                peer.send_raw(outgoing.read())
                received = peer.connection.recv(65536)
                if received:
                    incoming.write(received)
                else:
                    incoming.write_eof()

        until_done(tls.do_handshake)
        tls.write(b"220 mx.provider.test\r\n")
        until_done(lambda: tls.read(1000))
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()
        peer.send_raw(outgoing.read() + b"250-mx\r\n250 AUTH PLAIN\r\n")
        peer.wait_until_closed()

    result = hostile(handle)
    failed(result, "connection_closed", "ehlo_tls")
    assert not result["capabilities"]["after_tls"]
