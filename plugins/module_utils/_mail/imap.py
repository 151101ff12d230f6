# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the collection and may change at any time.

"""A mailbox behind IMAP4rev1 (RFC 3501).

The dialogue is the standard library's imaplib. Its documented transport methods are replaced by bounded ones, so that
a hostile server can neither hang nor fill this program; connection and TLS are those of the SMTP client.
"""

from __future__ import annotations

import contextlib
import imaplib
import re
import selectors
import socket
import ssl
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._mail.mailbox import Arrived, MailboxError
from ansible_collections.outpost.smtp.plugins.module_utils._mail.message import MAX_HEADER_BYTES, TOKEN_HEADER, read_header
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import Connector
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.redact import Redactor
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import resolve
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.sasl_plain import Plain
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import printable, shorten
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.tls import handshake, translate, verifying_context, wait
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust

MAX_LINE_BYTES = 65536
MAX_STEP_BYTES = 4 * 1024 * 1024  # what the server may say while the mailbox is opened, looked into once, or cleaned
LOGOUT_SECONDS = 2.0

_CHUNK = 16384
_TOO_LATE = "the server did not answer in time"
_MAX_JUNK_FOLDERS = 2
_JUNK_NAMES = frozenset(("junk", "spam", "junk e-mail", "junk email", "bulk mail"))
# name: as the server wrote it, quoted or not, ready to be sent back
_LIST_LINE = re.compile(rb'\((?P<flags>[^)]*)\) (?:"\\?(?P<delimiter>[^"])"|NIL) (?P<name>.+)')
_TAG = re.compile(r"\A[A-P]+[0-9]+ (?=NO|BAD)")  # imaplib's
_UID = re.compile(rb"\bUID (?P<uid>[1-9][0-9]{0,9})\b")


class ImapSettings(t.NamedTuple):
    """How to reach the mailbox. `tls` is implicit or starttls; `ca_file` adds to the system's roots."""

    host: str
    port: int
    tls: str
    username: str
    password: str
    ca_file: t.Optional[str]
    folder: str


class _Folder:
    """A folder under watch. Messages have UIDs that only grow, so what is new starts at `next_uid` (RFC 3501 2.3.1.1)."""

    def __init__(self, quoted: str, next_uid: int, validity: int) -> None:
        self.quoted = quoted
        self.next_uid = next_uid
        self.validity = validity

    @property
    def name(self) -> str:
        """The name for people; letters outside ASCII stay in modified UTF-7."""
        inner = self.quoted[1:-1] if self.quoted.startswith('"') else self.quoted
        return re.sub(r"\\(.)", r"\1", inner)


