# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Secrets that are on the managed host already: in a file, or as a credential of systemd.

A plain file must be for its owner alone. A credential is looked up by name where systemd.exec(5), "LoadCredential=",
looks for it; an encrypted one is decrypted by systemd-creds(1), which systemd has since version 250. Messages name the
field and the file and never show what is in it.
"""

from __future__ import annotations

import os
import re
import stat
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import RelayError, credential_fault

MAX_SECRET = 65536
"""Octets that a secret may have; many more than any server takes."""
PLAIN_DIRECTORIES = ("/etc/credstore", "/run/credstore", "/usr/lib/credstore")
ENCRYPTED_DIRECTORIES = ("/etc/credstore.encrypted", "/run/credstore.encrypted", "/usr/lib/credstore.encrypted")

_MAX_ENCRYPTED = 4 * MAX_SECRET
_DECRYPT_TIMEOUT = 30.0
"""Seconds; a TPM is slow."""
_PROGRAM_PATH = "/usr/bin:/bin:/usr/local/bin"
_CREDENTIAL_NAME = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9_.@-]{1,255}\Z")


def with_password(entry: t.Dict[str, t.Any], place: str) -> t.Dict[str, t.Any]:
    """Return *entry* with the ``password`` that its ``password_file`` or ``password_credential`` leads to, if it has one of them.

    *place* is what messages call the entry. Raises :class:`RelayError`.
    """
    if entry.get("password_file") is not None:
        return {**entry, "password": read_file(entry["password_file"], f"{place}.password_file")}
    if entry.get("password_credential") is not None:
        return {**entry, "password": read_credential(entry["password_credential"], f"{place}.password_credential")}
    return entry


def read_file(path: str, field: str) -> str:
    """Return the secret in a file, without the one line break at its end. Raises :class:`RelayError` for *field*."""
    content = _content(path, field, MAX_SECRET, private=True)
    if content is None:
        raise RelayError(field, f"{path} does not exist on this host")
    return _secret(content, path, field)


def read_credential(name: str, field: str) -> str:
    """Return the secret in a credential of systemd. Raises :class:`RelayError` for *field*."""
    check_credential_name(name, field)
    for directory in PLAIN_DIRECTORIES:
        path = os.path.join(directory, name)
        content = _content(path, field, MAX_SECRET, private=True)
        if content is not None:
            return _secret(content, path, field)
    for directory in ENCRYPTED_DIRECTORIES:
        path = os.path.join(directory, name)
        if _content(path, field, _MAX_ENCRYPTED, private=False) is not None:
            return _secret(_decrypted(name, path, field), path, field)
    searched = ", ".join((*PLAIN_DIRECTORIES, *ENCRYPTED_DIRECTORIES))
    raise RelayError(field, f"there is no credential {name!r} on this host, in any of {searched}")


def check_credential_name(name: str, field: str) -> None:
    """Refuse a name that could lead out of the directories. Raises :class:`RelayError` for *field*."""
    if not _CREDENTIAL_NAME.match(name):
        raise RelayError(field, "must be the name of a credential: 1 to 255 of a-z, A-Z, 0-9, '_', '-', '.' and '@'")


def _content(path: str, field: str, limit: int, private: bool) -> t.Optional[bytes]:
    """The content of a regular file of at most *limit* octets, None if there is none. *private*: it must be its owner's alone."""
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for somebody to write into it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RelayError(field, f"{path} can not be read: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise RelayError(field, f"{path} is not a regular file")
        if private:
            _check_owner(path, status, field)
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise RelayError(field, f"{path} is longer than {limit} octets, so it is no secret")
    return content


def _check_owner(path: str, status: os.stat_result, field: str) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise RelayError(field, f"{path} belongs to user {status.st_uid}, who could exchange the secret; give it to root")
    if status.st_mode & 0o077:
        raise RelayError(field, f"{path} is open to others than its owner (mode {stat.S_IMODE(status.st_mode):04o}); use chmod 600")


def _decrypted(name: str, path: str, field: str) -> bytes:
    # Imported here: few have an encrypted credential, and the login test does not wait for them.
    import shutil
    import subprocess

    program = shutil.which("systemd-creds", path=_PROGRAM_PATH)
    if program is None:
        raise RelayError(field, f"{path} is encrypted, and this host has no systemd-creds to decrypt it (systemd 250 or newer)")
    try:
        # pylint: disable-next=ansible-bad-function  # run_command belongs to AnsibleModule, which this package does not know
        result = subprocess.run(
            [program, "decrypt", f"--name={name}", path, "-"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_DECRYPT_TIMEOUT,
            env={"LC_ALL": "C", "PATH": _PROGRAM_PATH},
        )
    except subprocess.TimeoutExpired:
        raise RelayError(field, f"systemd-creds did not decrypt {path} within {_DECRYPT_TIMEOUT:.0f} seconds") from None
    except OSError as error:
        raise RelayError(field, f"systemd-creds does not start: {error.strerror}") from None
    if result.returncode != 0:
        said = result.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit code {result.returncode}"]
        raise RelayError(field, f"systemd-creds does not decrypt {path}: {said[0][:200]}")
    return result.stdout


def _secret(content: bytes, path: str, field: str) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise RelayError(field, f"{path} is not text in UTF-8") from None
    secret = text[:-1] if text.endswith("\n") else text
    fault = credential_fault(secret)
    if len(content) > MAX_SECRET:
        fault = f"is longer than {MAX_SECRET} octets"
    if fault:
        raise RelayError(field, f"what is in {path} {fault}")
    return secret
