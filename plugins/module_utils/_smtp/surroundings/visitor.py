# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A client that looks around: it goes as far as the second EHLO and can send nothing that belongs to a login or a mail."""

from __future__ import annotations

import re
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import Attempt
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.ehlo import Capabilities
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.session import Session

_ALLOWED = ("STARTTLS", "QUIT")
_EHLO = re.compile(r"EHLO [^\r\n]+")


class Visit(t.NamedTuple):
    """What came of one look. *error* is None if all went well; *address* is empty if there was no connection."""

    error: t.Optional[SmtpError]
    attempts: t.Sequence[Attempt]
    address: str
    connect_ms: t.Optional[int]
    elapsed_ms: int
    greeting: t.Optional[Reply] = None
    before_tls: t.Optional[Capabilities] = None
    after_tls: t.Optional[Capabilities] = None
    session: t.Optional[Session] = None

    @property
    def offers_login(self) -> bool:
        """Whether AUTH is offered inside TLS, by a server that proved who it is."""
        verified = self.session is not None and self.session.verified
        return self.error is None and verified and self.after_tls is not None and bool(self.after_tls.auth)


class Visitor(Client):
    """Everything that a login or a mail needs is refused here, whoever calls it and however trusted the server is."""

    @property
    def trusted(self) -> bool:
        """Never, so that login.py sends nothing."""
        return False

    def _write(self, line: str) -> None:
        # Every command of the client goes out through here, whichever method it comes from.
        if line not in _ALLOWED and not _EHLO.fullmatch(line):
            raise self.error(Kind.UNPROTECTED, f"a visitor does not send {line.split(' ')[0]}")
        super()._write(line)

    def look(self) -> Visit:
        """Connect, and go as far as the EHLO after TLS (``none``: the first one). Never raises :class:`SmtpError`."""
        started = time.monotonic()
        error: SmtpError | None = None
        seen: dict[str, t.Any] = {}
        try:
            self._walk(seen)
        except SmtpError as exc:
            error = exc
        elapsed_ms = round((time.monotonic() - started) * 1000)
        if self.in_dialogue:
            self.quit()
        self.close()
        attempts = list(self.attempts)
        connect_ms = next((attempt.elapsed_ms for attempt in attempts if attempt.address == self.peer), None)
        address = self.peer.host if self.peer else ""
        return Visit(error, attempts, address, connect_ms, elapsed_ms, session=self.session, **seen)

    def _walk(self, seen: dict[str, t.Any]) -> None:
        self.connect()
        seen["greeting"] = self.greeting()
        if self.tls != "implicit":
            seen["before_tls"] = self.ehlo()
        if self.tls == "starttls":
            self.starttls()
        if self.tls != "none":
            seen["after_tls"] = self.ehlo()


class VisitorFactory(t.Protocol):
    """Makes visitors to the host of an endpoint."""

    def __call__(
        self, tls: str, port: int | None = None, addresses: t.Sequence[Address] | None = None, *, verify: bool = False
    ) -> Visitor:
        """Without *port* and *addresses* to those of the first connection. Without *verify* any certificate will do."""
