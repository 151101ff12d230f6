# SPDX-License-Identifier: GPL-3.0-or-later
"""The page docs/tested-servers.md: what happened when the authentication test met real mail servers."""

from __future__ import annotations

import re
import typing as t

from real_servers import PORTS, SERVERS, Server

HEAD = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
# Mail servers that the authentication test was tried against

This page is written by a test, which runs the servers in containers, each from its Debian package (Debian 13 where nothing
else is said), and logs in to them:

    OUTPOST_SMTP_WRITE_DOCS=1 .dev/venv/bin/python -m pytest tests/system/test_real_servers.py

Without that variable the same test compares what happens with this page, but for the versions, and fails when they differ.
"""

SERVERS_HEAD = """
## The servers

Port 465 has TLS from the start, port 587 has STARTTLS, which is required. Dovecot's submission server is kept at TLS 1.2, where
SCRAM with channel binding (-PLUS) can be tried: Python knows "tls-unique" only, which TLS 1.3 does not have.

| server | version | TLS on 465 | TLS on 587 | mechanisms offered |
| --- | --- | --- | --- | --- |
"""

LOGINS_HEAD = """
## The logins

Each line was done on both ports, with the same outcome.

* *asked for*: option `mechanism`; each one that server and client both have, and `auto`.
* *used*: the mechanism by which the client logged in.
* *right*: how many logins with right credentials were accepted, of how many. With mechanisms that take a password these
  are four: letters and digits; Latin, Cyrillic and Japanese letters; 400 characters; quotes, a backslash, a blank, a colon, `$` and `#`.
  With tokens and certificates it is one.
* *wrong*: what the test said about one login with a wrong password, with an access token that another key had signed, or with
  the certificate of somebody else.
* *log*: how many refused logins the server's own log had after that one test.

| server | asked for | used | right | wrong | log |
| --- | --- | --- | --- | --- | --- |
"""


class Login(t.NamedTuple):
    """What became of asking for one mechanism."""

    asked: str
    used: str
    accepted: str
    diagnosis: str | None
    refused: int


class Outcomes:
    """Collects what happens, and writes it down."""

    def __init__(self) -> None:
        self._tls: dict[tuple[str, int], str] = {}
        self._logins: dict[tuple[str, int], list[Login]] = {}

    def tls(self, server: Server, port: int, version: str) -> None:
        self._tls[server.host, port] = version

    def login(self, server: Server, port: int, login: Login) -> None:
        self._logins.setdefault((server.host, port), []).append(login)

    @property
    def complete(self) -> bool:
        """Whether all servers were tried on all ports."""
        return set(self._logins) == {(host, port) for host in SERVERS for port in PORTS}

    def page(self, versions: t.Mapping[str, str]) -> str:
        """The page; ``versions`` are those of the hosts."""
        servers = [
            _row(server.title, versions[host], *(self._tls[host, port] for port in PORTS), _offered(server))
            for host, server in SERVERS.items()
        ]
        logins = []
        for host, server in SERVERS.items():
            implicit, starttls = (self._logins[host, port] for port in PORTS)
            assert implicit == starttls, (implicit, starttls)
            logins += [_row(server.title, f"`{one.asked}`", one.used, one.accepted, _diagnosis(one), str(one.refused)) for one in implicit]
        return HEAD + SERVERS_HEAD + "".join(servers) + LOGINS_HEAD + "".join(logins)


def without_versions(page: str) -> str:
    """What is to be the same whenever and wherever the test is run."""
    return re.sub(r"^(\| [^|]+ \|) [\d.]+(?:p\d+)? \|", r"\1 - |", page, flags=re.MULTILINE)


def _diagnosis(login: Login) -> str:
    return f"`{login.diagnosis}`" if login.diagnosis else "accepted: the certificate is enough, the name does not count"


def _offered(server: Server) -> str:
    certified = [f"{name} (to a client with a certificate)" for name in server.to_certificates]
    return ", ".join([*server.offered, *certified])


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"
