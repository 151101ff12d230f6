# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The authentication test of one endpoint, and of many in parallel. It logs in and leaves; it sends no mail."""

from __future__ import annotations

import datetime
import os
import re
import socket
import threading
import traceback
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import x509
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client, Session
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import Attempt
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnose import Observation, diagnose, timestamp
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.ehlo import Capabilities
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.redact import Redactor
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import Contexts
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.transcript import Transcript

STAGES = {
    "implicit": ("resolve", "connect", "tls", "greeting", "ehlo_tls", "auth", "quit"),
    "starttls": ("resolve", "connect", "greeting", "ehlo", "starttls", "tls", "ehlo_tls", "auth", "quit"),
    "none": ("resolve", "connect", "greeting", "ehlo", "auth", "quit"),
}
"""The steps of each TLS mode, in order."""

PATIENCE = 3.0
"""Seconds without a greeting after which a TLS server is suspected (at most a third of what is left)."""
_RESERVE = 5.0
"""Seconds of the deadline that are kept for finding the cause of a failure (at most a fifth of it)."""
_GRACE = 1.0
"""Seconds after the deadline until a test that still runs is given up, which would be a defect."""
_SMTP_IN_CLEAR = re.compile(r"[245]\d\d[ -]")
_TLS = "TLS from the first byte (implicit TLS)"
_CLEAR_TEXT = "SMTP in clear text at first"

Relay = t.Mapping[str, t.Any]
"""One entry as normalise_relays() returns it."""


