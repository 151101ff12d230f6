# SPDX-License-Identifier: GPL-3.0-or-later
"""SASL mechanisms against the examples of their RFCs and against hostile challenges, and which of them is chosen."""

from __future__ import annotations

import base64
import hashlib
import re
import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl import sasl, sasl_md5
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.sasl_md5 import CramMd5, DigestMd5
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.sasl_mechanism import Connection, Mechanism
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.sasl_oauth import OAuthBearer, XOAuth2
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.sasl_plain import External, Login, Plain
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.sasl_scram import ScramSha1, ScramSha256, ScramSha256Plus

PASSWORD = Credentials("user", "pencil")
TOKEN = Credentials("user@example.com", access_token="vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==")
NONCE = "fyko+d2lbbFgONRv9qkxdawL"
FIRST = b"r=" + NONCE.encode() + b"3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
FINAL = b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ="


def refused(kind: str, step: t.Callable[[], t.Any], *words: str) -> SmtpError:
    with pytest.raises(SmtpError) as caught:
        step()
    assert caught.value.kind == kind and caught.value.stage == "auth"
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "pencil" not in str(caught.value)
    return caught.value


# -- the examples of the RFCs ------------------------------------------------------------------------------------------


def test_scram_sha_1() -> None:
    scram = ScramSha1(PASSWORD, nonce=NONCE)

    assert scram.initial() == b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"
    assert scram.respond(FIRST) == b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
    assert scram.respond(FINAL) == b""
    assert scram.complete
    scram.finish()
    refused(Kind.CHALLENGE, lambda: scram.respond(FINAL), "more than SCRAM-SHA-1")


