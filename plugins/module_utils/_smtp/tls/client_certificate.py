# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The certificate and the key by which this host shows who it is, and files that are read before rights are given up."""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError

_MAX_FILE = 1 << 22
_kept: dict[str, bytes] = {}


def read_now(paths: t.Iterable[str]) -> dict[str, bytes]:
    """What is in those of the files *paths* that can be read; what is wrong with the others, load() will say."""
    found = {}
    for path in paths:
        with contextlib.suppress(SmtpError):
            found[path] = _read(path)
    return found


def keep(files: t.Mapping[str, bytes]) -> None:
    """Let load() and readable() take these contents, by path, in a process that may be unable to read the files."""
    _kept.update(files)


def load(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    """Load the PEM files *certificate* and *key* (None: it is in the same file) into *context*.

    Raises :class:`SmtpError` (``client_certificate``), which names the file and what is wrong with it.
    """
    key = key or certificate
    if b"-----BEGIN CERTIFICATE-----" not in _read(certificate):
        raise _error(certificate, "holds no certificate in PEM form")
    if b"PRIVATE KEY-----" not in _read(key):
        raise _error(key, "holds no private key in PEM form")
    try:
        with readable(certificate) as certificate_file, readable(key) as key_file:
            context.load_cert_chain(certificate_file, key_file, password=_no_password)
    except _Encrypted:
        raise _error(key, "holds an encrypted private key, which can not be used here") from None
    except ssl.SSLError as exc:
        if exc.reason == "KEY_VALUES_MISMATCH":
            raise _error(key, f"holds a private key that does not belong to the certificate in {certificate}", exc.reason) from exc
        what = "the certificate or the key in it" if key == certificate else f"it, or the private key in {key},"
        raise _error(certificate, f"can not be used: {what} is damaged or not accepted ({exc.reason})", exc.reason or "") from exc


class _Encrypted(Exception):
    """The key is encrypted."""


def _no_password() -> t.NoReturn:
    """Without a password callback, OpenSSL asks on the terminal and waits for the answer."""
    raise _Encrypted


@contextlib.contextmanager
def readable(path: str) -> t.Iterator[str]:
    """A path that OpenSSL can read; what was kept of a file is given a name that no other process can use."""
    if path not in _kept:
        yield path
        return
    with os.fdopen(os.memfd_create("client_certificate"), "wb") as memory:
        memory.write(_kept[path])
        memory.flush()
        yield f"/proc/self/fd/{memory.fileno()}"


def _read(path: str) -> bytes:
    if path in _kept:
        return _kept[path]
    try:
        kind = os.stat(path).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise _error(path, "is no regular file")  # reading a named pipe may never end
        with open(path, "rb") as stream:
            return stream.read(_MAX_FILE)
    except OSError as exc:
        raise _error(path, exc.strerror or "can not be read", errno=exc.errno) from exc


def _error(path: str, cause: str, reason: str = "", errno: int | None = None) -> SmtpError:
    separator = ":" if errno else ""
    return SmtpError(Kind.CLIENT_CERTIFICATE, f"{path}{separator} {cause}", stage="tls", reason=reason, errno=errno)
