# SPDX-License-Identifier: GPL-3.0-or-later
"""An IMAP4rev1 server for tests on loopback, with just enough of RFC 3501 to be a mailbox, and hooks to misbehave.

It runs in the Server of smtp_server.py, whose certificates it uses, too.
"""

from __future__ import annotations

import base64
import re
import ssl
import threading
import typing as t

from ansible_collections.outpost.smtp.tests.unit._support.smtp_server import Peer

USERNAME = "inbox@provider.test"
PASSWORD = 'Qu"ote\\s & Ümläut %n {3}'

# a handler that does whatever it likes with the peer and the tag; the connection is closed after it
Misbehaviour = t.Callable[[Peer, str], None]


class Message:
    def __init__(self, uid: int, content: bytes) -> None:
        self.uid = uid
        self.content = content
        self.deleted = False


class Account:
    """The mailbox and how the server serves it. `replies` maps a command, such as "UID FETCH", to a Misbehaviour or a final reply."""

    def __init__(
        self,
        *,
        tls: str = "implicit",
        context: t.Optional[ssl.SSLContext] = None,
        folders: t.Sequence[str] = ("INBOX",),
        listing: t.Optional[t.Sequence[str]] = None,
        capabilities: str = "IMAP4rev1 AUTH=PLAIN",
        capabilities_after_login: str = "IMAP4rev1 UIDPLUS",
        replies: t.Optional[t.Mapping[str, t.Union[str, Misbehaviour]]] = None,
        uid_last: bool = False,
    ) -> None:
        self.tls = tls
        self.context = context
        self.folders: t.Dict[str, t.List[Message]] = {name: [] for name in folders}
        self.listing = listing or [f'(\\HasNoChildren) "/" "{name}"' for name in folders]
        self.capabilities = capabilities
        self.capabilities_after_login = capabilities_after_login
        self.replies = dict(replies or {})
        self.uid_last = uid_last
        self.uid_validity = 77
        self.commands: t.List[str] = []
        self.logins: t.List[t.Tuple[str, str, str]] = []
        self._next_uid = 10
        self._lock = threading.Lock()

    def deliver(self, content: bytes, folder: str = "INBOX") -> Message:
        with self._lock:
            message = Message(self._next_uid, content)
            self._next_uid += 1
            self.folders[folder].append(message)
        return message

    def handle(self, peer: Peer) -> None:
        """The handler for Server."""
        if self.tls == "implicit" and self.context:
            peer.start_tls(self.context)
        _Session(self, peer).run()

    def next_uid(self) -> int:
        return self._next_uid


