# SPDX-License-Identifier: GPL-3.0-or-later
"""The authentication test against real servers on loopback: what passes, every failure's diagnosis, and what is never sent."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import threading
import time
import typing as t
import urllib.parse

import pytest
from smtp_server import AUTH_OFFER, PASSWORD, USERNAME, Certificates, Handler, Peer, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import client, connect, probe, resolve
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.diagnoses import BY_CODE
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.endpoint import UNSET
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.redact import Redactor

Result = t.Dict[str, t.Any]
MakeRelay = t.Callable[..., t.Dict[str, t.Any]]
LOGIN = {"username": USERNAME, "password": PASSWORD}


class Bench:
    """Runs a server and the test of it, and keeps both for the assertions."""

    def __init__(self, relay: MakeRelay, certificates: Certificates) -> None:
        self.relay = relay
        self.certificates = certificates
        self.server: Server
        self.elapsed = 0.0

    def test(self, handler: Handler, tls: str = "implicit", *, timeout: float = 5.0, **fields: t.Any) -> Result:
        entry = dict(UNSET, **LOGIN, ca_file=self.certificates.ca_file, mechanism="auto", name="primary", host="127.0.0.1", tls=tls)
        if tls == "none":
            entry.update(username=None, password=None)
        entry.update(fields)
        started = time.monotonic()
        with Server(handler) as self.server:
            entry["port"] = self.server.port
            (result,) = probe.probe_all([entry], timeout, "client.example.org")
            self.elapsed = time.monotonic() - started
            self.server.settle()
        password = fields.get("password") or PASSWORD
        if len(password) >= 8:  # a shorter one may be part of our own words
            assert_secret_is_nowhere(result, password)
        return result


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback answers at once, so what is not there yet does not come."""
    monkeypatch.setattr(probe, "PATIENCE", 0.5)
    monkeypatch.setattr(client, "QUIT_SECONDS", 0.5)


@pytest.fixture(autouse=True)
def system_roots(monkeypatch: pytest.MonkeyPatch, certificates: Certificates, tmp_path: t.Any) -> None:
    """The system trusts one root, whatever the machine is that the tests run on."""
    monkeypatch.setenv("SSL_CERT_FILE", certificates.unrelated_root())
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))


@pytest.fixture
def bench(relay: MakeRelay, certificates: Certificates) -> Bench:
    return Bench(relay, certificates)


def encodings(username: str, password: str) -> t.Set[str]:
    """Every form in which the credentials could be recovered from a text. Written without the code under test."""
    found = {password, urllib.parse.quote(password, safe=""), urllib.parse.quote_plus(password)}
    found.add(password.encode().hex())
    found.add(json.dumps(password)[1:-1])
    for secret in (password, username):
        for before in ("", "x", "xy"):
            encoded = base64.b64encode((before + secret + "zz").encode()).decode()
            # Without what the neighbours decide: the first characters by alignment, and the last four.
            found.add(encoded[4 if before else 0 : -4][:12])
    blob = f"\0{username}\0{password}".encode()
    found |= {base64.b64encode(blob).decode(), base64.urlsafe_b64encode(blob).decode(), blob.hex()}
    found.add(base64.b64encode(f"{password}\0{username}".encode()).decode())
    return {form for form in found if len(form) >= 4 or form == password}


def assert_secret_is_nowhere(result: t.Any, password: str = PASSWORD) -> None:
    texts = list(strings(result))
    for form in encodings(USERNAME, password):
        assert not [text for text in texts if form in text], form


