# SPDX-License-Identifier: GPL-3.0-or-later
"""Logins at servers that check every octet: each mechanism, how often it is tried, and what a hostile server can do."""

from __future__ import annotations

import base64
import json
import ssl
import time
import typing as t

import pytest
import sasl_server
from sasl_server import ACCEPTED, FAILURE, REFUSED, TOKEN, Scram
from smtp_server import PASSWORD, USERNAME, Certificates, Handler, Peer, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust

CREDENTIALS = Credentials(USERNAME, PASSWORD)
WRONG = Credentials(USERNAME, "guessed-wrong")
BEARER = Credentials(USERNAME, access_token=TOKEN)

Sasl = t.Mapping[str, sasl_server.Make]


class Bench:
    """One login at one server, and both of them for the assertions."""

    def __init__(self, certificates: Certificates) -> None:
        self.certificates = certificates
        self.server: Server
        self.client: Client
        self.reply: t.Optional[Reply] = None
        self.error: t.Optional[SmtpError] = None

    def log_in(
        self,
        sasl: t.Optional[Sasl] = None,
        credentials: Credentials = CREDENTIALS,
        mechanism: str = "auto",
        *,
        offer: str = "",
        tls: str = "implicit",
        trust: t.Optional[Trust] = None,
        replies: t.Optional[t.Mapping[str, t.Union[str, t.Sequence[str], Handler]]] = None,
        timeout: float = 10,
        **options: bool,
    ) -> t.Optional[SmtpError]:
        """Log in and leave; the error, if there is one. The server offers the mechanisms of *sasl*, or *offer*."""
        lines = [f"AUTH {offer or ' '.join(sasl or {})}"]
        context = self.certificates.good()
        if trust is not None and trust.client_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.certificates.ca_file)
        handler = conversation(tls=tls, context=context, offer=lines, offer_tls=lines, sasl=sasl, replies=replies)
        trust = (trust or Trust())._replace(ca_file=self.certificates.ca_file)
        with Server(handler) as self.server:
            self.client = Client("127.0.0.1", self.server.port, tls, deadline=Deadline(timeout), ehlo_name="client.example.org", trust=trust)
            with self.client:
                self.client.connect()
                self.client.greeting()
                self.client.ehlo()
                self.reply, self.error = None, None
                try:
                    self.reply = self.client.authenticate(credentials, mechanism, **options)
                except SmtpError as exc:
                    self.error = exc
                if self.client.in_dialogue:
                    self.client.quit()
            self.server.settle()
        return self.error

    def failure(self, *args: t.Any, **options: t.Any) -> SmtpError:
        error = self.log_in(*args, **options)
        assert error is not None and error.stage == "auth"
        return error

    @property
    def tried(self) -> t.List[str]:
        """The mechanisms of the AUTH commands that the server has got; the client's own list says the same."""
        names = [line.split()[1].decode() for line in self.server.lines if line.startswith(b"AUTH")]
        assert [login.mechanism for login in self.client.logins] == names
        return names

    @property
    def transcript(self) -> str:
        return "\n".join(self.client.transcript.lines())


@pytest.fixture
def bench(certificates: Certificates) -> Bench:
    return Bench(certificates)


def bearer(name: str, port: int = 0) -> bytes:
    if name == "XOAUTH2":
        return f"user={USERNAME}\x01auth=Bearer {TOKEN}\x01\x01".encode()
    return f"n,a={USERNAME},\x01host=127.0.0.1\x01port={port}\x01auth=Bearer {TOKEN}\x01\x01".encode()


SERVERS: t.Dict[str, sasl_server.Make] = {
    "PLAIN": sasl_server.plain,
    "LOGIN": sasl_server.login,
    "CRAM-MD5": sasl_server.cram_md5,
    "DIGEST-MD5": sasl_server.digest_md5(),
    "SCRAM-SHA-1": Scram("sha1"),
    "SCRAM-SHA-256": Scram("sha256"),
}
TLS12 = Trust(maximum_version="1.2")


