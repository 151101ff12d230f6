# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the collection and may change at any time.

"""One marked message: sent, awaited, and its way read from its header."""

from __future__ import annotations

import time
import typing as t
from datetime import datetime, timezone

from ansible_collections.outpost.smtp.plugins.module_utils._mail.mailbox import Arrived, Mailbox, MailboxError, MessageRefused
from ansible_collections.outpost.smtp.plugins.module_utils._mail.message import build_message
from ansible_collections.outpost.smtp.plugins.module_utils._mail.postqueue import QueueUnreadable, find_in_queue
from ansible_collections.outpost.smtp.plugins.module_utils._mail.received import MAX_HOPS, Hop, parse_hops
from ansible_collections.outpost.smtp.plugins.module_utils._mail.submission import Route, Submitted, submit
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.diagnose import diagnose
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.own_name import own_name
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.route import Route as WayOut
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import printable
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.transcript import Transcript

LOCAL, RELAY = "local", "relay"
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between two looks into the mailbox
QUEUE_SECONDS = 5.0  # for asking the local queue, on top of the deadline


class Plan(t.NamedTuple):
    """What is to be done. `postqueue` is the command that lists the local queue, None where there is none.

    `logins` are the user names and passwords that must not show in any result, wherever a server repeats them.
    """

    via: str
    route: Route
    sender: str
    recipient: str
    cleanup: bool
    postqueue: t.Optional[t.Sequence[str]]
    logins: t.Sequence[t.Tuple[t.Optional[str], t.Optional[str]]] = ()


class RoundTripError(Exception):
    """The message did not arrive, or not on the way it was sent. The text says the stage, what was seen, and what to do."""

    def __init__(self, stage: str, seen: str, remedy: str) -> None:
        super().__init__(f"Stage {stage}: {seen.rstrip('.')}. {remedy}")
        self.stage = stage
        self.seen = seen
        self.remedy = remedy