def strings(value: t.Any) -> t.Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield key
            yield from strings(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from strings(entry)


def assert_failed(result: Result, code: str, stage: str, masked: str = "") -> t.Dict[str, t.Any]:
    """The diagnosis, after checks that hold for every failure. A port may happen to hold what must be *masked*."""
    assert not result["ok"]
    diagnosis = result["diagnosis"]
    assert (diagnosis["code"], diagnosis["stage"]) == (code, stage), diagnosis
    assert "{" not in diagnosis["summary"] + diagnosis["remedy"]
    place = f"127.0.0.1:{result['port']}"
    assert (place.replace(masked, "********") if masked else place) in diagnosis["summary"]
    assert diagnosis["evidence"] and diagnosis["remedy"]
    statuses = {entry["stage"]: entry["status"] for entry in result["stages"]}
    assert statuses[stage] == "failed" and list(statuses.values()).count("failed") == 1
    json.dumps(result)
    return t.cast("t.Dict[str, t.Any]", diagnosis)


# -- what passes -------------------------------------------------------------------------------------------------------


def test_implicit_tls_logs_in_and_tells_everything(bench: Bench, certificates: Certificates) -> None:
    result = bench.test(conversation(tls="implicit", context=certificates.good()))

    assert result["ok"] and result["diagnosis"] is None
    assert [entry["stage"] for entry in result["stages"]] == ["resolve", "connect", "tls", "greeting", "ehlo_tls", "auth", "quit"]
    assert {entry["status"] for entry in result["stages"]} == {"ok"}
    assert result["addresses"][0]["outcome"] == "connected" and result["addresses"][0]["family"] == "ipv4"
    tls = result["tls"]
    assert tls["verified"] and tls["version"] == "TLSv1.3" and tls["error"] is None
    assert tls["names"] == ["localhost", "127.0.0.1"] and tls["issuer"] == "CN=Test CA" and tls["days_left"] in (89, 90)
    assert result["auth"] == {
        "offered": ["PLAIN", "LOGIN"],
        "tried": True,
        "mechanism": "PLAIN",
        "attempts": [{"mechanism": "PLAIN", "code": 235, "enhanced_code": "2.7.0", "text": "Authentication successful"}],
        "token": None,
        "code": 235,
        "enhanced_code": "2.7.0",
        "text": "Authentication successful",
    }
    assert "C: AUTH PLAIN ********" in result["transcript"]
    assert bench.server.lines[-1] == b"QUIT"


def test_starttls_logs_in_after_tls_only(bench: Bench, certificates: Certificates) -> None:
    result = bench.test(conversation(context=certificates.good()), "starttls")

    assert result["ok"]
    assert [entry["status"] for entry in result["stages"]] == ["ok"] * 9
    assert result["capabilities"] == {"before_tls": ["SIZE 1000000", "STARTTLS"], "after_tls": [AUTH_OFFER]}
    assert bench.server.clear_text == b"EHLO client.example.org\nSTARTTLS"


def test_login_is_taken_where_plain_is_not_offered(bench: Bench, certificates: Certificates) -> None:
    result = bench.test(conversation(tls="implicit", context=certificates.good(), offer_tls=["AUTH=LOGIN NTLM"]))

    assert result["ok"] and result["auth"]["mechanism"] == "LOGIN"
    assert result["transcript"].count("C: ********") == 2


def test_the_mechanism_that_was_asked_for_is_used(bench: Bench, certificates: Certificates) -> None:
    result = bench.test(conversation(tls="implicit", context=certificates.good()), mechanism="login")

    assert result["ok"] and result["auth"]["mechanism"] == "LOGIN"


def test_without_credentials_all_but_the_login_is_tested(bench: Bench, certificates: Certificates) -> None:
    result = bench.test(conversation(tls="implicit", context=certificates.good()), username=None, password=None)

    assert result["ok"] and result["auth"]["tried"] is False and result["auth"]["offered"] == ["PLAIN", "LOGIN"]
    assert {entry["stage"]: entry["status"] for entry in result["stages"]}["auth"] == "skipped"
    assert bench.server.auth_attempts == 0


def test_a_relay_without_tls_and_login_passes(bench: Bench) -> None:
    result = bench.test(conversation(), "none")

    assert result["ok"] and result["tls"] is None
    assert b"STARTTLS" not in bench.server.clear_text


@pytest.mark.parametrize("ending", [Peer.reset, Peer.wait_until_closed], ids=["reset", "silence"])
def test_quit_that_is_not_answered_is_no_failure(bench: Bench, certificates: Certificates, ending: Handler) -> None:
    result = bench.test(conversation(tls="implicit", context=certificates.good(), replies={"QUIT": ending}))

    assert result["ok"] and bench.elapsed < 2


def test_a_long_response_goes_after_the_prompt(bench: Bench, certificates: Certificates) -> None:
    result = bench.test(conversation(tls="implicit", context=certificates.good()), password="p4s5-" * 200)

    assert result["diagnosis"]["code"] == "auth_bad_credentials"
    assert bench.server.auth_attempts == 1
    assert bench.server.lines[1] == b"AUTH PLAIN" and len(bench.server.lines[2]) > 1000


# -- never sent, never twice -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", ["535 5.7.8 no", "534 5.7.9 no", "454 4.7.0 later", "504 5.5.4 what", "250 2.0.0 ok", "334 "])
@pytest.mark.parametrize("mechanism", ["plain", "login"])
def test_there_is_one_attempt_whatever_the_answer(bench: Bench, certificates: Certificates, reply: str, mechanism: str) -> None:
    result = bench.test(conversation(tls="implicit", context=certificates.good(), replies={"AUTH": reply}), mechanism=mechanism)

    assert not result["ok"] and result["auth"]["tried"]
    assert bench.server.auth_attempts == 1 and len(bench.server.peers) == 1


@pytest.mark.parametrize("kind", ["wrong_name", "expired", "not_yet_valid", "self_signed"])
@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_nothing_is_sent_where_the_certificate_does_not_verify(bench: Bench, certificates: Certificates, kind: str, tls: str) -> None:
    result = bench.test(conversation(tls=tls, context=getattr(certificates, kind)()), tls)

    assert result["tls"]["verified"] is False and result["tls"]["names"] and result["tls"]["not_after"]
    assert not result["auth"]["tried"] and bench.server.auth_attempts == 0


@pytest.mark.parametrize("offer", [["SIZE 1", AUTH_OFFER], ["XXXXXXXA", AUTH_OFFER], ["STARTTLS", AUTH_OFFER]], ids=["absent", "masked", "refused"])
def test_nothing_is_sent_in_clear_text(bench: Bench, offer: t.List[str]) -> None:
    result = bench.test(conversation(offer=offer, replies={"STARTTLS": "454 4.7.0 TLS not available"}), "starttls")

    assert not result["ok"] and not result["auth"]["tried"]
    assert b"AUTH" not in bench.server.clear_text


def test_credentials_without_tls_are_refused_by_the_client_itself(bench: Bench) -> None:
    result = bench.test(conversation(offer=[AUTH_OFFER]), "none", **LOGIN)

    assert_failed(result, "auth_unprotected", "auth")
    assert b"AUTH" not in bench.server.clear_text


@pytest.mark.parametrize(
    "password",
    ["x", "ok", "250", "PLAIN", "AUTH", "hunter22", "ü" * 9, 'a"b\\c<d>', "<script>&amp;", "%41%42/+ ", "A" * 300, "p\u0301w"],
)
@pytest.mark.parametrize("mechanism", ["plain", "login"])
def test_a_server_that_quotes_the_password_is_not_repeated(bench: Bench, certificates: Certificates, password: str, mechanism: str) -> None:
    def echo(peer: Peer) -> None:
        line = peer.lines[-1].decode()
        if mechanism == "login":
            peer.send("334 VXNlcm5hbWU6")
            name = peer.line().decode()
            peer.send("334 UGFzc3dvcmQ6")
            line = f"{name} {peer.line().decode()}"
        blob = f"\0{USERNAME}\0{password}".encode()
        forms = [line, *line.split(), password, repr(password), blob.hex(), urllib.parse.quote(password)]
        forms += [base64.b64encode(b"x" * offset + password.encode() + b"yy").decode() for offset in range(3)]
        forms += [base64.urlsafe_b64encode(blob).decode(), base64.b64encode(f"{password}:{USERNAME}".encode()).decode()]
        peer.send(*[f"535-5.7.8 bad: {form}" for form in forms], "535 5.7.8 bad")
        peer.line()

    result = bench.test(conversation(tls="implicit", context=certificates.good(), replies={"AUTH": echo}), mechanism=mechanism, password=password)
    assert_failed(result, "auth_bad_credentials", "auth", masked=password)
    server_texts = [line for line in result["transcript"] if line.startswith("S: 535")]
    server_texts += [result["auth"]["text"], *result["diagnosis"]["evidence"]]
    assert len(server_texts) > 10
    for form in encodings(USERNAME, password):
        assert not [text for text in server_texts if form in text.replace("S: ", "")], form


def test_a_password_among_the_mechanisms_is_masked(bench: Bench, certificates: Certificates) -> None:
    """A server may know the password from the day before, and mechanisms are read in upper case."""
    result = bench.test(conversation(tls="implicit", context=certificates.good(), offer_tls=[f"AUTH {PASSWORD}"]))

    assert_failed(result, "cap_no_common_mech", "auth")
    assert PASSWORD.upper() not in json.dumps(result, ensure_ascii=False)


@pytest.mark.parametrize("password", ["e", "A", "P", "T", ".", "1", "=", "-", "login"])
def test_a_password_that_is_part_of_everything_changes_no_fact(bench: Bench, certificates: Certificates, password: str) -> None:
    """What the login comes to, and what Postfix would do, is concluded from these."""
    server = conversation(tls="starttls", context=certificates.good(), offer=["STARTTLS"], offer_tls=["AUTH PLAIN LOGIN PASSWORT", "AUTH=PLAIN"])
    for host in ("127.0.0.1", "localhost"):
        result = bench.test(server, "starttls", host=host, password=password)
        assert result["capabilities"]["before_tls"] == ["STARTTLS"]
        assert result["capabilities"]["after_tls"][0].startswith("AUTH PLAIN LOGIN ") and result["capabilities"]["after_tls"][1] == "AUTH=PLAIN"
        assert result["auth"]["offered"][:2] == ["PLAIN", "LOGIN"]
        assert host in result["tls"]["names"]


def test_where_a_word_is_masked_nothing_but_known_words_are_shown(bench: Bench, certificates: Certificates) -> None:
    server = conversation(tls="implicit", context=certificates.good(), offer_tls=["AUTH PLAIN XeX X-OTHER", "X-NAME e"])
    result = bench.test(server, password="e")
    assert result["capabilities"]["after_tls"] == ["AUTH PLAIN ******** ********", "X-NAM******** ********"]


def test_one_relay_does_not_tell_the_password_of_another(relay: MakeRelay, certificates: Certificates) -> None:
    blob = base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode()).decode()
    handler = conversation(tls="implicit", context=certificates.good(), replies={"AUTH": f"535 5.7.8 not {blob}"})
    with Server(handler) as server:
        entries = [relay(server.port, name=name, ca_file=certificates.ca_file, **LOGIN) for name in ("first", "second")]
        entries[0]["password"] = "something else"
        results = probe.probe_all(entries, 5, "client.example.org")

    assert [result["auth"]["text"] for result in results] == ["not ********"] * 2
    assert_secret_is_nowhere(results)


