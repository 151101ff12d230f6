# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that send something else than replies, or never stop, or never begin. What holds for all is in hostile.py."""

from __future__ import annotations

import socket
import sys
import threading
import typing as t

import pytest
from hostile import Hostile, dripping, endless, failed, raw, texts
from smtp_server import AUTH_OFFER, PASSWORD, Certificates, Handler, Peer, conversation


def test_a01_endless_banner(hostile: Hostile) -> None:
    failed(hostile(endless(b"220-and so on\r\n"), "starttls"), "reply_too_large", "greeting")


def test_a01_endless_banner_over_tls(hostile: Hostile, certificates: Certificates) -> None:
    def handle(peer: Peer) -> None:
        peer.start_tls(certificates.good())
        endless(b"220-and so on\r\n")(peer)

    failed(hostile(handle), "reply_too_large", "greeting")


def test_a02_endless_ehlo(hostile: Hostile) -> None:
    failed(hostile(conversation(replies={"EHLO": endless(b"250-X-AND-SO-ON\r\n")}), "starttls"), "reply_too_large", "ehlo")


def test_a02_endless_ehlo_over_tls(hostile: Hostile, certificates: Certificates) -> None:
    handler = conversation(context=certificates.good(), replies={"EHLO_TLS": endless(b"250-AUTH PLAIN\r\n")})

    failed(hostile(handler, "starttls"), "reply_too_large", "ehlo_tls")


@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_a03_line_without_end(hostile: Hostile, size: int) -> None:
    failed(hostile(raw(b"220 " + b"x" * size), "starttls"), "line_too_long", "greeting")


def test_a03_line_without_end_after_auth(hostile: Hostile, certificates: Certificates) -> None:
    handler = conversation(tls="implicit", context=certificates.good(), replies={"AUTH": raw(b"535 " + b"x" * (1 << 20))})

    failed(hostile(handler, logins=1), "line_too_long", "auth")


def test_a04_one_byte_a_second(hostile: Hostile) -> None:
    failed(hostile(dripping(b"220 mx.provider.test ESMTP\r\n", 1.0), "starttls", timeout=1.5), "deadline_exceeded", "greeting")


def test_a04_one_line_a_moment(hostile: Hostile) -> None:
    def handle(peer: Peer) -> None:
        never = threading.Event()
        while True:
            peer.send("220-wait")
            never.wait(0.2)

    failed(hostile(handle, "starttls", timeout=1.5), "deadline_exceeded", "greeting")


def test_a04_one_byte_a_second_after_auth(hostile: Hostile, certificates: Certificates) -> None:
    handler = conversation(tls="implicit", context=certificates.good(), replies={"AUTH": dripping(b"235 2.7.0 welcome\r\n", 1.0)})

    failed(hostile(handler, logins=1, timeout=1.5), "deadline_exceeded", "auth")


@pytest.mark.parametrize(("tls", "code", "stage"), [("starttls", "greet_timeout", "greeting"), ("implicit", "tls_handshake_timeout", "tls")])
def test_a05_silence(hostile: Hostile, tls: str, code: str, stage: str) -> None:
    failed(hostile(Peer.wait_until_closed, tls, timeout=1.5), code, stage)


@pytest.mark.parametrize("tls", ["starttls", "implicit", "none"])
def test_a06_reset_after_accept(hostile: Hostile, tls: str) -> None:
    diagnosis = hostile(Peer.reset, tls)["diagnosis"]

    # The reset may be there before the connection has been looked at.
    later = ("tls_reset", "tls") if tls == "implicit" else ("tcp_reset_after_accept", "greeting")
    assert (diagnosis["code"], diagnosis["stage"]) in (("tcp_reset_after_accept", "connect"), later)


def test_a07_end_after_the_banner(hostile: Hostile) -> None:
    def handle(peer: Peer) -> None:
        peer.send("220 mx.provider.test ESMTP")
        peer.connection.shutdown(socket.SHUT_WR)  # and not close(): with unread data that would be a reset
        peer.wait_until_closed()

    failed(hostile(handle, "starttls"), "connection_closed", "ehlo")


