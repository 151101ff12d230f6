# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every SASL mechanism (RFC 4422) has in common, as SMTP uses it (RFC 4954)."""

from __future__ import annotations

import abc
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials

PASSWORD, ACCESS_TOKEN, CERTIFICATE = "password", "access token", "client certificate"


class Connection(t.NamedTuple):
    """What a mechanism may need to know of the connection.

    * *host*, *port*: the server as it was asked for
    * *certificate*: whether this host showed a certificate of its own
    * *binding*: tls-unique (RFC 5929 section 3) of the TLS connection, empty if it is not at hand
    * *binding_offered*: whether the server offers any mechanism that uses it
    * *deadline*: what is computed must be ready before it
    """

    host: str = ""
    port: int = 0
    certificate: bool = False
    binding: bytes = b""
    binding_offered: bool = False
    deadline: t.Optional[Deadline] = None


class Mechanism(abc.ABC):
    """One exchange, used once: :meth:`initial` goes with the AUTH command, :meth:`respond` answers a 334.

    Every method raises :class:`SmtpError` for what can not be sent, or must not be.
    """

    name = ""
    needs = PASSWORD
    """What it logs in with."""
    reads_challenges = True
    """Whether a challenge is data. Otherwise it is a prompt, and one that is not even base64 is answered as well."""

    def __init__(self, credentials: Credentials, connection: Connection = Connection()) -> None:  # noqa: B008  # immutable
        self.problem = ""
        """What the server said inside the exchange about a failure, as it came; *reason* is the word for it."""
        self.reason = ""
        self.derived: list[str] = []
        """What either end computed from the password, in readable form: passwords could be tried against it."""
        self._username = self._octets("user name", credentials.username or "")
        self._password = self._octets("password", credentials.password or "")
        self._credentials = credentials
        self._connection = connection

    @classmethod
    def obstacle(cls, connection: Connection) -> str:
        """Why this host can not use the mechanism on *connection*, as a sentence; empty if it can."""
        return ""

    def initial(self) -> bytes | None:
        """The response to send before the server asks, or None if the mechanism lets the server begin. Called first."""
        return None

    @abc.abstractmethod
    def respond(self, challenge: bytes) -> bytes:
        """The answer to *challenge*. Raises when there is nothing more to say, so no server can ask forever."""

    @property
    @abc.abstractmethod
    def complete(self) -> bool:
        """Whether everything that the mechanism has to say was asked for."""

    def finish(self) -> None:
        """The server accepts. Raises :class:`SmtpError` if it can not know yet, or has yet to prove something."""
        if not self.complete:
            raise self._error(Kind.REPLY, "the server accepts before it has the credentials")

    def _error(self, kind: str, message: str, **facts: t.Any) -> SmtpError:
        return SmtpError(kind, message, stage="auth", **facts)

    def _asked_too_much(self) -> SmtpError:
        return self._error(Kind.CHALLENGE, f"the server asks for more than {self.name} has to send")

    def _octets(self, field: str, value: str) -> bytes:
        if "\0" in value or "\r" in value or "\n" in value:
            raise self._error(Kind.CREDENTIALS, f"the {field} contains a NUL, CR or LF, which {self.name} can not carry")
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError:
            # "from None": the exception holds the whole text.
            raise self._error(Kind.CREDENTIALS, f"the {field} is not valid Unicode") from None
