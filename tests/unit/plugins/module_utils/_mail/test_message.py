# SPDX-License-Identifier: GPL-3.0-or-later
"""The marked message: what is written is recognised, and nothing else is."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._mail.message import (
    MAX_HEADER_BYTES,
    build_message,
    is_address,
    read_header,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)


def test_token_is_in_subject_message_id_and_own_field() -> None:
    message = build_message("alerts@example.net", "inbox@example.org", NOW)
    text = message.content.decode("ascii")
    assert f"Subject: Mail round trip test {message.token}\r\n" in text
    assert f"X-Outpost-Token: {message.token}\r\n" in text
    assert message.message_id == f"<{message.token}@example.net>"
    assert "Date: Mon, 23 Nov 2026 12:00:00 +0000\r\n" in text
    assert "\n" not in text.replace("\r\n", "")


def test_tokens_are_never_used_twice() -> None:
    tokens = {build_message("a@example.net", "b@example.net", NOW).token for _count in range(50)}
    assert len(tokens) == 50
    assert all(len(token) == 32 for token in tokens)


def test_the_header_is_read_back() -> None:
    message = build_message("alerts@example.net", "inbox@example.org", NOW)
    header = read_header(b"Received: by b.example\r\n id 2; x\r\nReceived: by a.example; y\r\n" + message.content)
    assert header.token == message.token
    assert header.message_id == message.message_id
    assert [" ".join(field.split()) for field in header.received] == ["by b.example id 2; x", "by a.example; y"]


def test_only_the_field_counts_not_its_text_elsewhere() -> None:
    token = "0123456789abcdef0123456789abcdef"
    for raw in (
        f"Subject: Re: Mail round trip test {token}\r\n\r\n",
        f"Subject: x\r\n\r\nX-Outpost-Token: {token}\r\n",
        f"X-Outpost-Token: {token}0\r\n\r\n",
        f"X-Outpost-Token: {token}\r\nX-Outpost-Token: {token}\r\n\r\n",
    ):
        assert read_header(raw.encode()).token != token


@pytest.mark.parametrize("raw", [b"", b"\x00\xff\xfe", b": x\r\n", b"X-Outpost-Token: \xff\xff\r\n\r\n", b"From x\n" * 10, b"a" * 100_000])
def test_any_bytes_are_read(raw: bytes) -> None:
    assert read_header(raw).received == []


def test_what_lies_beyond_the_limit_is_not_read() -> None:
    raw = b"X-Filler: " + b"a" * MAX_HEADER_BYTES + b"\r\nX-Outpost-Token: t\r\n\r\n"
    assert read_header(raw).token is None


@pytest.mark.parametrize("address", ["a@b", "first.last+tag@mail.example.net", "root@web1.example.net", "x_y=z@xn--bcher-kva.example"])
def test_plain_addresses_are_accepted(address: str) -> None:
    assert is_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "", "a", "@b", "a@", "a@b@c", "a b@c", "<a@b>", "a@b\r\nRCPT TO:<x@y>", "a@b\n", "a@b\x00", "a@-b", "a@b-", "a@b..c", ".a@b",
        "a..b@c", "ä@example.net", "a@bücher.example", '"a b"@c', "a@[192.0.2.1]", "a" * 65 + "@b", "a@" + "b" * 260, "a@b\u2028",
    ],
)  # fmt: skip
def test_other_addresses_are_refused(address: str) -> None:
    assert not is_address(address)
