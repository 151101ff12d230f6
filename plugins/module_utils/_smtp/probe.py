# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The authentication test of one endpoint, and of many in parallel. It logs in and leaves; it sends no mail."""

from __future__ import annotations

import os
import socket
import threading
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import endpoint, permission, relay, result, warnings
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis import providers
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.endpoint import Endpoint
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.logins import Logins, SentElsewhere
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.own_name import own_name
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.redact import Redactor
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings import interception
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import chain, x509
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.tls import Contexts
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.transcript import Transcript

if t.TYPE_CHECKING:
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.every_address import AddressResult
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.local_block import Explain
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.visitor import Visitor

STAGES = {
    "implicit": ("resolve", "connect", "tls", "greeting", "ehlo_tls"),
    "starttls": ("resolve", "connect", "greeting", "ehlo", "starttls", "tls", "ehlo_tls"),
    "none": ("resolve", "connect", "greeting", "ehlo"),
}
"""The steps of each TLS mode up to where the login takes place."""
_STAGES_AFTER = ("auth", "sender", "recipient", "quit")

PATIENCE = 3.0
"""Seconds without a greeting after which a TLS server is suspected (at most a third of what is left)."""
_RESERVE = 5.0
"""Seconds of the deadline that are kept for finding the cause of a failure (at most a fifth of it)."""
_GRACE = 1.0
"""Seconds after the deadline until a test that still runs is given up, which would be a defect."""

_SENT_ELSEWHERE = "the login was not sent: another test of this run sent the same one to the same port, and this is what came of it"

_ONLY_SENDER = "only MAIL FROM was asked; many servers, such as Postfix, refuse a sender at RCPT TO: set recipient as well"


