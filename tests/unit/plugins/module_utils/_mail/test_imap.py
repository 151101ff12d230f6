# SPDX-License-Identifier: GPL-3.0-or-later
"""The IMAP mailbox against a server on loopback, well behaved and hostile."""

from __future__ import annotations

import base64
import contextlib
import time
import tracemalloc
import typing as t
from datetime import datetime, timezone

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._mail import imap
from ansible_collections.outpost.smtp.plugins.module_utils._mail.imap import ImapMailbox, ImapSettings
from ansible_collections.outpost.smtp.plugins.module_utils._mail.mailbox import Arrived, MailboxError
from ansible_collections.outpost.smtp.plugins.module_utils._mail.message import build_message
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.tests.unit._support.imap_server import PASSWORD, USERNAME, Account
from ansible_collections.outpost.smtp.tests.unit._support.smtp_server import Certificates, Peer, Server

TOKEN = "0123456789abcdef0123456789abcdef"


def content(token: str) -> bytes:
    message = build_message("a@example.net", "b@example.net", datetime(2026, 11, 23, tzinfo=timezone.utc), token).content
    return b"Received: from a.example by b.example with ESMTP id 1; Mon, 23 Nov 2026 12:00:00 +0000\r\n" + message


class Lab:
    """A server with an account, and mailboxes that look into it."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates
        self._stack = contextlib.ExitStack()

    def close(self) -> None:
        self._stack.close()

    def account(self, **settings: t.Any) -> Account:
        return Account(**{"context": self._certificates.good(), **settings})

    def mailbox(self, account: Account, timeout: float = 10, **settings: t.Any) -> ImapMailbox:
        server = self._stack.enter_context(Server(account.handle))
        defaults: t.Dict[str, t.Any] = {
            "host": "localhost", "port": server.port, "tls": account.tls, "username": USERNAME, "password": PASSWORD,
            "ca_file": self._certificates.ca_file, "folder": "INBOX",
        }  # fmt: skip
        mailbox = ImapMailbox(ImapSettings(**{**defaults, **settings}), Deadline(timeout))
        self._stack.callback(mailbox.close)
        return mailbox

    def opened(self, account: Account, **settings: t.Any) -> ImapMailbox:
        mailbox = self.mailbox(account, **settings)
        mailbox.open()
        return mailbox


@pytest.fixture()
def lab(certificates: Certificates) -> t.Iterator[Lab]:
    lab = Lab(certificates)
    yield lab
    lab.close()


def found(mailbox: ImapMailbox) -> Arrived:
    arrived = mailbox.poll(TOKEN)
    assert arrived is not None
    return arrived


# -- finding -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
@pytest.mark.parametrize("uid_last", [False, True])
def test_a_message_that_comes_after_the_start_is_found(lab: Lab, tls: str, uid_last: bool) -> None:
    account = lab.account(tls=tls, uid_last=uid_last)
    account.deliver(content("f" * 32))
    mailbox = lab.opened(account)
    assert mailbox.poll(TOKEN) is None
    account.deliver(content("e" * 32))
    assert mailbox.poll(TOKEN) is None
    assert mailbox.poll(TOKEN) is None
    assert len([command for command in account.commands if "FETCH" in command]) == 1  # each message is read once
    account.deliver(content(TOKEN))
    arrived = found(mailbox)
    assert arrived.folder == "INBOX"
    assert arrived.header.token == TOKEN
    assert arrived.header.message_id == f"<{TOKEN}@example.net>"
    assert len(arrived.header.received) == 1


def test_what_was_there_before_is_not_looked_at(lab: Lab) -> None:
    account = lab.account()
    account.deliver(content(TOKEN))
    assert lab.opened(account).poll(TOKEN) is None
    assert not [command for command in account.commands if "FETCH" in command]


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        ('(\\HasNoChildren \\Junk) "/" "Werbung"', "Werbung"),
        ('(\\HasNoChildren) "." INBOX.Spam', "INBOX.Spam"),
        ('(\\HasNoChildren) NIL "Junk E-mail"', "Junk E-mail"),
        ('(\\HasNoChildren) "\\\\" Mail\\Junk', "Mail\\Junk"),
    ],
)
def test_the_junk_folder_is_watched_and_named(lab: Lab, line: str, folder: str) -> None:
    account = lab.account(folders=["INBOX", folder], listing=['() "/" INBOX', line])
    mailbox = lab.opened(account)
    account.deliver(content(TOKEN), folder)
    assert found(mailbox).folder in (folder, folder.replace("\\", ""))


def test_other_folders_are_not_opened(lab: Lab) -> None:
    listing = ['(\\Noselect \\Junk) "/" "Junk"', '() "/" "Archive"', '() "/" "Junkyard"', '() "/" "inbox"']
    account = lab.account(listing=listing)
    lab.opened(account)
    assert [command for command in account.commands if command.startswith("EXAMINE")] == ['EXAMINE "INBOX"']


def test_a_folder_name_with_quotes_is_sent_as_one_string(lab: Lab) -> None:
    account = lab.account(replies={"EXAMINE": "NO no such folder"})
    with pytest.raises(MailboxError, match="answered EXAMINE"):
        lab.opened(account, folder='a"b\\c d')
    assert account.commands[-1] == 'EXAMINE "a\\"b\\\\c d"'


def test_a_folder_that_is_not_there_is_named(lab: Lab) -> None:
    with pytest.raises(MailboxError, match=r'answered EXAMINE "Test" with NO \[NONEXISTENT\] no such folder'):
        lab.opened(lab.account(), folder="Test")


def test_a_renumbered_folder_is_not_trusted(lab: Lab) -> None:
    account = lab.account()
    mailbox = lab.opened(account)
    account.uid_validity += 1
    with pytest.raises(MailboxError, match="renumbered the folder 'INBOX'"):
        mailbox.poll(TOKEN)


# -- removing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capabilities", ["IMAP4rev1 UIDPLUS", "IMAP4rev1"])
def test_only_the_message_is_removed(lab: Lab, capabilities: str) -> None:
    account = lab.account(capabilities_after_login=capabilities)
    mailbox = lab.opened(account)
    others = [account.deliver(content("f" * 32)), account.deliver(content(TOKEN)), account.deliver(content("e" * 32))]
    mailbox.remove(found(mailbox))
    assert account.folders["INBOX"] == [others[0], others[2]]
    assert ("EXPUNGE" in account.commands) == ("UIDPLUS" not in capabilities)


def test_a_message_that_somebody_else_marked_survives(lab: Lab) -> None:
    for capabilities, stays in (("IMAP4rev1 UIDPLUS", False), ("IMAP4rev1", True)):
        account = lab.account(capabilities_after_login=capabilities)
        mailbox = lab.opened(account)
        other = account.deliver(content("f" * 32))
        other.deleted = True
        account.deliver(content(TOKEN))
        expected = pytest.raises(MailboxError, match="can not remove it without others") if stays else contextlib.nullcontext()
        with expected:
            mailbox.remove(found(mailbox))
        assert other in account.folders["INBOX"]
        assert len(account.folders["INBOX"]) == 1 + stays


def test_a_renumbered_folder_is_not_cleaned(lab: Lab) -> None:
    account = lab.account()
    mailbox = lab.opened(account)
    message = account.deliver(content(TOKEN))
    arrived = found(mailbox)
    account.uid_validity += 1
    with pytest.raises(MailboxError, match="renumbered"):
        mailbox.remove(arrived)
    assert not message.deleted


# -- login and TLS -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("capabilities", "how"), [("IMAP4rev1 AUTH=PLAIN", "PLAIN"), ("IMAP4rev1", "LOGIN")])
@pytest.mark.parametrize("username", [USERNAME, 'na"me\\with everything'])
def test_any_password_reaches_the_server_unchanged(lab: Lab, capabilities: str, how: str, username: str) -> None:
    account = lab.account(capabilities=capabilities)
    with contextlib.nullcontext() if username == USERNAME else pytest.raises(MailboxError):
        lab.opened(account, username=username)
    assert account.logins == [(how, username, PASSWORD)]


@pytest.mark.parametrize("capabilities", ["IMAP4rev1 AUTH=PLAIN", "IMAP4rev1"])
def test_a_refused_password_is_tried_once(lab: Lab, capabilities: str) -> None:
    account = lab.account(capabilities=capabilities)
    with pytest.raises(
        MailboxError, match=r"^localhost port \d+: the server answered:? (LOGIN with )?NO \[AUTHENTICATIONFAILED\] Authentication failed"
    ):
        lab.opened(account, password="wrong")
    assert len(account.logins) == 1


def test_a_password_is_sent_once_however_often_the_server_asks(lab: Lab) -> None:
    answers: t.List[bytes] = []

    def ask(peer: Peer, _tag: str) -> None:
        for _count in range(3):
            peer.send("+ ")
            answers.append(peer.line())

    with pytest.raises(MailboxError, match="asks for more than PLAIN"):
        lab.opened(lab.account(replies={"AUTHENTICATE": ask}))
    assert len([answer for answer in answers if answer]) == 1


@pytest.mark.parametrize(("capabilities", "username"), [("IMAP4rev1 LOGINDISABLED", USERNAME), ("IMAP4rev1", "ünser")])
def test_no_login_where_none_is_possible(lab: Lab, capabilities: str, username: str) -> None:
    account = lab.account(capabilities=capabilities)
    with pytest.raises(MailboxError, match="AUTH=PLAIN"):
        lab.opened(account, username=username)
    assert not account.logins


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
@pytest.mark.parametrize("certificate", ["wrong_name", "expired", "self_signed"])
def test_no_login_behind_a_certificate_that_is_not_right(lab: Lab, certificates: Certificates, tls: str, certificate: str) -> None:
    account = lab.account(tls=tls, context=getattr(certificates, certificate)())
    with pytest.raises(MailboxError, match="certificate verification failed"):
        lab.opened(account)
    assert not account.logins


def test_a_private_ca_must_be_named(lab: Lab) -> None:
    account = lab.account()
    with pytest.raises(MailboxError, match="certificate verification failed"):
        lab.opened(account, ca_file=None)
    assert not account.commands


def test_starttls_that_is_not_offered(lab: Lab) -> None:
    account = lab.account(tls="none")
    with pytest.raises(MailboxError, match="does not offer STARTTLS"):
        lab.opened(account, tls="starttls")
    assert not account.logins


def test_clear_text_after_the_reply_to_starttls(lab: Lab) -> None:
    def inject(peer: Peer, tag: str) -> None:
        peer.send(f"{tag} OK go", "* OK [UIDNEXT 1] injected")
        peer.wait_until_closed()

    account = lab.account(tls="starttls", replies={"STARTTLS": inject})
    with pytest.raises(MailboxError, match="clear text followed"):
        lab.opened(account)
    assert not account.logins


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_a_server_that_needs_no_login_is_not_believed(lab: Lab, tls: str) -> None:
    account = lab.account(tls=tls, replies={"GREETING": "* PREAUTH welcome"})
    with pytest.raises(MailboxError, match="logged in before anybody did|does not offer STARTTLS"):
        lab.opened(account)


# -- hostile servers ---------------------------------------------------------------------------------------------------


def repeat(data: bytes, seconds: float = 0.0) -> t.Callable[[Peer, str], None]:
    """Send `data` until the client hangs up, waiting `seconds` each time for it to do so."""

    def handler(peer: Peer, _tag: str) -> None:
        peer.connection.settimeout(seconds or None)
        while True:
            peer.send_raw(data)
            if seconds:
                try:
                    if not peer.connection.recv(1):
                        return
                except TimeoutError:
                    pass
                except OSError as exc:  # Python 3.8 and 3.9: socket.timeout is no TimeoutError
                    if "timed out" not in str(exc):
                        return

    return handler


def say(*lines: str) -> t.Callable[[Peer, str], None]:
    def handler(peer: Peer, tag: str) -> None:
        peer.send(*(line.replace("TAG", tag) for line in lines))
        peer.wait_until_closed()

    return handler


def silence(peer: Peer, _tag: str) -> None:
    peer.wait_until_closed()


def hang_up(_peer: Peer, _tag: str) -> None:
    pass


STEPS = ("GREETING", "AUTHENTICATE", "EXAMINE")
HOSTILE: t.Dict[str, t.Tuple[t.Callable[[Peer, str], None], str]] = {
    "silence": (silence, "did not answer in time"),
    "one byte at a time": (repeat(b"*", 0.02), "did not answer in time"),
    "end of connection": (hang_up, "closed the connection"),
    "endless line": (repeat(b"* OK " + b"x" * 60_000), "a line of more than"),
    "endless lines": (repeat(b"* 1 EXISTS\r\n" * 5_000), "more than 4194304 bytes|did not answer in time"),
    "endless continuation": (repeat(b"+ x\r\n" * 10_000), "more than 4194304 bytes|did not answer in time"),
    "huge literal": (say("* LIST {99999999999}"), "announced 99999999999 bytes"),
    "huge number": (say("* LIST {" + "9" * 5000 + "}"), "announced 9999|answered: \\* LIST {9999"),
    "binary": (say("\x00\x01\x02\ufffd" * 20), r"answered: \\x00\\x01\\x02"),
    "another protocol": (say("HTTP/1.1 400 Bad Request", ""), "answered: HTTP/1.1 400 Bad Request"),
    "another tag": (say("ZZZZ99 OK fine"), "answered: ZZZZ99 OK fine"),
    "BYE": (say("* BYE go away"), r"answered: \* BYE go away"),
}  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_server_neither_hangs_nor_fills_the_client(lab: Lab, name: str, step: str) -> None:
    handler, _expected = HOSTILE[name]
    mailbox = lab.mailbox(lab.account(replies={step: handler}), timeout=0.4)
    begin = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(MailboxError) as caught:
            mailbox.open()
        mailbox.close()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.monotonic() - begin < 5
    assert peak < 100_000_000
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_hostile_server_did_is_said(lab: Lab, name: str) -> None:
    handler, expected = HOSTILE[name]
    timeout = 0.7 if "in time" in expected else 10
    with pytest.raises(MailboxError, match=expected):
        lab.mailbox(lab.account(replies={"LIST": handler}), timeout=timeout).open()


def test_hostile_while_waiting(lab: Lab) -> None:
    account = lab.account()
    mailbox = lab.opened(account, timeout=1)
    account.deliver(content("f" * 32))
    account.replies["UID FETCH"] = say("* 1 FETCH (UID 10 BODY[] {4194305}")
    with pytest.raises(MailboxError, match="announced 4194305 bytes"):
        mailbox.poll(TOKEN)
    with pytest.raises(MailboxError, match="connection is closed"):
        mailbox.poll(TOKEN)


@pytest.mark.parametrize("flood", [b"* 1 EXISTS\r\n" * 100, b"+ x\r\n" * 100])
def test_what_a_server_may_send_is_limited(lab: Lab, monkeypatch: pytest.MonkeyPatch, flood: bytes) -> None:
    monkeypatch.setattr(imap, "MAX_STEP_BYTES", 50_000)
    with pytest.raises(MailboxError, match="more than 50000 bytes"):
        lab.mailbox(lab.account(replies={"LIST": repeat(flood)}), timeout=30).open()


def test_the_limit_is_for_one_look_not_for_the_whole_wait(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    account = lab.account()
    mailbox = lab.opened(account)
    monkeypatch.setattr(imap, "MAX_STEP_BYTES", 1000)
    for _count in range(10):
        assert mailbox.poll(TOKEN) is None


@pytest.mark.parametrize(
    "echo", [PASSWORD, base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode()).decode(), base64.b64encode(PASSWORD.encode()).decode()]
)
@pytest.mark.parametrize("reply", ["TAG NO bad password {}", "TAG BAD {}", "{}", "* NO {}.\r\nTAG NO [ALERT] {}"])
def test_a_password_that_the_server_repeats_is_masked(lab: Lab, echo: str, reply: str) -> None:
    account = lab.account(replies={"AUTHENTICATE": say(reply.replace("{}", echo))})
    with pytest.raises(MailboxError) as caught:
        lab.mailbox(account, timeout=2).open()
    assert echo not in str(caught.value)
    assert "ml\\xc3" not in str(caught.value)
    assert "********" in str(caught.value)
    assert caught.value.__suppress_context__


def test_logging_out_of_a_silent_server_takes_a_moment(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imap, "LOGOUT_SECONDS", 0.2)
    mailbox = lab.opened(lab.account(replies={"LOGOUT": silence}))
    begin = time.monotonic()
    mailbox.close()
    assert time.monotonic() - begin < 2
