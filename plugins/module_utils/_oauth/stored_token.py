# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The token of one relay on disk, so that a restart needs no endpoint and a refresh token that was exchanged is not lost."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._oauth.settings import OAuthError, RelaySettings

_LONGEST = 1 << 20
"""Characters that are read; two tokens have some 2000 each."""


class Stored(t.NamedTuple):
    """What is known of the token of a relay."""

    access_token: t.Optional[str] = None
    expires: float = 0.0  #: seconds since the epoch
    lifetime: float = 0.0  #: seconds that it was issued for
    refresh_token: t.Optional[str] = None  #: what the endpoint gave in exchange for the one in the settings

    def __repr__(self) -> str:
        return "Stored(...)"


def path_of(directory: str, relay: RelaySettings) -> str:
    """The file of a relay's token. Another grant has another file, so that the old one stays until the new one is in use."""
    return os.path.join(directory, f"{relay.name}.{relay.grant[:16]}.json")


def load(path: str) -> Stored:
    """Return what is stored; nothing where there is no file, or one that is damaged. Raises OAuthError."""
    try:
        # Root reads it, too, and must not wait for ever for what another program of the user has put there.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, encoding="utf-8") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OAuthError(f"{path} is no regular file")
            stored = Stored(**json.loads(file.read(_LONGEST)))
    except FileNotFoundError:
        return Stored()
    except OSError as error:
        raise OAuthError(f"{path} can not be read: {error.strerror}") from None
    except (ValueError, TypeError, RecursionError):
        return Stored()
    texts = all(isinstance(text, (str, type(None))) for text in (stored.access_token, stored.refresh_token))
    return stored if texts and all(isinstance(number, (int, float)) for number in (stored.expires, stored.lifetime)) else Stored()


def save(path: str, stored: Stored) -> None:
    """Write durably, by a rename: what was stored before stays until this is on disk. Raises OAuthError."""
    temporary = f"{path}.new"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(stored._asdict(), file)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, path)
        directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise OAuthError(f"the token can not be stored in {path}: {error.strerror}") from None


def remove_others(directory: str, relays: t.Sequence[RelaySettings]) -> None:
    """Remove the tokens of grants that are no longer in the settings."""
    known = {path_of(directory, relay) for relay in relays}
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if path not in known:
            with contextlib.suppress(OSError):
                os.unlink(path)