def test_a07_end_before_the_banner(hostile: Hostile) -> None:
    failed(hostile(lambda peer: None, "starttls"), "greet_closed", "greeting")


def test_a07_end_within_the_banner(hostile: Hostile) -> None:
    diagnosis = failed(hostile(lambda peer: peer.send_raw(b"220 mx.provi"), "starttls"), "greet_closed", "greeting")

    assert diagnosis["evidence"]


@pytest.mark.parametrize("verb", ["EHLO", "STARTTLS"])
@pytest.mark.parametrize("ending", [lambda peer: None, Peer.reset], ids=["end", "reset"])
def test_a07_end_before_tls(hostile: Hostile, verb: str, ending: Handler) -> None:
    result = hostile(conversation(replies={verb: ending}), "starttls")

    code = "connection_reset" if ending is Peer.reset else "connection_closed"
    failed(result, code, verb.lower())


@pytest.mark.parametrize(("verb", "code", "stage"), [("EHLO_TLS", "connection_closed", "ehlo_tls"), ("AUTH", "auth_dropped", "auth")])
def test_a07_end_over_tls(hostile: Hostile, certificates: Certificates, verb: str, code: str, stage: str) -> None:
    handler = conversation(context=certificates.good(), replies={verb: lambda peer: None})

    failed(hostile(handler, "starttls", logins=int(verb == "AUTH")), code, stage)


@pytest.mark.parametrize(
    ("banner", "code"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n", "greet_not_smtp_http"),
        (b"<!DOCTYPE html><html><body>Sign in to the hotel's network</body></html>", "greet_not_smtp_http"),
        (b"<html>" + b"<p>no line end</p>" * 1000, "greet_not_smtp_http"),
        (b"HTTP/1.1 302 " + b"x" * 2000 + b"\r\n", "greet_not_smtp_http"),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "greet_not_smtp_other"),
        (b"* OK IMAP4rev1 ready\r\n", "greet_not_smtp_other"),
        (b"+OK POP3 ready\r\n", "greet_not_smtp_other"),
        (bytes(range(256)) * 100, "greet_not_smtp_other"),
        (b"\0" * 100000, "greet_not_smtp_other"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "greet_not_smtp_other"),
    ],
    ids=["http", "html", "long-html", "long-http", "ssh", "imap", "pop3", "binary", "nul", "tls-alert"],
)
def test_a09_another_protocol(hostile: Hostile, banner: bytes, code: str) -> None:
    failed(hostile(raw(banner), "starttls"), code, "greeting")


@pytest.mark.parametrize("codes", [("220-", "554 "), ("220-", "250 "), ("220-", "221-")])
def test_a10_codes_that_differ_within_a_greeting(hostile: Hostile, codes: t.Tuple[str, str]) -> None:
    first, second = codes

    failed(hostile(conversation(greeting=[f"{first}one", f"{second}two"]), "starttls"), "greet_not_smtp_other", "greeting")


def test_a10_codes_that_differ_within_a_reply(hostile: Hostile, certificates: Certificates) -> None:
    handler = conversation(tls="implicit", context=certificates.good(), replies={"AUTH": ["535-5.7.8 no", "235 2.7.0 or yes"]})

    failed(hostile(handler, logins=1), "reply_malformed", "auth")


@pytest.mark.parametrize(
    "code",
    [
        *("000 a", "099 a", "99 a", "99a a", "2500 a", "25O a", "600 a", "199 a", "-20 a", "+20 a", " 220 a", "2 0 a", "220_a", "0x1 a", ""),
        *("\u0662\u0662\u0660 a", "\u00b220 a"),  # digits of other scripts
    ],
)
def test_a11_codes_that_are_none(hostile: Hostile, certificates: Certificates, code: str) -> None:
    failed(hostile(conversation(greeting=[code]), "starttls"), "greet_not_smtp_other", "greeting")
    handler = conversation(tls="implicit", context=certificates.good(), replies={"AUTH": code})

    failed(hostile(handler, logins=1), "reply_malformed", "auth")


