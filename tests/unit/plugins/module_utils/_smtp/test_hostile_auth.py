# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that misuse the login, and credentials that are hard to carry. What holds for all is in hostile.py."""

from __future__ import annotations

import base64
import hashlib
import json
import typing as t
import unicodedata
import urllib.parse

import pytest
from hostile import Hostile, failed, texts
from sasl_server import ACCEPTED, REFUSED, Scram, cram_md5, digest_md5, login, plain
from smtp_server import AUTH_OFFER, PASSWORD, USERNAME, Certificates, Handler, Peer, SaslExchange, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.endpoint import normalise_endpoints
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import RelayError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.run_options import check_run_options

ALL = ("PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256")
MECHANISMS = pytest.mark.parametrize("mechanism", [name.lower() for name in ALL])


@pytest.fixture
def server(certificates: Certificates) -> t.Callable[..., Handler]:
    """A server with a good certificate; see conversation()."""

    def make(**options: t.Any) -> Handler:
        return conversation(tls="implicit", context=certificates.good(), **options)

    return make


MakeServer = t.Callable[..., Handler]


def asking(challenge: str, times: int = 1000) -> Handler:
    """Answer everything with that challenge, and a cancellation with 501."""

    def handle(peer: Peer) -> None:
        for _count in range(times):
            peer.send(challenge)
            if peer.line() in (b"*", b""):
                peer.send("501 5.7.0 cancelled")
                peer.line()
                return

    return handle


# -- what is offered ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "offer",
    [["AUTH"], ["AUTH="], ["AUTH  "], ["AUTH XYZ"], ["AUTH PLAINX XPLAIN"], ["AUTH PLAIN\0"], ["AUTH PLA\0IN"], ["XAUTH PLAIN"], ["AUTH=X"]],
    ids=["none", "equals", "blanks", "unknown", "similar", "NUL", "NUL inside", "another keyword", "old form"],
)
def test_a26_mechanisms_that_are_none(hostile: Hostile, server: MakeServer, offer: t.List[str]) -> None:
    code = "cap_auth_absent_after_tls" if offer == ["XAUTH PLAIN"] else "cap_no_common_mech"

    failed(hostile(server(offer_tls=offer)), code, "auth")


def test_a26_five_thousand_mechanisms(hostile: Hostile, server: MakeServer) -> None:
    names = [f"X-MECHANISM-{number}" for number in range(700)]
    offer = [f"AUTH {' '.join(names[at : at + 50])}" for at in range(0, len(names), 50)]
    result = hostile(server(offer_tls=[*offer, "AUTH PLAIN"]), logins=1)

    assert result["ok"] and len(result["auth"]["offered"]) == 701
    too_many = [f"AUTH {' '.join(f'X-MECHANISM-{number}' for number in range(at, at + 50))}" for at in range(0, 5000, 50)]
    failed(hostile(server(offer_tls=too_many)), "reply_too_large", "ehlo_tls")


@pytest.mark.parametrize("offer", ["AUTH=LOGIN", "AUTH=LOGIN PLAIN", "auth login", "AUTH LOGIN LOGIN LOGIN"])
def test_a26_forms_of_the_offer_that_are_understood(hostile: Hostile, server: MakeServer, offer: str) -> None:
    assert hostile(server(offer_tls=[offer]), logins=1)["ok"]


def test_a27_the_strongest_that_is_left_is_tried_alone(hostile: Hostile, certificates: Certificates) -> None:
    """PLAIN is offered before TLS only. CRAM-MD5 is refused: neither LOGIN nor PLAIN is tried in its place."""
    offers = {"offer": ["STARTTLS", AUTH_OFFER], "offer_tls": ["AUTH LOGIN CRAM-MD5"]}
    sasl = {"CRAM-MD5": cram_md5, "LOGIN": login, "PLAIN": plain}
    result = hostile(conversation(context=certificates.good(), sasl=sasl, **offers), "starttls", logins=1, password="not the right one")

    failed(result, "auth_bad_credentials", "auth")
    assert [attempt["mechanism"] for attempt in result["auth"]["attempts"]] == ["CRAM-MD5"]


def test_a27_a_mechanism_that_was_asked_for_is_not_replaced(hostile: Hostile, server: MakeServer) -> None:
    failed(hostile(server(offer_tls=["AUTH LOGIN CRAM-MD5"]), mechanism="plain"), "cap_no_common_mech", "auth")


