# SPDX-License-Identifier: GPL-3.0-or-later
"""The reply parser: what it takes, what it refuses, and that it is bounded."""

from __future__ import annotations

import random

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import reply as replies
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.redact import Redactor
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply, ReplyError, ReplyParser


def parse(data: bytes) -> Reply:
    parser = ReplyParser()
    parser.feed(data)
    reply = parser.take()
    assert reply is not None
    return reply


@pytest.mark.parametrize(
    ("data", "code", "enhanced", "text"),
    [
        (b"220 mx ESMTP\r\n", 220, None, "mx ESMTP"),
        (b"250\r\n", 250, None, ""),
        (b"250-\r\n250\r\n", 250, None, " "),
        (b"535-5.7.8 Username and\r\n535 5.7.8 password\r\n", 535, "5.7.8", "Username and password"),
        (b"535 5.7.139 no\r\n", 535, "5.7.139", "no"),
        (b"535 4.7.8 class of another reply\r\n", 535, None, "class of another reply"),
        (b"250 2.0.0\r\n", 250, "2.0.0", ""),
        (b"250 2.0.0x no code\r\n", 250, None, "2.0.0x no code"),
        (b"220 bare line feed\n", 220, None, "bare line feed"),
        (b"220 one\r\r\n", 220, None, "one"),
        (b"220 a\rb\r\n", 220, None, r"a\x0db"),
        (b"220 \x1b[2J\x00\xff\r\n", 220, None, r"\x1b[2J\x00\xff"),
    ],
)
def test_replies(data: bytes, code: int, enhanced: str, text: str) -> None:
    reply = parse(data)

    assert (reply.code, reply.enhanced, reply.text) == (code, enhanced, text)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"2",
        b"22",
        b"220",
        b"220 no end",
        b"220-first\r\n",
    ],
)
def test_an_incomplete_reply_is_waited_for(data: bytes) -> None:
    parser = ReplyParser()
    parser.feed(data)

    assert parser.take() is None


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"\x15\x03\x01",
        b"\r\n",
        b"22\r\n",
        b"000 zero\r\n",
        b"199 low\r\n",
        b"600 high\r\n",
        b"2200 long\r\n",
        b"22O letter\r\n",
        b"220_ separator\r\n",
        b"-220 sign\r\n",
        b" 220 blank\r\n",
        b"\xd9\xa2\xd9\xa2\xd9\xa0 digits of another script\r\n",
        b"220-one\r\n250 two\r\n",
    ],
)
def test_what_is_no_reply_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(ReplyError) as caught:
        parse(data)

    assert caught.value.kind == "malformed"


def test_limits() -> None:
    with pytest.raises(ReplyError) as caught:
        parse(b"220 " + b"x" * replies.MAX_LINE)
    assert caught.value.kind == "line_too_long"
    with pytest.raises(ReplyError) as caught:
        parse(b"220 " + b"x" * replies.MAX_LINE + b"\r\n")
    assert caught.value.kind == "line_too_long"
    with pytest.raises(ReplyError) as caught:
        parse(b"220-x\r\n" * replies.MAX_LINES)
    assert caught.value.kind == "reply_too_large"
    with pytest.raises(ReplyError) as caught:
        parse((b"220-" + b"x" * 990 + b"\r\n") * 70)
    assert caught.value.kind == "reply_too_large"

    assert len(parse(b"220-x\r\n" * (replies.MAX_LINES - 1) + b"220 x\r\n").lines) == replies.MAX_LINES
    assert parse(b"220 " + b"x" * (replies.MAX_LINE - 6) + b"\r\n").code == 220


@pytest.mark.parametrize("data", [b"220x" + b"x" * 2000 + b"\n", b"220\rx" + b"x" * 2000 + b"\n", b"220 " + b"x" * 2000 + b"\n"])
def test_what_is_wrong_does_not_depend_on_the_packets(data: bytes) -> None:
    kinds = set()
    for size in (len(data), 1024, 7, 1):
        parser = ReplyParser()
        with pytest.raises(ReplyError) as caught:
            for at in range(0, len(data), size):
                parser.feed(data[at : at + size])
                parser.take()
        kinds.add(caught.value.kind)

    assert kinds == {"line_too_long" if data[3:4] == b" " else "malformed"}


def test_two_replies_in_one_packet_are_told_apart() -> None:
    parser = ReplyParser()
    parser.feed(b"250-a\r\n250 b\r\n354 go\r\n")

    first, second = parser.take(), parser.take()
    assert first is not None and second is not None
    assert (first.code, first.lines, second.code, parser.pending) == (250, ["a", "b"], 354, b"")


def test_any_cut_of_the_stream_gives_the_same() -> None:
    data = b"250-mx\r\n250-SIZE 1\r\n250 AUTH PLAIN\r\n"
    for at in range(1, len(data)):
        parser = ReplyParser()
        parser.feed(data[:at])
        assert parser.take() is None
        parser.feed(data[at:])
        assert parser.take() == parse(data)


def test_random_bytes_never_crash_it() -> None:
    source = random.Random(20261123)
    alphabet = b"2250-- \r\n\r\n\x00\xffA."
    for _count in range(3000):
        parser = ReplyParser()
        try:
            for _count in range(4):
                parser.feed(bytes(source.choice(alphabet) for _count in range(source.randrange(12))))
                parser.take()
        except ReplyError as exc:
            assert exc.sample.isprintable()


def test_redacted_keeps_the_code() -> None:
    redactor = Redactor()
    redactor.protect("user", "sesame")

    assert Reply(535, ["5.7.8 sesame is wrong"]).redacted(redactor) == Reply(535, ["5.7.8 ******** is wrong"])
