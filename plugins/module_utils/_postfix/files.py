# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Writing files so that a reader, or a machine that loses power, sees the old or the new content and nothing between."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import struct
import time
import typing as t

#: Seconds by which files are made older. A file of the last two seconds may still be being written, so whatever program of
#: Postfix reads it waits (dict_load_file_xt() in its util/dict.c). Ours are complete when they get their name.
_COOL = 3.0

#: FS_IOC_GETFLAGS of linux/fs.h, and the flags that chattr(1) calls i and a.
_GET_FLAGS, _IMMUTABLE, _APPEND_ONLY = 0x80086601, 0x10, 0x20


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
        written = time.time() - _COOL
        os.utime(descriptor, (written, written))
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


def try_replacing(path: str, content: bytes) -> None:
    """Find out whether replace_file() can exchange the content of ``path``, and leave it as it is. Raises OSError.

    The content is written beside it, which takes the right to do so and the space. A file that is marked immutable, or
    is a mount point of its own, can not be renamed over; it can not be given a second name either (rename(2), link(2)).
    """
    target = os.path.realpath(path)
    temporary = temporary_name(target)
    try:
        remove_tree(temporary)
        create_file(temporary, content, 0o600)
        os.unlink(temporary)
        if os.path.exists(target):
            _try_second_name(target, temporary)
    except OSError as error:
        raise OSError(error.errno, error.strerror, target) from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _try_second_name(target: str, name: str) -> None:
    try:
        os.link(target, name)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise OSError(errno.EBUSY, "it is a mount point of its own") from None
        if _is_fixed(target):
            raise OSError(errno.EPERM, "it is marked as immutable or append-only (chattr -i or -a allows it)") from None
        # Else a file system that knows no second names.


def _is_fixed(path: str) -> bool:
    """Whether a file is marked immutable or append-only."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        flags = struct.unpack("l", fcntl.ioctl(descriptor, _GET_FLAGS, struct.pack("l", 0)))[0]
    except OSError:
        return False  # a file system without such flags
    finally:
        os.close(descriptor)
    return bool(flags & (_IMMUTABLE | _APPEND_ONLY))


def temporary_name(target: str) -> str:
    """The one name used beside ``target``, so that what a killed run left there is found again."""
    return os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.outpost_smtp")


def _copy_attributes(source: str, target: str) -> None:
    for name in os.listxattr(source):
        with contextlib.suppress(OSError):  # not every label may be set by everybody; the kernel gives a default one
            os.setxattr(target, name, os.getxattr(source, name))


def is_own(path: str, mode: int) -> bool:
    """Whether there is a regular file of ours with exactly this mode, and under no other name (link(2)). Raises OSError."""
    status = os.lstat(path)
    ours = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == os.geteuid()
    return ours and stat.S_IMODE(status.st_mode) == mode


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