# -- the exchange ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", [b"Password:", b"password", b"PASS"])
def test_a28_login_prompts_in_the_wrong_order(hostile: Hostile, server: MakeServer, prompt: bytes) -> None:
    """The user name is not sent where a password is asked for, nor the other way round."""
    handler = server(replies={"AUTH": asking("334 " + base64.b64encode(prompt).decode())})

    failed(hostile(handler, logins=1, mechanism="login"), "auth_unexpected_challenge", "auth")
    assert hostile.server.lines[1:3] == [b"AUTH LOGIN", b"*"]


def test_a28_the_user_name_twice(hostile: Hostile, server: MakeServer) -> None:
    handler = server(replies={"AUTH": asking("334 VXNlcm5hbWU6")})

    failed(hostile(handler, logins=1, mechanism="login"), "auth_unexpected_challenge", "auth")
    encoded = base64.b64encode(USERNAME.encode())
    assert hostile.server.lines[1:4] == [b"AUTH LOGIN", encoded, b"*"]


@MECHANISMS
@pytest.mark.parametrize("challenge", ["334 ", "334", "334 bm90aGVyIHByb21wdA==", "334-"], ids=["empty", "bare", "prompt", "unfinished"])
def test_a28_a_server_that_never_stops_asking(hostile: Hostile, server: MakeServer, mechanism: str, challenge: str) -> None:
    handler = server(offer_tls=[f"AUTH {mechanism.upper()}"], replies={"AUTH": asking(challenge)})
    result = hostile(handler, logins=1, mechanism=mechanism, timeout=1.5)

    assert result["diagnosis"]["stage"] == "auth" and result["diagnosis"]["code"] in (
        ("reply_malformed", "deadline_exceeded") if challenge == "334-" else ("auth_unexpected_challenge",)
    )
    assert len(hostile.server.lines) <= 6


@MECHANISMS
@pytest.mark.parametrize("challenge", ["!", "=", "====", "A", "AAA", "\u00e4\u00f6", "VXNl cm5hbWU6", "VXNlcm5hbWU6==", "\x00"])
def test_a29_challenges_that_are_not_base64(hostile: Hostile, server: MakeServer, mechanism: str, challenge: str) -> None:
    handler = server(offer_tls=[f"AUTH {mechanism.upper()}"], replies={"AUTH": asking(f"334 {challenge}")})
    result = hostile(handler, logins=1, mechanism=mechanism)

    failed(result, "auth_unexpected_challenge", "auth")
    assert hostile.server.lines.count(b"*") == 1


@MECHANISMS
def test_a29_huge_and_binary_challenges(hostile: Hostile, server: MakeServer, mechanism: str) -> None:
    for challenge in (b"x" * 700, bytes(range(256)), b"r=" + b"," * 500, b'nonce="' + b"\\" * 500):
        handler = server(offer_tls=[f"AUTH {mechanism.upper()}"], replies={"AUTH": asking("334 " + base64.b64encode(challenge).decode())})
        result = hostile(handler, logins=1, mechanism=mechanism)

        assert result["diagnosis"]["stage"] == "auth" and result["diagnosis"]["code"] in ("auth_unexpected_challenge", "auth_dropped")


def _echo(peer: Peer, said: str) -> None:
    """535 with all that the client said and all that can be made of it."""
    blob = f"\0{USERNAME}\0{PASSWORD}".encode()
    forms = [said, *said.split(), PASSWORD, PASSWORD.upper(), repr(PASSWORD), json.dumps(PASSWORD), urllib.parse.quote(PASSWORD)]
    forms += [base64.b64encode(b"x" * offset + PASSWORD.encode() + b"yy").decode() for offset in range(3)]
    forms += [blob.hex(), base64.b64encode(blob).decode(), base64.urlsafe_b64encode(blob).decode(), base64.b64encode(PASSWORD.encode()).decode()]
    peer.send(*[f"535-5.7.8 bad: {form}" for form in forms], "535 5.7.8 bad")
    peer.line()