# -- every mechanism ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVERS)
def test_each_mechanism_logs_in_once(bench: Bench, name: str) -> None:
    assert bench.log_in({name: SERVERS[name]}) is None

    assert bench.reply is not None and str(bench.reply) == ACCEPTED
    assert bench.tried == [name] and bench.client.mechanism == name and bench.client.logins[0].reply == bench.reply
    assert bench.server.lines[-1] == b"QUIT"


@pytest.mark.parametrize("name", SERVERS)
def test_each_mechanism_is_refused_once(bench: Bench, name: str) -> None:
    error = bench.failure({name: SERVERS[name]}, WRONG)

    assert error.kind == Kind.REPLY and str(error.reply) == REFUSED and error.command == f"AUTH {name}"
    assert bench.tried == [name] and bench.client.logins[0].reply == error.reply
    assert bench.server.lines[-1] == b"QUIT"


@pytest.mark.parametrize("digest", ["sha1", "sha256"])
def test_scram_with_channel_binding(bench: Bench, digest: str) -> None:
    name = {"sha1": "SCRAM-SHA-1-PLUS", "sha256": "SCRAM-SHA-256-PLUS"}[digest]
    servers = {name: Scram(digest, plus=True), name[: -len("-PLUS")]: Scram(digest, plus_offered=True)}

    assert bench.log_in(servers, trust=TLS12) is None and bench.tried == [name]
    assert bench.log_in(servers, mechanism=name.lower(), trust=TLS12) is None and bench.tried == [name]
    assert bench.failure(servers, WRONG, trust=TLS12).kind == Kind.REPLY and bench.tried == [name]


def test_without_a_binding_scram_goes_without(bench: Bench) -> None:
    weaker = Scram(plus_offered=True)
    assert bench.log_in({"SCRAM-SHA-256-PLUS": Scram(plus=True), "SCRAM-SHA-256": weaker}) is None

    assert bench.client.session is not None and bench.client.session.version == "TLSv1.3"
    assert bench.tried == ["SCRAM-SHA-256"] and weaker.flags == [b"n"]


def test_a_binding_that_is_not_at_hand_is_not_left_out(bench: Bench) -> None:
    error = bench.failure({"SCRAM-SHA-256-PLUS": Scram(plus=True), "SCRAM-SHA-256": Scram()}, mechanism="scram-sha-256-plus")

    assert error.kind == Kind.NO_MECHANISM and "TLS 1.2" in str(error) and bench.tried == []


def test_a_stripped_offer_of_channel_binding_is_noticed_by_the_server(bench: Bench) -> None:
    """The client says that it could bind, and a server that had offered it knows that somebody took the offer away."""
    honest, deceived = Scram(), Scram(plus_offered=True)
    assert bench.log_in({"SCRAM-SHA-256": honest}, trust=TLS12) is None and honest.flags == [b"y"]

    error = bench.failure({"SCRAM-SHA-256": deceived}, trust=TLS12)
    assert error.kind == Kind.REPLY and deceived.flags == [b"y"] and bench.tried == ["SCRAM-SHA-256"]


def test_a_wish_for_less_than_the_offered_binding_is_no_downgrade(bench: Bench) -> None:
    weaker = Scram(plus_offered=True)
    servers = {"SCRAM-SHA-256-PLUS": Scram(plus=True), "SCRAM-SHA-256": weaker}

    assert bench.log_in(servers, mechanism="scram-sha-256", trust=TLS12) is None and weaker.flags == [b"n"]


def test_oauthbearer_tells_host_and_port(bench: Bench) -> None:
    def exchange(peer: Peer) -> t.Generator[t.Optional[bytes], bytes, str]:
        response = yield None
        return sasl_server.verdict(response == bearer("OAUTHBEARER", bench.server.port))

    assert bench.log_in({"OAUTHBEARER": exchange}, BEARER) is None and bench.tried == ["OAUTHBEARER"]