@pytest.mark.parametrize("before", range(200, 256, 5))
def test_a_password_is_masked_before_anything_is_cut(bench: Bench, before: int) -> None:
    for handler, tls in ((lambda peer: peer.send("A" * before + PASSWORD), "starttls"), (_answer("A" * before + PASSWORD), "implicit")):
        result = bench.test(handler, tls)

        assert not [text for text in strings(result) if "A" + PASSWORD[:3] in text]


def _answer(text: str) -> Handler:
    """Answer the ClientHello with *text*, a moment after it was sent."""

    def handle(peer: Peer) -> None:
        peer.connection.recv(4096)
        threading.Event().wait(0.05)
        peer.send(text)

    return handle


@pytest.mark.parametrize("mechanism", ["plain", "login"])
def test_a_login_that_is_accepted_before_the_password_was_sent_is_none(bench: Bench, certificates: Certificates, mechanism: str) -> None:
    def accept(peer: Peer) -> None:
        if mechanism == "login":
            peer.send("334 VXNlcm5hbWU6")
            peer.line()
        peer.send("235 2.7.0 welcome")
        peer.line()

    username = "u" * 400  # too long for the AUTH line, so that PLAIN as well waits for the prompt
    handler = conversation(tls="implicit", context=certificates.good(), replies={"AUTH": accept})
    result = bench.test(handler, mechanism=mechanism, username=username)

    assert_failed(result, "auth_unexpected_reply", "auth")


