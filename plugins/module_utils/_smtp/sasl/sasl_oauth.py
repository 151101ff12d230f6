# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SASL mechanisms that carry an OAuth 2.0 access token: OAUTHBEARER (RFC 7628), and its forerunner XOAUTH2 of Google."""

from __future__ import annotations

import re

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.sasl_mechanism import ACCESS_TOKEN, Connection, Mechanism
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.sasl_scram import escaped

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""b64token (RFC 6750 section 2.1)."""


class _Bearer(Mechanism):
    """The token goes first. A server that refuses it says why in a challenge, and refuses after the answer to that."""

    needs = ACCESS_TOKEN
    reads_challenges = False
    acknowledgement = b""
    """What answers the server's words about a failure."""
    _answered = False

    def __init__(self, credentials: Credentials, connection: Connection = Connection()) -> None:  # noqa: B008  # immutable
        super().__init__(credentials, connection)
        if not _TOKEN.fullmatch(credentials.access_token or ""):
            message = "the access token holds a character that none has (RFC 6750), such as a blank or a line break"
            raise self._error(Kind.CREDENTIALS, message)
        if "\x01" in (credentials.username or ""):
            raise self._error(Kind.CREDENTIALS, f"the user name holds a control character, which {self.name} can not carry")
        self._bearer = b"auth=Bearer " + (credentials.access_token or "").encode("ascii") + b"\x01\x01"

    @property
    def complete(self) -> bool:
        return self._answered

    def finish(self) -> None:
        if self.problem:
            raise self._error(Kind.REPLY, "the server accepts after it has told why it does not")
        super().finish()

    def respond(self, challenge: bytes) -> bytes:
        if self.problem:
            raise self._asked_too_much()
        self.problem = challenge.decode("utf-8", "backslashreplace") or "(no reason given)"
        self.reason = _status(challenge)
        return self.acknowledgement


class OAuthBearer(_Bearer):
    name = "OAUTHBEARER"
    acknowledgement = b"\x01"  # RFC 7628 section 3.2.3

    def initial(self) -> bytes:
        self._answered = True
        username = self._credentials.username
        identity = f"n,a={escaped(username)}," if username else "n,,"
        return f"{identity}\x01host={self._connection.host}\x01port={self._connection.port}\x01".encode() + self._bearer


class XOAuth2(_Bearer):
    name = "XOAUTH2"

    def initial(self) -> bytes:
        self._answered = True
        return b"user=" + self._username + b"\x01" + self._bearer


def _status(challenge: bytes) -> str:
    """The ``status`` of the server's JSON object (RFC 7628 section 3.2.2), empty if there is none."""
    import json  # few logins need it

    try:
        status = json.loads(challenge.decode("utf-8"))["status"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return status if isinstance(status, str) else ""