@MECHANISMS
def test_a30_a_server_that_quotes_the_credentials(hostile: Hostile, server: MakeServer, mechanism: str) -> None:
    challenges = {
        "login": ["VXNlcm5hbWU6", "UGFzc3dvcmQ6"],
        "cram-md5": [base64.b64encode(b"<1@mx>").decode()],
        "digest-md5": [base64.b64encode(b'realm="r",nonce="n",qop="auth",algorithm=md5-sess,charset=utf-8').decode()],
    }.get(mechanism, [])

    def quote(peer: Peer) -> None:
        said = [peer.lines[-1].decode()]
        for challenge in challenges:
            peer.send(f"334 {challenge}")
            said.append(peer.line().decode())
        _echo(peer, " ".join(said))

    result = hostile(server(offer_tls=[f"AUTH {mechanism.upper()}"], replies={"AUTH": quote}), logins=1, mechanism=mechanism)

    failed(result, "auth_bad_credentials", "auth")
    derived = [line.rpartition(b" ")[2] for line in hostile.server.lines[1:-1] if len(line) > 24]
    told = "\n".join(texts(result))
    for line in derived if mechanism in ("plain", "login") else []:
        assert line.decode() not in told


def test_a30_what_could_be_tried_against_is_not_told_either(hostile: Hostile, server: MakeServer) -> None:
    """The proof of CRAM-MD5: with the challenge, which is in the transcript of nobody else, passwords could be tried."""
    said: t.List[bytes] = []

    def quote(peer: Peer) -> None:
        peer.send("334 " + base64.b64encode(b"<1@mx>").decode())
        said.append(base64.b64decode(peer.line()))
        peer.send(f"535 5.7.8 {said[0].decode()}")
        peer.line()

    result = hostile(server(offer_tls=["AUTH CRAM-MD5"], replies={"AUTH": quote}), logins=1)

    failed(result, "auth_bad_credentials", "auth")
    assert said[0].decode().rpartition(" ")[2] not in "\n".join(texts(result))


@pytest.mark.parametrize("after", ["421 4.3.2 Closing", "250 ok", "garbage", "235 2.7.0 again"])
def test_a31_success_and_something_more(hostile: Hostile, server: MakeServer, after: str) -> None:
    """The login was confirmed; what follows is no part of it."""

    def handle(peer: Peer) -> None:
        peer.send_raw(f"235 2.7.0 welcome\r\n{after}\r\n".encode())
        peer.wait_until_closed()

    result = hostile(server(replies={"AUTH": handle}), logins=1)

    assert result["ok"] and result["auth"]["code"] == 235


@pytest.mark.parametrize(
    ("reply", "code", "retryable"),
    [
        ("454 4.7.0 Temporary authentication failure", "auth_temporary", True),
        ("432 4.7.12 A password transition is needed", "auth_password_transition", False),
        ("530 5.7.0 Must issue a STARTTLS command first", "auth_encryption_required", False),
        ("534 5.7.9 Authentication mechanism is too weak", "auth_mech_too_weak", False),
        ("538 5.7.11 Encryption required for requested authentication mechanism", "auth_encryption_required", False),
    ],
)
def test_a32_refusals(hostile: Hostile, server: MakeServer, reply: str, code: str, retryable: bool) -> None:
    diagnosis = failed(hostile(server(replies={"AUTH": reply}), logins=1), code, "auth")

    assert diagnosis["retryable"] is retryable


# -- servers that should prove who they are ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mechanism", "impostor"),
    [
        ("SCRAM-SHA-256", Scram(tamper=lambda which, message: message if which == "first" else b"v=" + base64.b64encode(b"x" * 32))),
        ("SCRAM-SHA-256", Scram(tamper=lambda which, message: message if which == "first" else None)),
        ("SCRAM-SHA-1", Scram("sha1", tamper=lambda which, message: message if which == "first" else b"v=")),
        ("DIGEST-MD5", digest_md5(username=USERNAME, proof=lambda _right: b"rspauth=" + hashlib.md5(b"x").hexdigest().encode())),
        ("DIGEST-MD5", digest_md5(username=USERNAME, proof=lambda _right: None)),
    ],
)
def test_235_without_the_proof_that_the_mechanism_demands(hostile: Hostile, server: MakeServer, mechanism: str, impostor: t.Any) -> None:
    result = hostile(server(offer_tls=[f"AUTH {mechanism}"], sasl={mechanism: impostor}), logins=1)

    assert not result["ok"] and result["diagnosis"]["code"] in ("auth_server_signature", "auth_bad_credentials", "auth_unexpected_challenge")


