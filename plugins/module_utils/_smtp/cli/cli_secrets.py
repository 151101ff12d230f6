# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the command line takes its secrets from: a file, the environment, or a prompt. Never from its arguments."""

from __future__ import annotations

import os
import sys
import typing as t

MAX_SIZE = 65536
"""Octets of a file that are read; the largest access tokens are a tenth of it."""


class SecretError(ValueError):
    """A secret can not be had; ``str()`` names the option or variable and holds no part of the secret."""


class Source(t.NamedTuple):
    """*path* is what the user gave as *option* (``-`` is standard input), *variable* is one of the environment."""

    option: str
    path: t.Optional[str]
    variable: str
    prompt: str


def read_secret(source: Source) -> str:
    """The secret from the first of *source* that is there: file, environment, prompt. Raises :class:`SecretError`."""
    if source.path is not None:
        return _read(source.option, source.path)
    # Taken out of the environment, so that no child process inherits it.
    given = os.environ.pop(source.variable, None)
    return given if given is not None else _ask(source)


def _read(option: str, path: str) -> str:
    """The text of the file *path*, without one line end after it."""
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(MAX_SIZE + 1)
        else:
            with open(path, "rb") as file:
                raw = file.read(MAX_SIZE + 1)
    except OSError as exc:
        raise SecretError(f"{option}: {exc.strerror}") from None
    if len(raw) > MAX_SIZE:
        raise SecretError(f"{option}: is larger than {MAX_SIZE} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise SecretError(f"{option}: is not text in UTF-8") from None  # "from None": the exception holds the text
    for end in ("\r\n", "\n"):
        if text.endswith(end):
            return text[: -len(end)]
    return text


def _ask(source: Source) -> str:
    """Ask at the terminal. Without one, getpass would read standard input, and wait for it."""
    missing = SecretError(f"{source.option} or the environment variable {source.variable} is needed: there is no terminal to ask at")
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise missing from None
    import getpass  # most runs do not ask

    try:
        return getpass.getpass(source.prompt)
    except EOFError:
        raise missing from None