def probe_all(
    endpoints: t.Sequence[Endpoint],
    timeout: float,
    ehlo_name: str | None = None,
    investigate: bool = True,
    explain: Explain | None = None,
) -> list[dict[str, t.Any]]:
    """Test all *endpoints* at the same time; results in their order. Ends within *timeout* seconds (and a moment).

    Without *investigate* there is one connection for each endpoint, and no second look at what failed. *explain* finds
    the rules of this host's firewall that stop a connection (see local_block.py). Never raises for anything a relay
    does: a result has ``ok`` and, where that is false, a ``diagnosis``.
    """
    deadline, limit = Deadline(timeout), Deadline(timeout + _GRACE)
    name = ehlo_name or own_name(deadline)
    contexts, redactor = Contexts(), Redactor()
    for one in endpoints:
        # All before the first: one server may serve several relays.
        redactor.protect(one["username"], one["password"], one["access_token"])
        if one["proxy"]:
            redactor.protect(one["proxy"]["username"], one["proxy"]["password"])
    logins = Logins()
    probes: list[Probe] = []
    distinct: list[Endpoint] = []
    for one in endpoints:
        # What differs by its name only is tested once: the relays of a Postfix often are the same by several ways.
        unnamed = {**one, "name": None}
        if unnamed not in distinct:
            distinct.append(unnamed)
            probes.append(Probe(one, deadline, one["ehlo_name"] or name, contexts, redactor, logins, investigate, explain))
    threads = [threading.Thread(target=probe.run, daemon=True) for probe in probes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(limit.remaining())
    found = [probes[distinct.index({**one, "name": None})].result() for one in endpoints]
    return [{**one_result, "name": one["name"]} for one, one_result in zip(endpoints, found)]


class Probe:
    """The test of one endpoint: :meth:`run` once, then :meth:`result`."""

    def __init__(
        self,
        target: Endpoint,
        deadline: Deadline,
        ehlo_name: str | None,
        contexts: Contexts,
        redactor: Redactor,
        logins: Logins,
        investigate: bool,
        explain: Explain | None,
    ) -> None:
        self._target = target
        self._deadline = deadline
        self._ehlo_name = ehlo_name
        self._contexts = contexts
        self._logins = logins
        self._investigate = investigate
        self._explain = explain
        self._transcript = Transcript(redactor)
        left = deadline.remaining()
        self._client = Client(
            target["host"],
            target["port"],
            target["tls"],
            deadline=deadline.within(left - min(_RESERVE, left / 5)),
            transcript=self._transcript,
            ehlo_name=ehlo_name,
            trust=endpoint.trust(target),
            route=endpoint.route(target),
            contexts=contexts,
        )
        self._seen = Observation(
            target["host"],
            target["port"],
            target["tls"],
            wanted=target["mechanism"],
            server_name=target["server_name"] or "",
            tls_wanted=endpoint.trust(target).wanted_tls,
        )
        self._answers: dict[str, Reply] = {}
        self._every: list[AddressResult] = []
        self._finished = False

    def run(self) -> None:
        """Do the test. Whatever happens is kept for :meth:`result`."""
        try:
            with self._client:
                self._attempt()
            if self._target["every_address"]:
                self._examine_every_address()
            if self._seen.error is not None:
                self._look_around()
            self._judge()
        except Exception as exc:
            # The text of a foreign exception might quote anything, so only its type and place are told.
            self._seen.error = SmtpError(Kind.INTERNAL, _place(exc), stage=self._client.stage)
            self._client.stages.leave(failed=True)
        self._finished = True

    def _look_around(self) -> None:
        """Find out more about the failure."""
        # Imported here, as in late.py: a login that works does not wait for what only a failure needs.
        from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings import differential, local_block

        if self._investigate:
            differential.investigate(self._seen, self._visitor, self._deadline)
        local_block.find(self._seen, self._explain)

    def _examine_every_address(self) -> None:
        from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings import every_address

        self._every = every_address.examine(self._client.addresses, self._seen.mode, self._visitor, self._deadline)
        self._seen.notes += every_address.differences(self._every)

    def _judge(self) -> None:
        seen = self._seen
        names = seen.certificate.names if seen.certificate else []
        seen.provider = providers.recognise(seen.host, names, seen.greeting.text if seen.greeting else "")
        if seen.token is not None:
            from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl import oauth_token

            seen.complaints = oauth_token.complaints(seen.token, self._target["username"], seen.provider)
        seen.interception = interception.judge(seen, (self._ehlo_name or "", socket.gethostname()))

    def _attempt(self) -> None:
        client, seen = self._client, self._seen
        try:
            self._dialogue()
        except SmtpError as exc:
            seen.error = exc
            client.stages.leave(failed=True)
        if client.in_dialogue:
            client.quit()
        client.stages.leave()
        seen.attempts = client.attempts
        seen.peer = client.peer.host if client.peer and client.route.proxy is None else ""
        seen.elapsed_ms = {
            entry["stage"]: entry["elapsed_ms"] for entry in client.stages.report(self._planned()) if entry["elapsed_ms"] is not None
        }
        if client.session is not None:
            seen.session = client.session
            seen.certificate = x509.parse_or_none(client.session.certificate)
            seen.chain = chain.read(client.session.chain)

    def _dialogue(self) -> None:
        client, seen = self._client, self._seen
        if self._target["srv"]:
            self._find_server()
        client.connect()
        if seen.mode != "implicit":
            self._expect_clear_text()
        seen.greeting = client.greeting()
        if seen.mode != "implicit":
            seen.before_tls = client.ehlo()
        if seen.mode == "starttls":
            client.starttls()
        if seen.mode != "none":
            seen.after_tls = client.ehlo()
        self._log_in()
        if self._target["sender"] is not None:
            permission.check(client, self._target["sender"], self._target["recipient"], self._answers)
            if self._target["recipient"] is None:
                seen.notes.append(_ONLY_SENDER)

    def _find_server(self) -> None:
        """Test the best of the servers that the SRV records name."""
        # Imported here, as in late.py: only a relay that is known by SRV records waits for it.
        from ansible_collections.outpost.smtp.plugins.module_utils._smtp import srv

        srv.lead(self._client, relay.srv_service(self._target))
        self._seen.host, self._seen.port = self._client.host, self._client.port

    def _expect_clear_text(self) -> None:
        """A TLS server stays silent until it is spoken to: look for one before waiting for the rest of the deadline."""
        patience = min(PATIENCE, self._client.deadline.remaining() / 3)
        if self._client.greeting_comes(patience) or not self._investigate:
            return
        from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings import differential

        differential.look_for_tls(self._seen, self._visitor)
        if self._seen.found:
            raise SmtpError(Kind.TIMEOUT, f"no greeting within {patience:.1f} s", stage="greeting")

    def _log_in(self) -> None:
        credentials = endpoint.credentials(self._target)
        if credentials is None:
            return
        if credentials.access_token is not None:
            from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl import oauth_token

            self._seen.token = oauth_token.inspect(credentials.access_token, self._seen.now)
        client, try_all = self._client, bool(self._target["try_all_mechanisms"])

        def attempt() -> Reply:
            allowed = self._target["allow_unencrypted"]
            return client.authenticate(credentials, self._target["mechanism"], allow_unencrypted=allowed, try_all=try_all)

        try:
            self._answers["auth"] = attempt() if try_all else self._logins.log_in(client, credentials, attempt)
        except SmtpError as exc:
            elsewhere = isinstance(exc, SentElsewhere)
            if elsewhere:
                self._seen.notes.append(_SENT_ELSEWHERE)
            if exc.reply is not None and (client.auth_sent or elsewhere):
                self._answers["auth"] = exc.reply
            raise

    def _visitor(
        self, tls: str, port: int | None = None, addresses: t.Sequence[Address] | None = None, *, verify: bool = False
    ) -> Visitor:
        """See :class:`visitor.VisitorFactory`."""
        from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.visitor import Visitor

        client = self._client
        known = addresses or ([client.peer] if client.peer else client.addresses)
        return Visitor(
            client.host,
            port or client.port,
            tls,
            deadline=self._deadline.within(_RESERVE),
            transcript=Transcript(self._transcript.redactor),
            ehlo_name=self._ehlo_name,
            trust=client.trust if verify else client.trust._replace(client_certificate=None, client_key=None),
            route=client.route,
            contexts=self._contexts,
            verify=verify,
            addresses=known,
        )

    def result(self) -> dict[str, t.Any]:
        """Everything that was seen, as module smtp_auth_info documents it."""
        client, seen, show = self._client, self._seen, self._transcript.show
        if not self._finished and seen.error is None:
            seen.error = SmtpError(Kind.INTERNAL, "it did not end in time", stage=client.stage)
        seen.attempts = client.attempts
        seen.mechanism = client.mechanism
        seen.logins = len(client.logins)
        return result.assemble(
            self._target["name"],
            seen,
            show,
            every=self._every,
            stages=client.stages.report(self._planned()),
            logins=client.logins,
            answers=self._answers,
            warnings=warnings.collect(seen, client),
            transcript=self._transcript.lines(),
        )

    def _planned(self) -> list[str]:
        """The stages that this test has: sender and recipient only where they are asked for."""
        after = [stage for stage in _STAGES_AFTER if stage in ("auth", "quit") or self._target[stage] is not None]
        return [*STAGES[self._seen.mode], *after]


def _place(exc: BaseException) -> str:
    """The innermost frame. Module traceback would tell it, too, but takes time to import that every run would pay for."""
    place = exc.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" in {os.path.basename(place.tb_frame.f_code.co_filename)}, line {place.tb_lineno}" if place else ""
    return f"{type(exc).__name__}{where}"
