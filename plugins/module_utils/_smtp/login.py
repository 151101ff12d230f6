# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The login: one mechanism, tried once, over a connection that is encrypted and verified (RFC 4954)."""

from __future__ import annotations

import base64
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import sasl
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply

if t.TYPE_CHECKING:
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client

_MAX_COMMAND = 512
"""Octets of a command line, its end included (RFC 5321 section 4.5.3.1.4)."""
_MAX_CHALLENGES = 4


def log_in(client: Client, credentials: Credentials, mechanism: str) -> Reply:
    """See :meth:`Client.authenticate`."""
    username, password = credentials.username or "", credentials.password or ""
    client.transcript.redactor.protect(username, password)
    if not client.trusted:
        raise client.error(Kind.UNPROTECTED, "the password is sent over an encrypted, verified connection only")
    if client.capabilities is None or "AUTH" not in client.capabilities:
        raise client.error(Kind.NO_AUTH, "the server does not offer AUTH")
    exchange = sasl.choose(mechanism, client.capabilities.auth)(username, password)
    client.mechanism = exchange.name
    return _dialogue(client, exchange)


def _dialogue(client: Client, exchange: sasl.Mechanism) -> Reply:
    opening = f"AUTH {exchange.name}"
    response = exchange.initial()
    encoded = _encode(response)
    if response is None or len(opening) + len(encoded) + 3 > _MAX_COMMAND:
        # RFC 4954 section 4: a response too long for the command line goes into the answer to the server's 334.
        reply = client.exchange(opening, opening)
        pending = encoded if response is not None else None
    else:
        reply, pending = client.exchange(f"{opening} {encoded}", opening, secret=True), None
    for _count in range(_MAX_CHALLENGES):
        if reply.code != 334:
            break
        answer = pending if pending is not None else _answer(client, exchange, reply)
        pending = None
        reply = client.exchange(answer, "", secret=True)
    if reply.code == 235 and (pending is not None or not exchange.complete):
        raise client.error(Kind.REPLY, f"the server accepts before it has the credentials: {reply}", reply=reply, command=opening)
    return client.expect(reply, (235,), opening)


def _answer(client: Client, exchange: sasl.Mechanism, reply: Reply) -> str:
    try:
        challenge = base64.b64decode(reply.lines[0].encode("ascii", "replace"))
    except ValueError:
        challenge = b""  # the mechanisms here send the same whatever the challenge says
    try:
        return _encode(exchange.respond(challenge))
    except SmtpError:
        client.command("*", stage="auth")  # RFC 4954 section 4: cancels the exchange
        raise


def _encode(response: bytes | None) -> str:
    """Base64; an empty initial response is written as "=" (RFC 4954 section 4)."""
    if response is None:
        return ""
    return base64.b64encode(response).decode("ascii") or "="