def test_credentials_are_masked_before_they_are_sent_as_well(bench: Bench, certificates: Certificates) -> None:
    """A server knows them from an earlier login, and may show them at any time."""
    blob = base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode()).decode()
    texts = [f"X {blob}", f"X {PASSWORD}"]
    result = bench.test(
        conversation(context=certificates.good(), greeting=[f"220 {blob}"], offer=[*texts, "STARTTLS"], offer_tls=[*texts, "AUTH X"]), "starttls"
    )

    assert_failed(result, "cap_no_common_mech", "auth")
    assert result["capabilities"]["after_tls"][:2] == ["X ********"] * 2


@pytest.mark.parametrize("mechanism", ["plain", "login"])
def test_what_follows_auth_is_not_even_given_to_the_recorder(
    bench: Bench, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, mechanism: str
) -> None:
    """The redactor is for what servers write; what the client sends must not depend on it."""
    monkeypatch.setattr(Redactor, "clean", lambda _self, text: text)
    result = bench.test(conversation(tls="implicit", context=certificates.good()), mechanism=mechanism)

    assert result["ok"] and "********" in " ".join(result["transcript"])


def test_credentials_that_can_not_be_sent_are_refused_before_auth(bench: Bench, certificates: Certificates) -> None:
    result = bench.test(conversation(tls="implicit", context=certificates.good()), password="two\nlines")

    assert_failed(result, "cfg_credentials", "auth")
    assert bench.server.auth_attempts == 0


# -- name resolution and connection ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "dns_nxdomain"),
        (socket.gaierror(socket.EAI_NODATA, "No address associated with hostname"), "dns_no_address"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "dns_temporary"),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution"), "dns_failed"),
        (UnicodeError("label too long"), "dns_nxdomain"),
    ],
)
def test_names_that_do_not_resolve(monkeypatch: pytest.MonkeyPatch, relay: MakeRelay, error: Exception, code: str) -> None:
    def fail(*_args: object, **_kwargs: object) -> t.NoReturn:
        raise error

    monkeypatch.setattr(resolve.socket, "getaddrinfo", fail)
    (result,) = probe.probe_all([relay(465, host="smtp.provider.test", **LOGIN)], 5, "client.example.org")

    assert result["diagnosis"]["code"] == code and result["diagnosis"]["stage"] == "resolve"
    assert result["addresses"] == [] and "smtp.provider.test" in result["diagnosis"]["summary"]


def test_a_resolver_that_hangs_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch, relay: MakeRelay) -> None:
    release = threading.Event()
    monkeypatch.setattr(resolve.socket, "getaddrinfo", lambda *_args, **_kwargs: release.wait(30) and [])
    started = time.monotonic()
    (result,) = probe.probe_all([relay(2500, tls="none", host="mx.example.net")], 0.5, "client.example.org")
    release.set()

    assert result["diagnosis"]["code"] == "dns_timeout" and time.monotonic() - started < 1.5


def test_refused(relay: MakeRelay) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        (result,) = probe.probe_all([relay(unused.getsockname()[1], **LOGIN)], 5, "client.example.org")

    diagnosis = assert_failed(result, "tcp_refused", "connect")
    assert "refused" in diagnosis["evidence"][0] and result["addresses"][0]["outcome"] == "refused"


def test_a_port_that_drops_ends_at_the_deadline(relay: MakeRelay) -> None:
    # A listener whose queue is full drops further SYNs, as a firewall does.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _count in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        started = time.monotonic()
        (result,) = probe.probe_all([relay(port)], 1, "client.example.org")
        for filler in fillers:
            filler.close()

    assert_failed(result, "tcp_timeout", "connect")
    assert time.monotonic() - started < 2 and result["addresses"][0]["outcome"] == "timeout"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (101, "tcp_net_unreachable"),
        (113, "tcp_host_unreachable"),
        (1, "tcp_eperm"),
        (13, "tcp_eacces"),
        (99, "tcp_eaddrnotavail"),
        (104, "tcp_reset_after_accept"),
        (5, "tcp_failed"),
    ],
)
def test_errors_of_connect(monkeypatch: pytest.MonkeyPatch, relay: MakeRelay, error: int, code: str) -> None:
    class Refusing(socket.socket):
        def connect_ex(self, _address: object) -> int:
            return error

    monkeypatch.setattr(connect.socket, "socket", Refusing)
    (result,) = probe.probe_all([relay(465)], 5, "client.example.org")

    assert_failed(result, code, "connect")


# -- wrong mode, confirmed ---------------------------------------------------------------------------------------------


def test_plain_smtp_where_implicit_tls_is_configured(bench: Bench, certificates: Certificates) -> None:
    diagnosis = assert_failed(bench.test(conversation(context=certificates.good())), "tls_wrong_mode", "tls")

    assert any("220 mx.provider.test" in line for line in diagnosis["evidence"]) and "starttls" in diagnosis["remedy"]
    assert bench.server.auth_attempts == 0


@pytest.mark.parametrize("first", [Peer.reset, Peer.wait_until_closed, lambda peer: peer.line()], ids=["reset", "silence", "close"])
def test_plain_smtp_that_does_not_show_is_found_by_a_second_look(bench: Bench, first: Handler) -> None:
    """A server with a greeting delay: the ClientHello gets no answer, a patient client gets a greeting."""

    def handle(peer: Peer) -> None:
        peer.connection.settimeout(0.2)
        try:
            spoke_first = bool(peer.connection.recv(1, socket.MSG_PEEK))
        except socket.timeout:
            spoke_first = False
        peer.connection.settimeout(None)
        if spoke_first:
            peer.connection.recv(1)
            first(peer)
        else:
            conversation()(peer)

    diagnosis = assert_failed(bench.test(handle, timeout=5.0), "tls_wrong_mode", "tls")
    assert any("220 mx.provider.test" in line for line in diagnosis["evidence"]) and bench.elapsed < 6.0


