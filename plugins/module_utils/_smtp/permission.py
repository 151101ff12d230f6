# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks whether a sender and a recipient are allowed, and takes the question back: nothing is sent (RFC 5321 section 4.1.1.5)."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply

_COMMANDS = {"sender": "MAIL FROM", "recipient": "RCPT TO"}


def check(client: Client, sender: str, recipient: str | None, replies: dict[str, Reply]) -> None:
    """Put the reply to each question into *replies* by its stage; raise :class:`SmtpError` for the first that refuses.

    The transaction is reset in any case. Where the server offers PIPELINING all of it is one round trip.
    """
    steps = {"sender": f"MAIL FROM:<{sender}>"}
    if recipient is not None:
        steps["recipient"] = f"RCPT TO:<{recipient}>"
    client.stage = "sender"
    answers = client.pipeline(*steps.values(), "RSET") if _pipelining(client) else _one_by_one(client, *steps.values(), "RSET")
    refusal = None
    for stage in steps:
        if refusal is None:
            client.stage = stage
        reply = next(answers)
        if refusal is None:
            replies[stage] = reply
            refusal = _refusal(client, stage, reply)
    next(answers)
    if refusal is not None:
        raise refusal


def _pipelining(client: Client) -> bool:
    return client.capabilities is not None and "PIPELINING" in client.capabilities


def _one_by_one(client: Client, *lines: str) -> t.Iterator[Reply]:
    for line in lines:
        yield client.command(line, stage=client.stage)


def _refusal(client: Client, stage: str, reply: Reply) -> SmtpError | None:
    """RFC 5321 section 4.3.2: 250 accepts, and 251 for a recipient."""
    if reply.code in (250, 251):
        return None
    return client.error(Kind.REPLY, str(reply), reply=reply, command=_COMMANDS[stage])
