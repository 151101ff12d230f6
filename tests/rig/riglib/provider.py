# SPDX-License-Identifier: GPL-3.0-or-later
"""The mail provider of a lab: its accounts, and when it is ready. Its files are in images/provider/."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
import secrets
import socket
import ssl
import time
import typing as t

from .process import RigError, write_private

DOMAIN = "provider.test"
NAMES = ("smtp.provider.test", "imap.provider.test")
ACCOUNTS = ("alerts", "billing", "inbox", "canary", "unicode", "long")

# The first bytes that a client gets from each port; with TLS from the start, after the handshake.
GREETINGS = {25: b"220 ", 143: b"* OK", 465: b"220 ", 587: b"220 ", 993: b"* OK"}
GREETINGS.update(dict.fromkeys((10465, 10587, 11587, 12587, 13587, 14587), b"220 "))
_TLS_FROM_THE_START = (465, 993, 10465)
_READY_WITHIN = 60.0  # seconds


class Lent(t.NamedTuple):
    """What the other mail servers of a lab take from the provider."""

    ca: str  # PEM
    accounts: dict[str, dict[str, str]]
    oauth_key: str  # of access tokens: JSON Web Tokens (RFC 7519) signed by HS256 (RFC 7518 section 3.2)


def new_accounts() -> dict[str, dict[str, str]]:
    """Accounts with fresh passwords.

    The canary's has what breaks naive masking (quotes, a backslash, a blank, what looks like a variable), and ends in a part
    that no escaping changes, so that a leak of it is found by searching. The long one does not fit into a command line
    with AUTH PLAIN (RFC 5321 section 4.5.3.1.4: 512 octets).
    """
    passwords = {name: secrets.token_urlsafe(18) for name in ACCOUNTS}
    passwords["canary"] = f"CANARY '\"\\${{x}}:#{secrets.token_hex(16)}"
    passwords["unicode"] = f"Grüße, мир, 日本{passwords['unicode']}"
    passwords["long"] = secrets.token_hex(200)
    return {name: {"username": f"{name}@{DOMAIN}", "password": password} for name, password in passwords.items()}


def setup_input(accounts: dict[str, dict[str, str]]) -> str:
    """What rig-provider-setup reads: a user name and a salted hash (Dovecot's scheme SSHA512) on each line."""
    lines = []
    for account in accounts.values():
        salt = os.urandom(16)
        digest = hashlib.sha512(account["password"].encode() + salt).digest()
        lines.append(f"{account['username']} {{SSHA512}}{base64.b64encode(digest + salt).decode()}\n")
    return "".join(lines)


def write_accounts(directory: pathlib.Path, lent: Lent) -> None:
    """Write ca.pem and accounts.yml (a variables file for Ansible) into a lab's directory."""
    write_private(directory / "ca.pem", lent.ca)
    variables = {"rig_accounts": lent.accounts, "rig_oauth_key": lent.oauth_key, "rig_ca_pem": str(directory / "ca.pem")}
    write_private(directory / "accounts.yml", json.dumps(variables, indent=2) + "\n")


def await_ports(address: str, greetings: t.Optional[t.Mapping[int, bytes]] = None) -> None:
    """Return when every port (default: of the provider) answers as its service does; RigError when one does not in time."""
    deadline = time.monotonic() + _READY_WITHIN
    for port, start in (greetings or GREETINGS).items():
        while True:
            try:
                got = _first_bytes(address, port, port in _TLS_FROM_THE_START)
            except OSError as error:
                got = str(error).encode()
            if got.startswith(start):
                break
            if time.monotonic() > deadline:
                raise RigError(f"port {port} of {address} says {got!r} after {_READY_WITHIN:.0f} s")
            time.sleep(0.1)


def _first_bytes(address: str, port: int, tls: bool) -> bytes:
    with socket.create_connection((address, port), timeout=5) as connection:
        if not tls:
            return connection.recv(64)
        # Only whether the service is up: certificates are what tests are about, and some here are bad on purpose.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(connection) as wrapped:
            return wrapped.recv(64)