def test_scram_sha_256() -> None:
    scram = ScramSha256(PASSWORD, nonce="rOprNGfwEbeRWgbNEkqO")

    assert scram.initial() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    first = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    answer = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert scram.respond(first) == answer
    assert scram.respond(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == b""


def test_cram_md5() -> None:
    cram = CramMd5(Credentials("tim", "tanstaaftanstaaf"))

    assert cram.initial() is None
    assert cram.respond(b"<1896.697170952@postoffice.reston.mci.net>") == b"tim b913a602c7eda7a495b4e6e7334d3890"
    assert cram.complete


DIGEST_CHALLENGE = b'realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8'
DIGEST_RESPONSE = (
    b'charset=utf-8,username="chris",realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",nc=00000001,cnonce="OA6MHXh6VqTrRk",'
    b'digest-uri="imap/elwood.innosoft.com",response=d388dad90d4bbd760a152321f2143af7,qop=auth'
)


def digest(username: str = "chris", password: str = "secret") -> DigestMd5:
    connection = Connection("elwood.innosoft.com", 143)
    return DigestMd5(Credentials(username, password), connection, service="imap", nonce="OA6MHXh6VqTrRk")


def test_digest_md5() -> None:
    mechanism = digest()

    assert mechanism.initial() is None
    assert mechanism.respond(DIGEST_CHALLENGE) == DIGEST_RESPONSE
    assert not mechanism.complete
    assert mechanism.respond(b"rspauth=ea40f60335c427b5527b84dbabcdfffd") == b""
    assert mechanism.complete
    refused(Kind.CHALLENGE, lambda: mechanism.respond(b"rspauth=ea40f60335c427b5527b84dbabcdfffd"), "more than DIGEST-MD5")


def test_oauthbearer() -> None:
    """RFC 7628 section 4.3, of the submission server."""
    mechanism = OAuthBearer(TOKEN, Connection("server.example.com", 587))

    assert base64.b64encode(mechanism.initial()) == (
        b"bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9NTg3AWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52"
        b"YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
    )
    challenge = base64.b64decode(
        "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIiwic2NoZW1lcyI6ImJlYXJlciBtYWMiLCJzY29wZSI6Imh0dHBzOi8vbWFpbC5leGFtcGxlLmNvbS8ifQ=="
    )
    assert base64.b64encode(mechanism.respond(challenge)) == b"AQ=="
    assert mechanism.reason == "invalid_token" and mechanism.problem == challenge.decode()


def test_xoauth2() -> None:
    """The example of Google's description of the protocol."""
    token = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"
    mechanism = XOAuth2(Credentials("someuser@example.com", access_token=token))

    assert base64.b64encode(mechanism.initial()) == (
        b"dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2cBAQ=="
    )
    assert mechanism.respond(b'{"status":"401"}') == b"" and mechanism.reason == "401"


def test_plain_login_and_external() -> None:
    assert Plain(PASSWORD).initial() == Plain(PASSWORD).respond(b"") == b"\0user\0pencil"
    login = Login(PASSWORD)
    assert login.initial() is None and [login.respond(b"?"), login.respond(b"?")] == [b"user", b"pencil"]
    assert External(Credentials(None)).initial() == b"" and External(Credentials("admin")).initial() == b"admin"


# -- preparation of credentials ----------------------------------------------------------------------------------------


def test_a_name_in_scram_is_prepared_and_escaped() -> None:
    scram = ScramSha1(Credentials("a=b,c\u00ad\u2168", "pencil"), nonce=NONCE)

    assert scram.initial() == b"n,,n=a=3Db=2CcIX,r=fyko+d2lbbFgONRv9qkxdawL"


def test_a_password_in_scram_is_prepared() -> None:
    composed, decomposed = (ScramSha1(Credentials("user", text), nonce=NONCE) for text in ("p\u00e4ss\u00aa", "pa\u0308ssa"))

    assert composed.respond(FIRST) == decomposed.respond(FIRST)


def test_plain_sends_what_it_was_given() -> None:
    assert Plain(Credentials("j\u00f6rg", "pa\u0308ss")).initial() == b"\0j\xc3\xb6rg\0pa\xcc\x88ss"


@pytest.mark.parametrize(("username", "password"), [("\u00ad", "pencil"), ("user", "\u00ad"), ("user", "pencil\U0001f600"), ("a\tb", "pencil")])
def test_what_scram_can_not_prepare_is_not_sent(username: str, password: str) -> None:
    refused(Kind.CREDENTIALS, lambda: ScramSha256(Credentials(username, password)), "SCRAM-SHA-256 can not use the")


@pytest.mark.parametrize("mechanism", [cls for cls in sasl.MECHANISMS.values() if cls.needs == "password"])
@pytest.mark.parametrize(("username", "password"), [("us\ner", "pencil"), ("user", "pencil\0"), ("user", "pencil\r"), ("user", "pencil\ud800")])
def test_no_mechanism_carries_line_ends(mechanism: t.Type[Mechanism], username: str, password: str) -> None:
    error = refused(Kind.CREDENTIALS, lambda: mechanism(Credentials(username, password)))

    assert error.__cause__ is None and error.__suppress_context__ is ("\ud800" in password)


@pytest.mark.parametrize("mechanism", [OAuthBearer, XOAuth2])
@pytest.mark.parametrize("token", ["", "a b", "abc\n", "Bearer abc", "abc\x01", "caf\u00e9"])
def test_a_token_is_one_word(mechanism: t.Type[Mechanism], token: str) -> None:
    refused(Kind.CREDENTIALS, lambda: mechanism(Credentials("user", access_token=token)), "the access token")


def test_a_name_can_not_end_the_field_of_a_token() -> None:
    refused(Kind.CREDENTIALS, lambda: XOAuth2(Credentials("user\x01auth=", access_token="abc")), "XOAUTH2")


def test_a_name_in_oauthbearer_is_escaped_or_left_out() -> None:
    assert OAuthBearer(Credentials("a,b=c", access_token="abc")).initial().startswith(b"n,a=a=2Cb=3Dc,\x01")
    assert OAuthBearer(Credentials(None, access_token="abc")).initial().startswith(b"n,,\x01host=")


# -- hostile servers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("challenge", "words"),
    [
        (b"", "rounds"),
        (b"\xff\0", "rounds"),
        (b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", "rounds"),
        (FIRST.replace(b"i=4096", b"i=0"), "rounds"),
        (FIRST.replace(b"i=4096", b"i=-1"), "rounds"),
        (FIRST.replace(b"i=4096", b"i=04096"), "rounds"),
        (FIRST.replace(b"i=4096", b"i=99999999999"), "rounds"),
        (FIRST.replace(b"i=4096", b"i=10000001"), "more than 10000000"),
        (FIRST.replace(b"s=QSXCR+Q6sek8bf92", b"s="), "rounds"),
        (FIRST.replace(b"s=QSXCR+Q6sek8bf92", b"s=QSX"), "base64"),
        (FIRST.replace(b"fyko", b"FYKO"), "nonce"),
        (FIRST.replace(b"3rfcNHYJY1ZVvWVs7j", b""), "nonce"),
        (FIRST.replace(b"3rfc", b"3 rfc"), "rounds"),
        (b"m=x," + FIRST, "extension"),
    ],
)
def test_first_messages_that_scram_refuses(challenge: bytes, words: str) -> None:
    scram = ScramSha1(PASSWORD, Connection(deadline=Deadline(60)), nonce=NONCE)
    scram.initial()

    refused(Kind.CHALLENGE, lambda: scram.respond(challenge), words, "SCRAM-SHA-1")


def test_an_optional_extension_of_scram_is_signed_and_ignored() -> None:
    scram = ScramSha1(PASSWORD, nonce=NONCE)
    scram.initial()

    assert scram.respond(FIRST + b",x=later").startswith(b"c=biws,")
    refused(Kind.SERVER_SIGNATURE, lambda: scram.respond(FINAL))


def test_scram_does_not_compute_beyond_the_deadline() -> None:
    scram = ScramSha1(PASSWORD, Connection(deadline=Deadline(0.01)), nonce=NONCE)

    refused(Kind.CHALLENGE, lambda: scram.respond(FIRST.replace(b"i=4096", b"i=5000000")), "time that is left")


def test_scram_computes_what_fits_into_the_deadline() -> None:
    scram = ScramSha1(PASSWORD, Connection(deadline=Deadline(60)), nonce=NONCE)
    scram.respond(FIRST.replace(b"i=4096", b"i=100000"))

    refused(Kind.SERVER_SIGNATURE, lambda: scram.respond(FINAL))  # that of 4096 rounds


@pytest.mark.parametrize("final", [b"", b"v=", b"v=AAAApqV8S7suAoZWja4dJRkFsKQ=", FINAL[:-1], b"x" + FINAL, FIRST])
def test_scram_refuses_a_server_that_does_not_know_the_password(final: bytes) -> None:
    scram = ScramSha1(PASSWORD, nonce=NONCE)
    scram.respond(FIRST)

    refused(Kind.SERVER_SIGNATURE, lambda: scram.respond(final))
    refused(Kind.SERVER_SIGNATURE, scram.finish)


def test_scram_keeps_the_error_of_the_server() -> None:
    scram = ScramSha1(PASSWORD, nonce=NONCE)
    scram.respond(FIRST)

    assert scram.respond(b"e=invalid-proof") == b"" and scram.reason == "invalid-proof"
    refused(Kind.SERVER_SIGNATURE, scram.finish)


def test_every_nonce_is_another_one() -> None:
    nonces = {ScramSha1(PASSWORD).initial() for _count in range(50)}

    assert len(nonces) == 50 and all(len(nonce.split(b"r=")[1]) >= 24 for nonce in nonces)


@pytest.mark.parametrize(
    ("challenge", "words"),
    [
        (b"", "one nonce"),
        (b"nonsense", "directives"),
        (b'nonce="x",algorithm=md5-sess' + b",x=y" * 600, "directives"),
        (DIGEST_CHALLENGE + b',nonce="again"', "one nonce"),
        (DIGEST_CHALLENGE.replace(b"OA6MG9tEQGm2hh", b""), "one nonce"),
        (DIGEST_CHALLENGE.replace(b",algorithm=md5-sess", b""), "md5-sess"),
        (DIGEST_CHALLENGE.replace(b"md5-sess", b"md5"), "md5-sess"),
        (DIGEST_CHALLENGE.replace(b'qop="auth"', b'qop="auth-conf,auth-int"'), "security layer"),
        (DIGEST_CHALLENGE.replace(b"utf-8", b"koi8-r"), "UTF-8"),
        (DIGEST_CHALLENGE.replace(b'h"', b"h"), "directives"),
    ],
)
def test_challenges_that_digest_md5_refuses(challenge: bytes, words: str) -> None:
    refused(Kind.CHALLENGE, lambda: digest().respond(challenge), words, "DIGEST-MD5")


@pytest.mark.parametrize("answer", [b"", b"rspauth=", b"rspauth=d388dad90d4bbd760a152321f2143af7", b"nonce=ea40f60335c427b5527b84dbabcdfffd"])
def test_digest_md5_refuses_a_server_that_does_not_know_the_password(answer: bytes) -> None:
    mechanism = digest()
    mechanism.respond(DIGEST_CHALLENGE)

    refused(Kind.SERVER_SIGNATURE, lambda: mechanism.respond(answer))
    refused(Kind.SERVER_SIGNATURE, mechanism.finish)


@pytest.mark.parametrize(
    ("username", "realms", "expected"),
    [
        ("chris", b'realm="a",realm="b",', b'username="chris",realm="a"'),
        ("chris@b", b'realm="a",realm="b",', b'username="chris",realm="b"'),
        ("chris@c", b'realm="a",realm="b",', b'username="chris@c",realm="a"'),
        ("chris@c", b"", b'username="chris@c",nonce='),
        ("chris@c", b'realm="",', b'username="chris@c",realm=""'),
        ('ch"r\\is', b'realm="x\\"y",', b'username="ch\\"r\\\\is",realm="x\\"y"'),
    ],
)
def test_the_realm_of_digest_md5(username: str, realms: bytes, expected: bytes) -> None:
    challenge = realms + b' nonce="OA6MG9tEQGm2hh" , ,algorithm=md5-sess'

    assert digest(username).respond(challenge).startswith(expected)


def test_the_character_sets_of_digest_md5() -> None:
    """What fits into ISO 8859-1 is hashed as that, whichever way it is sent."""

    def hashed(challenge: bytes, username: str, password: str) -> t.Tuple[bytes, bytes]:
        response = digest(username, password).respond(challenge)
        found = re.search(rb'username="([^"]*)".*response=([0-9a-f]{32})', response)
        assert found is not None
        return found.group(1), found.group(2)

    in_latin1 = DIGEST_CHALLENGE.replace(b",charset=utf-8", b"")
    secret = hashlib.md5("j\u00f6rg:elwood.innosoft.com:p\u00e4ss".encode("latin-1")).digest()
    a1 = hashlib.md5(secret + b":OA6MG9tEQGm2hh:OA6MHXh6VqTrRk").hexdigest()
    a2 = hashlib.md5(b"AUTHENTICATE:imap/elwood.innosoft.com").hexdigest()
    expected = hashlib.md5(f"{a1}:OA6MG9tEQGm2hh:00000001:OA6MHXh6VqTrRk:auth:{a2}".encode()).hexdigest().encode()

    assert hashed(DIGEST_CHALLENGE, "j\u00f6rg", "p\u00e4ss") == (b"j\xc3\xb6rg", expected)
    assert hashed(in_latin1, "j\u00f6rg", "p\u00e4ss") == (b"j\xf6rg", expected)
    assert hashed(DIGEST_CHALLENGE, "chris", "\u20ac") != hashed(DIGEST_CHALLENGE, "chris", "\u20ad")
    refused(Kind.CREDENTIALS, lambda: digest("chris", "\u20ac").respond(in_latin1), "ISO 8859-1")


def test_an_empty_challenge_of_cram_md5_is_refused() -> None:
    refused(Kind.CHALLENGE, lambda: CramMd5(PASSWORD).respond(b""))


@pytest.mark.parametrize(
    ("prompts", "kind"),
    [([b"Password:"], "password"), ([b" password\0"], "password"), ([b"User Name\0", b"Username:"], "user name")],
)
def test_login_does_not_answer_the_other_prompt(prompts: t.List[bytes], kind: str) -> None:
    login = Login(PASSWORD)
    for prompt in prompts[:-1]:
        login.respond(prompt)

    refused(Kind.CHALLENGE, lambda: login.respond(prompts[-1]), f"asks for the {kind}")


@pytest.mark.parametrize("challenge", [b"", b"[]", b"{", b'{"status":401}', b"[" * 100000, b'{"scope":"x"}', b"\xff"])
def test_a_failure_without_a_status_is_answered_as_well(challenge: bytes) -> None:
    mechanism = XOAuth2(TOKEN)
    mechanism.initial()

    assert mechanism.respond(challenge) == b"" and mechanism.reason == "" and mechanism.problem
    refused(Kind.REPLY, mechanism.finish, "accepts after")


@pytest.mark.parametrize("mechanism", sorted(sasl.MECHANISMS))
def test_no_mechanism_answers_for_ever(mechanism: str) -> None:
    """Challenges that suit SCRAM, DIGEST-MD5 and anybody."""
    credentials = TOKEN if sasl.MECHANISMS[mechanism].needs == "access token" else PASSWORD
    for challenge in (b"", FIRST, FINAL, b"e=other-error", DIGEST_CHALLENGE, b"x"):
        exchange = sasl.MECHANISMS[mechanism](credentials, Connection(binding=b"x"))
        exchange.initial()
        with pytest.raises(SmtpError):
            for _count in range(4):
                exchange.respond(challenge)


@pytest.mark.parametrize("mechanism", sorted(set(sasl.MECHANISMS) - {"PLAIN", "EXTERNAL", "OAUTHBEARER", "XOAUTH2"}))
def test_no_mechanism_is_complete_before_it_began(mechanism: str) -> None:
    exchange = sasl.MECHANISMS[mechanism](PASSWORD)
    exchange.initial()

    refused(Kind.REPLY, exchange.finish, "before it has the credentials")


# -- which one is chosen -----------------------------------------------------------------------------------------------

EVERYTHING = sorted(sasl.MECHANISMS)
BOUND = Connection(binding=b"x")


def chosen(offered: t.Sequence[str], credentials: Credentials = PASSWORD, connection: Connection = BOUND, wanted: str = "auto") -> t.List[str]:
    return [mechanism.name for mechanism in sasl.choose(wanted, offered, credentials, connection)]


def test_the_strongest_first() -> None:
    by_password = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "DIGEST-MD5", "CRAM-MD5", "PLAIN", "LOGIN"]

    assert chosen(EVERYTHING) == by_password
    assert chosen(EVERYTHING, connection=Connection()) == by_password[2:]
    assert chosen(["LOGIN", "GSSAPI", "PLAIN"]) == ["PLAIN", "LOGIN"]
    assert chosen(EVERYTHING, TOKEN) == ["OAUTHBEARER", "XOAUTH2"]
    assert chosen(EVERYTHING, Credentials("user"), Connection(certificate=True)) == ["EXTERNAL"]
    assert "EXTERNAL" not in chosen(EVERYTHING, connection=Connection(certificate=True))


