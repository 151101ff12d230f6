# SPDX-License-Identifier: GPL-3.0-or-later
"""Real Maildirs in a temporary directory."""

from __future__ import annotations

import os
import typing as t
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._mail.mailbox import MailboxError
from ansible_collections.outpost.smtp.plugins.module_utils._mail.maildir import Maildir
from ansible_collections.outpost.smtp.plugins.module_utils._mail.message import build_message

TOKEN = "0123456789abcdef0123456789abcdef"


def content(token: str) -> bytes:
    return build_message("a@example.net", "b@example.net", datetime(2026, 11, 23, tzinfo=timezone.utc), token).content


@pytest.fixture()
def path(tmp_path: Path) -> Path:
    for folder in (".", ".Junk"):
        for name in ("new", "cur", "tmp"):
            (tmp_path / folder / name).mkdir(parents=True)
    return tmp_path


@pytest.fixture()
def maildir(path: Path) -> t.Iterator[Maildir]:
    mailbox = Maildir(str(path))
    mailbox.open()
    yield mailbox
    mailbox.close()


@pytest.mark.parametrize(("place", "folder"), [("new/1.a.host", "INBOX"), ("cur/1.a.host:2,S", "INBOX"), (".Junk/new/1.a.host", "Junk")])
def test_the_message_is_found_with_its_folder(maildir: Maildir, path: Path, place: str, folder: str) -> None:
    assert maildir.poll(TOKEN) is None
    (path / place).write_bytes(content(TOKEN))
    arrived = maildir.poll(TOKEN)
    assert arrived is not None
    assert (arrived.folder, arrived.header.token) == (folder, TOKEN)


def test_a_message_in_tmp_has_not_arrived(maildir: Maildir, path: Path) -> None:
    (path / "tmp/1.a.host").write_bytes(content(TOKEN))
    assert maildir.poll(TOKEN) is None


def test_what_was_there_before_is_not_read(path: Path) -> None:
    (path / "new/1.a.host").write_bytes(content(TOKEN))
    maildir = Maildir(str(path))
    maildir.open()
    assert maildir.poll(TOKEN) is None
    (path / "new/1.a.host").rename(path / "cur/1.a.host:2,S")
    assert maildir.poll(TOKEN) is None


def test_each_new_file_is_read_once(maildir: Maildir, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path / "new/1.a.host").write_bytes(content("f" * 32))
    opened: t.List[str] = []
    real_open = os.open

    def counted(name: str, flags: int, dir_fd: t.Optional[int] = None) -> int:
        opened.append(name)
        return real_open(name, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", counted)
    assert maildir.poll(TOKEN) is None
    assert maildir.poll(TOKEN) is None
    assert opened == [str(path / "new/1.a.host")]


def test_broken_neighbours_do_no_harm(maildir: Maildir, path: Path) -> None:
    os.mkfifo(path / "new/1.fifo.host")
    (path / "new/2.directory.host").mkdir()
    (path / "new/3.dangling.host").symlink_to(path / "nowhere")
    (path / "new/4.binary.host").write_bytes(bytes(range(256)) * 1000)
    (path / "new/5.huge.host").write_bytes(b"X: " + b"a" * 5_000_000)
    assert maildir.poll(TOKEN) is None
    (path / "new/6.message.host").write_bytes(content(TOKEN))
    arrived = maildir.poll(TOKEN)
    assert arrived is not None
    assert arrived.place == str(path / "new/6.message.host")


def test_a_symbolic_link_is_not_followed(maildir: Maildir, path: Path) -> None:
    (path / "elsewhere").write_bytes(content(TOKEN))
    (path / "new/1.link.host").symlink_to(path / "elsewhere")
    assert maildir.poll(TOKEN) is None


def test_only_the_message_itself_is_removed_wherever_it_was_moved(maildir: Maildir, path: Path) -> None:
    (path / "new/1.other.host").write_bytes(content("f" * 32))
    (path / "new/2.test.host").write_bytes(content(TOKEN))
    arrived = maildir.poll(TOKEN)
    assert arrived is not None
    (path / "new/2.test.host").rename(path / "cur/2.test.host:2,S")
    maildir.remove(arrived)
    assert [file.name for name in ("new", "cur") for file in (path / name).iterdir()] == ["1.other.host"]


def test_another_message_that_took_the_name_is_not_removed(maildir: Maildir, path: Path) -> None:
    (path / "new/1.a.host").write_bytes(content(TOKEN))
    arrived = maildir.poll(TOKEN)
    assert arrived is not None
    (path / "new/1.a.host").write_bytes(content("f" * 32))
    with pytest.raises(MailboxError, match="is gone"):
        maildir.remove(arrived)
    assert (path / "new/1.a.host").exists()


def test_a_path_that_is_no_maildir_is_named(tmp_path: Path) -> None:
    with pytest.raises(MailboxError, match=f"{tmp_path}/new can not be read: No such file or directory"):
        Maildir(str(tmp_path)).open()


def test_a_directory_that_was_swapped_for_a_link_leads_to_no_deletion(maildir: Maildir, path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (path / "new/1.a.host").write_bytes(content(TOKEN))
    arrived = maildir.poll(TOKEN)
    assert arrived is not None
    (path / "new").rename(path / "old")
    (path / "new").symlink_to(elsewhere)
    (elsewhere / "1.a.host").write_bytes(content(TOKEN))
    with pytest.raises(MailboxError):
        maildir.remove(arrived)
    assert (elsewhere / "1.a.host").exists()
