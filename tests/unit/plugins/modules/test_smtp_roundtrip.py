# SPDX-License-Identifier: GPL-3.0-or-later
"""The module from its arguments to its result, in this process, against servers on loopback."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from ansible_collections.outpost.smtp.plugins.module_utils._mail import imap, roundtrip
from ansible_collections.outpost.smtp.plugins.module_utils._mail.submission import Route
from ansible_collections.outpost.smtp.plugins.modules import smtp_roundtrip
from ansible_collections.outpost.smtp.tests.unit._support import imap_server
from ansible_collections.outpost.smtp.tests.unit._support.imap_server import Account
from ansible_collections.outpost.smtp.tests.unit._support.smtp_server import PASSWORD, USERNAME, Certificates, Handler, Peer, Server, conversation


class Ended(BaseException):
    """Stands for the end of the module's process. No Exception, since main() guards itself against all of those."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture()
def run(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., t.Dict[str, t.Any]]:
    """Call main() with the given arguments and return its result; `failed` says how it ended."""
    results: t.List[t.Dict[str, t.Any]] = []

    def call(arguments: t.Dict[str, t.Any], check: bool = False) -> t.Dict[str, t.Any]:
        with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(Ended):
            smtp_roundtrip.main()
        return results[-1]

    def ended(failed: bool) -> t.Callable[..., t.NoReturn]:
        def end(module: basic.AnsibleModule, **result: t.Any) -> t.NoReturn:
            results.append({"failed": failed, **result})
            raise Ended

        return end

    monkeypatch.setattr(basic.AnsibleModule, "exit_json", ended(False))
    monkeypatch.setattr(basic.AnsibleModule, "fail_json", lambda module, msg, **result: ended(True)(module, msg=msg, **result))
    return call


def arguments(port: int = 993, ca_file: t.Optional[str] = None, **changes: t.Any) -> t.Dict[str, t.Any]:
    mailbox = {
        "type": "imap", "host": "localhost", "port": port, "username": imap_server.USERNAME, "password": imap_server.PASSWORD, "ca_file": ca_file,
    }  # fmt: skip
    return {"sender": USERNAME, "recipient": imap_server.USERNAME, "mailbox": mailbox, "timeout": 10, **changes}


def delivering(account: Account, **server: t.Any) -> Handler:
    """An SMTP server whose messages arrive in the account."""

    def take(peer: Peer) -> None:
        peer.send("354 go ahead")
        lines: t.List[bytes] = []
        while not lines or lines[-1] != b".":
            lines.append(peer.line())
        hop = b"Received: from a by mx.provider.test (Postfix) with ESMTPSA id 4ABCD; Mon, 23 Nov 2026 12:00:00 +0000"
        account.deliver(b"\r\n".join([hop, *lines[:-1]]))
        peer.send("250 2.0.0 Ok: queued as 4ABCD")
        peer.line()

    return conversation(replies={"DATA": take}, **server)


@pytest.mark.parametrize("via", ["local", "relay"])
def test_a_round_trip(run: t.Any, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, via: str) -> None:
    account = Account(context=certificates.good())
    tls = {"tls": "implicit", "context": certificates.good()} if via == "relay" else {}
    with Server(account.handle) as imap, Server(delivering(account, **tls)) as smtp:
        monkeypatch.setattr(smtp_roundtrip, "LOCAL_MAIL_SERVER", Route("127.0.0.1", smtp.port, "none"))
        relay = {
            "host": "localhost", "port": smtp.port, "tls": "implicit", "ca_file": certificates.ca_file, "username": USERNAME, "password": PASSWORD,
        }  # fmt: skip
        result = run(arguments(imap.port, certificates.ca_file, via=via, relay=relay if via == "relay" else None))
    assert not result["failed"], result
    assert (result["changed"], result["arrived"], result["removed"], result["queue_id"]) == (False, True, True, "4ABCD")
    assert account.folders["INBOX"] == []
    assert PASSWORD not in json.dumps(result)
    assert imap_server.PASSWORD not in json.dumps(result, ensure_ascii=False)
    assert smtp.auth_attempts == (via == "relay")


def test_what_was_learned_before_a_failure_is_returned(run: t.Any, certificates: Certificates) -> None:
    account = Account(context=certificates.good(), replies={"AUTHENTICATE": "NO [AUTHENTICATIONFAILED] no"})
    with Server(account.handle) as imap:
        result = run(arguments(imap.port, certificates.ca_file))
    assert result["failed"]
    assert result["stage"] == "mailbox_login"
    assert result["msg"].startswith("Stage mailbox_login: localhost port")
    assert (result["arrived"], result["token"] is None) == (False, False)


def test_check_mode_checks_the_options_and_touches_nothing(run: t.Any, certificates: Certificates) -> None:
    account = Account(context=certificates.good())
    with Server(account.handle) as imap:
        result = run(arguments(imap.port, certificates.ca_file), check=True)
        wrong = run(arguments(imap.port, certificates.ca_file, sender="nobody"), check=True)
    assert (result["failed"], result["skipped"]) == (False, True)
    assert "No message was sent" in result["msg"]
    assert wrong["failed"]
    assert imap.peers == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sender": "a@example.net\r\nDATA"}, "sender: "),
        ({"recipient": "a@example.net\n"}, "recipient: "),
        ({"timeout": 0}, "timeout: "),
        ({"timeout": 3601}, "timeout: "),
        ({"timeout": "nan"}, "timeout: "),
        ({"via": "relay", "relay": {"host": "smtp.example.net", "port": 465, "tls": "starttls"}}, "relay.tls: "),
        ({"via": "relay", "relay": {"host": "smtp.example.net", "username": "u", "password": "s3cr\net"}}, "relay.password: "),
        ({"via": "relay", "relay": {"host": "h", "username": "u", "password_file": "/nowhere"}}, "relay.password_file: /nowhere does not exist"),
        ({"mailbox": {"type": "maildir", "path": "Maildir"}}, "mailbox.path: "),
        ({"mailbox": {"type": "imap", "host": "h", "username": "u", "password": "s3cr\net"}}, "mailbox.password: "),
        ({"mailbox": {"type": "imap", "host": "h"}}, "type is imap but all of the following are missing: username, password"),
        ({"mailbox": {"type": "maildir"}}, "type is maildir but all of the following are missing: path"),
        ({"via": "relay"}, "via is relay but all of the following are missing: relay"),
    ],
)
def test_wrong_options_are_named_and_nothing_is_connected_to(run: t.Any, monkeypatch: pytest.MonkeyPatch, changes: t.Any, message: str) -> None:
    def connect(*_arguments: t.Any, **_settings: t.Any) -> t.NoReturn:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(imap, "Connector", connect)
    monkeypatch.setattr(roundtrip, "Client", connect)
    result = run(arguments(**changes))
    assert result["failed"]
    assert result["msg"].startswith(message)
    assert "s3cr" not in json.dumps(result)


def test_a_defect_shows_no_text_that_might_hold_a_secret(run: t.Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def defect(*_arguments: t.Any) -> t.NoReturn:
        raise KeyError("s3cret")

    monkeypatch.setattr(smtp_roundtrip, "RoundTrip", defect)
    result = run(arguments())
    assert result == {"failed": True, "msg": "smtp_roundtrip has a defect, please report it: KeyError."}