def test_xoauth2(bench: Bench) -> None:
    assert bench.log_in({"XOAUTH2": sasl_server.bearer(bearer("XOAUTH2"), b"")}, BEARER) is None and bench.tried == ["XOAUTH2"]


@pytest.mark.parametrize(("name", "acknowledgement"), [("XOAUTH2", b""), ("OAUTHBEARER", b"\x01")])
def test_a_refused_token_is_explained(bench: Bench, name: str, acknowledgement: bytes) -> None:
    error = bench.failure({name: sasl_server.bearer(b"another", acknowledgement)}, BEARER)

    assert error.kind == Kind.REPLY and str(error.reply) == REFUSED
    assert error.reason == "invalid_token" and error.sample == FAILURE.decode()
    assert bench.tried == [name] and TOKEN not in bench.transcript
    assert f"-- the server explains: {FAILURE.decode()}" in bench.client.transcript.lines()


def test_a_failure_is_shown_without_the_token(bench: Bench) -> None:
    failure = json.dumps({"status": TOKEN, "scope": "\x1b[31m" + "x" * 400}).encode()
    error = bench.failure({"XOAUTH2": sasl_server.bearer(b"another", b"", failure)}, BEARER)

    assert TOKEN not in error.sample + error.reason + bench.transcript and error.reason == "********"
    assert len(error.sample) < 300 and "\x1b" not in error.sample


def test_a_long_token_goes_after_the_prompt(bench: Bench) -> None:
    token = "x" * 3000
    expected = f"user={USERNAME}\x01auth=Bearer {token}\x01\x01".encode()

    assert bench.log_in({"XOAUTH2": sasl_server.bearer(expected, b"")}, Credentials(USERNAME, access_token=token)) is None
    assert bench.tried == ["XOAUTH2"] and b"AUTH XOAUTH2" in bench.server.lines


@pytest.mark.parametrize(("size", "sent_with_the_command"), [(372, True), (373, False)])
def test_a_command_line_has_512_octets_at_most(bench: Bench, size: int, sent_with_the_command: bool) -> None:
    """With its end (RFC 5321 section 4.5.3.1.4): 496 octets of base64 make it 509 long, and the next 500 would make it 513."""
    password = "x" * (size - len(USERNAME) - 2)
    error = bench.failure(offer="PLAIN", credentials=Credentials(USERNAME, password))

    line = next(line for line in bench.server.lines if line.startswith(b"AUTH"))
    assert error.kind == Kind.REPLY and len(line + b"\r\n") == (509 if sent_with_the_command else len(b"AUTH PLAIN\r\n"))


def test_what_no_line_can_carry_is_not_sent(bench: Bench) -> None:
    assert bench.failure({"PLAIN": sasl_server.plain}, Credentials(USERNAME, "x" * 9200)).kind == Kind.CREDENTIALS
    assert bench.tried == [] and b"x" * 12 not in b"".join(bench.server.lines)
    assert bench.failure({"LOGIN": sasl_server.login}, Credentials(USERNAME, "x" * 9300)).kind == Kind.CREDENTIALS
    assert bench.tried == ["LOGIN"] and bench.server.lines[-2] == b"*"
    assert bench.failure({"PLAIN": sasl_server.plain}, Credentials(USERNAME, "x" * 9100)).kind == Kind.REPLY


@pytest.mark.parametrize("username", [USERNAME, None])
def test_external_needs_a_certificate(bench: Bench, username: t.Optional[str]) -> None:
    own = bench.certificates.client()
    trust = Trust(client_certificate=own)
    offered = {"EXTERNAL": sasl_server.external, "PLAIN": sasl_server.plain}
    assert bench.log_in(offered, Credentials(username), trust=trust) is None and bench.tried == ["EXTERNAL"]
    if username is None:
        assert b"AUTH EXTERNAL =" in bench.server.lines

    assert bench.failure(offered, Credentials(username)).kind == Kind.CREDENTIALS and bench.tried == []
    assert bench.failure(offered, CREDENTIALS, "external").kind == Kind.CREDENTIALS and bench.tried == []