def test_a_wish_is_the_only_one() -> None:
    for name in EVERYTHING:
        credentials = TOKEN if "AUTH" in name else PASSWORD
        assert chosen(EVERYTHING, credentials, Connection(binding=b"x", certificate=True), name.lower()) == [name]


@pytest.mark.parametrize(
    ("wanted", "offered", "credentials", "kind", "words"),
    [
        ("auto", ["GSSAPI", "XOAUTH2"], PASSWORD, Kind.NO_MECHANISM, "PLAIN, LOGIN"),
        ("auto", ["PLAIN"], TOKEN, Kind.NO_MECHANISM, "OAUTHBEARER, XOAUTH2"),
        ("auto", [], PASSWORD, Kind.NO_MECHANISM, "none of"),
        ("plain", ["LOGIN"], PASSWORD, Kind.NO_MECHANISM, "does not offer PLAIN"),
        ("xoauth2", ["XOAUTH2"], PASSWORD, Kind.CREDENTIALS, "by access token, not by password"),
        ("plain", ["PLAIN"], TOKEN, Kind.CREDENTIALS, "by password, not by access token"),
        ("external", ["EXTERNAL"], PASSWORD, Kind.CREDENTIALS, "by client certificate"),
        ("auto", ["EXTERNAL"], Credentials("user"), Kind.CREDENTIALS, "no password"),
        ("scram-sha-256-plus", ["SCRAM-SHA-256-PLUS"], PASSWORD, Kind.NO_MECHANISM, "TLS 1.2"),
        ("auto", ["SCRAM-SHA-256-PLUS"], PASSWORD, Kind.NO_MECHANISM, "TLS 1.2"),
    ],
)
def test_nothing_is_chosen_in_place_of_a_wish(wanted: str, offered: t.List[str], credentials: Credentials, kind: str, words: str) -> None:
    refused(kind, lambda: sasl.choose(wanted, offered, credentials, Connection()), words)


