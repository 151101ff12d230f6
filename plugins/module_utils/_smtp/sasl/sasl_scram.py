# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SCRAM (RFC 5802, RFC 7677): both ends prove that they know the password, and neither ever tells it.

The -PLUS mechanisms also prove that both are ends of the same TLS connection, by tls-unique (RFC 5929 section 3).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import time

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl import saslprep
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.sasl_mechanism import Connection, Mechanism

MAX_ITERATIONS = 10_000_000
"""Rounds that are computed at a server's request. RFC 7677 asks for 4096 at least; some servers have 600,000."""
_UNNOTICED = 20_000
"""Rounds that take milliseconds, so nobody has to ask how fast this machine is."""

_SERVER_FIRST = re.compile(rb"r=([!-+\--~]+),s=([A-Za-z0-9+/]+=*),i=([1-9][0-9]{0,9})(?:,.*)?", re.DOTALL)
_SERVER_FINAL = re.compile(rb"v=([A-Za-z0-9+/]+=*)(?:,.*)?", re.DOTALL)
_SERVER_ERROR = re.compile(rb"e=([^,]*)(?:,.*)?", re.DOTALL)


class _Scram(Mechanism):
    """States: client-first is sent, then client-final (with the proof), then the server's signature is seen."""

    digest = ""
    plus = False

    def __init__(
        self,
        credentials: Credentials,
        connection: Connection = Connection(),  # noqa: B008  # immutable
        *,
        nonce: str = "",
    ) -> None:
        super().__init__(credentials, connection)
        self._header = self._gs2_header()
        self._nonce = nonce or base64.b64encode(os.urandom(18)).decode("ascii")
        name = self._prepared("user name", credentials.username or "", stored=False)
        self._key = self._prepared("password", credentials.password or "", stored=True).encode("utf-8")
        self._first = f"n={escaped(name)},r={self._nonce}".encode()
        self._signature = b""
        self._proven = False

    @property
    def complete(self) -> bool:
        return self._proven

    def finish(self) -> None:
        if self._signature and not self._proven:
            raise self._error(Kind.SERVER_SIGNATURE, "the server accepts without having proved that it knows the password")
        super().finish()

    def initial(self) -> bytes:
        return self._header + self._first

    def respond(self, challenge: bytes) -> bytes:
        if self._proven or self.problem:
            raise self._asked_too_much()
        return self._verify(challenge) if self._signature else self._prove(challenge)

    def _gs2_header(self) -> bytes:
        """Whether the channel is bound (RFC 5802 sections 6 and 7): it is, or the server seems unable to, or this client is.

        A server that can refuses the second: somebody took its offer away.
        """
        if self.plus:
            return b"p=tls-unique,,"
        return b"y,," if self._connection.binding and not self._connection.binding_offered else b"n,,"

    def _prove(self, challenge: bytes) -> bytes:
        nonce, salt, rounds = self._read(challenge)
        binding = self._header + (self._connection.binding if self.plus else b"")
        final = b"c=" + base64.b64encode(binding) + b",r=" + nonce
        signed = b",".join((self._first, challenge, final))
        salted = hashlib.pbkdf2_hmac(self.digest, self._key, salt, rounds)
        client_key = self._mac(salted, b"Client Key")
        client_signature = self._mac(hashlib.new(self.digest, client_key).digest(), signed)
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, client_signature)))
        self._signature = base64.b64encode(self._mac(self._mac(salted, b"Server Key"), signed))
        self.derived = [proof.decode("ascii"), self._signature.decode("ascii")]
        return final + b",p=" + proof

    def _read(self, challenge: bytes) -> tuple[bytes, bytes, int]:
        """Nonce, salt and rounds of the server-first-message."""
        if challenge.startswith(b"m="):
            raise self._bad_challenge("it demands an extension that this client does not know")
        match = _SERVER_FIRST.fullmatch(challenge)
        if match is None:
            raise self._bad_challenge("it is not nonce, salt and number of rounds")
        nonce, salt, rounds = match.group(1), match.group(2), int(match.group(3))
        own = self._nonce.encode("ascii")
        if not nonce.startswith(own) or nonce == own:
            raise self._bad_challenge("its nonce does not extend the one that was sent")
        try:
            return nonce, base64.b64decode(salt, validate=True), self._bearable(rounds)
        except binascii.Error:
            raise self._bad_challenge("its salt is not base64") from None

    def _bearable(self, rounds: int) -> int:
        """*rounds*, if they can be computed in half of the time that is left. Nothing can stop them once they run."""
        if rounds > MAX_ITERATIONS:
            raise self._bad_challenge(f"it demands {rounds} rounds of hashing, more than {MAX_ITERATIONS}")
        deadline = self._connection.deadline
        if deadline is not None and rounds > _UNNOTICED:
            started = time.perf_counter()
            hashlib.pbkdf2_hmac(self.digest, b"x", b"x", _UNNOTICED)
            if (time.perf_counter() - started) * rounds / _UNNOTICED > deadline.remaining() / 2:
                raise self._bad_challenge(f"it demands {rounds} rounds of hashing, more than fit into the time that is left")
        return rounds

    def _verify(self, challenge: bytes) -> bytes:
        error = _SERVER_ERROR.fullmatch(challenge)
        if error is not None:
            # The reply that refuses comes after the answer to this.
            self.problem, self.reason = (octets.decode("utf-8", "backslashreplace") for octets in (challenge, error.group(1)))
            return b""
        match = _SERVER_FINAL.fullmatch(challenge)
        if match is None or not hmac.compare_digest(match.group(1), self._signature):
            raise self._error(Kind.SERVER_SIGNATURE, "the server could not prove that it knows the password")
        self._proven = True
        return b""

    def _mac(self, key: bytes, text: bytes) -> bytes:
        return hmac.new(key, text, self.digest).digest()

    def _prepared(self, field: str, value: str, stored: bool) -> str:
        """RFC 5802 sections 2.2 and 5.1."""
        try:
            prepared = saslprep.prepare(value, stored)
        except ValueError as exc:
            raise self._error(Kind.CREDENTIALS, f"{self.name} can not use the {field}: {exc}") from None
        if not prepared:
            raise self._error(Kind.CREDENTIALS, f"{self.name} can not use the {field}: it is empty")
        return prepared

    def _bad_challenge(self, why: str) -> SmtpError:
        return self._error(Kind.CHALLENGE, f"the server's {self.name} challenge can not be used: {why}")


class _ScramPlus(_Scram):
    plus = True

    @classmethod
    def obstacle(cls, connection: Connection) -> str:
        if connection.binding:
            return ""
        return f"{cls.name} binds the login to the TLS connection by tls-unique, which only TLS 1.2 has"


class ScramSha1(_Scram):
    name = "SCRAM-SHA-1"
    digest = "sha1"


class ScramSha256(_Scram):
    name = "SCRAM-SHA-256"
    digest = "sha256"


class ScramSha1Plus(_ScramPlus):
    name = "SCRAM-SHA-1-PLUS"
    digest = "sha1"


class ScramSha256Plus(_ScramPlus):
    name = "SCRAM-SHA-256-PLUS"
    digest = "sha256"


def escaped(name: str) -> str:
    """A name within a message whose fields are separated by commas (RFC 5801 section 4, RFC 5802 section 5.1)."""
    return name.replace("=", "=3D").replace(",", "=2C")