def test_a_certificate_beside_a_password_changes_nothing(bench: Bench) -> None:
    trust = Trust(client_certificate=bench.certificates.client())
    offered = {"EXTERNAL": sasl_server.external, "PLAIN": sasl_server.plain}

    assert bench.log_in(offered, trust=trust) is None and bench.tried == ["PLAIN"]
    assert bench.log_in(offered, mechanism="external", trust=trust) is None and bench.tried == ["EXTERNAL"]


def test_a_challenge_that_holds_the_user_name_is_read_as_it_came(bench: Bench) -> None:
    """What is masked for people is data for the mechanism."""
    challenge = f'realm="{USERNAME}",nonce="OA6MG9tEQGm2hh",algorithm=md5-sess'.encode()
    servers = {"DIGEST-MD5": sasl_server.digest_md5(challenge=challenge, username=USERNAME, realm=USERNAME)}

    assert bench.log_in(servers) is None


# -- one attempt, or as many as were asked for -------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["535 5.7.8 no", "534 5.7.9 too weak", "504 5.5.4 what", "454 4.7.0 later", "421 4.7.0 too many"])
def test_auto_tries_one_mechanism_whatever_the_answer(bench: Bench, answer: str) -> None:
    error = bench.failure(offer=" ".join(SERVERS), replies={"AUTH": answer})

    assert str(error.reply) == answer and bench.tried == ["SCRAM-SHA-256"]


def test_auto_takes_the_strongest(bench: Bench) -> None:
    assert bench.log_in(SERVERS) is None and bench.tried == ["SCRAM-SHA-256"]


def test_all_mechanisms_on_request(bench: Bench) -> None:
    error = bench.failure(SERVERS, WRONG, try_all=True)

    assert bench.tried == ["SCRAM-SHA-256", "SCRAM-SHA-1", "DIGEST-MD5", "CRAM-MD5", "PLAIN", "LOGIN"]
    assert [str(login.reply) for login in bench.client.logins] == [REFUSED] * 6 and str(error.reply) == REFUSED
    assert len(bench.server.peers) == 1


def test_all_mechanisms_end_at_the_first_success(bench: Bench) -> None:
    servers = {"SCRAM-SHA-256": Scram(password="another"), "PLAIN": sasl_server.plain, "LOGIN": sasl_server.login}

    assert bench.log_in(servers, try_all=True) is None and bench.client.mechanism == "PLAIN"
    assert bench.tried == ["SCRAM-SHA-256", "PLAIN"]
    assert [str(login.reply) for login in bench.client.logins] == [REFUSED, ACCEPTED]


def test_a_wish_is_tried_alone_even_so(bench: Bench) -> None:
    assert bench.failure(SERVERS, WRONG, "cram-md5", try_all=True).kind == Kind.REPLY and bench.tried == ["CRAM-MD5"]


class Answers:
    """The reply to AUTH by mechanism; None closes the connection."""

    def __init__(self, **answers: t.Optional[str]) -> None:
        self._answers = answers

    def __call__(self, peer: Peer) -> None:
        """Goes on by itself: a handler of conversation() is followed by the end of the connection."""
        line = peer.lines[-1].decode()
        while line:
            answer = self._answers[line.split()[1]] if line.startswith("AUTH") else "221 2.0.0 Bye"
            if answer is None:
                return
            peer.send(*answer.split("\n"))
            line = peer.line().decode()


