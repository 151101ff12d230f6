# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SASL mechanisms that rest on MD5: CRAM-MD5 (RFC 2195) and DIGEST-MD5 (RFC 2831).

Both are historic (RFC 6331) and still in use. A host in FIPS mode has no MD5, and so neither of them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.sasl_mechanism import Connection, Mechanism

_MAX_CHALLENGE = 2048
"""Octets of a DIGEST-MD5 challenge (RFC 2831 section 2.1.1)."""
_DIRECTIVE = re.compile(rb'[\s,]*([!#-\'*+.0-9A-Z^-z|~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?=,|\Z)', re.DOTALL)
_RESPONSE_AUTH = re.compile(rb'[\s,]*rspauth\s*=\s*"?([0-9a-f]{32})"?[\s,]*')
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


class _Md5Mechanism(Mechanism):
    @classmethod
    def obstacle(cls, connection: Connection) -> str:
        try:
            hashlib.md5()
        except ValueError:
            return f"{cls.name} needs MD5, which this host does not allow (FIPS mode)"
        return ""


class CramMd5(_Md5Mechanism):
    """A keyed hash of the server's challenge. The RFC prepares nothing: UTF-8 is sent and hashed as it is."""

    name = "CRAM-MD5"
    _answered = False

    @property
    def complete(self) -> bool:
        return self._answered

    def respond(self, challenge: bytes) -> bytes:
        if self._answered:
            raise self._asked_too_much()
        if not challenge:
            raise self._error(Kind.CHALLENGE, "the server's challenge is empty")
        self._answered = True
        proof = hmac.new(self._password, challenge, hashlib.md5).hexdigest()
        self.derived = [proof]
        return self._username + b" " + proof.encode("ascii")


class DigestMd5(_Md5Mechanism):
    """Hashes in both directions: the server must show that it knows the password, too. No security layer (qop=auth)."""

    name = "DIGEST-MD5"

    def __init__(
        self,
        credentials: Credentials,
        connection: Connection = Connection(),  # noqa: B008  # immutable
        *,
        service: str = "smtp",
        nonce: str = "",
    ) -> None:
        super().__init__(credentials, connection)
        self._uri = f"{service}/{connection.host}".encode()
        self._nonce = (nonce or base64.b64encode(os.urandom(18)).decode("ascii")).encode("ascii")
        self._expected = ""
        self._proven = False

    @property
    def complete(self) -> bool:
        return self._proven

    def finish(self) -> None:
        if self._expected and not self._proven:
            raise self._error(Kind.SERVER_SIGNATURE, "the server accepts without having proved that it knows the password")
        super().finish()

    def respond(self, challenge: bytes) -> bytes:
        if self._proven:
            raise self._asked_too_much()
        if not self._expected:
            return self._answer(self._directives(challenge))
        match = _RESPONSE_AUTH.fullmatch(challenge)
        if match is None or not hmac.compare_digest(match.group(1), self._expected.encode("ascii")):
            raise self._error(Kind.SERVER_SIGNATURE, "the server could not prove that it knows the password")
        self._proven = True
        return b""

    def _directives(self, challenge: bytes) -> dict[bytes, list[bytes]]:
        """The values of each directive (RFC 2831 section 7.1), quotes taken off."""
        found: dict[bytes, list[bytes]] = {}
        rest = challenge.rstrip(b" \t\r\n,")
        at = 0
        while at < len(rest):
            match = _DIRECTIVE.match(rest, at)
            if match is None or len(challenge) > _MAX_CHALLENGE:
                raise self._bad_challenge("it is not a list of directives")
            name, quoted, token = match.groups()
            value = token if quoted is None else _ESCAPED.sub(rb"\1", quoted)
            found.setdefault(name.lower(), []).append(value)
            at = match.end()
        return found

    def _answer(self, asked: dict[bytes, list[bytes]]) -> bytes:
        nonces, algorithms, charsets = (asked.get(name, []) for name in (b"nonce", b"algorithm", b"charset"))
        if len(nonces) != 1 or not nonces[0]:
            raise self._bad_challenge("it must have one nonce")
        if [name.lower() for name in algorithms] != [b"md5-sess"]:
            raise self._bad_challenge("its algorithm is not md5-sess")
        if [name.lower() for name in charsets] not in ([], [b"utf-8"]):
            raise self._bad_challenge("its character set is not UTF-8")
        if b"auth" not in re.split(rb"[\s,]+", asked.get(b"qop", [b"auth"])[0].lower()):
            raise self._bad_challenge("it demands a security layer")
        username, realm = self._user_in_realm(asked.get(b"realm", []))
        names = [_latin1(username), _latin1(self._password)]
        if not charsets and None in names:
            message = f"the server's {self.name} knows ISO 8859-1 only, and user name or password hold other characters"
            raise self._error(Kind.CREDENTIALS, message)
        # UTF-8 that fits into ISO 8859-1 is hashed as that, whatever the character set (RFC 2831 section 2.1.2.1).
        hashed = [username if names[0] is None else names[0], self._password if names[1] is None else names[1]]
        key = self._key(hashed[0], realm or b"", hashed[1], nonces[0])
        proof = self._digest(key, nonces[0], b"AUTHENTICATE:" + self._uri)
        self._expected = self._digest(key, nonces[0], b":" + self._uri)
        self.derived = [proof, self._expected]
        sent = [b"charset=utf-8", b"username=" + _quoted(username)] if charsets else [b"username=" + _quoted(hashed[0])]
        sent += [b"realm=" + _quoted(realm)] if realm is not None else []
        sent += [b"nonce=" + _quoted(nonces[0]), b"nc=00000001", b"cnonce=" + _quoted(self._nonce)]
        sent += [b"digest-uri=" + _quoted(self._uri), b"response=" + proof.encode("ascii"), b"qop=auth"]
        return b",".join(sent)

    def _user_in_realm(self, realms: list[bytes]) -> tuple[bytes, bytes | None]:
        """The realm that the user name names, if it is one of the server's, else the first; None if it has none.

        ``username`` is the name *within* the realm (RFC 2831 section 2.1.2), so a realm that became a field of its own
        is taken off it.
        """
        name, _at, domain = self._username.rpartition(b"@")
        if name and domain in realms:
            return name, domain
        return self._username, realms[0] if realms else None

    def _key(self, username: bytes, realm: bytes, password: bytes, nonce: bytes) -> str:
        """H(A1) in hex (RFC 2831 section 2.1.2.1)."""
        secret = hashlib.md5(b":".join((username, realm, password))).digest()
        return hashlib.md5(b":".join((secret, nonce, self._nonce))).hexdigest()

    def _digest(self, key: str, nonce: bytes, a2: bytes) -> str:
        parts = (key.encode("ascii"), nonce, b"00000001", self._nonce, b"auth", hashlib.md5(a2).hexdigest().encode("ascii"))
        return hashlib.md5(b":".join(parts)).hexdigest()

    def _bad_challenge(self, why: str) -> SmtpError:
        return self._error(Kind.CHALLENGE, f"the server's {self.name} challenge can not be used: {why}")


def _quoted(text: bytes) -> bytes:
    return b'"' + re.sub(rb'(["\\])', rb"\\\1", text) + b'"'


def _latin1(octets: bytes) -> bytes | None:
    """UTF-8 turned into ISO 8859-1, or None if that does not have all of its characters."""
    try:
        return octets.decode("utf-8").encode("latin-1")
    except UnicodeEncodeError:
        return None