@pytest.mark.parametrize("tls", ["starttls", "none"])
def test_tls_server_where_clear_text_is_configured(bench: Bench, certificates: Certificates, tls: str) -> None:
    result = bench.test(conversation(tls="implicit", context=certificates.good()), tls, timeout=30)
    diagnosis = assert_failed(result, "tls_wrong_mode", "greeting")

    assert "tls: implicit" in diagnosis["remedy"]
    assert set(bench.server.lines) == {b"EHLO client.example.org", b"QUIT"}, "whether a login is offered there was looked at, too"
    assert "C: QUIT" not in result["transcript"], "nobody has greeted"
    assert result["tls"]["names"] == ["localhost", "127.0.0.1"] and result["tls"]["verified"] is False
    assert bench.elapsed < 5, "a silent TLS server is found long before the deadline"


def test_tls_server_that_closes_is_found_by_a_second_look(bench: Bench, certificates: Certificates) -> None:
    context = certificates.good()

    def handle(peer: Peer) -> None:
        peer.connection.settimeout(0.2)
        try:
            peer.connection.recv(1, socket.MSG_PEEK)
        except socket.timeout:
            peer.send_raw(b"\x15\x03\x01\x00\x02\x02\x0a")
            return
        peer.connection.settimeout(None)
        conversation(tls="implicit", context=context)(peer)

    assert_failed(bench.test(handle, "starttls"), "tls_wrong_mode", "greeting")


# -- greeting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("greeting", "code"),
    [
        ("421 4.3.2 Too many connections", "greet_421"),
        ("554 5.7.1 Go away", "greet_554"),
        ("HTTP/1.1 400 Bad Request", "greet_not_smtp_http"),
        ("SSH-2.0-OpenSSH_9.2", "greet_not_smtp_other"),
        ("* OK IMAP4rev1 ready", "greet_not_smtp_other"),
        ("2200 four digits", "greet_not_smtp_other"),
        ("25O letter", "greet_not_smtp_other"),
        ("199 too low", "greet_not_smtp_other"),
        ("\u0662\u0662\u0660 digits of another script", "greet_not_smtp_other"),
    ],
)
def test_greetings(bench: Bench, greeting: str, code: str) -> None:
    diagnosis = assert_failed(bench.test(conversation(greeting=[greeting]), "starttls"), code, "greeting")

    assert greeting[:3].isdigit() is False or greeting[3] != " " or greeting[4:] in " ".join(diagnosis["evidence"])


def test_no_greeting(bench: Bench) -> None:
    assert_failed(bench.test(Peer.wait_until_closed, "starttls", timeout=1), "greet_timeout", "greeting")
    assert bench.elapsed < 2


def test_closed_and_reset_before_the_greeting(bench: Bench) -> None:
    assert_failed(bench.test(lambda peer: None, "starttls"), "greet_closed", "greeting")
    result = bench.test(Peer.reset, "starttls")
    # On loopback the RST may come before the client has looked at its new connection.
    assert_failed(result, "tcp_reset_after_accept", result["diagnosis"]["stage"])


# -- EHLO and STARTTLS -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("501 5.5.4 Invalid argument", "ehlo_501_bad_name"),
        ("550 5.7.1 Bad HELO", "ehlo_550_policy"),
        ("502 5.5.1 Not implemented", "ehlo_502"),
        ("421 4.7.0 Try again later", "service_closing"),
        ("451 4.3.0 Later", "reply_temporary"),
        ("530 5.7.0 No", "reply_refused"),
    ],
)
def test_ehlo_refused(bench: Bench, reply: str, code: str) -> None:
    diagnosis = assert_failed(bench.test(conversation(replies={"EHLO": reply}), "starttls"), code, "ehlo")

    assert diagnosis["evidence"][0] == f"reply to EHLO: {reply}"
    assert b"HELO" not in bench.server.clear_text.replace(b"EHLO", b"")


@pytest.mark.parametrize(
    ("offer", "replies", "code"),
    [
        (["SIZE 1"], {}, "cap_starttls_absent"),
        (["XXXXXXXA"], {}, "cap_starttls_stripped"),
        (["STARTTLS"], {"STARTTLS": "454 4.7.0 TLS not available"}, "starttls_454"),
        (["STARTTLS"], {"STARTTLS": "502 5.5.1 Unknown command"}, "starttls_500_502"),
        (["STARTTLS"], {"STARTTLS": ["220-one", "354 two"]}, "reply_malformed"),
        (["STARTTLS"], {"STARTTLS": "354 go on"}, "reply_refused"),
        (["STARTTLS"], {"STARTTLS": lambda peer: peer.send_raw(b"220 ok\r\n250 AUTH PLAIN\r\n")}, "starttls_injection"),
        (["STARTTLS"], {"STARTTLS": lambda peer: None}, "connection_closed"),
        (["STARTTLS"], {"STARTTLS": Peer.reset}, "connection_reset"),
    ],
)
def test_starttls_that_does_not_come(bench: Bench, offer: t.List[str], replies: t.Any, code: str) -> None:
    assert_failed(bench.test(conversation(offer=offer, replies=replies), "starttls"), code, "starttls")

    assert bench.server.auth_attempts == 0


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("wrong_name", "tls_name_mismatch"),
        ("expired", "tls_cert_expired"),
        ("not_yet_valid", "tls_cert_not_yet_valid"),
        ("self_signed", "tls_cert_self_signed"),
    ],
)
def test_certificates(bench: Bench, certificates: Certificates, kind: str, code: str, tls: str) -> None:
    result = bench.test(conversation(tls=tls, context=getattr(certificates, kind)()), tls)
    diagnosis = assert_failed(result, code, "tls")
    evidence = "\n".join(diagnosis["evidence"])

    assert result["tls"]["error"] and "OpenSSL verify code" in evidence and "valid from" in evidence
    if kind == "wrong_name":
        assert result["tls"]["names"] == ["mail.provider.test", "smtp.provider.test"]
        assert "mail.provider.test, smtp.provider.test" in diagnosis["summary"]
    if kind == "expired":
        assert result["tls"]["days_left"] in (-10, -11) and result["tls"]["not_after"] in diagnosis["summary"]
    if kind in ("expired", "not_yet_valid"):
        assert "local clock" in evidence and "clock" in diagnosis["summary"] + diagnosis["remedy"]


