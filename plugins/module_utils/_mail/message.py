# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the collection and may change at any time.

"""The marked message: how it is written, and how it is recognised among others."""

from __future__ import annotations

import re
import secrets
import typing as t
from datetime import datetime
from email.parser import BytesHeaderParser
from email.utils import format_datetime

TOKEN_HEADER = "X-Outpost-Token"
MAX_HEADER_BYTES = 65536  # what a mailbox reads of one message

# Dot-string and Domain of RFC 5321 4.1.2, in ASCII. Quoted local parts and address literals are not accepted: a test needs neither.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_LOCAL_PART = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MAX_LOCAL_PART, _MAX_ADDRESS = 64, 254  # octets (RFC 5321 4.5.3.1.1 and 4.5.3.1.3)


class MarkedMessage(t.NamedTuple):
    """A message whose token exists nowhere else."""

    token: str
    message_id: str
    content: bytes


class Header(t.NamedTuple):
    """What is read from the header of a message in a mailbox."""

    token: t.Optional[str]
    message_id: t.Optional[str]
    received: t.List[str]


def is_address(text: str) -> bool:
    """Whether `text` is one plain mail address, safe in an SMTP command and in a header."""
    local_part, _at, domain = text.rpartition("@")
    return len(text) <= _MAX_ADDRESS and len(local_part) <= _MAX_LOCAL_PART and bool(_LOCAL_PART.fullmatch(local_part) and _DOMAIN.fullmatch(domain))


def build_message(sender: str, recipient: str, now: datetime, token: t.Optional[str] = None) -> MarkedMessage:
    """Write a message with a fresh token in Subject, Message-ID and its own header field.

    `now` is an aware datetime. Both addresses have passed is_address().
    Auto-Submitted (RFC 3834 5) keeps vacation notices from answering.
    """
    token = token or secrets.token_hex(16)
    message_id = f"<{token}@{sender.rpartition('@')[2]}>"
    lines = (
        f"From: <{sender}>",
        f"To: <{recipient}>",
        f"Subject: Mail round trip test {token}",
        f"Date: {format_datetime(now)}",
        f"Message-ID: {message_id}",
        f"{TOKEN_HEADER}: {token}",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        "This is a test of mail delivery. It is removed by the program that sent it; if you read it, you may delete it.",
        "",
    )
    return MarkedMessage(token, message_id, "\r\n".join(lines).encode("ascii"))


def read_header(raw: bytes) -> Header:
    """Read the fields that matter from the first MAX_HEADER_BYTES of a message; any bytes are accepted."""
    fields = BytesHeaderParser().parsebytes(raw[:MAX_HEADER_BYTES])
    return Header(
        token=_single(fields.get_all(TOKEN_HEADER)),
        message_id=_single(fields.get_all("Message-ID")),
        received=[str(value) for value in fields.get_all("Received") or ()],
    )


def _single(values: t.Optional[t.Sequence[object]]) -> t.Optional[str]:
    """The value of a field that may occur once; None where it is absent or there is more than one."""
    return str(values[0]).strip() if values and len(values) == 1 else None
