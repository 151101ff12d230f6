# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SASL mechanisms (RFC 4422) as SMTP uses them (RFC 4954): PLAIN (RFC 4616) and LOGIN.

LOGIN has no standard; what servers do is written down in draft-murchison-sasl-login.
"""

from __future__ import annotations

import abc
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError


class Mechanism(abc.ABC):
    """One exchange, used once: :meth:`initial` goes with the AUTH command, :meth:`respond` answers a 334."""

    name = ""

    def __init__(self, username: str, password: str) -> None:
        for field, value in (("user name", username), ("password", password)):
            if "\0" in value or "\r" in value or "\n" in value:
                message = f"the {field} contains a NUL, CR or LF, which {self.name} can not carry"
                raise SmtpError(Kind.CREDENTIALS, message, stage="auth")
        try:
            self._username = username.encode("utf-8")
            self._password = password.encode("utf-8")
        except UnicodeEncodeError:
            # "from None": the exception holds the whole text.
            raise SmtpError(Kind.CREDENTIALS, "the user name or password is not valid Unicode", stage="auth") from None

    @property
    @abc.abstractmethod
    def complete(self) -> bool:
        """Whether everything that the mechanism has to say was asked for."""

    def initial(self) -> bytes | None:
        """The response to send before the server asks, or None if the mechanism lets the server begin."""
        return None

    @abc.abstractmethod
    def respond(self, challenge: bytes) -> bytes:
        """The answer to *challenge*. Raises :class:`SmtpError` if the mechanism has nothing more to say."""


class Plain(Mechanism):
    """The authorisation identity is left empty: the server derives it from the user name."""

    name = "PLAIN"

    def __init__(self, username: str, password: str) -> None:
        super().__init__(username, password)
        self._answered = False

    @property
    def complete(self) -> bool:
        return self._answered

    def initial(self) -> bytes:
        self._answered = True
        return b"\0" + self._username + b"\0" + self._password

    def respond(self, challenge: bytes) -> bytes:
        if self._answered:
            raise _asked_too_much(self.name)
        return self.initial()


class Login(Mechanism):
    """User name, then password. The prompts differ between servers, so their text is ignored, as the draft says."""

    name = "LOGIN"

    def __init__(self, username: str, password: str) -> None:
        super().__init__(username, password)
        self._answers = [self._username, self._password]

    @property
    def complete(self) -> bool:
        return not self._answers

    def respond(self, challenge: bytes) -> bytes:
        if not self._answers:
            raise _asked_too_much(self.name)
        return self._answers.pop(0)


MECHANISMS: dict[str, type[Mechanism]] = {cls.name: cls for cls in (Plain, Login)}
"""What is implemented, best first."""


def choose(wanted: str, offered: t.Sequence[str]) -> type[Mechanism]:
    """The one mechanism to use: *wanted* (any case), or the best that the server offers for ``auto``.

    Raises :class:`SmtpError` if the server does not offer it. Nothing else is ever tried in its place.
    """
    for name, mechanism in MECHANISMS.items():
        if name in offered and wanted.upper() in (name, "AUTO"):
            return mechanism
    asked = "PLAIN or LOGIN" if wanted.upper() == "AUTO" else wanted.upper()
    raise SmtpError(Kind.NO_MECHANISM, f"the server does not offer {asked}", stage="auth")


def _asked_too_much(name: str) -> SmtpError:
    return SmtpError(Kind.CHALLENGE, f"the server asks for more than {name} has to send", stage="auth")