class ImapMailbox:
    """Watches one folder, and the junk folders of the account, for the marked message."""

    def __init__(self, settings: ImapSettings, deadline: Deadline) -> None:
        self._settings = settings
        self._deadline = deadline
        self._redactor = Redactor()
        self._redactor.protect(settings.username, settings.password)
        self._imap: t.Optional[_Imap] = None
        self._last_line = b""
        self._folders: t.List[_Folder] = []

    def open(self) -> None:
        """Connect, verify the certificate, log in once, and note where each folder ends."""
        with self._reported():
            self._imap = _Imap(self._settings, self._deadline, self._note)
            self._imap.log_in(self._settings.username, self._settings.password)
            self._folders = [self._examined(_quoted(self._settings.folder))]
            self._folders += [self._examined(name) for name in self._junk_folders()]

    def poll(self, token: str) -> t.Optional[Arrived]:
        """Look into each folder; one round trip per folder where nothing is new."""
        with self._reported():
            self._session().new_step()
            for folder in self._folders:
                now = self._examined(folder.quoted)
                if now.validity != folder.validity:
                    raise MailboxError(f"the server renumbered the folder {folder.name!r} meanwhile")
                if now.next_uid == folder.next_uid:
                    continue
                uid = self._find(folder.next_uid, token)
                folder.next_uid = now.next_uid
                if uid is not None:
                    return self._arrived(folder, uid)
        return None

    def remove(self, arrived: Arrived) -> None:
        """Delete that UID only: with UID EXPUNGE (RFC 4315), or where no other message is marked as deleted."""
        quoted, validity, uid = arrived.place
        with self._reported():
            imap = self._session()
            imap.new_step()
            _accepted(f"SELECT {quoted}", imap.select(quoted))
            if imap.number("UIDVALIDITY") != validity:
                raise MailboxError("the server renumbered the folder meanwhile, so the message was not deleted")
            _accepted("STORE", imap.uid("STORE", uid, "+FLAGS.SILENT", "(\\Deleted)"))
            if "UIDPLUS" in imap.capabilities:
                _accepted("EXPUNGE", imap.uid("EXPUNGE", uid))
                return
            marked = b" ".join(part for part in _accepted("SEARCH", imap.uid("SEARCH", "DELETED")) if part).split()
            if marked != [uid.encode("ascii")]:
                raise MailboxError("the message is marked as deleted but still there: the server can not remove it without others")
            _accepted("EXPUNGE", imap.expunge())

    def close(self) -> None:
        """Log out if the server is quick about it."""
        imap, self._imap = self._imap, None
        if imap is None:
            return
        imap.deadline = self._deadline.within(LOGOUT_SECONDS)
        with contextlib.suppress(Exception):
            imap.logout()
        imap.shutdown()

    def _note(self, line: bytes) -> None:
        self._last_line = line

    def _session(self) -> _Imap:
        if self._imap is None:
            raise MailboxError("the connection is closed")
        return self._imap

    def _junk_folders(self) -> t.List[str]:
        """Folders with the attribute \\Junk (RFC 6154) or a usual name."""
        imap = self._session()
        watched = {folder.quoted.strip('"').lower() for folder in self._folders}
        found = []
        for line in _accepted("LIST", imap.list()):
            match = _LIST_LINE.fullmatch(line) if isinstance(line, bytes) else None
            name = match.group("name").decode("ascii", "replace") if match else ""
            if match and _is_junk(match, name) and name.strip('"').lower() not in watched:
                found.append(name)
        return found[:_MAX_JUNK_FOLDERS]

    def _examined(self, quoted: str) -> _Folder:
        """Open a folder read-only, which also tells what is new in it."""
        imap = self._session()
        _accepted(f"EXAMINE {quoted}", imap.select(quoted, readonly=True))
        return _Folder(quoted, imap.number("UIDNEXT"), imap.number("UIDVALIDITY"))

    def _find(self, first: int, token: str) -> t.Optional[str]:
        """The UID of the message with the token among those from `first` on."""
        for uid, header in self._fetched(f"{first}:*", f"BODY.PEEK[HEADER.FIELDS ({TOKEN_HEADER})]"):
            if read_header(header).token == token:
                return uid
        return None

    def _arrived(self, folder: _Folder, uid: str) -> Arrived:
        headers = dict(self._fetched(uid, f"BODY.PEEK[HEADER]<0.{MAX_HEADER_BYTES}>"))
        if uid not in headers:
            raise MailboxError(f"the message was in the folder {folder.name!r} but is gone, somebody else has moved or deleted it")
        return Arrived(folder.name, read_header(headers[uid]), (folder.quoted, folder.validity, uid))

    def _fetched(self, uids: str, item: str) -> t.List[t.Tuple[str, bytes]]:
        """FETCH one item that comes as a literal. The UID stands before or after it."""
        parts = _accepted("FETCH", self._session().uid("FETCH", uids, f"(UID {item})"))
        found = []
        for part, after in zip(parts, [*parts[1:], b""]):
            if not isinstance(part, tuple):
                continue
            match = _UID.search(part[0]) or (_UID.search(after) if isinstance(after, bytes) else None)
            if match:
                found.append((match.group("uid").decode("ascii"), part[1]))
        return found

    @contextlib.contextmanager
    def _reported(self) -> t.Iterator[None]:
        """Turn every failure into a MailboxError without secrets, and give up the connection: its state is unknown."""
        try:
            yield
        except (MailboxError, SmtpError) as exc:
            text = str(exc)
        except Exception:
            # imaplib meets refusals and malformed answers with its own and any of the ordinary exceptions. Their texts hold
            # the bytes of the server in a form in which a password would not be recognised, so the answer itself is shown.
            text = f"the server answered: {_TAG.sub('', self._last_line.decode('utf-8', 'backslashreplace')).strip()}"
        else:
            return
        if self._imap is not None:
            self._imap.shutdown()
            self._imap = None
        # "from None": the exception holds the server's words, which may repeat the password
        place = f"{self._settings.host} port {self._settings.port}"
        raise MailboxError(f"{place}: {shorten(self._redactor.clean(printable(text)))}") from None


