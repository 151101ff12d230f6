# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""The users that rules and proofs speak of, by their numbers."""

from __future__ import annotations

import pwd
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import state
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.request import Request
from ansible_collections.outpost.smtp.plugins.module_utils._egress.ruleset import Users


def of(request: Request, *, check_mode: bool) -> Users:
    """The user ids that the rules speak of; a rule set without users needs none to exist."""
    user = _id(request.user, check_mode) if "@uid:user@" in request.text else None
    exempt = [_id(name, check_mode) for name in request.exempt_users] if "@uid:exempt_users@" in request.text else []
    return Users(user, [uid for uid in exempt if uid is not None])


def sender(request: Request) -> int:
    """As whom packets are sent: the mail server's user, root where there is none yet."""
    return next((name for name in spellings(request.user) if isinstance(name, int)), 0)


def mail_server(root: str = "") -> t.Optional[str]:
    """The mail server's user, as the last run on this host was told; None where there was none, or it has no such user.

    Who tests a login does so as this user, or the answer would be about root (whose connections rules may treat differently).
    """
    try:
        request = state.load(root).request
        known = request is not None and pwd.getpwnam(request.user).pw_uid != 0
    except (EgressError, KeyError, ValueError):
        return None
    return request.user if request is not None and known else None


def kept_in(request: Request) -> bool:
    """Whether the rule set keeps everybody but the mail server's user from sending."""
    return "@uid:user@" in request.text and "reject" in request.text


def let_out(request: Request) -> t.Set[int]:
    """The users whom it lets out: the mail server's, and the exempt ones."""
    return {uid for name in (request.user, *request.exempt_users) for uid in spellings(name) if isinstance(uid, int)}


def spellings(user: str) -> t.Tuple[t.Union[int, str], ...]:
    """A user as nft may list it: by name and, where the user exists, by id."""
    try:
        return user, pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError):
        return (user,)


def _id(name: str, check_mode: bool) -> t.Optional[int]:
    """The id of a user; None for a user yet to come, which only check mode accepts."""
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        if check_mode:
            return None
        raise EgressError(
            f"user {name!r} does not exist on this host; install the mail server first, or name another user"
        ) from None
