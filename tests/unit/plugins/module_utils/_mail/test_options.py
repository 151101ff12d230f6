# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused before anything is sent, and by which name."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._mail.options import OptionError, check_addresses, check_mailbox

IMAP: t.Dict[str, t.Any] = {
    "type": "imap", "host": "imap.example.net", "port": 993, "tls": "implicit", "username": "inbox", "password": "s3cret",
    "ca_file": None, "folder": "INBOX", "path": None,
}  # fmt: skip


def test_what_is_right_passes() -> None:
    check_addresses("alerts@example.net", "inbox@example.net")
    check_mailbox(IMAP)
    check_mailbox({**IMAP, "port": None, "password": " ü\"\\'{5}*% ", "ca_file": "/etc/ssl/ca.pem"})
    check_mailbox({"type": "maildir", "path": "/home/a b/Maildir", "folder": "INBOX", "port": None})


@pytest.mark.parametrize("bad", ["a@example.net\r\nRCPT TO:<x@example.net>", "a@example.net\n", "a@example.net\0", "", "nobody"])
def test_addresses(bad: str) -> None:
    with pytest.raises(OptionError, match="^sender: "):
        check_addresses(bad, "inbox@example.net")
    with pytest.raises(OptionError, match="^recipient: "):
        check_addresses("inbox@example.net", bad)


@pytest.mark.parametrize("field", ["host", "username", "password", "ca_file", "folder"])
@pytest.mark.parametrize("bad", ["", "x\r\ny", "x\ny", "x\0y", "x\x1by", "x\x7fy", "x\x85y", "x\u2028y", "x\ud800y"])
def test_texts_of_a_mailbox(field: str, bad: str) -> None:
    with pytest.raises(OptionError, match=f"^mailbox.{field}: ") as caught:
        check_mailbox({**IMAP, field: bad})
    assert not bad or bad not in str(caught.value)


@pytest.mark.parametrize(("field", "bad"), [("port", 0), ("port", 65536), ("folder", "Entwürfe"), ("ca_file", "ca.pem"), ("path", "Maildir")])
def test_other_fields_of_a_mailbox(field: str, bad: t.Any) -> None:
    with pytest.raises(OptionError, match=f"^mailbox.{field}: "):
        check_mailbox({**IMAP, field: bad})
