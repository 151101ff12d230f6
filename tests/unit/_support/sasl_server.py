# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's side of SASL mechanisms, written from the RFCs and not from the client's side.

Each is a generator for ``conversation(sasl={"NAME": ...})``; what it demands of the client is checked by it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
import typing as t

from smtp_server import PASSWORD, USERNAME, Peer, SaslExchange

ACCEPTED = "235 2.7.0 Authentication successful"
REFUSED = "535 5.7.8 Error: authentication failed"
SALT = b"not so random"
ROUNDS = 64
TOKEN = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"
FAILURE = b'{"status":"invalid_token","schemes":"bearer","scope":"https://mail.provider.test/"}'

Make = t.Callable[[Peer], SaslExchange]


def verdict(good: bool) -> str:
    return ACCEPTED if good else REFUSED


def plain(peer: Peer) -> SaslExchange:
    response = yield None
    return verdict(response == f"\0{USERNAME}\0{PASSWORD}".encode())


def login(peer: Peer) -> SaslExchange:
    username = yield b"Username:"
    password = yield b"Password:"
    return verdict((username, password) == (USERNAME.encode(), PASSWORD.encode()))


def external(peer: Peer) -> SaslExchange:
    identity = yield None
    return verdict(identity in (b"", USERNAME.encode()))


def cram_md5(peer: Peer) -> SaslExchange:
    challenge = b"<1896.697170952@mx.provider.test>"
    response = yield challenge
    username, _blank, digest = response.rpartition(b" ")
    return verdict(username == USERNAME.encode() and digest == _hmac_md5(PASSWORD.encode(), challenge))


def _hmac_md5(key: bytes, text: bytes) -> bytes:
    """RFC 2104, step by step."""
    block = (hashlib.md5(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner = hashlib.md5(bytes(octet ^ 0x36 for octet in block) + text).digest()
    return hashlib.md5(bytes(octet ^ 0x5C for octet in block) + inner).hexdigest().encode()


def digest_md5(
    *,
    challenge: bytes = b'realm="provider.test",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8',
    username: str = "alerts",
    realm: str = "provider.test",
    password: str = PASSWORD,
    proof: t.Callable[[bytes], t.Optional[bytes]] = lambda right: b"rspauth=" + right,
) -> Make:
    """*proof* makes the last challenge of the right rspauth; with None as its result there is no such challenge."""

    def exchange(peer: Peer) -> SaslExchange:
        response = yield challenge
        sent = dict(part.split(b"=", 1) for part in response.split(b","))
        sent = {name: value.strip(b'"') for name, value in sent.items()}
        assert (sent[b"nc"], sent[b"qop"], sent[b"nonce"]) == (b"00000001", b"auth", b"OA6MG9tEQGm2hh")
        assert sent[b"digest-uri"] == b"smtp/127.0.0.1" and len(sent[b"cnonce"]) >= 16
        user = hashlib.md5(f"{username}:{realm}:{password}".encode("latin-1")).digest()
        a1 = user + b":" + sent[b"nonce"] + b":" + sent[b"cnonce"]

        def digest(a2: bytes) -> bytes:
            middle = b":".join((sent[b"nonce"], b"00000001", sent[b"cnonce"], b"auth"))
            text = hashlib.md5(a1).hexdigest().encode() + b":" + middle + b":" + hashlib.md5(a2).hexdigest().encode()
            return hashlib.md5(text).hexdigest().encode()

        good = sent[b"response"] == digest(b"AUTHENTICATE:smtp/127.0.0.1") and sent.get(b"realm", b"") == realm.encode()
        if not good or sent[b"username"] != username.encode():
            return REFUSED
        last = proof(digest(b":smtp/127.0.0.1"))
        if last is not None:
            answer = yield last
            assert answer == b""
        return ACCEPTED

    return exchange


class Scram:
    """A SCRAM server (RFC 5802). *tamper* may change its messages: ``first`` and ``final`` are passed through it.

    It knows the stored keys only. *plus* says whether it is the -PLUS variant, *plus_offered* whether it offers that.
    """

    def __init__(
        self,
        digest: str = "sha256",
        *,
        plus: bool = False,
        plus_offered: bool = False,
        username: str = USERNAME,
        password: str = PASSWORD,
        tamper: t.Callable[[str, bytes], t.Optional[bytes]] = lambda _which, message: message,
    ) -> None:
        self._digest, self._plus, self._plus_offered, self._tamper = digest, plus, plus_offered, tamper
        self._username = username.replace("=", "=3D").replace(",", "=2C").encode()
        salted = self._hi(password.encode(), SALT, ROUNDS)
        self._stored_key = hashlib.new(digest, self._hmac(salted, b"Client Key")).digest()
        self._server_key = self._hmac(salted, b"Server Key")
        self.flags: t.List[bytes] = []

    def __call__(self, peer: Peer) -> SaslExchange:
        message = yield None
        flag, authzid, username, nonce = message.split(b",")
        self.flags.append(flag)
        assert authzid == b"" and username.startswith(b"n=") and nonce.startswith(b"r=") and len(nonce) >= 18
        if flag != (b"p=tls-unique" if self._plus else flag) or (flag == b"y" and self._plus_offered):
            return REFUSED
        binding = b""
        if self._plus:
            assert isinstance(peer.connection, ssl.SSLSocket)
            binding = peer.connection.get_channel_binding("tls-unique") or b""
            assert binding
        first = nonce + b"3rfcNHYJY1ZVvWVs7j,s=" + base64.b64encode(SALT) + b",i=%d" % ROUNDS
        first = self._tamper("first", first) or b""
        answer = yield first
        final, proof = answer.rsplit(b",p=", 1)
        signed = b",".join((username, nonce, first, final))
        signature = self._hmac(self._stored_key, signed)
        client_key = bytes(a ^ b for a, b in zip(base64.b64decode(proof, validate=True), signature))
        bound = b"c=" + base64.b64encode(flag + b",," + binding) + b",r=" + nonce[2:] + b"3rfcNHYJY1ZVvWVs7j"
        if final != bound or username != b"n=" + self._username or hashlib.new(self._digest, client_key).digest() != self._stored_key:
            return REFUSED
        last = self._tamper("final", b"v=" + base64.b64encode(self._hmac(self._server_key, signed)))
        if last is not None:
            empty = yield last
            assert empty == b""
        return ACCEPTED

    def _hmac(self, key: bytes, text: bytes) -> bytes:
        return hmac.new(key, text, self._digest).digest()

    def _hi(self, text: bytes, salt: bytes, rounds: int) -> bytes:
        """RFC 5802 section 2.2, step by step."""
        block = self._hmac(text, salt + b"\0\0\0\1")
        result = int.from_bytes(block, "big")
        for _round in range(rounds - 1):
            block = self._hmac(text, block)
            result ^= int.from_bytes(block, "big")
        return result.to_bytes(len(block), "big")


def bearer(expected: bytes, acknowledgement: bytes, failure: bytes = FAILURE) -> Make:
    """OAUTHBEARER or XOAUTH2: accepts *expected* alone, and refuses anything else by the way of *failure*."""

    def exchange(peer: Peer) -> SaslExchange:
        response = yield None
        if response == expected:
            return ACCEPTED
        answer = yield failure
        assert answer == acknowledgement
        return REFUSED

    return exchange
