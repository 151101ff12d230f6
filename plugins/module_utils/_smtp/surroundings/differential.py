# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""After a failure: what else the host of the endpoint can do, seen over further connections, without any credential."""

from __future__ import annotations

import re
import time

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Alternative, Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.alternatives import failure_in_words
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.look_around import Surroundings, worthwhile
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.visitor import VisitorFactory
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import chain, x509

_SMTP_IN_CLEAR = re.compile(r"[245]\d\d[ -]")
_TLS = "TLS from the first byte (implicit TLS)"
_CLEAR_TEXT = "SMTP in clear text at first"

HELLO_SECONDS = 2.0
"""For the answer to a ClientHello (at most half of what is left, since a silent port will be silent to the end)."""


def investigate(seen: Observation, visitor: VisitorFactory, deadline: Deadline) -> None:
    """Add to *seen* what explains its failure, until *deadline*: the endpoint itself, the host's other ports and addresses."""
    surroundings = Surroundings(seen, visitor, deadline) if worthwhile(seen.failure) else None
    _look_again(seen, visitor)
    if surroundings is not None:
        surroundings.report()


def _look_again(seen: Observation, visitor: VisitorFactory) -> None:
    """See whether the port speaks the other TLS mode; read the certificate that did not verify."""
    error = seen.failure
    silent = error.kind in (Kind.TIMEOUT, Kind.CLOSED, Kind.OS_ERROR)
    looked = bool(seen.found or seen.alternatives)
    if error.stage == "greeting" and seen.mode != "implicit" and not looked:
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
        started = time.monotonic()
        client.deadline = client.deadline.within(min(HELLO_SECONDS, client.deadline.remaining() / 2))
        try:
            client.connect()
            client.handshake()
        except SmtpError as exc:
            seen.notes.append(f"a TLS ClientHello on a second connection: {exc}")
            address, elapsed_ms = client.peer.host if client.peer else "", round((time.monotonic() - started) * 1000)
            seen.alternatives.append(Alternative(seen.port, "implicit", False, failure_in_words(exc), address, elapsed_ms))
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
            client.reach_tls()
        except SmtpError as exc:
            seen.notes.append(f"reading the certificate on a second connection: {exc}")
            return
        _keep_session(seen, client)


def _keep_session(seen: Observation, client: Client) -> None:
    seen.session = client.session
    if client.session is None:
        return
    seen.certificate = x509.parse_or_none(client.session.certificate)
    seen.chain = chain.read(client.session.chain)
    verify_code = seen.error.verify_code if seen.error is not None else None
    if seen.chain and verify_code is not None and chain.leads_nowhere(verify_code):
        seen.explanation = chain.explain(verify_code, seen.chain, chain.trusted_roots(client.trust))