def test_untrusted_issuer(bench: Bench, certificates: Certificates) -> None:
    result = bench.test(conversation(tls="implicit", context=certificates.good()), ca_file=None)
    diagnosis = assert_failed(result, "tls_cert_untrusted_issuer", "tls")

    assert "CN=Test CA" in diagnosis["summary"] and result["tls"]["names"] == ["localhost", "127.0.0.1"]


def test_no_roots_at_all(bench: Bench, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent/roots.pem")
    result = bench.test(conversation(tls="implicit", context=certificates.good()), ca_file=None)

    assert_failed(result, "tls_ca_store_missing", "tls")


def test_a_root_of_the_system_is_trusted(bench: Bench, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificates.ca_file)

    assert bench.test(conversation(tls="implicit", context=certificates.good()), ca_file=None)["ok"]


def test_untrusted_root_in_the_chain(bench: Bench, certificates: Certificates) -> None:
    result = bench.test(conversation(tls="implicit", context=certificates.private_chain()), ca_file=None)

    assert_failed(result, "tls_cert_self_signed_in_chain", "tls")


@pytest.mark.parametrize("content", [None, "no certificate\n"], ids=["missing", "empty"])
def test_ca_file_is_checked_before_anything_is_connected(bench: Bench, tmp_path: t.Any, content: t.Optional[str]) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    result = bench.test(conversation(), ca_file=str(path))

    diagnosis = assert_failed(result, "cfg_ca_file", "tls")
    assert str(path) in diagnosis["summary"]
    assert bench.server.peers == []


def _old_tls(peer: Peer) -> None:
    """What a server that knows TLS 1.0 only says to a ClientHello: the alert protocol_version (70)."""
    peer.connection.recv(4096)
    peer.send_raw(b"\x15\x03\x01\x00\x02\x02\x46")


def _http(peer: Peer) -> None:
    peer.connection.recv(4096)
    # As over a network: the answer comes a moment after the ClientHello was sent, not while it is being sent.
    threading.Event().wait(0.1)
    peer.send_raw(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (_old_tls, "tls_protocol_too_old"),
        (lambda peer: (peer.connection.recv(4096), peer.send_raw(b"\x15\x03\x03\x00\x02\x02\x28")), "tls_no_shared_cipher"),
        (lambda peer: (peer.connection.recv(4096), peer.send_raw(b"\x15\x03\x03\x00\x02\x02\x50")), "tls_handshake_failed"),
        (_http, "tls_not_tls"),
        (lambda peer: peer.connection.recv(4096) and None, "tls_eof"),
        (lambda peer: peer.connection.recv(4096) and peer.reset(), "tls_reset"),
        (Peer.wait_until_closed, "tls_handshake_timeout"),
        (lambda peer: (peer.send_raw(b"\x16\x03\x03\x40\x00"), peer.wait_until_closed()), "tls_handshake_timeout"),
    ],
)
def test_handshakes_that_fail(bench: Bench, handler: t.Any, code: str) -> None:
    diagnosis = assert_failed(bench.test(handler, timeout=1), code, "tls")

    if code == "tls_not_tls":
        assert "HTTP/1.1 400 Bad Request" in diagnosis["summary"]
    assert bench.elapsed < 2.5 and bench.server.auth_attempts == 0


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_1_is_too_old(bench: Bench, certificates: Certificates) -> None:
    context = certificates.good()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1

    diagnosis = assert_failed(bench.test(conversation(tls="implicit", context=context)), "tls_protocol_too_old", "tls")
    assert "does not offer TLS 1.2 or later" in diagnosis["summary"]


@pytest.mark.parametrize(
    ("newest", "oldest", "fields", "missing", "remedy"),
    [
        (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2, {"minimum_tls": "1.3"}, "does not offer TLS 1.3 (", "Set minimum_tls to 1.2"),
        (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3, {"mechanism": "scram-sha-256-plus"}, "does not offer TLS 1.2 (", "without -plus"),
    ],
)
def test_the_versions_that_were_asked_for_are_named(
    bench: Bench, certificates: Certificates, newest: t.Any, oldest: t.Any, fields: t.Dict[str, str], missing: str, remedy: str
) -> None:
    context = certificates.good()
    context.minimum_version, context.maximum_version = oldest, newest

    diagnosis = assert_failed(bench.test(conversation(tls="implicit", context=context), **fields), "tls_protocol_too_old", "tls")
    assert missing in diagnosis["summary"]
    assert remedy in diagnosis["remedy"]


