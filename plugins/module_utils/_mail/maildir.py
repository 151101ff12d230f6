# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the collection and may change at any time.

"""A Maildir on this host (https://cr.yp.to/proto/maildir.html), with the junk folders of Maildir++ below it."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._mail.mailbox import Arrived, MailboxError
from ansible_collections.outpost.smtp.plugins.module_utils._mail.message import MAX_HEADER_BYTES, Header, read_header

_JUNK_FOLDERS = (".Junk", ".Spam")
# A message in tmp/ is still being written.
_SUBDIRECTORIES = ("new", "cur")
# O_NONBLOCK: opening a FIFO that somebody put there must not wait for a writer.
_OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Maildir:
    """Reads the files that appear in new/ and cur/ after open()."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._folders: t.Dict[str, str] = {}
        # A file keeps the part of its name before ":" when it moves from new/ to cur/ or changes its flags.
        self._known: t.Set[str] = set()

    def open(self) -> None:
        """Remember the messages that are there; raise MailboxError where `path` is no readable Maildir."""
        self._folders = {"INBOX": self._path}
        for name in _JUNK_FOLDERS:
            if os.path.isdir(os.path.join(self._path, name, "new")):
                self._folders[name[1:]] = os.path.join(self._path, name)
        for folder in self._folders:
            self._known.update(_unique(path) for path in self._files(folder))

    def poll(self, token: str) -> t.Optional[Arrived]:
        """Read the header of each new file once."""
        for folder in self._folders:
            for path in self._files(folder):
                if _unique(path) in self._known:
                    continue
                header = _read(path)
                if header is None:
                    continue  # gone, moved or not readable: the next poll looks again
                if header.token == token:
                    return Arrived(folder, header, path)
                self._known.add(_unique(path))
        return None

    def remove(self, arrived: Arrived) -> None:
        """Delete the message, also where a mail program has moved it since it was found."""
        for path in (arrived.place, *self._files(arrived.folder)):
            if _unique(path) == _unique(arrived.place) and _unlink_message(path, arrived.header.token):
                return
        raise MailboxError(f"{arrived.place} is gone, somebody else has moved or deleted it")

    def close(self) -> None:
        """Nothing is held open."""

    def _files(self, folder: str) -> t.List[str]:
        paths: t.List[str] = []
        for name in _SUBDIRECTORIES:
            directory = os.path.join(self._folders[folder], name)
            try:
                paths += [os.path.join(directory, entry) for entry in os.listdir(directory) if not entry.startswith(".")]
            except OSError as exc:
                raise MailboxError(f"the directory {directory} can not be read: {exc.strerror}") from exc
        return paths


def _unique(path: str) -> str:
    return os.path.basename(path).partition(":")[0]


def _unlink_message(path: str, token: t.Optional[str]) -> bool:
    """Delete the file if it is the message with `token`; whether it was.

    One descriptor of the directory serves both steps, so that its owner can not put another directory in its place in
    between, and have a file of that name deleted elsewhere.
    """
    directory, name = os.path.split(path)
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        header = _read(name, descriptor)
        if header is None or header.token != token:
            return False
        os.unlink(name, dir_fd=descriptor)
        return True
    except OSError as exc:
        raise MailboxError(f"{path} could not be deleted: {exc.strerror}") from exc
    finally:
        os.close(descriptor)


def _read(path: str, directory: t.Optional[int] = None) -> t.Optional[Header]:
    """Read the header of a message file, below an open directory if given; None where that is not possible."""
    try:
        descriptor = os.open(path, _OPEN_FLAGS, dir_fd=directory)
    except OSError:
        return None
    try:
        return read_header(os.read(descriptor, MAX_HEADER_BYTES))
    except OSError:
        return None
    finally:
        os.close(descriptor)