class _Imap(imaplib.IMAP4):
    """imaplib with one deadline for all and a limit on what the server may send. Construction connects."""

    def __init__(self, settings: ImapSettings, deadline: Deadline, note: t.Callable[[bytes], None]) -> None:
        """`note` is called with each line of the server."""
        self.deadline = deadline
        self._settings = settings
        self._note = note
        self._buffer = bytearray()
        self._received = 0
        super().__init__(settings.host, settings.port)
        if settings.tls == "starttls":
            try:
                self._start_tls()
            except BaseException:
                self.shutdown()
                raise

    def new_step(self) -> None:
        """Let the server send MAX_STEP_BYTES from now on."""
        self._received = 0

    def log_in(self, username: str, password: str) -> None:
        """Log in by AUTHENTICATE PLAIN where it is offered, else by LOGIN; one attempt."""
        if self.state != "NONAUTH":
            raise MailboxError("the server considers the connection logged in before anybody did")
        plain = Plain(Credentials(username, password))
        if "AUTH=PLAIN" in self.capabilities:
            self.authenticate("PLAIN", plain.respond)
        else:
            self._log_in_without_sasl(username, password)
        # what a server offers may change with the login (RFC 3501 6.2.3)
        self._refresh_capabilities()

    def number(self, code: str) -> int:
        """The number of a response code of the last SELECT or EXAMINE, such as UIDNEXT."""
        values = self.response(code)[1]
        match = re.match(rb"[0-9]{1,10}", values[-1] or b"") if values else None
        if not match:
            raise MailboxError(f"the server does not tell {code} of a folder")
        return int(match.group())

    # -- the transport of imaplib --

    def open(self, host: str = "", port: int = 143, timeout: t.Optional[float] = None) -> None:
        """Connect to the best address; `timeout` is imaplib's and not used."""
        self.host, self.port = host, port
        connector = Connector(resolve(host, port, self.deadline))
        try:
            self.sock, _address = connector.connect(self.deadline)
        finally:
            connector.finish()
        if self._settings.tls == "implicit":
            self._secure()

    def readline(self) -> bytes:
        """One line with its end."""
        if self.deadline.expired:  # a flood never has to be waited for
            raise MailboxError(_TOO_LATE)
        while True:
            end = self._buffer.find(b"\n")
            if end >= 0:
                line = self._take(end + 1)
                self._note(line)
                return line
            if len(self._buffer) > MAX_LINE_BYTES:
                raise MailboxError(f"the server sent a line of more than {MAX_LINE_BYTES} bytes")
            self._fill()

    def read(self, size: int) -> bytes:
        """The `size` bytes of a literal."""
        if size > MAX_STEP_BYTES:
            raise MailboxError(f"the server announced {size} bytes at once")
        while len(self._buffer) < size:
            self._fill()
        return self._take(size)

    def send(self, data: t.Any) -> None:
        """Send all of `data`."""
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(selectors.EVENT_WRITE)
            except ssl.SSLWantReadError:
                self._wait(selectors.EVENT_READ)

    def shutdown(self) -> None:
        """Close the connection."""
        self.sock.close()

    # -- private --

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _fill(self) -> None:
        """Wait for bytes and add them to the buffer."""
        while True:
            try:
                data = self.sock.recv(_CHUNK)
                break
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(selectors.EVENT_READ)
            except ssl.SSLWantWriteError:
                self._wait(selectors.EVENT_WRITE)
            except OSError as exc:
                raise translate(exc) from exc
        if not data:
            raise MailboxError("the server closed the connection")
        self._received += len(data)
        if self._received > MAX_STEP_BYTES:
            raise MailboxError(f"the server sent more than {MAX_STEP_BYTES} bytes")
        self._buffer += data

    def _wait(self, event: int) -> None:
        if self.deadline.expired or not wait(self.sock, event, self.deadline):
            raise MailboxError(_TOO_LATE)

    def _secure(self) -> None:
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = verifying_context(Trust(ca_file=self._settings.ca_file))
        # imaplib knows sockets only; this has the methods of one that are used here
        self.sock = handshake(context, self.sock, self._settings.host, self.deadline)  # type: ignore[assignment]  # see above

    def _start_tls(self) -> None:
        if self.state != "NONAUTH" or "STARTTLS" not in self.capabilities:
            raise MailboxError("the server does not offer STARTTLS; nothing is sent in clear text")
        _accepted("STARTTLS", self.xatom("STARTTLS"))
        if self._buffer:
            raise MailboxError("clear text followed the reply to STARTTLS in the same packet: somebody interferes")
        self.untagged_responses: t.Dict[str, t.List[t.Any]] = {}
        self._secure()
        # what was said in clear text counts for nothing (RFC 3501 6.2.1)
        self._refresh_capabilities()

    def _log_in_without_sasl(self, username: str, password: str) -> None:
        if "LOGINDISABLED" in self.capabilities:
            raise MailboxError("the server offers neither AUTH=PLAIN nor LOGIN")
        if not username.isascii():
            raise MailboxError("the server does not offer AUTH=PLAIN, which a user name outside ASCII needs")
        # A literal carries any octet; imaplib sends this attribute as the last argument of the next command.
        self.literal = password.encode("utf-8")  # type: ignore[assignment]  # typeshed says str; imaplib wants bytes
        _accepted("LOGIN", self.xatom("LOGIN", _quoted(username)))
        self.state = "AUTH"

    def _refresh_capabilities(self) -> None:
        words = b" ".join(part for part in _accepted("CAPABILITY", self.capability()) if part)
        self.capabilities = tuple(words.decode("ascii", "replace").upper().split())


def _accepted(command: str, answer: t.Tuple[str, t.Sequence[t.Any]]) -> t.List[t.Any]:
    """The data of an answer; MailboxError with the server's words where it is not OK."""
    status, data = answer
    if status == "OK":
        return list(data)
    words = data[-1] if data and isinstance(data[-1], bytes) else b""
    raise MailboxError(f"the server answered {command} with {status} {words.decode('utf-8', 'backslashreplace')}".rstrip())


def _quoted(text: str) -> str:
    """A quoted string (RFC 3501 9); the text has neither CR, LF nor NUL."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _is_junk(match: t.Match[bytes], name: str) -> bool:
    flags = match.group("flags").lower().split()
    delimiter = (match.group("delimiter") or b"/").decode("ascii", "replace")
    return b"\\noselect" not in flags and (b"\\junk" in flags or name.strip('"').rpartition(delimiter)[2].lower() in _JUNK_NAMES)
