# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One attempt for each credential at each host, whatever its ports, however many tests of a run would send it.

Several relays may be one account: a relay and its fall-back, senders that share a credential, other settings for the same
server. A wrong password would be tried once for each of them at the same time, which is what locks accounts.
"""

from __future__ import annotations

import threading
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials

_Key = t.Tuple[str, Credentials]


class SentElsewhere(SmtpError):
    """What came of the login in another test of this run. This one sent nothing."""

    def __init__(self, failed: SmtpError) -> None:
        super().__init__(failed.kind, failed.message)
        self.__dict__.update(failed.__dict__)


class _Account:
    """What is known of one credential at one host. *lock* is held by the test that tries it first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.accepted = False
        self.failed: SmtpError | None = None


class Logins:
    """Shared by the tests of one run, which call it from threads of their own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[_Key, _Account] = {}

    def log_in(self, client: Client, credentials: Credentials, attempt: t.Callable[[], Reply]) -> Reply:
        """What *attempt* returns, which logs *client* in; as long as nobody has seen the credential fail.

        While nobody knows whether it is good, one test tries it and the others wait. Raises :class:`SmtpError`, and
        :class:`SentElsewhere` for what another test saw.
        """
        if credentials.password is None and credentials.access_token is None:
            return attempt()  # by certificate: nothing was sent that could be wrong
        account = self._account((client.host, credentials))
        if not account.accepted:
            client.stage = "auth"
            if not account.lock.acquire(timeout=client.deadline.remaining()):
                raise SentElsewhere(client.error(Kind.TIMEOUT, "the server did not answer in time"))
            try:
                if account.failed is not None:
                    raise SentElsewhere(account.failed)
                if not account.accepted:
                    return self._first(account, client, attempt)
            finally:
                account.lock.release()
        return attempt()

    @staticmethod
    def _first(account: _Account, client: Client, attempt: t.Callable[[], Reply]) -> Reply:
        try:
            reply = attempt()
        except SmtpError as exc:
            if client.auth_sent:
                account.failed = exc
            raise
        account.accepted = True
        return reply

    def _account(self, key: _Key) -> _Account:
        with self._lock:
            return self._accounts.setdefault(key, _Account())