# -- AUTH --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "code", "retryable"),
    [
        ("535 5.7.8 Error: authentication failed", "auth_bad_credentials", False),
        ("535 Incorrect authentication data", "auth_bad_credentials", False),
        ("534-5.7.9 Application-specific password required.", "auth_app_password_required", False),
        ("534 5.7.14 Please log in via your web browser", "auth_web_login_required", False),
        ("535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.", "auth_basic_disabled_tenant", False),
        ("535 5.7.139 Authentication unsuccessful, basic authentication is disabled.", "auth_basic_disabled", False),
        ("535 5.7.139 user is locked by your organization's security defaults policy.", "auth_policy_security_defaults", False),
        ("535 5.7.139 Authentication unsuccessful, account locked.", "auth_account_disabled", False),
        ("535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.", "auth_bad_credentials", False),
        ("535 5.7.0 (#AUTH005) Too many bad auth attempts.", "auth_too_many", True),
        ("534 5.7.9 Authentication mechanism is too weak", "auth_mech_too_weak", False),
        ("538 5.7.11 Encryption required for requested authentication mechanism", "auth_encryption_required", False),
        ("530 5.7.0 Must issue a STARTTLS command first", "auth_encryption_required", False),
        ("432 4.7.12 A password transition is needed", "auth_password_transition", False),
        ("454 4.7.0 Temporary authentication failure", "auth_temporary", True),
        ("454 4.7.0 Too many login attempts, please try again later", "auth_too_many", True),
        ("421 4.7.0 Too many login attempts", "auth_too_many", True),
        ("421 4.3.2 Closing", "service_closing", True),
        ("504 5.5.4 Unrecognized authentication type", "auth_mech_unknown", False),
        ("501 5.5.2 Cannot Decode response", "auth_bad_base64", False),
        ("503 5.5.1 Error: authentication not enabled", "auth_not_enabled", False),
        ("525 5.7.13 User Account Disabled", "auth_account_disabled", False),
        ("525 5.7.1 Unauthorized IP address", "auth_ip_not_allowed", False),
        ("250 2.0.0 Ok", "auth_unexpected_reply", False),
        ("599 5.9.9 Nobody knows", "reply_refused", False),
        ("554 5.7.30 Something else altogether", "reply_refused", False),
    ],
)
def test_auth_refused(bench: Bench, certificates: Certificates, reply: str, code: str, retryable: bool) -> None:
    lines = [reply, "534 5.7.9 end"] if reply[3] == "-" else [reply]
    result = bench.test(conversation(tls="implicit", context=certificates.good(), replies={"AUTH": lines}))
    diagnosis = assert_failed(result, code, "auth")

    assert diagnosis["retryable"] is retryable and diagnosis["evidence"][0].startswith(f"reply to AUTH PLAIN: {reply[:3]}")
    assert result["auth"]["code"] == int(reply[:3]) and bench.server.auth_attempts == 1


def test_wrong_password(bench: Bench, certificates: Certificates) -> None:
    result = bench.test(conversation(context=certificates.good()), "starttls", password="guessed-wrong")

    assert_failed(result, "auth_bad_credentials", "auth")
    assert bench.server.auth_attempts == 1 and bench.server.lines[-1] == b"QUIT"


@pytest.mark.parametrize(
    ("offer", "offer_tls", "code"),
    [
        (["STARTTLS"], ["SIZE 1"], "cap_auth_absent_after_tls"),
        (["STARTTLS", AUTH_OFFER], ["SIZE 1"], "cap_auth_only_in_clear"),
        (["STARTTLS"], ["AUTH XOAUTH2 GSSAPI"], "cap_no_common_mech"),
        (["STARTTLS"], ["AUTH"], "cap_no_common_mech"),
        (["STARTTLS"], ["AUTH PLAINX XPLAIN"], "cap_no_common_mech"),
    ],
)
def test_auth_not_offered_is_never_ok(bench: Bench, certificates: Certificates, offer: t.List[str], offer_tls: t.List[str], code: str) -> None:
    result = bench.test(conversation(context=certificates.good(), offer=offer, offer_tls=offer_tls), "starttls")

    assert_failed(result, code, "auth")
    assert not result["auth"]["tried"] and bench.server.auth_attempts == 0


def test_a_mechanism_that_is_not_offered_is_not_replaced(bench: Bench, certificates: Certificates) -> None:
    result = bench.test(conversation(tls="implicit", context=certificates.good(), offer_tls=["AUTH LOGIN"]), mechanism="plain")
    diagnosis = assert_failed(result, "cap_no_common_mech", "auth")

    assert "PLAIN, only LOGIN" in diagnosis["summary"] and bench.server.auth_attempts == 0


@pytest.mark.parametrize(("ending", "code"), [(lambda peer: None, "auth_dropped"), (Peer.reset, "auth_dropped")])
def test_connection_lost_at_auth(bench: Bench, certificates: Certificates, ending: Handler, code: str) -> None:
    result = bench.test(conversation(tls="implicit", context=certificates.good(), replies={"AUTH": ending}))

    assert_failed(result, code, "auth")
    assert result["auth"]["tried"] and result["auth"]["code"] is None and len(bench.server.peers) == 1


@pytest.mark.parametrize("mechanism", ["plain", "login"])
def test_a_server_that_never_stops_asking_is_cancelled(bench: Bench, certificates: Certificates, mechanism: str) -> None:
    def ask(peer: Peer) -> None:
        for _count in range(1000):
            peer.send("334 bm90aGVyIHByb21wdA==")
            if peer.line() in (b"*", b""):
                peer.send("501 5.7.0 cancelled")
                peer.line()
                return

    result = bench.test(conversation(tls="implicit", context=certificates.good(), replies={"AUTH": ask}), mechanism=mechanism)

    assert_failed(result, "auth_unexpected_challenge", "auth")
    assert bench.server.lines.count(b"*") == 1 and len(bench.server.lines) <= 6


