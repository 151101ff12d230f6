# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the collection and may change at any time.

"""What a place where mail arrives has to offer to a round trip."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._mail.message import Header


class MailboxError(Exception):
    """The mailbox can not be used. The text is one sentence without secrets: what was seen."""


class MessageRefused(MailboxError):
    """The message will not arrive. The text goes on after "message ID"."""


class Arrived(t.NamedTuple):
    """A message found in a mailbox. `place` is the reader's own reference to it.

    `queue_ids` are those that this host's mail server gave it, where the reader knows them; from a header they are read later.
    """

    folder: str
    header: Header
    place: t.Any
    queue_ids: t.FrozenSet[str] = frozenset()


class Mailbox(t.Protocol):
    """A mailbox that was opened before the message was sent, so that only what comes later is read.

    Every method but close() may raise MailboxError.
    """

    def open(self) -> None:
        """Log in and remember what is there already."""

    def poll(self, token: str) -> t.Optional[Arrived]:
        """Look once at what is new; return the message whose header carries exactly `token`."""

    def remove(self, arrived: Arrived) -> None:
        """Delete that message and no other."""

    def close(self) -> None:
        """Give everything back. Never raises."""