@pytest.mark.parametrize(
    ("plain", "login", "tried", "reported"),
    [
        ("535 5.7.8 no", "535 5.7.139 disabled", 2, "535 5.7.139 disabled"),
        ("535 5.7.8 no", "504 5.5.4 what", 2, "535 5.7.8 no"),
        ("535 5.7.8 no", "534 5.7.9 weak", 2, "535 5.7.8 no"),
        ("504 5.5.4 what", "535 5.7.8 no", 2, "535 5.7.8 no"),
        ("534 5.7.9 weak", "454 4.7.0 later", 2, "534 5.7.9 weak"),
        ("535 5.7.8 no", "421 4.7.0 too many", 2, "535 5.7.8 no"),
        ("535 5.7.8 no", None, 2, "535 5.7.8 no"),
        ("454 4.7.0 later", "235 2.7.0 ok", 1, "454 4.7.0 later"),
        ("421 4.7.0 too many", "235 2.7.0 ok", 1, "421 4.7.0 too many"),
        ("432 4.7.12 transition", "235 2.7.0 ok", 1, "432 4.7.12 transition"),
        ("530 5.7.0 no", "235 2.7.0 ok", 1, "530 5.7.0 no"),
        ("525 5.7.13 disabled", "235 2.7.0 ok", 1, "525 5.7.13 disabled"),
    ],
)
def test_what_ends_the_tries(bench: Bench, plain: str, login: t.Optional[str], tried: int, reported: str) -> None:
    error = bench.failure(offer="PLAIN LOGIN", replies={"AUTH": Answers(PLAIN=plain, LOGIN=login)}, try_all=True)

    assert str(error.reply) == reported and bench.tried == ["PLAIN", "LOGIN"][:tried]
    assert bench.client.logins[-1].reply is None or str(bench.client.logins[-1].reply) == (plain, login)[tried - 1]


def test_a_server_that_hangs_up_after_the_refusal_ends_the_tries(bench: Bench) -> None:
    def refuse(peer: Peer) -> None:
        peer.send(REFUSED)

    error = bench.failure(offer="PLAIN LOGIN", replies={"AUTH": refuse}, try_all=True)

    assert str(error.reply) == REFUSED and b"AUTH LOGIN" not in bench.server.lines


def test_a_false_server_is_told_whatever_was_refused_before(bench: Bench) -> None:
    servers = {"SCRAM-SHA-256": Scram(password="another"), "SCRAM-SHA-1": Scram("sha1", tamper=_forged), "PLAIN": sasl_server.plain}
    error = bench.failure(servers, try_all=True)

    assert error.kind == Kind.SERVER_SIGNATURE and bench.tried == ["SCRAM-SHA-256", "SCRAM-SHA-1"]


def test_an_attempt_without_an_answer_is_one(bench: Bench) -> None:
    assert bench.failure(offer="PLAIN", replies={"AUTH": lambda peer: None}).kind == Kind.CLOSED

    assert bench.tried == ["PLAIN"] and bench.client.logins[0].reply is None and bench.client.auth_sent


# -- hostile servers ---------------------------------------------------------------------------------------------------


def _forged(which: str, message: bytes) -> t.Optional[bytes]:
    return b"v=" + base64.b64encode(b"x" * 20) if which == "final" else message


def _silent(which: str, message: bytes) -> t.Optional[bytes]:
    return None if which == "final" else message


@pytest.mark.parametrize(
    ("name", "server"),
    [
        ("SCRAM-SHA-256", Scram(tamper=_forged)),
        ("SCRAM-SHA-1", Scram("sha1", tamper=_forged)),
        ("DIGEST-MD5", sasl_server.digest_md5(proof=lambda _right: b"rspauth=" + b"0" * 32)),
    ],
)
def test_a_server_that_can_not_prove_itself_is_left(bench: Bench, name: str, server: sasl_server.Make) -> None:
    error = bench.failure({name: server, "PLAIN": sasl_server.plain}, mechanism=name.lower(), try_all=True)

    assert error.kind == Kind.SERVER_SIGNATURE and "could not prove" in str(error)
    assert bench.tried == [name] and bench.server.lines[-2] == b"*"
    assert str(bench.client.logins[0].reply) == "501 5.7.0 Authentication aborted"


