# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a server trusted, against real TLS servers: names, versions, pins, client certificates, and the chain."""

from __future__ import annotations

import hashlib
import os
import pty
import ssl
import sys
import threading
import typing as t
from pathlib import Path

import pytest
from pki import LOCAL, Pki
from smtp_server import AUTH_OFFER, HOST, PASSWORD, USERNAME, Certificates, Peer, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.endpoint import normalise_endpoints
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.probe import probe_all
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import identity, sent_chain, x509
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.session import Session
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.tls import Contexts
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust

VERSIONS = pytest.mark.parametrize("newest", ["1.2", ""], ids=["TLS 1.2", "TLS 1.3"])
MODES = pytest.mark.parametrize("mode", ["implicit", "starttls"])


def serve(context: ssl.SSLContext, mode: str = "implicit") -> Server:
    return Server(conversation(tls=mode, context=context))


def make(server: Server, mode: str = "implicit", **options: t.Any) -> Client:
    return Client(options.pop("host", HOST), server.port, mode, deadline=Deadline(10), ehlo_name="h.example", **options)


def walk(client: Client) -> None:
    """As far as the EHLO after TLS."""
    client.connect()
    client.greeting()
    if client.tls == "starttls":
        client.ehlo()
        client.starttls()
    client.ehlo()


def failure(server: Server, mode: str = "implicit", **options: t.Any) -> t.Tuple[SmtpError, Client]:
    with make(server, mode, **options) as client, pytest.raises(SmtpError) as caught:
        walk(client)
    server.settle()
    return caught.value, client


# -- the chain -----------------------------------------------------------------------------------------------------------


@VERSIONS
@MODES
def test_the_chain_is_known_as_it_was_sent(pki: Pki, newest: str, mode: str) -> None:
    sent = ["leaf", "root", "inter"]
    with serve(pki.context(*sent, newest=newest), mode) as server, make(server, mode, trust=Trust(ca_file=pki.path("root"))) as client:
        walk(client)

        assert client.session is not None and client.session.verified
        assert client.session.version == ("TLSv1.2" if newest else "TLSv1.3")
        assert client.session.chain == tuple(pki.der(name) for name in sent)


@VERSIONS
def test_the_chain_is_known_although_it_leads_nowhere(pki: Pki, newest: str) -> None:
    with serve(pki.context("leaf", "inter", newest=newest)) as server, make(server, verify=False) as client:
        walk(client)

        assert client.session is not None and not client.session.verified and not client.trusted
        assert client.session.chain == (pki.der("leaf"), pki.der("inter"))


def test_a_chain_of_thirty_certificates_is_cut(pki: Pki) -> None:
    with serve(pki.context("leaf", *["inter"] * 29)) as server, make(server, trust=Trust(ca_file=pki.path("root"))) as client:
        walk(client)

        assert client.session is not None
        assert len(client.session.chain) == sent_chain.MAX_CERTIFICATES


def test_a_chain_of_more_than_100_kib_ends_the_handshake(pki: Pki) -> None:
    pki.server("wide", "inter", names=",".join([LOCAL, *(f"DNS:n{number}.example.net" for number in range(400))]))
    with serve(pki.context("leaf", *["wide"] * 20)) as server:
        error, client = failure(server, trust=Trust(ca_file=pki.path("root")))

    assert (error.kind, error.stage, error.reason) == (Kind.TLS, "tls", "EXCESSIVE_MESSAGE_SIZE")


def test_certificate_messages() -> None:
    """The one of TLS 1.3 has a context before, and extensions after each certificate."""
    older = b"\x0b\x00\x00\x0c\x00\x00\x09\x00\x00\x01A\x00\x00\x02BB"
    newer = b"\x0b\x00\x00\x12\x01x\x00\x00\x0d\x00\x00\x01A\x00\x01e\x00\x00\x01B\x00\x00"

    assert sent_chain.certificate_message(older, tls_1_3=False) == [b"A", b"BB"]
    assert sent_chain.certificate_message(newer, tls_1_3=True) == [b"A", b"B"]
    assert sent_chain.certificate_message(b"", tls_1_3=True) == []
    for message, tls_1_3 in ((older, False), (newer, True)):
        for size in range(1, len(message)):
            with pytest.raises(ValueError):
                sent_chain.certificate_message(message[:size], tls_1_3)
    with pytest.raises(ValueError):
        sent_chain.certificate_message(b"\x0e\0\0\0", tls_1_3=False)


# -- names and versions ----------------------------------------------------------------------------------------------------


def test_another_name_is_asked_for_and_verified(pki: Pki) -> None:
    pki.server("hosted", "root", names="DNS:mail.hosted.test")
    asked: t.List[t.Optional[str]] = []
    context = pki.context("hosted")
    context.sni_callback = lambda _sock, name, _context: asked.append(name)  # type: ignore[assignment]
    trust = Trust(ca_file=pki.path("root"), server_name="mail.hosted.test")
    with serve(context) as server:
        with make(server, trust=trust, host="localhost") as client:
            walk(client)
            assert client.trusted
        error, _client = failure(server, trust=trust._replace(server_name=None), host="localhost")

    assert asked == ["mail.hosted.test", "localhost"]
    assert error.verify_code == 62