def test_without_md5_its_mechanisms_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_md5(*_args: object, **_kwargs: object) -> t.NoReturn:
        raise ValueError("[digital envelope routines] unsupported")

    monkeypatch.setattr(sasl_md5.hashlib, "md5", no_md5)

    assert chosen(["CRAM-MD5", "DIGEST-MD5", "LOGIN"]) == ["LOGIN"]
    for wanted in ("auto", "cram-md5"):
        error = refused(Kind.NO_MECHANISM, lambda wanted=wanted: chosen(["CRAM-MD5"], wanted=wanted), "CRAM-MD5 needs MD5", "FIPS")  # type: ignore[misc]
        assert error.reason == "unusable"


@pytest.mark.parametrize(("binding", "offered", "flag"), [(b"", False, b"n"), (b"", True, b"n"), (b"x", False, b"y"), (b"x", True, b"n")])
def test_the_flag_of_the_channel_binding(binding: bytes, offered: bool, flag: bytes) -> None:
    scram = ScramSha256(PASSWORD, Connection(binding=binding, binding_offered=offered), nonce=NONCE)

    assert scram.initial().startswith(flag + b",,n=")
    assert base64.b64decode(scram.respond(FIRST).split(b",")[0][2:]) == flag + b",,"


def test_the_binding_is_in_the_proof() -> None:
    scram = ScramSha256Plus(PASSWORD, Connection(binding=b"finished", binding_offered=True), nonce=NONCE)

    assert scram.initial().startswith(b"p=tls-unique,,n=user,r=")
    assert base64.b64decode(scram.respond(FIRST).split(b",")[0][2:]) == b"p=tls-unique,,finished"


def test_what_is_kept_of_credentials_shows_no_secret() -> None:
    assert "pencil" not in repr(PASSWORD) and "user" in repr(PASSWORD)
    assert str(TOKEN.access_token) not in str(TOKEN)