@pytest.mark.parametrize(
    ("name", "server"),
    [("SCRAM-SHA-256", Scram(tamper=_silent)), ("DIGEST-MD5", sasl_server.digest_md5(proof=lambda _right: None))],
)
def test_a_success_without_proof_is_none(bench: Bench, name: str, server: sasl_server.Make) -> None:
    error = bench.failure({name: server})

    assert error.kind == Kind.SERVER_SIGNATURE and "without having proved" in str(error) and str(error.reply) == ACCEPTED
    assert bench.tried == [name] and bench.reply is None


@pytest.mark.parametrize("name", [*SERVERS, "XOAUTH2"])
def test_a_success_at_once_is_none(bench: Bench, name: str) -> None:
    credentials = Credentials(USERNAME, access_token="x" * 1000) if name == "XOAUTH2" else CREDENTIALS
    error = bench.log_in(None, credentials, offer=name, replies={"AUTH": "235 2.7.0 Welcome, whoever you are"})

    if name == "PLAIN":
        assert error is None  # the credentials went with the command
    else:
        assert error is not None and error.kind == Kind.REPLY and "before it has the credentials" in str(error)
    assert bench.tried == [name]


@pytest.mark.parametrize("name", ["CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-256"])
@pytest.mark.parametrize("challenge", ["!!!", "Zm9", "Zm9v Zm9v", "\x00", "\u00e4"])
def test_a_challenge_that_is_not_base64_is_cancelled(bench: Bench, name: str, challenge: str) -> None:
    def ask(peer: Peer) -> None:
        peer.send(f"334 {challenge}")
        if peer.line() == b"*":
            peer.send("501 5.7.0 cancelled")
        peer.line()

    error = bench.failure(offer=name, replies={"AUTH": ask})

    assert error.kind == Kind.CHALLENGE and "not base64" in str(error)
    assert bench.tried == [name] and bench.server.lines[-2:] == [b"*", b"QUIT"]
    assert str(bench.client.logins[0].reply) == "501 5.7.0 cancelled"


@pytest.mark.parametrize("prompts", [("Username:", "Password:"), ("", ""), ("!!", "??")])
def test_prompts_that_are_not_base64_are_answered(bench: Bench, prompts: t.Tuple[str, str]) -> None:
    def ask(peer: Peer) -> None:
        peer.send(f"334 {prompts[0]}")
        peer.line()
        peer.send(f"334 {prompts[1]}")
        good = peer.line() == base64.b64encode(PASSWORD.encode())
        peer.send(sasl_server.verdict(good))
        peer.line()

    assert bench.log_in(offer="LOGIN", replies={"AUTH": ask}) is None


@pytest.mark.parametrize("prompt", ["UGFzc3dvcmQ6", "Password:"])
def test_the_password_is_not_sent_where_the_user_name_goes(bench: Bench, prompt: str) -> None:
    def ask(peer: Peer) -> None:
        peer.send(f"334 {prompt}")
        while peer.line() not in (b"", b"QUIT"):
            peer.send("501 5.7.0 cancelled")

    error = bench.failure(offer="LOGIN", replies={"AUTH": ask})

    assert error.kind == Kind.CHALLENGE and "asks for the password" in str(error)
    assert bench.server.lines[1:] == [b"AUTH LOGIN", b"*", b"QUIT"]


@pytest.mark.parametrize("name", [*SERVERS, "XOAUTH2", "OAUTHBEARER"])
def test_endless_challenges_are_cancelled(bench: Bench, name: str) -> None:
    def ask(peer: Peer) -> None:
        for _count in range(1000):
            peer.send("334 PGEuYkBjLmQ+")
            if peer.line() == b"*":
                break
        peer.send("501 5.7.0 cancelled")
        peer.line()

    error = bench.failure(None, BEARER if "OAUTH" in name else CREDENTIALS, offer=name, replies={"AUTH": ask})

    assert error.kind == Kind.CHALLENGE and bench.tried == [name]
    assert bench.server.lines.count(b"*") == 1 and len(bench.server.lines) <= 6