@pytest.mark.parametrize(("newest", "fine"), [("1.2", False), ("", True)])
def test_minimum_version(pki: Pki, newest: str, fine: bool) -> None:
    trust = Trust(ca_file=pki.path("root"), minimum_version="1.3")
    with serve(pki.context("leaf", "inter", newest=newest)) as server:
        if fine:
            with make(server, trust=trust) as client:
                walk(client)
                assert client.session is not None and client.session.version == "TLSv1.3"
            return
        error, _client = failure(server, trust=trust)

    assert error.kind == Kind.TLS and "PROTOCOL" in error.reason and "VERSION" in error.reason


def test_maximum_version(pki: Pki) -> None:
    with serve(pki.context("leaf", "inter")) as server, make(server, trust=Trust(ca_file=pki.path("root"), maximum_version="1.2")) as client:
        walk(client)

        assert client.session is not None and client.session.version == "TLSv1.2"


# -- pins ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["certificate", "public_key"])
@MODES
def test_a_pinned_certificate_needs_no_root_name_or_date(pki: Pki, mode: str, of: str) -> None:
    pki.server("pinned", "stranger", names="DNS:elsewhere.test", start=-20, end=-10)
    parsed = x509.parse(pki.der("pinned"))
    wanted = "sha256:" + (parsed.fingerprint_sha256 if of == "certificate" else parsed.public_key_sha256)
    trust = Trust(fingerprints=("sha256:" + "0" * 64, wanted))
    with serve(pki.context("pinned"), mode) as server, make(server, mode, trust=trust) as client:
        walk(client)
        assert client.session is not None and client.session.verified and client.session.fingerprint == wanted

        assert client.authenticate(Credentials(USERNAME, PASSWORD), "plain").code == 235


@MODES
def test_another_certificate_than_the_pinned_gets_nothing_however_good(pki: Pki, mode: str) -> None:
    trust = Trust(ca_file=pki.path("root"), fingerprints=("sha256:" + hashlib.sha256(pki.der("inter")).hexdigest(),))
    with serve(pki.context("leaf", "inter"), mode) as server:
        error, client = failure(server, mode, trust=trust)

        encrypted = [line for peer in server.peers for line in peer.lines if line not in peer.clear_lines]
        assert encrypted == []
    assert (error.kind, error.stage) == (Kind.FINGERPRINT, "tls")
    assert x509.parse(pki.der("leaf")).fingerprint_sha256 in str(error)
    assert client.session is not None and not client.session.verified and client.session.certificate == pki.der("leaf")
    assert not client.in_dialogue


def test_a_certificate_that_can_not_be_read_is_not_the_pinned_one() -> None:
    judge = identity.Fingerprint(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "x.test", ("sha256:" + hashlib.sha256(b"junk").hexdigest(),))

    with pytest.raises(SmtpError) as caught:
        judge.accept(Session("TLSv1.3", "", False, b"junk"))

    assert caught.value.kind == Kind.FINGERPRINT


# -- client certificates ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(pki: Pki) -> str:
    """The certificate of this host."""
    return pki.issue("own", "root", "/CN=client", "extendedKeyUsage=clientAuth")


@VERSIONS
@pytest.mark.parametrize("together", [True, False], ids=["one file", "two files"])
def test_a_client_certificate_is_shown(pki: Pki, own: str, newest: str, together: bool, tmp_path: Path) -> None:
    shown: t.List[str] = []

    def look(peer: Peer) -> None:
        peer.start_tls(context)
        shown.append(peer.connection.getpeercert()["subject"][0][0][1])  # type: ignore[attr-defined]
        peer.send("220 hello")
        peer.line()
        peer.send("250-mx.provider.test", f"250 {AUTH_OFFER}")

    both = tmp_path / "both.pem"
    both.write_text(Path(pki.path(own)).read_text() + Path(pki.key(own)).read_text())
    files = (str(both), None) if together else (pki.path(own), pki.key(own))
    context = pki.context("leaf", "inter", client_ca="root", newest=newest)
    trust = Trust(ca_file=pki.path("root"), client_certificate=files[0], client_key=files[1])
    with Server(look) as server, make(server, trust=trust) as client:
        walk(client)

    assert shown == ["client"]


@VERSIONS
@MODES
def test_a_server_that_demands_a_certificate(pki: Pki, newest: str, mode: str) -> None:
    """With TLS 1.3 the alert comes after the handshake, as the answer to what is sent or read next."""
    with serve(pki.context("leaf", "inter", client_ca="root", newest=newest), mode) as server:
        for _count in range(3):
            error, _client = failure(server, mode, trust=Trust(ca_file=pki.path("root")))

            assert error.kind == Kind.TLS
            assert error.reason == ("SSLV3_ALERT_HANDSHAKE_FAILURE" if newest else "TLSV13_ALERT_CERTIFICATE_REQUIRED")