def probe_all(relays: t.Sequence[Relay], timeout: float, ehlo_name: str | None = None) -> list[dict[str, t.Any]]:
    """Test all *relays* at the same time; results in their order. Ends within *timeout* seconds (and a moment).

    Never raises for anything a relay does: a result has ``ok`` and, where that is false, a ``diagnosis``.
    """
    deadline, limit = Deadline(timeout), Deadline(timeout + _GRACE)
    name = ehlo_name or own_name(deadline)
    contexts, redactor = Contexts(), Redactor()
    for relay in relays:
        redactor.protect(relay["username"], relay["password"])  # all before the first: one server may serve several relays
    probes = [Probe(relay, deadline, name, contexts, redactor) for relay in relays]
    threads = [threading.Thread(target=probe.run, daemon=True) for probe in probes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(limit.remaining())
    return [probe.result() for probe in probes]


def own_name(deadline: Deadline) -> str | None:
    """The fully qualified name of this host, or None if it has none that RFC 5321 allows in EHLO."""
    name = socket.gethostname()
    if "." not in name:
        name = _canonical_name(name, deadline)
    return name if re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", name) else None


def _canonical_name(name: str, deadline: Deadline) -> str:
    """What the resolver calls *name*. In a thread, because getfqdn() waits for name servers as long as it likes."""
    names: list[str] = []
    thread = threading.Thread(target=lambda: names.append(socket.getfqdn(name)), daemon=True)
    thread.start()
    thread.join(deadline.within(1.0).remaining())
    return names[0] if names else name


class Probe:
    """The test of one relay: :meth:`run` once, then :meth:`result`."""

    def __init__(self, relay: Relay, deadline: Deadline, ehlo_name: str | None, contexts: Contexts, redactor: Redactor) -> None:
        self._relay = relay
        self._deadline = deadline
        self._ehlo_name = ehlo_name
        self._transcript = Transcript(redactor)
        left = deadline.remaining()
        self._client = Client(
            relay["host"],
            relay["port"],
            relay["tls"],
            deadline=deadline.within(left - min(_RESERVE, left / 5)),
            transcript=self._transcript,
            ehlo_name=ehlo_name,
            ca_file=relay["ca_file"],
            contexts=contexts,
        )
        self._before_tls: Capabilities | None = None
        self._after_tls: Capabilities | None = None
        self._auth: dict[str, t.Any] = {"tried": False, "mechanism": None, "code": None, "enhanced_code": None, "text": None}
        self._session: Session | None = None
        self._error: SmtpError | None = None
        self._found = ""
        self._notes: list[str] = []
        self._finished = False

    def run(self) -> None:
        """Do the test. Whatever happens is kept for :meth:`result`."""
        try:
            with self._client:
                self._attempt()
            if self._error is not None:
                self._find_cause(self._error)
        except Exception as exc:
            # The text of a foreign exception might quote anything, so only its type and place are told.
            self._error = SmtpError(Kind.INTERNAL, _place(exc), stage=self._client.stage)
            self._client.stages.leave(failed=True)
        self._finished = True

    def _attempt(self) -> None:
        try:
            self._dialogue()
        except SmtpError as exc:
            self._error = exc
            self._client.stages.leave(failed=True)
        if self._client.in_dialogue:
            self._client.quit()
        self._client.stages.leave()
        self._session = self._client.session or self._session

    def _dialogue(self) -> None:
        client, mode = self._client, self._relay["tls"]
        client.connect()
        if mode != "implicit":
            self._expect_clear_text()
        client.greeting()
        if mode != "implicit":
            self._before_tls = client.ehlo()
        if mode == "starttls":
            client.starttls()
        if mode != "none":
            self._after_tls = client.ehlo()
        if self._relay["password"] is not None:
            self._log_in()

    def _expect_clear_text(self) -> None:
        """A TLS server stays silent until it is spoken to: look for one before waiting for the rest of the deadline."""
        patience = min(PATIENCE, self._client.deadline.remaining() / 3)
        if self._client.greeting_comes(patience):
            return
        self._look_for_tls()
        if self._found:
            raise SmtpError(Kind.TIMEOUT, f"no greeting within {patience:.1f} s", stage="greeting")

    def _log_in(self) -> None:
        try:
            reply = self._client.authenticate(self._relay["username"], self._relay["password"], self._relay["mechanism"])
        except SmtpError as exc:
            self._keep_reply(exc)
            raise
        finally:
            self._auth["tried"] = self._client.auth_sent
            self._auth["mechanism"] = self._client.mechanism if self._client.auth_sent else None
        self._auth.update(code=reply.code, enhanced_code=reply.enhanced, text=self._transcript.show(reply.text))

    def _keep_reply(self, error: SmtpError) -> None:
        if error.reply is not None and self._client.auth_sent:
            text = self._transcript.show(error.reply.text)
            self._auth.update(code=error.reply.code, enhanced_code=error.reply.enhanced, text=text)

    # -- after a failure: what else can be seen, without any credential ------------------------------------------------

    def _find_cause(self, error: SmtpError) -> None:
        mode = self._relay["tls"]
        silent = error.kind in (Kind.TIMEOUT, Kind.CLOSED, Kind.OS_ERROR)
        if error.stage == "greeting" and mode != "implicit" and not self._found:
            if silent or error.sample.startswith(("\\x15\\x03", "\\x16\\x03")):
                self._look_for_tls()
        elif error.stage == "tls" and mode == "implicit" and error.kind == Kind.NOT_TLS:
            if _SMTP_IN_CLEAR.match(error.sample):
                self._found = _CLEAR_TEXT
        elif error.stage == "tls" and mode == "implicit" and (silent or error.reason == "WRONG_VERSION_NUMBER"):
            # OpenSSL gives that reason where the greeting was there before anybody could look at it.
            self._look_for_clear_text()
        elif error.verify_code:
            self._read_certificate()

    def _visitor(self, tls: str) -> Client:
        """A second client for the same address, to look around. It does not verify, and so can not authenticate."""
        return Client(
            self._relay["host"],
            self._relay["port"],
            tls,
            deadline=self._deadline.within(_RESERVE),
            transcript=Transcript(self._transcript.redactor),
            ehlo_name=self._ehlo_name,
            verify=False,
            addresses=[self._client.peer] if self._client.peer else self._client.addresses,
        )

    def _look_for_tls(self) -> None:
        with self._visitor("implicit") as visitor:
            try:
                visitor.connect()
                visitor.handshake()
            except SmtpError as exc:
                self._notes.append(f"a TLS ClientHello on a second connection: {exc}")
                return
            self._session = visitor.session
        self._found = _TLS
        self._notes.append("a TLS ClientHello on a second connection was answered with TLS")

    def _look_for_clear_text(self) -> None:
        with self._visitor("none") as visitor:
            try:
                visitor.connect()
                greeting = visitor.greeting()
            except SmtpError as exc:
                if exc.reply is None:
                    self._notes.append(f"waiting for a greeting in clear text on a second connection: {exc}")
                    return
                greeting = exc.reply
        self._found = _CLEAR_TEXT
        self._notes.append(f"the greeting in clear text on a second connection was {str(greeting)!r}")

    def _read_certificate(self) -> None:
        """Fetch the certificate that did not verify, on a second connection."""
        with self._visitor(self._relay["tls"]) as visitor:
            try:
                visitor.connect()
                if self._relay["tls"] == "implicit":
                    visitor.handshake()
                else:
                    visitor.greeting()
                    visitor.ehlo()
                    visitor.starttls()
            except SmtpError as exc:
                self._notes.append(f"reading the certificate on a second connection: {exc}")
                return
            self._session = visitor.session

    # -- the result ----------------------------------------------------------------------------------------------------

    def result(self) -> dict[str, t.Any]:
        """Everything that was seen, as module smtp_auth_info documents it."""
        if not self._finished:
            self._error = SmtpError(Kind.INTERNAL, "it did not end in time", stage=self._client.stage)
        relay = self._relay
        certificate = _parse(self._session.certificate) if self._session else None
        return {
            "name": relay["name"],
            "host": relay["host"],
            "port": relay["port"],
            "tls_mode": relay["tls"],
            "ok": self._error is None,
            "diagnosis": self._diagnosis(certificate),
            "stages": self._client.stages.report(STAGES[relay["tls"]]),
            "addresses": [_address_fact(attempt) for attempt in self._client.attempts],
            "tls": self._tls_facts(certificate),
            "capabilities": {"before_tls": self._shown(self._before_tls), "after_tls": self._shown(self._after_tls)},
            "auth": {"offered": self._offered(), **self._auth},
            "transcript": self._transcript.lines(),
        }

    def _diagnosis(self, certificate: x509.Certificate | None) -> dict[str, t.Any] | None:
        if self._error is None:
            return None
        seen = Observation(
            host=self._relay["host"],
            port=self._relay["port"],
            mode=self._relay["tls"],
            wanted=self._relay["mechanism"],
            error=self._error,
            attempts=self._client.attempts,
            before_tls=self._before_tls,
            after_tls=self._after_tls,
            mechanism=self._client.mechanism,
            certificate=certificate,
            found=self._found,
            notes=self._notes,
        )
        return diagnose(seen, self._transcript.show)

    def _tls_facts(self, certificate: x509.Certificate | None) -> dict[str, t.Any] | None:
        error = self._error.message if self._error is not None and self._error.kind == Kind.TLS else None
        if self._session is None and error is None:
            return None
        show = self._transcript.show
        return {
            "version": self._session.version if self._session else None,
            "cipher": self._session.cipher if self._session else None,
            "verified": self._session.verified if self._session else False,
            "names": [show(name) for name in certificate.names] if certificate else [],
            "issuer": show(certificate.issuer) if certificate else None,
            "not_after": timestamp(certificate.not_after) if certificate else None,
            "days_left": _days_left(certificate) if certificate else None,
            "error": show(error) if error else None,
        }

    def _offered(self) -> list[str]:
        capabilities = self._before_tls if self._relay["tls"] == "none" else self._after_tls
        return [self._transcript.show(name) for name in capabilities.auth] if capabilities else []

    def _shown(self, capabilities: Capabilities | None) -> list[str] | None:
        return None if capabilities is None else [self._transcript.show(line) for line in capabilities.lines]


def _address_fact(attempt: Attempt) -> dict[str, t.Any]:
    return {
        "address": attempt.address.host,
        "family": attempt.address.family_name,
        "outcome": attempt.outcome,
        "elapsed_ms": attempt.elapsed_ms,
    }


def _parse(der: bytes) -> x509.Certificate | None:
    try:
        return x509.parse(der)
    except ValueError:
        return None


def _days_left(certificate: x509.Certificate) -> int:
    """Whole days until the certificate expires; negative if it has."""
    return (certificate.not_after - datetime.datetime.now(datetime.timezone.utc)).days


def _place(exc: BaseException) -> str:
    frame = traceback.extract_tb(exc.__traceback__)[-1]
    return f"{type(exc).__name__} in {os.path.basename(frame.filename)}, line {frame.lineno}"
