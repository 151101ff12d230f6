# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""After a failure: what else the host of the endpoint can do, seen over further connections, without any credential."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import x509
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address

_SMTP_IN_CLEAR = re.compile(r"[245]\d\d[ -]")
_TLS = "TLS from the first byte (implicit TLS)"
_CLEAR_TEXT = "SMTP in clear text at first"


class VisitorFactory(t.Protocol):
    """Makes a second client for the same host, to look around: it verifies nothing, and so it can not authenticate."""

    def __call__(self, tls: str, port: int | None = None, addresses: t.Sequence[Address] | None = None) -> Client:
        """Without *port* and *addresses* for the port and the address of the first connection."""


def investigate(seen: Observation, visitor: VisitorFactory, deadline: Deadline) -> None:
    """Add to *seen* what explains its failure, until *deadline*."""
    error = seen.failure
    silent = error.kind in (Kind.TIMEOUT, Kind.CLOSED, Kind.OS_ERROR)
    if error.stage == "greeting" and seen.mode != "implicit" and not seen.found:
        if silent or error.sample.startswith(("\\x15\\x03", "\\x16\\x03")):
            look_for_tls(seen, visitor)
    elif error.stage == "tls" and seen.mode == "implicit" and error.kind == Kind.NOT_TLS:
        if _SMTP_IN_CLEAR.match(error.sample):
            seen.found = _CLEAR_TEXT
    elif error.stage == "tls" and seen.mode == "implicit" and (silent or error.reason == "WRONG_VERSION_NUMBER"):
        # OpenSSL gives that reason where the greeting was there before anybody could look at it.
        _look_for_clear_text(seen, visitor)
    elif error.verify_code:
        _read_certificate(seen, visitor)


def look_for_tls(seen: Observation, visitor: VisitorFactory) -> None:
    """See whether the port of *seen*, which was silent, speaks TLS from the first byte."""
    with visitor("implicit") as client:
        try:
            client.connect()
            client.handshake()
        except SmtpError as exc:
            seen.notes.append(f"a TLS ClientHello on a second connection: {exc}")
            return
        _keep_session(seen, client)
    seen.found = _TLS
    seen.notes.append("a TLS ClientHello on a second connection was answered with TLS")


def _look_for_clear_text(seen: Observation, visitor: VisitorFactory) -> None:
    with visitor("none") as client:
        try:
            client.connect()
            greeting = client.greeting()
        except SmtpError as exc:
            if exc.reply is None:
                seen.notes.append(f"waiting for a greeting in clear text on a second connection: {exc}")
                return
            greeting = exc.reply
    seen.found = _CLEAR_TEXT
    seen.notes.append(f"the greeting in clear text on a second connection was {str(greeting)!r}")


def _read_certificate(seen: Observation, visitor: VisitorFactory) -> None:
    """Fetch the certificate that did not verify, on a second connection."""
    with visitor(seen.mode) as client:
        try:
            client.connect()
            if seen.mode == "implicit":
                client.handshake()
            else:
                client.greeting()
                client.ehlo()
                client.starttls()
        except SmtpError as exc:
            seen.notes.append(f"reading the certificate on a second connection: {exc}")
            return
        _keep_session(seen, client)


def _keep_session(seen: Observation, client: Client) -> None:
    seen.session = client.session
    if client.session is not None:
        seen.certificate = x509.parse_or_none(client.session.certificate)