def test_a_server_that_dies_of_the_cancellation_does_not_hide_its_cause(bench: Bench) -> None:
    def ask(peer: Peer) -> None:
        peer.send("334 !")
        peer.line()

    error = bench.failure(offer="CRAM-MD5", replies={"AUTH": ask})

    assert error.kind == Kind.CHALLENGE and bench.client.logins[0].reply is None


def test_hashing_without_end_is_refused_in_time(bench: Bench) -> None:
    def slow(which: str, message: bytes) -> bytes:
        return message.replace(b"i=64", b"i=9999999") if which == "first" else message

    started = time.monotonic()
    error = bench.failure({"SCRAM-SHA-256": Scram(tamper=slow)}, timeout=0.8)

    assert error.kind == Kind.CHALLENGE and "time that is left" in str(error) and time.monotonic() - started < 1.5


def test_proofs_are_in_no_transcript(bench: Bench) -> None:
    """Passwords could be tried against them at leisure. A server that repeats what it got is the worst case."""
    for name in ("CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-256"):
        assert bench.log_in({name: SERVERS[name]}) is None
        sent = [line for line in bench.server.lines[2:] if line not in (b"", b"QUIT")][-1]
        response = base64.b64decode(sent)
        proof = response.rsplit(b",p=", 1)[-1] if b",p=" in response else _hex_of(response)
        show = bench.client.transcript.show
        assert sent.decode() not in bench.transcript
        assert proof.decode() not in show(f"535 you said {response!r}") and sent.decode() not in show(f"535 you said {sent.decode()}")
        if name == "SCRAM-SHA-256":
            assert bench.transcript.count("S: 334 ********") == 1, "the signature of the server is as good as the proof"


def _hex_of(response: bytes) -> bytes:
    for part in response.replace(b",", b" ").replace(b"=", b" ").split():
        if len(part) == 32 and all(octet in b"0123456789abcdef" for octet in part):
            return part
    raise AssertionError(response)


# -- where credentials go ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("credentials", [CREDENTIALS, BEARER])
def test_nothing_goes_in_clear_text_unless_allowed(bench: Bench, credentials: Credentials) -> None:
    offered = {**SERVERS, "XOAUTH2": sasl_server.bearer(bearer("XOAUTH2"), b"")}
    assert bench.failure(offered, credentials, tls="none").kind == Kind.UNPROTECTED and bench.tried == []

    assert bench.log_in(offered, credentials, tls="none", allow_unencrypted=True) is None and len(bench.tried) == 1


def test_the_permission_is_for_no_tls_and_not_for_tls_that_fails(bench: Bench) -> None:
    """STARTTLS was asked for and not done: the permission does not cover that."""
    error = bench.failure(SERVERS, tls="starttls", allow_unencrypted=True)

    assert error.kind == Kind.UNPROTECTED and bench.server.clear_text.count(b"AUTH") == 0


def jwt(**claims: t.Any) -> str:
    parts = ({"alg": "RS256", "typ": "JWT"}, claims)
    head = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{head}.c2lnbmF0dXJl"


@pytest.mark.parametrize(("claim", "seconds", "reason"), [("exp", -1, "expired"), ("nbf", 3600, "not_yet_valid")])
def test_a_token_that_nobody_can_accept_is_not_sent(bench: Bench, claim: str, seconds: int, reason: str) -> None:
    token = jwt(**{claim: int(time.time()) + seconds})
    error = bench.failure({"XOAUTH2": sasl_server.bearer(b"", b"")}, Credentials(USERNAME, access_token=token))

    assert error.kind == Kind.TOKEN and error.reason == reason and bench.tried == []
    assert token not in str(error) and token[:40] not in bench.transcript


def test_a_token_of_another_audience_is_the_servers_business(bench: Bench) -> None:
    token = jwt(exp=int(time.time()) + 3600, aud="https://graph.microsoft.com", upn="somebody@else.test")

    assert bench.failure({"XOAUTH2": sasl_server.bearer(b"", b"")}, Credentials(USERNAME, access_token=token)).kind == Kind.REPLY
    assert bench.tried == ["XOAUTH2"]
