# SPDX-License-Identifier: GPL-3.0-or-later
"""How few round trips the protocols allow, step by step, and the page docs/round-trips.md about them."""

from __future__ import annotations

import typing as t

_TCP = "SYN → SYN-ACK"
_GREETING = "ACK → greeting"
_EHLO = "EHLO → what is offered"
_STARTTLS = "STARTTLS → go ahead"
_HELLO = "ClientHello → ServerHello and, with TLS 1.3, all up to Finished"
_QUIT = "QUIT → goodbye"

CONNECTIONS: t.Dict[t.Tuple[str, str], t.Tuple[str, ...]] = {
    ("implicit", "1.3"): (_TCP, _HELLO, "Finished → greeting", _EHLO),
    ("implicit", "1.2"): (_TCP, _HELLO, "key, Finished → Finished, greeting", _EHLO),
    ("starttls", "1.3"): (_TCP, _GREETING, _EHLO, _STARTTLS, _HELLO, "Finished, EHLO → what is offered"),
    ("starttls", "1.2"): (_TCP, _GREETING, _EHLO, _STARTTLS, _HELLO, "key, Finished → Finished", _EHLO),
}
"""TLS mode and version -> the round trips until the client knows what is offered under TLS."""

LOGINS: t.Dict[str, t.Tuple[str, ...]] = {
    "none": (),
    "PLAIN": ("AUTH with both → 235",),
    "PLAIN, more than 512 octets": ("AUTH → 334", "both → 235"),
    "LOGIN": ("AUTH → 334", "user name → 334", "password → 235"),
    "CRAM-MD5": ("AUTH → challenge", "digest → 235"),
    "DIGEST-MD5": ("AUTH → challenge", "digest → the server's proof", "nothing → 235"),
    "SCRAM-SHA-256": ("AUTH with a nonce → salt and nonce", "proof → the server's proof", "nothing → 235"),
    "SCRAM-SHA-256-PLUS": ("AUTH with a nonce → salt and nonce", "proof → the server's proof", "nothing → 235"),
    "XOAUTH2": ("AUTH with the token → 235",),
    "OAUTHBEARER": ("AUTH with the token → 235",),
    "EXTERNAL": ("AUTH with the name → 235",),
}
"""Mechanism -> its round trips."""

PERMISSIONS: t.Dict[str, t.Tuple[str, ...]] = {
    "none": (),
    "one by one": ("MAIL → 250", "RCPT → 250", "RSET → 250"),
    "PIPELINING": ("MAIL, RCPT, RSET → 250, 250, 250",),
}
"""How sender and recipient are asked for -> the round trips of that."""


def minimum(tls: str, version: str, login: str = "none", permission: str = "none") -> int:
    """The round trips of a whole test, with that of TCP and that of QUIT."""
    return len(CONNECTIONS[tls, version]) + len(LOGINS[login]) + len(PERMISSIONS[permission]) + len((_QUIT,))


_HEAD = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
# How many round trips an authentication test takes

As many as the protocols need, and not one more. To a server that is 50 ms away, ten round trips are half a second, whatever the
machines are.

A round trip is what waits for an answer: "A → B" below means that the client sends A and goes on when it has B. The numbers are
of a whole test, from SYN to the reply to QUIT.

tests/unit/plugins/module_utils/_smtp/test_round_trips.py counts them at the server's end of a proxy that delays each direction
by 25 ms, and fails where the client takes another number. It prints the time as well, which is never less than
50 ms for each of them. Such a proxy can not delay the handshake of TCP, which is between the client and the proxy;
it delays what follows by one more round trip.

The servers in [tested-servers.md](tested-servers.md) take these numbers as well; but sendmail takes one more, because it does not
take the first key that the client offers in the handshake (HelloRetryRequest).
"""


def page() -> str:
    """docs/round-trips.md."""
    connections = "".join(
        f"| {tls}, TLS {version} | {minimum(tls, version)} | {minimum(tls, version, 'PLAIN')} | {_list((*steps, 'the login', _QUIT))} |\n"
        for (tls, version), steps in CONNECTIONS.items()
    )
    logins = "".join(f"| {name} | {len(steps)} | {_list(steps)} |\n" for name, steps in LOGINS.items() if steps)
    permissions = "".join(f"| {name} | {len(steps)} | {_list(steps)} |\n" for name, steps in PERMISSIONS.items() if steps)
    return f"""{_HEAD}
## The connection

| mode | without login | with PLAIN | round trips |
| --- | --- | --- | --- |
{connections}
## The login

| mechanism | round trips | which |
| --- | --- | --- |
{logins}
LOGIN could take the user name with AUTH where a server understands that; there is no way to know.

## Sender and recipient

| asked | round trips | which |
| --- | --- | --- |
{permissions}
RFC 2920 would let QUIT be the last of that group, too. The client sends it after it has seen the answers.
"""


def _list(steps: t.Iterable[str]) -> str:
    return "; ".join(steps)