@pytest.mark.parametrize(
    ("case", "cause"),
    [
        ("no certificate file", "none.pem: No such file or directory"),
        ("no key file", "none.key: No such file or directory"),
        ("directory", ": Is a directory"),
        ("key for certificate", "own.key holds no certificate in PEM form"),
        ("certificate for key", "own.pem holds no private key in PEM form"),
        ("other key", "leaf.key holds a private key that does not belong to the certificate in "),
        ("damaged", "damaged.pem can not be used"),
        ("encrypted", "encrypted.key holds an encrypted private key"),
    ],
)
def test_a_client_certificate_that_can_not_be_used(pki: Pki, own: str, case: str, cause: str, tmp_path: Path) -> None:
    """Before any connection; the file and its trouble are named."""
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    encrypted = _encrypted(pki, own)
    none = str(tmp_path / "none")
    certificate, key = {
        "no certificate file": (none + ".pem", pki.key(own)),
        "no key file": (pki.path(own), none + ".key"),
        "directory": (str(tmp_path), None),
        "key for certificate": (pki.key(own), pki.key(own)),
        "certificate for key": (pki.path(own), None),
        "other key": (pki.path(own), pki.key("leaf")),
        "damaged": (str(damaged), pki.key(own)),
        "encrypted": (pki.path(own), encrypted),
    }[case]
    with serve(pki.context("leaf", "inter")) as server:
        error, _client = failure(server, trust=Trust(client_certificate=certificate, client_key=key))

        assert (error.kind, error.stage) == (Kind.CLIENT_CERTIFICATE, "tls")
        assert cause in str(error)
        assert server.peers == []


def _encrypted(pki: Pki, name: str) -> str:
    path = pki.key("encrypted")
    pki.openssl("pkey", "-in", f"{name}.key", "-aes256", "-passout", "pass:secret", "-out", path)
    return path


def test_an_encrypted_key_does_not_ask_on_the_terminal(pki: Pki, own: str) -> None:
    """OpenSSL would open the controlling terminal and wait there for a passphrase."""
    program = (
        "import ssl, sys\n"
        "from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import client_certificate\n"
        "try:\n"
        "    client_certificate.load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), sys.argv[1], sys.argv[2])\n"
        "except Exception as exc:\n"
        "    print(exc.kind)\n"
    )
    encrypted = _encrypted(pki, own)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", program, pki.path(own), encrypted], environment)
    watchdog = threading.Timer(20, os.kill, (pid, 9))
    watchdog.start()
    shown = b""
    try:
        while True:
            shown += os.read(terminal, 1024)
    except OSError:
        pass  # the end of a terminal
    _pid, status = os.waitpid(pid, 0)
    watchdog.cancel()
    os.close(terminal)

    assert status == 0 and shown.decode().strip() == Kind.CLIENT_CERTIFICATE


# -- contexts --------------------------------------------------------------------------------------------------------------


def test_contexts_are_shared_by_what_is_in_them(pki: Pki, own: str) -> None:
    contexts = Contexts()
    plain = Trust()

    assert contexts.verifying(plain) is contexts.verifying(Trust(server_name="x.test", dane=True, fingerprints=("sha256:00",)))
    assert contexts.verifying(plain) is not contexts.inspecting(plain)
    assert contexts.inspecting(plain) is contexts.inspecting(Trust(ca_file=pki.path("root")))
    different = [
        plain,
        Trust(ca_file=pki.path("root")),
        Trust(minimum_version="1.3"),
        Trust(client_certificate=pki.path(own), client_key=pki.key(own)),
    ]
    assert len({id(contexts.verifying(trust)) for trust in different}) == len(different)


def test_many_clients_use_one_context_with_a_client_certificate_at_a_time(pki: Pki, own: str) -> None:
    contexts = Contexts()
    trust = Trust(ca_file=pki.path("root"), client_certificate=pki.path(own), client_key=pki.key(own))
    chains: t.List[t.Tuple[bytes, ...]] = []

    def visit(server: Server) -> None:
        with make(server, trust=trust, contexts=contexts) as client:
            walk(client)
            chains.append(client.session.chain if client.session else ())

    with serve(pki.context("leaf", "inter", client_ca="root")) as server:
        threads = [threading.Thread(target=visit, args=(server,)) for _count in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)

    assert chains == [(pki.der("leaf"), pki.der("inter"))] * 8


@pytest.mark.parametrize(
    ("field", "code"), [("ca_file", "cfg_ca_file"), ("client_certificate", "cfg_client_certificate"), ("client_key", "cfg_client_certificate")]
)
def test_a_named_pipe_stops_no_other_test(certificates: Certificates, tmp_path: Path, field: str, code: str) -> None:
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    with Server(conversation(tls="implicit", context=certificates.good())) as server:
        common = {"host": "127.0.0.1", "port": server.port, "tls": "implicit", "ca_file": certificates.ca_file}
        piped = {"client_certificate": certificates.client(), field: pipe}
        results = probe_all(normalise_endpoints([{"name": "good", **common}, {"name": "piped", **common, **piped}]), 20.0, "client.example.org")

    assert results[0]["ok"] and results[1]["diagnosis"]["code"] == code
    assert "is no regular file" in results[1]["diagnosis"]["summary"]
