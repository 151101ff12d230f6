# SPDX-License-Identifier: GPL-3.0-or-later
"""The mail servers that the authentication test is tried against: what each offers, and where it notes a refused login."""

from __future__ import annotations

import dataclasses
import re

from system_lab import Lab

PORTS = {465: "implicit", 587: "starttls"}

PASSWORD, TOKEN, CERTIFICATE = "password", "access token", "client certificate"
STRONGEST_FIRST = (
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1",
    "DIGEST-MD5",
    "CRAM-MD5",
    "PLAIN",
    "LOGIN",
)
_OTHERS = {"OAUTHBEARER": TOKEN, "XOAUTH2": TOKEN, "EXTERNAL": CERTIFICATE}

_READABLE = ("PLAIN", "LOGIN")
_CYRUS = ("CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256")
_MAIL_LOG = "cat /var/log/mail.log"
_JOURNAL = "journalctl --no-pager --quiet --output=cat"


@dataclasses.dataclass(frozen=True)
class Server:
    """One host of the lab. What it offers is what its configuration (tests/rig/images) switches on."""

    host: str
    title: str
    package: str
    offered: tuple[str, ...]
    log: str
    refused: str
    """Matches once for each refused login in what the command ``log`` prints."""
    to_certificates: tuple[str, ...] = ()
    """What is offered as well to a client that shows a certificate."""
    any_name: tuple[str, ...] = ()
    """By what a client logs in as anybody: the certificate alone decides. So there is nothing to refuse."""
    hello_retry: bool = False
    """Whether it refuses the client's first key share (RFC 8446 section 4.1.4), which is one more round trip."""

    @property
    def name(self) -> str:
        return f"{'smtp' if self.host == 'provider' else self.host}.provider.test"

    @property
    def tried(self) -> list[str]:
        """What to ask the client for: ``auto``, and all that both sides have."""
        return ["auto", *(name for name in (*STRONGEST_FIRST, *_OTHERS) if name in self.offered + self.to_certificates)]

    def expected(self, mechanism: str) -> str:
        """What the client is to use when it is asked for ``mechanism``, with a password for ``auto``."""
        return self.tried[1] if mechanism == "auto" else mechanism

    def kind(self, mechanism: str) -> str:
        """What a mechanism logs in with."""
        return _OTHERS.get(mechanism, PASSWORD)

    def refusals(self, lab: Lab) -> int:
        """How many logins the server has refused so far, by its own log."""
        return len(re.findall(self.refused, lab.shell(self.log, self.host).stdout))

    def version(self, lab: Lab) -> str:
        """Upstream's version: without the epoch, and without what Debian adds."""
        shown = lab.shell(f"dpkg-query --show --showformat='${{Version}}' {self.package}", self.host).stdout
        return re.sub(r"^\d+:|[-+].*", "", shown)


SERVERS = {
    server.host: server
    for server in (
        Server("provider", "Postfix with Dovecot's SASL, Debian 12", "postfix", _READABLE, _MAIL_LOG, "authentication failed:"),
        Server(
            "postfix",
            "Postfix with Dovecot's SASL",
            "postfix",
            (*_READABLE, *_CYRUS, "XOAUTH2", "OAUTHBEARER"),
            _MAIL_LOG,
            "authentication failed:",
        ),
        Server(
            "dovecot",
            "Dovecot's submission server",
            "dovecot-submissiond",
            (*_READABLE, *_CYRUS, "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "EXTERNAL"),
            "cat /var/log/dovecot.log",
            r"auth\(\S+,sasl:.*: (?:Password mismatch|Master user login attempted)",
        ),
        Server(
            "exim",
            "Exim with Cyrus SASL",
            "exim4-daemon-heavy",
            (*_READABLE, *_CYRUS),
            "cat /var/log/exim4/mainlog",
            "authenticator failed",
            to_certificates=("EXTERNAL",),
        ),
        Server("opensmtpd", "OpenSMTPD", "opensmtpd", _READABLE, f"{_JOURNAL} --unit=opensmtpd", "authentication user=.* result=permfail"),
        Server(
            "sendmail",
            "sendmail with Cyrus SASL",
            "sendmail-bin",
            (*_READABLE, *_CYRUS),
            _JOURNAL,
            "AUTH failure",
            to_certificates=("EXTERNAL",),
            any_name=("EXTERNAL",),
            hello_retry=True,
        ),
        Server("aiosmtpd", "aiosmtpd", "python3-aiosmtpd", _READABLE, f"{_JOURNAL} --unit=rig-aiosmtpd", "authentication failed"),
        Server(
            "courier",
            "Courier",
            "courier-mta",
            (*_READABLE, "CRAM-MD5", "CRAM-SHA1", "CRAM-SHA256"),
            _JOURNAL,
            "535 Authentication failed",
        ),
    )
}