@pytest.mark.parametrize("end", [b"\n", b"\r\r\n", b"\r\r\r\n"], ids=["LF", "CRCRLF", "CRCRCRLF"])
def test_a12_line_ends_that_do_no_harm(hostile: Hostile, end: bytes) -> None:
    def handle(peer: Peer) -> None:
        peer.send_raw(b"220-one" + end + b"220 two" + end)
        peer.line()
        peer.send_raw(b"250-mx" + end + b"250 SIZE 1" + end)
        peer.line()
        peer.send_raw(b"221 bye" + end)

    result = hostile(handle, "none")

    assert result["ok"] and result["capabilities"]["before_tls"] == ["SIZE 1"]


def test_a12_a_bare_cr_ends_no_line(hostile: Hostile) -> None:
    """A server, or who writes into what it says, does not get a second reply out of one line."""
    handler = conversation(replies={"EHLO": "250-mx\r250 STARTTLS\r\n250 SIZE 1"})
    result = hostile(handler, "starttls")

    failed(result, "cap_starttls_absent", "starttls")
    assert any(r"mx\x0d250 STARTTLS" in line for line in result["transcript"])


def test_a12_a_bare_cr_at_the_end_is_not_waited_for_beyond_the_deadline(hostile: Hostile) -> None:
    failed(hostile(raw(b"220 mx\r"), "starttls", timeout=1.0), "deadline_exceeded", "greeting")


def test_a13_text_that_is_not_printable(hostile: Hostile) -> None:
    greeting = b"220 \x00\x1b[2J\x1b]0;title\x07\x9b31m\xc2\x9b\xff\xfe\xe2\x80\xae\xe2\x80\xa8\x7f\x08 " + b"y" * 900 + b"\r\n"
    result = hostile(raw(greeting), "none", timeout=1.5)

    shown = [line for line in result["transcript"] if line.startswith("S: ")]
    assert shown and shown[0].startswith(r"S: 220 \x00\x1b[2J\x1b]0;title\x07\x9b31m\x9b\xff\xfe\u202e\u2028\x7f\x08 yyy")
    # 256 characters, and how many were left out
    assert all(text.isprintable() and len(text) < 256 + 64 for text in texts(result))


def test_a13_text_that_is_not_printable_in_ehlo(hostile: Hostile, certificates: Certificates) -> None:
    offer = ["AUTH PLAIN\x00 \x1b[31mLOGIN \u202e", "X-\x9b\x85\u2029" + "z" * 800]
    result = hostile(conversation(tls="implicit", context=certificates.good(), offer_tls=offer))

    failed(result, "cap_no_common_mech", "auth")
    assert all(text.isprintable() and len(text) < 512 for text in texts(result))


# -- replies that say one thing and mean another -----------------------------------------------------------------------


def test_250_to_everything(hostile: Hostile) -> None:
    def handle(peer: Peer) -> None:
        peer.send("250 ok")
        while peer.line():
            peer.send("250 ok")

    failed(hostile(handle, "starttls"), "reply_refused", "greeting")


@pytest.mark.parametrize(
    ("tls", "code", "stage"), [("starttls", "cap_starttls_absent", "starttls"), ("none", None, "")]
)
def test_250_to_everything_after_the_greeting(hostile: Hostile, tls: str, code: t.Optional[str], stage: str) -> None:
    def handle(peer: Peer) -> None:
        peer.send("220 ok")
        while peer.line():
            peer.send("250 ok")

    result = hostile(handle, tls)
    if code:
        failed(result, code, stage)
    else:
        assert result["ok"] and not result["auth"]["tried"]