def test_more_hashing_than_there_is_time_for(hostile: Hostile, server: MakeServer) -> None:
    endless = Scram(tamper=lambda which, message: message.replace(b"i=64", b"i=2000000000") if which == "first" else message)
    result = hostile(server(offer_tls=["AUTH SCRAM-SHA-256"], sasl={"SCRAM-SHA-256": endless}), logins=1, timeout=1.5)

    failed(result, "auth_unexpected_challenge", "auth")


# -- credentials -------------------------------------------------------------------------------------------------------

_CONTROLS = pytest.mark.parametrize("octet", ["\r", "\n", "\0", "\x7f"], ids=["CR", "LF", "NUL", "DEL"])


@_CONTROLS
@pytest.mark.parametrize("field", ["username", "password", "sender", "recipient", "host", "ca_file", "server_name"])
@pytest.mark.parametrize("at", [0, 4, 1000], ids=["begin", "within", "end"])
def test_a36_controls_are_refused_before_anything_is_connected(octet: str, field: str, at: int) -> None:
    values = {"host": "mx.example.net", "username": "alerts", "password": "sesame street", "sender": "a@example.net", "recipient": "b@example.net"}
    values.update(ca_file="/etc/ssl/ca.pem", server_name="mx.example.net")
    values[field] = values[field][:at] + octet + values[field][at:]
    with pytest.raises(RelayError) as caught:
        normalise_endpoints([values])

    assert field in caught.value.field and "sesame" not in str(caught.value) and octet not in str(caught.value)


@_CONTROLS
def test_a36_controls_in_the_own_name(octet: str) -> None:
    for name in (f"{octet}host.example", f"host{octet}.example", f"host.example{octet}"):
        with pytest.raises(RelayError, match="ehlo_name"):
            check_run_options(30, name)


@_CONTROLS
@MECHANISMS
def test_a36_controls_do_not_get_past_the_client_either(hostile: Hostile, server: MakeServer, octet: str, mechanism: str) -> None:
    """Whoever calls it without validation: no line break becomes a command, and no NUL ends a field."""
    handler = server(offer_tls=[f"AUTH {mechanism.upper()}"], replies={"AUTH": "535 5.7.8 no"})
    password = f"sesame{octet}MAIL FROM:<a@example.net>"
    result = hostile(handler, logins=int(octet == "\x7f" and "SCRAM" not in mechanism.upper()), mechanism=mechanism, unchecked={"password": password})

    assert result["ok"] is False
    assert not [line for line in hostile.server.lines if line.startswith(b"MAIL")]


def checking(password: str) -> t.Callable[[Peer], SaslExchange]:
    """PLAIN for exactly that password."""

    def exchange(_peer: Peer) -> SaslExchange:
        response = yield None
        return ACCEPTED if response == f"\0{USERNAME}\0{password}".encode() else REFUSED

    return exchange


PASSWORDS = {
    "one octet": "x",
    "a code": "250",
    "ok": "ok",
    "a mechanism": "PLAIN",
    "1 KiB": "p4s5" * 256,
    "NFC": unicodedata.normalize("NFC", "p\u00e4ssw\u00f6rd"),
    "NFD": unicodedata.normalize("NFD", "p\u00e4ssw\u00f6rd"),
    "colon": "a:b:c",
    "percent": "%s%d%n%%",
    "Jinja": "{{ 7*7 }}{% raw %}",
    "format": "{0} {host} {}",
    "quotes": "'\"\\`$HOME",
    "inner blanks": "a  b\u00a0c",
    "emoji": "\U0001f511\U0001f511",
}


@pytest.mark.parametrize("password", list(PASSWORDS.values()), ids=list(PASSWORDS))
def test_a37_passwords_arrive_as_they_are(hostile: Hostile, server: MakeServer, password: str) -> None:
    assert hostile(server(sasl={"PLAIN": checking(password)}), logins=1, password=password)["ok"]


def test_a37_a_password_longer_than_smtp_carries(hostile: Hostile, server: MakeServer) -> None:
    failed(hostile(server(), password="p4s5" * 16384), "cfg_credentials", "auth")


@pytest.mark.parametrize("password", [" leading", "trailing ", "\ttab", "\u00a0nbsp", ""])
def test_a37_passwords_that_no_table_holds(password: str) -> None:
    with pytest.raises(RelayError, match=r"\.password: "):
        normalise_endpoints([{"host": "mx.example.net", "username": "u", "password": password}])