class _Session:
    def __init__(self, account: Account, peer: Peer) -> None:
        self.account = account
        self.peer = peer
        self.logged_in = False
        self.folder = ""
        self.tag = ""

    def run(self) -> None:
        greeting = self.account.replies.get("GREETING", "* OK ready")
        if callable(greeting):
            greeting(self.peer, "*")
            return
        self.peer.send(greeting)
        while self._one_command():
            pass

    def _one_command(self) -> bool:
        line = self.peer.line().decode("utf-8", "replace")
        if not line:
            return False
        self.tag, _blank, command = line.partition(" ")
        words = command.split(" ")
        name = " ".join(words[:2]).upper() if words[0].upper() == "UID" else words[0].upper()
        self.account.commands.append(command)
        special = self.account.replies.get(name)
        if callable(special):
            special(self.peer, self.tag)
            return False
        if special is not None:
            self.peer.send(f"{self.tag} {special}")
            return True
        method: t.Callable[[str], bool] = getattr(self, "do_" + name.lower().replace(" ", "_"))
        return method(command.split(" ", name.count(" ") + 1)[-1])

    def ok(self, *untagged: str) -> bool:
        self.peer.send(*(f"* {line}" for line in untagged), f"{self.tag} OK done")
        return True

    def do_capability(self, _rest: str) -> bool:
        account = self.account
        encrypted = isinstance(self.peer.connection, ssl.SSLSocket)
        offer = account.capabilities_after_login if self.logged_in else account.capabilities
        return self.ok(f"CAPABILITY {offer}{'' if encrypted or account.tls != 'starttls' else ' STARTTLS'}")

    def do_starttls(self, _rest: str) -> bool:
        self.ok()
        assert self.account.context is not None
        self.peer.start_tls(self.account.context)
        return True

    def do_authenticate(self, rest: str) -> bool:
        self.peer.send("+ ")
        _identity, username, password = base64.b64decode(self.peer.response()).decode("utf-8").split("\0")
        return self._log_in(rest, username, password)

    def do_login(self, rest: str) -> bool:
        match = re.fullmatch(r'"((?:[^"\\]|\\.)*)" \{(\d+)\}', rest)
        assert match, rest
        self.peer.send("+ go on")
        literal = self.peer.line()
        assert len(literal) == int(match.group(2))
        return self._log_in("LOGIN", re.sub(r"\\(.)", r"\1", match.group(1)), literal.decode("utf-8"))

    def _log_in(self, how: str, username: str, password: str) -> bool:
        self.account.logins.append((how, username, password))
        self.logged_in = (username, password) == (USERNAME, PASSWORD)
        if self.logged_in:
            return self.ok()
        self.peer.send(f"{self.tag} NO [AUTHENTICATIONFAILED] Authentication failed.")
        return True

    def do_list(self, _rest: str) -> bool:
        return self.ok(*(f"LIST {line}" for line in self.account.listing))

    def do_examine(self, rest: str) -> bool:
        return self._open(rest, "READ-ONLY")

    def do_select(self, rest: str) -> bool:
        return self._open(rest, "READ-WRITE")

    def _open(self, rest: str, mode: str) -> bool:
        self.folder = rest.strip('"')
        if self.folder not in self.account.folders:
            self.peer.send(f"{self.tag} NO [NONEXISTENT] no such folder")
            return True
        self.peer.send(
            f"* {len(self._messages())} EXISTS",
            f"* OK [UIDVALIDITY {self.account.uid_validity}] valid",
            f"* OK [UIDNEXT {self.account.next_uid()}] next [about]",
            f"{self.tag} OK [{mode}] done",
        )
        return True

    def do_uid_fetch(self, rest: str) -> bool:
        uids, item = rest.split(" ", 1)
        first = int(uids.partition(":")[0])
        label = re.sub(r"\.PEEK|<0\.", lambda match: "<" if match.group() == "<0." else "", item.strip("()").partition(" ")[2])
        for number, message in enumerate(self._messages(), 1):
            if message.uid == first or (":*" in uids and (message.uid > first or message is self._messages()[-1])):
                header = message.content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
                if "FIELDS" in item:
                    header = b"".join(line + b"\r\n" for line in header.split(b"\r\n") if line.startswith(b"X-Outpost-Token:")) + b"\r\n"
                before, after = ("", f" UID {message.uid}") if self.account.uid_last else (f"UID {message.uid} ", "")
                self.peer.send_raw(f"* {number} FETCH ({before}{label} {{{len(header)}}}\r\n".encode() + header + f"{after})\r\n".encode())
        return self.ok()

    def do_uid_store(self, rest: str) -> bool:
        uid, change = rest.split(" ", 1)
        assert change == "+FLAGS.SILENT (\\Deleted)"
        for message in self._messages():
            message.deleted |= message.uid == int(uid)
        return self.ok()

    def do_uid_search(self, rest: str) -> bool:
        assert rest == "DELETED"
        return self.ok(" ".join(["SEARCH", *(str(message.uid) for message in self._messages() if message.deleted)]))

    def do_uid_expunge(self, rest: str) -> bool:
        self._messages()[:] = [message for message in self._messages() if not (message.deleted and message.uid == int(rest))]
        return self.ok()

    def do_expunge(self, _rest: str) -> bool:
        self._messages()[:] = [message for message in self._messages() if not message.deleted]
        return self.ok()

    def do_logout(self, _rest: str) -> bool:
        self.peer.send("* BYE bye", f"{self.tag} OK done")
        return False

    def _messages(self) -> t.List[Message]:
        return self.account.folders[self.folder]
