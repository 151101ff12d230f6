# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SASL mechanisms that only send what they have: PLAIN (RFC 4616), LOGIN and EXTERNAL (RFC 4422 appendix A).

LOGIN has no standard; what servers do is written down in draft-murchison-sasl-login. None of them prepares what it
sends: that is the server's part (RFC 4616 section 2).
"""

from __future__ import annotations

import re

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.sasl_mechanism import CERTIFICATE, Connection, Mechanism

_PASSWORD_PROMPT = re.compile(rb"\s*pass", re.IGNORECASE)
_USERNAME_PROMPT = re.compile(rb"\s*user", re.IGNORECASE)


class Plain(Mechanism):
    """The authorisation identity is left empty: the server derives it from the user name."""

    name = "PLAIN"
    reads_challenges = False
    _answered = False

    @property
    def complete(self) -> bool:
        return self._answered

    def initial(self) -> bytes:
        self._answered = True
        return b"\0" + self._username + b"\0" + self._password

    def respond(self, challenge: bytes) -> bytes:
        if self._answered:
            raise self._asked_too_much()
        return self.initial()


class Login(Mechanism):
    """User name, then password. Prompts differ between servers, so only one that clearly asks for the other is refused."""

    name = "LOGIN"
    reads_challenges = False

    def __init__(self, credentials: Credentials, connection: Connection = Connection()) -> None:  # noqa: B008  # immutable
        super().__init__(credentials, connection)
        self._answers = [(_PASSWORD_PROMPT, "password", self._username), (_USERNAME_PROMPT, "user name", self._password)]

    @property
    def complete(self) -> bool:
        return not self._answers

    def respond(self, challenge: bytes) -> bytes:
        if not self._answers:
            raise self._asked_too_much()
        wrong_prompt, asked, answer = self._answers.pop(0)
        if wrong_prompt.match(challenge):
            raise self._error(Kind.CHALLENGE, f"the server asks for the {asked} where {self.name} sends the other one")
        return answer


class External(Mechanism):
    """The client certificate says who logs in; the user name, if any, as whom (the authorisation identity)."""

    name = "EXTERNAL"
    needs = CERTIFICATE
    reads_challenges = False
    _answered = False

    @property
    def complete(self) -> bool:
        return self._answered

    def initial(self) -> bytes:
        self._answered = True
        return self._username

    def respond(self, challenge: bytes) -> bytes:
        raise self._asked_too_much()
