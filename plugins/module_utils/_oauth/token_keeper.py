# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Keeps a valid access token for one relay: when to ask for a new one, and what to do while there is none to be had."""

from __future__ import annotations

import random
import threading
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._oauth import stored_token, token_endpoint
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.settings import OAuthError, RelaySettings
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.stored_token import Stored

FIRST_RETRY, LAST_RETRY = 15.0, 900.0
"""Seconds after a failure; the wait doubles from the first to the last."""
JITTER = 0.2
"""Part of each wait by which it is shortened at random, so that the hosts of a fleet do not ask all at once."""
AFTER_REFUSAL = 300.0
"""Seconds between two new tokens that are asked for because the server refused the one before."""
LOOK_AGAIN = 60.0
"""Seconds until the next look at the clock, which may be set at any time, as some minutes after a boot."""

Request = t.Callable[[RelaySettings, t.Optional[str]], token_endpoint.Grant]
Log = t.Callable[[str], None]


class TokenKeeper:
    """The token of one relay. ``token`` and ``refused`` are for any thread, ``renew``, ``step`` and ``run`` for one."""

    def __init__(
        self,
        relay: RelaySettings,
        directory: str,
        log: Log,
        request: Request = token_endpoint.request,
        now: t.Callable[[], float] = time.time,
        chance: t.Callable[[], float] = random.random,
    ) -> None:
        """Takes up what is stored in ``directory``. Raises OAuthError."""
        self._relay, self._log, self._request, self._now, self._chance = relay, log, request, now, chance
        self._path = stored_token.path_of(directory, relay)
        self._stored = stored_token.load(self._path)
        self._saved = True
        self._failures = 0
        self._error = "no access token was fetched yet"
        self._asked_after_refusal = float("-inf")
        self._lock = threading.Lock()
        self._wake = threading.Event()

    def token(self) -> str:
        """The current token. Raises OAuthError where there is none that is still valid."""
        with self._lock:
            if not self._stored.access_token or self._stored.expires <= self._now():
                raise OAuthError(f"there is no valid access token: {self._error}")
            return self._stored.access_token

    def refused(self, token: str) -> None:
        """The server did not take this token. It may have been revoked, so a new one is fetched early."""
        with self._lock:
            if token != self._stored.access_token or 0 <= self._now() - self._asked_after_refusal < AFTER_REFUSAL:
                return
            self._asked_after_refusal = self._now()
            self._stored = self._stored._replace(lifetime=0.0)
        self._wake.set()

    def due(self) -> bool:
        """Whether half of the token's life is over, so that the other half is left for retries."""
        return self._now() >= self._stored.expires - self._stored.lifetime / 2 or not self._stored.lifetime

    def renew(self) -> None:
        """Fetch a token and store it. Raises OAuthError; the token in use then stays."""
        # From disk, since who tried new settings out may have exchanged the refresh token.
        current = stored_token.load(self._path) if self._saved else self._stored
        grant = self._request(self._relay, current.refresh_token or self._relay.refresh_token)
        with self._lock:
            self._stored = Stored(grant.access_token, grant.expires, grant.lifetime, grant.refresh_token or current.refresh_token)
            self._saved = False
        self._save()

    def _save(self) -> None:
        """Store what is in use, be it later: the endpoint may take no refresh token but the one that it gave last."""
        stored_token.save(self._path, self._stored)
        self._saved = True

    def run(self, stop: threading.Event) -> None:
        """Keep the token fresh until ``stop`` is set and ``wake`` was called."""
        while not stop.is_set():
            wait = self.step()
            self._wake.wait(wait if self._failures else min(wait, LOOK_AGAIN))
            self._wake.clear()

    def wake(self) -> None:
        self._wake.set()

    def step(self) -> float:
        """Fetch a token if one is due, and return the seconds until the next look."""
        if self.due() or not self._saved:
            try:
                (self.renew if self.due() else self._save)()
            except OAuthError as error:
                return self._failed(str(error))
            if self._failures:
                self._log(f"{self._relay.name}: there is an access token again")
            self._failures = 0
        return self._shortened(max(1.0, self._stored.expires - self._stored.lifetime / 2 - self._now()))

    def _failed(self, error: str) -> float:
        wait = self._shortened(min(LAST_RETRY, FIRST_RETRY * 2 ** min(self._failures, 10)))
        self._failures += 1
        self._error = error
        left = self._stored.expires - self._now()
        rest = f"the one in use is valid for {left:.0f} more seconds" if left > 0 else "mail for this relay waits in the queue"
        self._log(f"{self._relay.name}: {error}; {rest}, next attempt in {wait:.0f} seconds")
        return wait

    def _shortened(self, wait: float) -> float:
        return wait * (1 - JITTER * self._chance())
