# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The login: one mechanism, tried once, over a connection that is encrypted and verified (RFC 4954)."""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl import sasl
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.sasl_mechanism import Connection, Mechanism

if t.TYPE_CHECKING:
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client

_MAX_COMMAND = 512
"""Octets of a command line, its end included (RFC 5321 section 4.5.3.1.4)."""
_MAX_RESPONSE = 12288
"""Octets of a line that answers a challenge, its end included (RFC 4954 section 4)."""
_REFUSED = (504, 534, 535)
"""Codes that refuse mechanism or credentials for good (RFC 4954 section 6); the higher, the more it tells."""


class Login(t.NamedTuple):
    """One AUTH command that was sent, and what it came to: the last reply, or None if there was no answer."""

    mechanism: str
    reply: t.Optional[Reply] = None


def log_in(client: Client, credentials: Credentials, mechanism: str = "auto", *, allow_unencrypted: bool = False, try_all: bool = False) -> Reply:
    """See :meth:`Client.authenticate`."""
    client.transcript.redactor.protect(credentials.username, credentials.password, credentials.access_token)
    if not (client.trusted or (allow_unencrypted and client.tls == "none")):
        raise client.error(Kind.UNPROTECTED, "credentials are sent over an encrypted, verified connection only")
    if client.capabilities is None or "AUTH" not in client.capabilities:
        raise client.error(Kind.NO_AUTH, "the server does not offer AUTH")
    if credentials.access_token is not None:
        # Imported here, as in late.py: a login with a password does not wait for it.
        from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl import oauth_token

        now = datetime.datetime.now(datetime.timezone.utc)
        oauth_token.refuse_unusable(oauth_token.inspect(credentials.access_token, now))
    connection = _connection(client)
    mechanisms = sasl.choose(mechanism, client.capabilities.auth, credentials, connection)
    refusal: SmtpError | None = None
    while True:
        try:
            return _attempt(client, mechanisms.pop(0)(credentials, connection))
        except SmtpError as exc:
            refusal = _more_telling(refusal, exc)
            if try_all and mechanisms and _refuses(exc):
                continue
        raise refusal


def _connection(client: Client) -> Connection:
    offered = client.capabilities.auth if client.capabilities else []
    return Connection(
        client.host,
        client.port,
        certificate=client.encrypted and client.trust.client_certificate is not None,
        binding=client.channel_binding,
        binding_offered=any(name.startswith("SCRAM-") and name.endswith("-PLUS") for name in offered),
        deadline=client.deadline,
    )


def _refuses(error: SmtpError) -> bool:
    return error.kind == Kind.REPLY and error.reply is not None and error.reply.code in _REFUSED


def _more_telling(earlier: SmtpError | None, later: SmtpError) -> SmtpError:
    """Of a refusal and what followed it, what explains the failure better.

    That the server then had no time for another attempt, or no answer to it, follows from the refusal.
    """
    if earlier is None or earlier.reply is None:
        return later
    if _refuses(later) and later.reply is not None:
        return later if later.reply.code >= earlier.reply.code else earlier
    return later if later.kind in (Kind.SERVER_SIGNATURE, Kind.CHALLENGE) else earlier


def _attempt(client: Client, mechanism: Mechanism) -> Reply:
    client.mechanism = mechanism.name
    opening = f"AUTH {mechanism.name}"
    first = mechanism.initial()
    encoded = None if first is None else _encoded(client, first) or "="  # RFC 4954 section 4: how an empty one is written
    if encoded is not None and len(opening) + len(encoded) + 3 <= _MAX_COMMAND:
        reply = client.exchange(f"{opening} {encoded}", opening, secret=True, begins=mechanism.name)
        encoded = None
    else:
        # RFC 4954 section 4: a response too long for the command line goes into the answer to the server's 334.
        reply = client.exchange(opening, opening, begins=mechanism.name)
    while reply.code == 334:  # until the mechanism has nothing more to say
        answer = encoded if encoded is not None else _answer(client, mechanism, reply)
        encoded = None
        reply = client.exchange(answer, "", secret=True)
    if reply.code == 235:
        if encoded is not None:
            raise client.error(Kind.REPLY, f"the server accepts before it has the credentials: {reply}", reply=reply, command=opening)
        try:
            mechanism.finish()
        except SmtpError as exc:
            raise client.error(exc.kind, f"{exc}: {reply}", reply=reply, command=opening) from None
        return reply
    show = client.transcript.show
    raise client.error(Kind.REPLY, str(reply), reply=reply, command=opening, sample=show(mechanism.problem), reason=show(mechanism.reason))


def _answer(client: Client, mechanism: Mechanism, reply: Reply) -> str:
    """What answers the challenge in *reply*; where there is nothing to answer, the exchange is cancelled."""
    try:
        answer = mechanism.respond(_challenge(mechanism, reply))
        for text in mechanism.derived:
            client.transcript.redactor.protect(None, text)
        encoded = _encoded(client, answer)
    except SmtpError:
        with contextlib.suppress(SmtpError):
            client.exchange("*", "*")  # RFC 4954 section 4
        raise
    if mechanism.problem:
        client.transcript.noted(f"the server explains: {mechanism.problem}")
    return encoded


def _challenge(mechanism: Mechanism, reply: Reply) -> bytes:
    text = reply.lines[0].encode("utf-8")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        if mechanism.reads_challenges:
            raise SmtpError(Kind.CHALLENGE, "the server's challenge is not base64", stage="auth") from None
        return text


def _encoded(client: Client, response: bytes) -> str:
    encoded = base64.b64encode(response).decode("ascii")
    if len(encoded) + 2 > _MAX_RESPONSE:
        raise client.error(Kind.CREDENTIALS, f"the credentials are longer than SMTP can carry ({_MAX_RESPONSE} octets, RFC 4954)")
    return encoded
