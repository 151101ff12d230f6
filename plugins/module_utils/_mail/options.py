# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the collection and may change at any time.

"""What is refused in the options of a round trip before anything is sent."""

from __future__ import annotations

import typing as t
import unicodedata

from ansible_collections.outpost.smtp.plugins.module_utils._mail.message import is_address


class OptionError(ValueError):
    """The text names the option and what is wrong with it, and never shows a value."""


def check_addresses(sender: str, recipient: str) -> None:
    """Refuse what is no plain mail address, and so everything that could end a command or a header field early."""
    for option, value in (("sender", sender), ("recipient", recipient)):
        if not is_address(value):
            raise OptionError(f"{option}: must be one plain mail address in ASCII, such as alerts@example.net")


def check_mailbox(mailbox: t.Mapping[str, t.Any]) -> None:
    """Refuse texts that IMAP or the file system would read in another way than meant."""
    for field, value in mailbox.items():
        if isinstance(value, str) and (not value or _has_control_character(value)):
            raise OptionError(f"mailbox.{field}: is empty or holds a line break or another control character")
    for field in ("path", "ca_file"):
        if mailbox.get(field) and not mailbox[field].startswith("/"):
            raise OptionError(f"mailbox.{field}: must be an absolute path on the managed host")
    if mailbox["type"] == "imap":
        if mailbox["port"] is not None and not 1 <= mailbox["port"] <= 65535:
            raise OptionError("mailbox.port: must be a number from 1 to 65535")
        if not mailbox["folder"].isascii():
            raise OptionError("mailbox.folder: must be written as the server lists it: in modified UTF-7 (RFC 3501 5.1.3)")


def _has_control_character(value: str) -> bool:
    # Cc: control characters, Cs: halves of a surrogate pair (not encodable), Zl and Zp: line and paragraph separators
    return any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in value)
