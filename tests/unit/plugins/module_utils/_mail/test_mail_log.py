# SPDX-License-Identifier: GPL-3.0-or-later
"""Following a message through lines as Postfix 3.5 to 3.10 write them."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._mail.mail_log import Journal, LogFile, MailLog, find_sources
from ansible_collections.outpost.smtp.plugins.module_utils._mail.mailbox import MailboxError, MessageRefused
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result

TOKEN = "0123456789abcdef0123456789abcdef"
PREFIX = "Nov 23 19:02:15 web1 postfix"
NAMED = f"{PREFIX}/cleanup[670]: C12EC380084: message-id=<{TOKEN}@provider.test>"
DELAYS = "delay=0.02, delays=0/0/0.01/0"
RELAY = "relay=smtp.provider.test[192.0.2.3]:465"
SENT = f"{PREFIX}/smtp[674]: C12EC380084: to=<inbox@provider.test>, {RELAY}, {DELAYS}, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as C4C)"


class Lines:
    def __init__(self, *lines: str) -> None:
        self.now = list(lines)

    def lines(self) -> t.List[str]:
        return self.now


def log(*lines: str) -> MailLog:
    opened = MailLog(lambda: [Lines(*lines)])
    opened.open()
    return opened


@pytest.mark.parametrize("cut", ["", f"{PREFIX}/smtp[674]: "], ids=["file", "journal"])
def test_a_message_that_the_relay_took(cut: str) -> None:
    """The journal has the text alone, a file has time, host and program before it."""
    lines = [line.split("]: ", 1)[1] if cut else line for line in (NAMED, SENT)]
    arrived = log(*lines).poll(TOKEN)
    assert arrived is not None
    assert (arrived.folder, arrived.header.message_id) == ("smtp.provider.test[192.0.2.3]:465", f"<{TOKEN}@provider.test>")
    assert arrived.queue_ids == {"C12EC380084"}


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [NAMED],
        [SENT],  # of a message that is not ours
        [NAMED, SENT.replace("status=sent", "status=deferred")],
        [NAMED, SENT.replace("C12EC380084", "D22EC380084")],
        [NAMED.replace(TOKEN, TOKEN[::-1]), SENT],
        [NAMED, SENT.replace("smtp.provider.test[192.0.2.3]:465", "127.0.0.1[127.0.0.1]:10025")],  # a filter has it
        [NAMED, SENT.replace("smtp.provider.test[192.0.2.3]:465", "localhost[::1]:10025")],
    ],
)
def test_a_message_on_its_way(lines: t.List[str]) -> None:
    assert log(*lines).poll(TOKEN) is None


def test_a_filter_gives_it_a_new_queue_id() -> None:
    to_filter = SENT.replace("smtp.provider.test[192.0.2.3]:465", "127.0.0.1[127.0.0.1]:10025")
    arrived = log(NAMED, NAMED.replace("C12EC380084", "4bXyZ12345z1abc"), to_filter, SENT.replace("C12EC380084", "4bXyZ12345z1abc")).poll(TOKEN)
    assert arrived is not None
    assert arrived.queue_ids == {"C12EC380084", "4bXyZ12345z1abc"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (SENT.replace("status=sent (250 2.0.0 Ok: queued as C4C)", "status=bounced (553 5.7.1 not owned)"), "553 5.7.1 not owned"),
        (SENT.replace("status=sent", "status=expired"), "expired"),
        (SENT.replace(RELAY, "relay=local"), "by local"),
        (SENT.replace(f"{RELAY}, ", "orig_to=<root>, relay=none, ").replace("status=sent", "status=bounced"), "bounced"),
    ],
)
def test_a_message_that_will_not_arrive(line: str, words: str) -> None:
    with pytest.raises(MessageRefused, match=words):
        log(NAMED, line).poll(TOKEN)


def test_a_file_is_read_from_where_it_ended_also_when_it_is_rotated(tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    path.write_text("old\n")
    source = LogFile(str(path))
    assert source.lines() == []
    with path.open("a") as file:
        file.write("new\n")
    assert source.lines() == ["new"]
    path.rename(tmp_path / "mail.log.1")
    path.write_text("after\n")
    assert source.lines() == ["after"]
    path.unlink()
    with pytest.raises(MailboxError, match="can not be read"):
        source.lines()


def programs(answers: t.Mapping[str, Result]) -> t.Callable[[t.Sequence[str], str], Result]:
    def run(argv: t.Sequence[str], _stdin: str) -> Result:
        if argv[0] not in answers:
            raise PostfixError(f"There is no program {argv[0]}")
        return answers[argv[0]]

    return run


def test_where_the_log_is(tmp_path: Path) -> None:
    (tmp_path / "maillog").write_text("")
    (tmp_path / "own.log").write_text("")
    files = [str(tmp_path / "mail.log"), str(tmp_path / "maillog")]

    def kinds(maillog_file: str, journal: Path) -> t.List[str]:
        run = programs({"postconf": Result(0, f"{maillog_file}\n", "")})
        return [type(source).__name__ for source in find_sources(run, str(journal), files)]

    assert kinds("", tmp_path) == ["Journal", "LogFile"]
    assert kinds("", tmp_path / "absent") == ["LogFile"]
    assert kinds(str(tmp_path / "own.log"), tmp_path) == ["LogFile"]
    assert [type(one).__name__ for one in find_sources(programs({}), str(tmp_path), [])] == ["Journal"]


@pytest.mark.parametrize(
    "hint", ["No journal files were opened due to insufficient permissions.", "Hint: You are currently not seeing messages from other users"]
)
def test_a_journal_that_may_not_be_read_is_no_empty_one(hint: str) -> None:
    with pytest.raises(MailboxError, match="root may"):
        MailLog(lambda: [Journal(programs({"journalctl": Result(0, "", hint)}))]).open()


def test_the_journal_is_asked_for_mail_since_the_beginning() -> None:
    asked: t.List[t.Sequence[str]] = []

    def run(argv: t.Sequence[str], _stdin: str) -> Result:
        asked.append(argv)
        return Result(0, f"{NAMED}\n{SENT}\n", "")

    assert Journal(run).lines() == [NAMED, SENT]
    assert asked[0][0] == "journalctl"
    assert "SYSLOG_FACILITY=2" in asked[0]


def test_no_log_at_all() -> None:
    with pytest.raises(MailboxError, match="was found neither"):
        MailLog(list).open()
