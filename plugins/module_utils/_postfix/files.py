# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Writing files so that a reader, or a machine that loses power, sees the old or the new content and nothing between."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import typing as t


def sync_directory(path: str) -> None:
    """Make creations, renames and removals in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_file(path: str, content: bytes, mode: int) -> None:
    """Create a file that must not exist, with ``mode`` from its first byte on, and make its content durable."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode & 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fchmod(descriptor, mode)  # the umask may have taken bits away
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: str, content: bytes, new_mode: int) -> None:
    """Exchange the content of ``path`` by a rename; a link is followed, so that the file it points to is exchanged.

    Owner, mode and extended attributes (SELinux label, ACL) stay; ``new_mode`` is for a file that did not exist.
    """
    target = os.path.realpath(path)
    temporary = temporary_name(target)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # of a run that was killed
    try:
        before: t.Optional[os.stat_result] = os.stat(target)
    except FileNotFoundError:
        before = None
    try:
        create_file(temporary, content, 0o600 if before else new_mode)
        if before:
            os.chown(temporary, before.st_uid, before.st_gid)
            _copy_attributes(target, temporary)
            os.chmod(temporary, stat.S_IMODE(before.st_mode))
        os.rename(temporary, target)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(os.path.dirname(target))


def temporary_name(target: str) -> str:
    """The one name used beside ``target``, so that what a killed run left there is found again."""
    return os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.outpost_smtp")


def _copy_attributes(source: str, target: str) -> None:
    for name in os.listxattr(source):
        with contextlib.suppress(OSError):  # not every label may be set by everybody; the kernel gives a default one
            os.setxattr(target, name, os.getxattr(source, name))


def read_file(path: str) -> t.Optional[bytes]:
    """Return the content of a file, or None when there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def remove_tree(path: str) -> None:
    """Remove a file or a directory, if there is one."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