class RoundTrip:
    """run() does it once; `result` holds everything that is known, also after a failure."""

    def __init__(self, plan: Plan, mailbox: Mailbox, deadline: Deadline) -> None:
        self._plan = plan
        self._mailbox = mailbox
        self._deadline = deadline
        self._transcript = Transcript()
        for username, password in plan.logins:
            self._transcript.redactor.protect(username, password)
        self._message = build_message(plan.sender, plan.recipient, datetime.now(timezone.utc))
        self._elapsed: t.Dict[str, t.Optional[int]] = {"mailbox": None, "submitted": None, "arrived": None}
        self.warnings: t.List[str] = []
        self.result: t.Dict[str, t.Any] = {
            "arrived": False,
            "token": self._message.token,
            "message_id": self._message.message_id,
            "queue_id": None,
            "reply": None,
            "folder": None,
            "elapsed_ms": self._elapsed,
            "hops": [],
            "proof": None,
            "diagnosis": None,
            "queue": None,
            "removed": False,
            "transcript": [],
        }

    def run(self) -> None:
        """Raise RoundTripError where the message is not proven to have arrived."""
        try:
            # The mailbox first: where it can not be read, no message is left behind in it.
            self._timed("mailbox", self._open_mailbox)
            submitted = self._timed("submitted", self._submit)
            arrived = self._timed("arrived", lambda: self._wait(submitted))
            self._correlate(submitted, arrived)
            if self._plan.cleanup:
                self._remove(arrived)
        finally:
            self.result["transcript"] = self._transcript.lines()
            self._mailbox.close()

    def _timed(self, name: str, step: t.Callable[[], t.Any]) -> t.Any:
        begin = time.monotonic()
        outcome = step()
        self._elapsed[name] = round((time.monotonic() - begin) * 1000)
        return outcome

    def _open_mailbox(self) -> None:
        try:
            self._mailbox.open()
        except MailboxError as exc:
            raise RoundTripError("mailbox_login", str(exc), "Correct the option mailbox; no message was sent.") from exc

    def _submit(self) -> Submitted:
        plan = self._plan
        client = Client(
            plan.route.host,
            plan.route.port,
            plan.route.tls,
            deadline=self._deadline,
            transcript=self._transcript,
            ehlo_name=own_name(self._deadline) if plan.via == RELAY else None,
            trust=plan.route.trust,
            route=WayOut(plan.route.family),
        )
        try:
            with client:
                submitted = submit(client, plan.route, plan.sender, plan.recipient, self._message.content)
        except SmtpError as exc:
            raise self._not_submitted(client, exc) from exc
        self.result.update(queue_id=submitted.queue_id, reply=submitted.reply)
        return submitted

    def _not_submitted(self, client: Client, error: SmtpError) -> RoundTripError:
        route = self._plan.route
        seen = Observation(
            host=route.host,
            port=route.port,
            mode=route.tls,
            wanted=route.mechanism,
            error=error,
            attempts=client.attempts,
            before_tls=client.capabilities if error.stage == "starttls" else None,
            after_tls=client.capabilities if error.stage == "auth" else None,
            mechanism=client.mechanism,
        )
        diagnosis = diagnose(seen, self._transcript.show)
        self.result["diagnosis"] = diagnosis
        remedy = diagnosis["remedy"]
        if self._plan.via == LOCAL:
            remedy = "See whether the mail server of this host runs, listens there, and accepts this sender and recipient from the host itself."
        return RoundTripError("submit", diagnosis["summary"], remedy)

    def _wait(self, submitted: Submitted) -> Arrived:
        """Look again and again, the pauses growing, and begin no pause that would outlast the deadline."""
        pause = FIRST_PAUSE
        try:
            while True:
                arrived = self._mailbox.poll(self._message.token)
                if arrived:
                    self.result.update(arrived=True, folder=self._transcript.show(arrived.folder))
                    return arrived
                if self._deadline.remaining() <= pause:
                    raise self._not_arrived("did not arrive in time", submitted)
                time.sleep(pause)
                pause = min(pause * 1.5, LONGEST_PAUSE)
        except MessageRefused as exc:
            seen = f"message {submitted.queue_id or self._message.message_id} {self._transcript.show(str(exc))}"
            raise RoundTripError("wait", seen, "Find out why in the words above, and correct the sender, the recipient or the relay.") from exc
        except MailboxError as exc:
            raise self._not_arrived(f"was not found before the mailbox failed ({exc})", submitted) from exc

    def _not_arrived(self, seen: str, submitted: Submitted) -> RoundTripError:
        """Say where the message is, as far as this host can know."""
        seen = f"message {submitted.queue_id or self._message.message_id} {seen}"
        if self._plan.via == RELAY:
            return RoundTripError(
                "wait",
                f"{seen}, though the relay took it ({submitted.reply})",
                "Look for it in other folders, then ask the provider what became of it.",
            )
        try:
            where, remedy = self._local_queue(submitted.queue_id)
        except QueueUnreadable as exc:
            where, remedy = f"the local queue can not be asked: {exc}", "Look into the log of the local mail server."
        return RoundTripError("wait", f"{seen}; {where}", remedy)

    def _local_queue(self, queue_id: t.Optional[str]) -> t.Tuple[str, str]:
        if not queue_id or not self._plan.postqueue:
            raise QueueUnreadable("there is no queue id, or no postqueue command on this host")
        entry = find_in_queue(self._plan.postqueue, queue_id, QUEUE_SECONDS)
        if entry is None:
            return (
                "it has left the local queue, so the next server has taken or refused it",
                f"Search the local log for {queue_id}, then look into other folders and for a bounce to the sender.",
            )
        reasons = [self._transcript.show(reason) for reason in entry.reasons]
        self.result["queue"] = {"name": entry.queue, "reasons": reasons}
        return (
            f"it is still in the local queue ({entry.queue}): {'; '.join(reasons) or 'no attempt to deliver it has failed yet'}",
            f"Remove the cause, then run postqueue -i {queue_id}; or delete the test message with postsuper -d {queue_id}.",
        )

    def _correlate(self, submitted: Submitted, arrived: Arrived) -> None:
        hops = parse_hops([self._clean(field) for field in arrived.header.received[:MAX_HOPS]])
        self.result["hops"] = [hop.as_dict() for hop in hops]
        own = _hop_with_id(hops, submitted.queue_id)
        self.result["proof"] = {
            "token_matched": True,
            "message_id_matched": arrived.header.message_id == self._message.message_id,
            "queue_id_matched": own is not None or submitted.queue_id in arrived.queue_ids,
            **self._proof_of_relay(hops, own),
        }
        if own is not None or submitted.queue_id is None or submitted.queue_id in arrived.queue_ids:
            return
        if any(hop.by and hop.by.lower() == submitted.server.lower() for hop in hops):
            raise RoundTripError(
                "correlate",
                f"the message that arrived names {submitted.server}, but with another queue id than {submitted.queue_id}",
                "Find out what took the message and sent it anew.",
            )
        self.warnings.append(
            f"The message arrived, but its header does not show queue id {submitted.queue_id}: a server on the way removed the trace,"
            " so only the token proves that it is the same message."
        )

    def _proof_of_relay(self, hops: t.Sequence[Hop], own: t.Optional[Hop]) -> t.Dict[str, t.Optional[bool]]:
        """Whether the message reached the relay encrypted and authenticated; None where nobody tells.

        Sent directly, this program knows it. Sent by the local server, the relay's Received field says it: the first one
        after the local server's own (which writes several where it passes mail through a filter).
        """
        if self._plan.via == RELAY:
            return {"tls_to_relay": self._plan.route.tls != "none", "authenticated": self._plan.route.username is not None}
        later = hops[hops.index(own) + 1 :] if own else []
        relay = next((hop for hop in later if own and hop.by != own.by), None)
        if relay is None:
            return {"tls_to_relay": None, "authenticated": None}
        return {"tls_to_relay": relay.tls is not None, "authenticated": relay.authenticated}

    def _clean(self, field: str) -> str:
        """A header field on one line, without secrets and control characters."""
        return self._transcript.redactor.clean(printable(" ".join(field.split())))

    def _remove(self, arrived: Arrived) -> None:
        try:
            self._mailbox.remove(arrived)
            self.result["removed"] = True
        except MailboxError as exc:
            self.warnings.append(f"The message arrived, but could not be removed from the mailbox: {exc}.")


def _hop_with_id(hops: t.Sequence[Hop], queue_id: t.Optional[str]) -> t.Optional[Hop]:
    return next((hop for hop in hops if queue_id and hop.queue_id == queue_id), None)
