# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Small text files of ours on the host: read, replaced in one step, removed."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError


def read(path: str) -> t.Optional[str]:
    """The text of a file; None when there is none. Bytes that are no UTF-8 are replaced, so they compare as different."""
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EgressError(f"{path} can not be read: {error.strerror}") from None


def read_bytes(path: str) -> t.Optional[bytes]:
    """The content of a file; None when there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EgressError(f"{path} can not be read: {error.strerror}") from None


class Staged:
    """A text written beside its place, to be moved there by :meth:`commit`. What can fail, fails before.

    The temporary file lies in the same directory, so the move is one step and the file gets the SELinux type that new
    files have there. Its name is always the same, so that what a killed run leaves behind is replaced by the next one.
    Used as a context manager; left without a commit, nothing has changed.
    """

    def __init__(self, path: str, content: t.Union[str, bytes]) -> None:
        self.path = path
        self._content = content.encode() if isinstance(content, str) else content
        self._temporary = _temporary(path)

    def __enter__(self) -> Staged:
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
            _unlink(self._temporary)
            handle = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            with os.fdopen(handle, "wb") as file:
                file.write(self._content)
                file.flush()
                os.fchmod(handle, 0o644)
                os.fsync(handle)
        except OSError as error:
            self._discard()
            raise EgressError(f"{self.path} can not be written: {error.strerror}; nothing was changed") from None
        return self

    def commit(self) -> None:
        try:
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise EgressError(f"{self.path} can not be written: {error.strerror}") from None

    def __exit__(self, *_exception: t.Any) -> None:
        self._discard()

    def _discard(self) -> None:
        with contextlib.suppress(OSError):
            _unlink(self._temporary)


def write(path: str, content: t.Union[str, bytes]) -> None:
    with Staged(path, content) as staged:
        staged.commit()


def remove(path: str) -> None:
    """Remove a file, and what a killed run may have left of it."""
    try:
        _unlink(path)
        _unlink(_temporary(path))
    except OSError as error:
        raise EgressError(f"{path} can not be removed: {error.strerror}") from None


def remove_directory(path: str) -> None:
    """Remove a directory if it is empty."""
    with contextlib.suppress(OSError):
        os.rmdir(path)


def _temporary(path: str) -> str:
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.new")


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