def test_250_to_starttls_is_no_consent(hostile: Hostile) -> None:
    failed(hostile(conversation(replies={"STARTTLS": "250 ok"}), "starttls"), "reply_refused", "starttls")


def test_250_to_auth_is_no_login(hostile: Hostile, certificates: Certificates) -> None:
    handler = conversation(tls="implicit", context=certificates.good(), replies={"AUTH": "250 2.7.0 Authentication successful"})

    failed(hostile(handler, logins=1), "auth_unexpected_reply", "auth")


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("535 2.7.0 Authentication successful", "auth_bad_credentials"),
        ("454 5.7.8 Username and Password not accepted", "auth_temporary"),
        ("334 535 5.7.8 Authentication failed", "auth_unexpected_challenge"),
    ],
)
def test_the_code_counts_not_the_text(hostile: Hostile, certificates: Certificates, reply: str, code: str) -> None:
    def handle(peer: Peer) -> None:
        peer.send(reply)
        while peer.line() not in (b"", b"QUIT"):
            peer.send(reply)

    failed(hostile(conversation(tls="implicit", context=certificates.good(), replies={"AUTH": handle}), logins=1), code, "auth")


def test_a_success_whose_text_denies_it_is_one(hostile: Hostile, certificates: Certificates) -> None:
    handler = conversation(tls="implicit", context=certificates.good(), replies={"AUTH": "235 5.7.8 Authentication failed"})
    result = hostile(handler, logins=1)

    assert result["ok"] and result["auth"]["enhanced_code"] is None


def test_replies_that_come_before_their_commands(hostile: Hostile, certificates: Certificates) -> None:
    """All that a login needs, in one piece, before anything was asked."""
    script = ["220 mx", "250-mx", f"250 {AUTH_OFFER}", "235 2.7.0 welcome", "221 bye"]

    def handle(peer: Peer) -> None:
        peer.start_tls(certificates.good())
        peer.send(*script)
        peer.wait_until_closed()

    failed(hostile(handle), "reply_unsolicited", "ehlo_tls")


def test_huge_ehlo(hostile: Hostile, certificates: Certificates) -> None:
    """As much as is allowed: each line and the whole are just below their limits."""
    offer = ["X-" + "y" * 145 for _count in range(97)] + [AUTH_OFFER]
    result = hostile(conversation(tls="implicit", context=certificates.good(), offer_tls=offer), logins=1)

    assert result["ok"] and len(result["capabilities"]["after_tls"]) == 98
    assert sum(map(len, texts(result))) < 128 * 1024


def test_the_harness_sees_what_it_is_there_for(hostile: Hostile, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its demands fails where it should."""
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp import probe

    good = conversation(tls="implicit", context=certificates.good())
    kept: t.List[t.Any] = []
    misdeeds: t.Dict[str, t.Callable[..., t.Any]] = {
        "grew": lambda: kept.append(bytearray(b"x" * 10_000_000)),
        "took": lambda: threading.Event().wait(1.6),
        "left open": lambda: kept.append(socket.socket()),
        "standard error": lambda: print("loud", file=sys.stderr),
    }
    probe_all = probe.probe_all
    for sign, misdeed in misdeeds.items():
        monkeypatch.setattr(probe, "probe_all", lambda *args, misdeed=misdeed: (misdeed(), probe_all(*args))[1])
        with pytest.raises(AssertionError, match=sign):
            hostile(good, logins=1, timeout=0.5)
    monkeypatch.setattr(probe, "probe_all", lambda endpoints, *_rest: [{"leak": endpoints[0]["password"].encode().hex()}])
    with pytest.raises(AssertionError, match="a secret is told"):
        hostile(good)
    monkeypatch.undo()
    with pytest.raises(AssertionError, match="1 logins instead of 0"):
        hostile(good)
    with pytest.raises(AssertionError, match="in clear text"):
        hostile(conversation(replies={"EHLO": lambda peer: peer.clear_lines.append(PASSWORD.encode())}), "starttls")