def test_client_certificate_demanded(bench: Bench, certificates: Certificates) -> None:
    context = certificates.good()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates.ca_file)
    result = bench.test(conversation(tls="implicit", context=context))

    assert result["diagnosis"]["code"] == "tls_client_cert_required", result["diagnosis"]


# -- hostile servers ---------------------------------------------------------------------------------------------------


def _endless(line: bytes) -> Handler:
    def handle(peer: Peer) -> None:
        while True:
            peer.send_raw(line * 1000)

    return handle


def _drip(peer: Peer) -> None:
    stopped = threading.Event()
    for octet in b"220 " + b"x" * 100:
        peer.send_raw(bytes([octet]))
        stopped.wait(0.1)


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (_endless(b"220-endless\r\n"), "reply_too_large"),
        (_endless(b"220 " + b"x" * 5000), "line_too_long"),
        (_drip, "deadline_exceeded"),
        (conversation(greeting=["220-one", "554 two"]), "greet_not_smtp_other"),
    ],
    ids=["banner", "line", "drip", "codes"],
)
def test_hostile_greetings_end(bench: Bench, handler: Handler, code: str) -> None:
    assert_failed(bench.test(handler, "starttls", timeout=1.5), code, "greeting")

    assert bench.elapsed < 2.5


def test_endless_ehlo_ends(bench: Bench) -> None:
    assert_failed(bench.test(conversation(replies={"EHLO": _endless(b"250-X\r\n")}), "starttls"), "reply_too_large", "ehlo")


def test_a_reply_to_no_command_is_not_paired_with_the_next(bench: Bench, certificates: Certificates) -> None:
    two = ["250-mx", "250 AUTH PLAIN", "235 2.7.0 Welcome"]
    result = bench.test(conversation(tls="implicit", context=certificates.good(), replies={"EHLO_TLS": two}))

    assert_failed(result, "reply_unsolicited", "auth")
    assert bench.server.auth_attempts == 0


def test_control_bytes_are_escaped_and_lines_cut(bench: Bench) -> None:
    greeting = b"220 \x1b[31mred\x00\x9b\xff\xe2\x80\xae{{ 7*7 }} " + b"y" * 900 + b"\r\n"

    def handle(peer: Peer) -> None:
        peer.send_raw(greeting)
        peer.line()

    result = bench.test(handle, "none")
    line = result["transcript"][1]

    assert line.startswith(r"S: 220 \x1b[31mred\x00\x9b\xff\u202e{{ 7*7 }} yyy") and len(line) < 320
    assert all(text.isprintable() for text in strings(result))


def test_an_unexpected_exception_tells_its_type_and_place_only(monkeypatch: pytest.MonkeyPatch, bench: Bench, certificates: Certificates) -> None:
    def explode(client_under_test: client.Client, *_args: object, **_options: object) -> t.NoReturn:
        client_under_test.stage = "auth"
        raise RuntimeError(f"the password is {PASSWORD}")

    monkeypatch.setattr(probe.Client, "authenticate", explode)
    result = bench.test(conversation(tls="implicit", context=certificates.good()))

    assert_failed(result, "internal_error", "auth")
    assert "RuntimeError in test_probe.py, line" in result["diagnosis"]["summary"]


# -- many at once ------------------------------------------------------------------------------------------------------


def test_many_relays_take_as_long_as_the_slowest(relay: MakeRelay, certificates: Certificates) -> None:
    good = conversation(tls="implicit", context=certificates.good())
    with Server(good) as fast, Server(Peer.wait_until_closed) as silent:
        relays = [relay(fast.port, name=f"r{index}", sender=f"r{index}@example.org", ca_file=certificates.ca_file, **LOGIN) for index in range(8)]
        relays.insert(3, relay(silent.port, tls="starttls", name="silent"))
        started = time.monotonic()
        results = probe.probe_all(relays, 1.5, "client.example.org")
        elapsed = time.monotonic() - started

    assert [result["name"] for result in results] == [entry["name"] for entry in relays]
    assert [result["ok"] for result in results] == [True] * 3 + [False] + [True] * 5
    assert elapsed < 2.5 and fast.auth_attempts == 8


def test_addresses_are_tried_in_parallel(monkeypatch: pytest.MonkeyPatch, relay: MakeRelay) -> None:
    """The preferred address refuses, another one works: no time is lost, and both are in the result."""
    with Server(conversation()) as server:
        found = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", server.port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port)),
        ]
        monkeypatch.setattr(resolve.socket, "getaddrinfo", lambda *_args, **_kwargs: found)
        (result,) = probe.probe_all([relay(server.port, tls="none")], 5, "client.example.org")

    assert result["ok"]
    assert [entry["family"] for entry in result["addresses"]] == ["ipv6", "ipv4"]
    assert result["addresses"][0]["outcome"] in ("refused", "no_source_address", "net_unreachable", "family_not_supported")
    assert result["addresses"][1]["outcome"] == "connected"


def test_no_socket_is_left_open(bench: Bench, certificates: Certificates) -> None:
    def sockets() -> t.Set[str]:
        links = {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}
        return {link for link in links if "socket:" in link or "eventpoll" in link}

    before = sockets()
    bench.test(conversation(tls="implicit", context=certificates.good()))
    bench.test(conversation(context=certificates.wrong_name()), "starttls")
    bench.test(conversation())
    bench.test(Peer.reset, "starttls")

    assert sockets() == before


def test_every_code_that_the_tests_know_is_in_the_catalogue() -> None:
    assert all(entry.summary.startswith("{where}") for entry in BY_CODE.values())
