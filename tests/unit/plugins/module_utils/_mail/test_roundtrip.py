# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole round trip on loopback: an SMTP server that delivers what it takes into a Maildir, as a chain of servers would."""

from __future__ import annotations

import json
import sys
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._mail.mail_log import MailLog
from ansible_collections.outpost.smtp.plugins.module_utils._mail.mailbox import Mailbox
from ansible_collections.outpost.smtp.plugins.module_utils._mail.maildir import Maildir
from ansible_collections.outpost.smtp.plugins.module_utils._mail.roundtrip import LOCAL, RELAY, Plan, RoundTrip, RoundTripError
from ansible_collections.outpost.smtp.plugins.module_utils._mail.submission import Route, queue_id
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust
from ansible_collections.outpost.smtp.tests.unit._support.smtp_server import PASSWORD, USERNAME, Certificates, Handler, Peer, Server, conversation

LOCAL_HOP = "from [127.0.0.1] (localhost [127.0.0.1]) by mx.provider.test (Postfix) with ESMTP id 4LOCAL; Mon, 23 Nov 2026 12:00:00 +0000"
FILTER_HOP = "from localhost by mx.provider.test (Postfix) with ESMTP id 4FILTER; Mon, 23 Nov 2026 12:00:00 +0000"
RELAY_HOP = (
    "from mx.provider.test (unknown [192.0.2.5]) (using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)) "
    f"(Authenticated sender: {USERNAME}) by smtp.example.net (Postfix) with ESMTPSA id 4RELAY; Mon, 23 Nov 2026 12:00:03 +0000"
)
PLAIN_HOP = "from mx.provider.test (unknown [192.0.2.5]) by smtp.example.net (Postfix) with ESMTP id 4RELAY; Mon, 23 Nov 2026 12:00:03 +0000"
OTHER_ID_HOP = LOCAL_HOP.replace("4LOCAL", "4OTHER")


class Lab:
    def __init__(self, tmp_path: Path) -> None:
        self.maildir = tmp_path / "Maildir"
        for name in ("new", "cur", "tmp"):
            (self.maildir / name).mkdir(parents=True)
        self._queue_script = tmp_path / "postqueue.py"
        self.queue(())

    def queue(self, lines: t.Sequence[t.Mapping[str, t.Any]]) -> None:
        self._queue_script.write_text(f"import json\nfor line in {list(lines)!r}: print(json.dumps(line))\n")

    def delivering(
        self, *hops: str, reply: str = "250 2.0.0 Ok: queued as 4LOCAL", change: t.Callable[[bytes], bytes] = bytes, **server: t.Any
    ) -> Handler:
        """A server that takes a message and puts it into the Maildir with the Received fields of `hops` (newest first)."""

        def take(peer: Peer) -> None:
            peer.send("354 go ahead")
            lines: t.List[bytes] = []
            while not lines or lines[-1] != b".":
                lines.append(peer.line())
            trace = "".join(f"Received: {hop}\r\n" for hop in hops).encode()
            (self.maildir / "tmp/1.test.host").write_bytes(trace + change(b"\r\n".join(lines[:-1])))
            (self.maildir / "tmp/1.test.host").rename(self.maildir / "new/1.test.host")
            peer.send(reply)
            while peer.line():
                peer.send("221 2.0.0 Bye")

        return conversation(replies={"DATA": take}, **server)

    def trip(
        self,
        port: int,
        *,
        via: str = LOCAL,
        timeout: float = 10,
        mailbox: t.Optional[Mailbox] = None,
        cleanup: bool = True,
        ca_file: t.Optional[str] = None,
        **route: t.Any,
    ) -> RoundTrip:
        plan = Plan(
            via=via,
            route=Route(**{"host": "127.0.0.1", "port": port, "tls": "none", "trust": Trust(ca_file=ca_file), **route}),
            sender="alerts@provider.test",
            recipient="inbox@provider.test",
            cleanup=cleanup,
            postqueue=[sys.executable, str(self._queue_script)],
            logins=[(route.get("username"), route.get("password"))],
        )
        return RoundTrip(plan, mailbox or Maildir(str(self.maildir)), Deadline(timeout))

    def left_over(self) -> t.List[str]:
        return [path.name for name in ("new", "cur") for path in (self.maildir / name).iterdir()]


@pytest.fixture()
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


# -- arrival -----------------------------------------------------------------------------------------------------------


def test_by_the_local_server(lab: Lab) -> None:
    (lab.maildir / "new/0.other.host").write_bytes(b"Subject: other\r\n\r\n")
    with Server(lab.delivering(RELAY_HOP, LOCAL_HOP)) as server:
        trip = lab.trip(server.port)
        trip.run()
    result = trip.result
    json.dumps(result)
    assert (result["arrived"], result["queue_id"], result["folder"], result["removed"]) == (True, "4LOCAL", "INBOX", True)
    assert result["reply"] == "250 2.0.0 Ok: queued as 4LOCAL"
    assert [(hop["by"], hop["delay_s"]) for hop in result["hops"]] == [("mx.provider.test", None), ("smtp.example.net", 3.0)]
    assert result["proof"] == {
        "token_matched": True, "message_id_matched": True, "queue_id_matched": True, "tls_to_relay": True, "authenticated": True,
    }  # fmt: skip
    assert all(isinstance(value, int) for value in result["elapsed_ms"].values())
    assert trip.warnings == []
    assert lab.left_over() == ["0.other.host"]
    assert b"MAIL FROM:<alerts@provider.test>" in server.lines
    assert b"RCPT TO:<inbox@provider.test>" in server.lines


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_directly_to_the_relay(lab: Lab, certificates: Certificates, tls: str) -> None:
    with Server(lab.delivering(RELAY_HOP, reply="250 2.0.0 Ok: queued as 4RELAY", tls=tls, context=certificates.good())) as server:
        trip = lab.trip(server.port, via=RELAY, host="localhost", tls=tls, ca_file=certificates.ca_file, username=USERNAME, password=PASSWORD)
        trip.run()
    assert trip.result["queue_id"] == "4RELAY"
    assert trip.result["proof"] == {
        "token_matched": True, "message_id_matched": True, "queue_id_matched": True, "tls_to_relay": True, "authenticated": True,
    }  # fmt: skip
    assert server.auth_attempts == 1
    assert PASSWORD not in json.dumps(trip.result, ensure_ascii=False)


@pytest.mark.parametrize(
    ("hops", "tls", "authenticated"),
    [
        ((PLAIN_HOP, LOCAL_HOP), False, False),
        ((RELAY_HOP, FILTER_HOP, LOCAL_HOP), True, True),
        ((LOCAL_HOP,), None, None),
    ],
)
def test_what_the_header_tells_of_the_way_to_the_relay(lab: Lab, hops: t.Sequence[str], tls: object, authenticated: object) -> None:
    with Server(lab.delivering(*hops)) as server:
        trip = lab.trip(server.port)
        trip.run()
    assert (trip.result["proof"]["tls_to_relay"], trip.result["proof"]["authenticated"]) == (tls, authenticated)


def test_a_trace_that_was_removed_is_a_warning(lab: Lab) -> None:
    with Server(lab.delivering("by smtp.example.net id 1; Mon, 23 Nov 2026 12:00:03 +0000")) as server:
        trip = lab.trip(server.port)
        trip.run()
    assert trip.result["proof"]["queue_id_matched"] is False
    assert trip.result["proof"]["tls_to_relay"] is None
    assert "does not show queue id 4LOCAL" in trip.warnings[0]


def test_a_message_id_that_was_replaced_is_reported(lab: Lab) -> None:
    with Server(lab.delivering(RELAY_HOP, LOCAL_HOP, change=lambda raw: raw.replace(b"Message-ID: <", b"Message-ID: <x"))) as server:
        trip = lab.trip(server.port)
        trip.run()
    assert trip.result["proof"]["message_id_matched"] is False


def test_the_message_stays_where_that_is_wanted(lab: Lab) -> None:
    with Server(lab.delivering(RELAY_HOP, LOCAL_HOP)) as server:
        trip = lab.trip(server.port, cleanup=False)
        trip.run()
    assert (trip.result["removed"], lab.left_over()) == (False, ["1.test.host"])


def test_a_message_that_can_not_be_removed_is_a_warning(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, dir_fd: t.Optional[int] = None) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.unlink", refuse)
    with Server(lab.delivering(RELAY_HOP, LOCAL_HOP)) as server:
        trip = lab.trip(server.port)
        trip.run()
    assert (trip.result["arrived"], trip.result["removed"]) == (True, False)
    assert "could not be removed from the mailbox" in trip.warnings[0]


# -- failure -----------------------------------------------------------------------------------------------------------


def failure(trip: RoundTrip) -> RoundTripError:
    with pytest.raises(RoundTripError) as caught:
        trip.run()
    json.dumps(trip.result)
    return caught.value


def test_no_message_is_sent_where_the_mailbox_can_not_be_read(lab: Lab, tmp_path: Path) -> None:
    with Server(lab.delivering(RELAY_HOP, LOCAL_HOP)) as server:
        error = failure(lab.trip(server.port, mailbox=Maildir(str(tmp_path / "absent"))))
    assert error.stage == "mailbox_login"
    assert str(error).startswith("Stage mailbox_login: ")
    assert str(error).endswith("Correct the option mailbox; no message was sent.")
    assert server.lines == []


def test_nothing_listens(lab: Lab) -> None:
    with Server(conversation()) as server:
        port = server.port
    trip = lab.trip(port)
    error = failure(trip)
    assert error.stage == "submit"
    assert trip.result["diagnosis"]["code"] == "tcp_refused"
    assert "mail server of this host" in str(error)
    assert trip.result["elapsed_ms"]["mailbox"] is not None


@pytest.mark.parametrize(("verb", "stage"), [("MAIL", "sender"), ("RCPT", "recipient"), ("DATA", "data")])
def test_a_message_that_is_refused(lab: Lab, verb: str, stage: str) -> None:
    with Server(conversation(replies={verb: "550 5.7.1 not you"})) as server:
        trip = lab.trip(server.port)
        error = failure(trip)
    assert error.stage == "submit"
    assert "550 5.7.1 not you" in str(error)
    assert trip.result["diagnosis"]["stage"] == stage
    assert "S: 550 5.7.1 not you" in trip.result["transcript"]


def test_a_wrong_password_is_tried_once_and_nothing_is_sent(lab: Lab, certificates: Certificates) -> None:
    with Server(lab.delivering(tls="implicit", context=certificates.good())) as server:
        trip = lab.trip(
            server.port, via=RELAY, host="localhost", tls="implicit", ca_file=certificates.ca_file, username=USERNAME, password="wr0ng-one"
        )
        failure(trip)
    assert trip.result["diagnosis"]["code"] == "auth_bad_credentials"
    assert server.auth_attempts == 1
    assert not [line for line in server.lines if line.startswith(b"MAIL")]
    assert "wr0ng-one" not in json.dumps(trip.result)


def test_a_relay_that_offers_no_login_gets_nothing(lab: Lab, certificates: Certificates) -> None:
    with Server(lab.delivering(tls="implicit", context=certificates.good(), offer_tls=("SIZE",))) as server:
        trip = lab.trip(server.port, via=RELAY, host="localhost", tls="implicit", ca_file=certificates.ca_file, username=USERNAME, password=PASSWORD)
        failure(trip)
    assert trip.result["diagnosis"]["code"] == "cap_auth_absent_after_tls"
    assert not [line for line in server.lines if line.startswith(b"MAIL")]


def entry(name: str, *reasons: str) -> t.Dict[str, t.Any]:
    recipients = [{"address": "inbox@provider.test", "delay_reason": reason} for reason in reasons] or [{"address": "inbox@provider.test"}]
    return {"queue_name": name, "queue_id": "4LOCAL", "recipients": recipients}


def swallow(peer: Peer) -> None:
    """Take the message and deliver it nowhere."""
    peer.send("354 go ahead")
    while peer.line() not in (b".", b""):
        pass
    peer.send("250 2.0.0 Ok: queued as 4LOCAL")


SILENT: t.Dict[str, t.Any] = {"replies": {"DATA": swallow}}
REASON = "SASL authentication failed; server smtp.example.net[192.0.2.1] said: 535 5.7.8 no"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([entry("deferred", REASON)], "(deferred): SASL authentication failed"),
        ([entry("active")], "(active): no attempt to deliver it has failed yet"),
        ([], "has left the local queue"),
    ],
)
def test_a_message_that_does_not_arrive_is_looked_for_in_the_queue(lab: Lab, lines: t.Sequence[t.Mapping[str, t.Any]], expected: str) -> None:
    lab.queue(lines)
    with Server(conversation(**SILENT)) as server:
        trip = lab.trip(server.port, timeout=0.5)
        begin = time.monotonic()
        error = failure(trip)
    assert time.monotonic() - begin < 5
    assert error.stage == "wait"
    assert expected in str(error)
    assert trip.result["queue_id"] == "4LOCAL"
    assert (trip.result["queue"] is None) == (lines == [])


def test_a_queue_that_can_not_be_asked_is_said(lab: Lab) -> None:
    with Server(conversation(**SILENT)) as server:
        trip = lab.trip(server.port, timeout=0.3)
        trip._plan = trip._plan._replace(postqueue=None)
        error = failure(trip)
    assert "no postqueue command" in str(error)


def test_the_pauses_grow(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: t.List[float] = []
    real_sleep = time.sleep

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        real_sleep(seconds / 50)

    monkeypatch.setattr(time, "sleep", sleep)
    with Server(conversation(**SILENT)) as server:
        failure(lab.trip(server.port, timeout=2.5))
    assert pauses[0] == 0.05
    assert pauses == sorted(pauses)
    assert pauses[-1] == 1.0


def test_a_message_that_came_another_way_is_no_proof(lab: Lab) -> None:
    with Server(lab.delivering(RELAY_HOP, OTHER_ID_HOP)) as server:
        trip = lab.trip(server.port)
        error = failure(trip)
    assert error.stage == "correlate"
    assert "another queue id than 4LOCAL" in str(error)
    assert trip.result["hops"][0]["queue_id"] == "4OTHER"
    assert lab.left_over() == ["1.test.host"]


def test_a_password_in_the_trace_is_masked(lab: Lab, certificates: Certificates) -> None:
    hop = RELAY_HOP.replace("4RELAY", "4RELAY for " + PASSWORD).replace(USERNAME, PASSWORD)
    with Server(lab.delivering(hop, reply="250 2.0.0 Ok: queued as 4RELAY", tls="implicit", context=certificates.good())) as server:
        trip = lab.trip(server.port, via=RELAY, host="localhost", tls="implicit", ca_file=certificates.ca_file, username=USERNAME, password=PASSWORD)
        trip.run()
    assert PASSWORD.split()[0] not in json.dumps(trip.result)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ok: queued as 4bXyZ12345z1abc", "4bXyZ12345z1abc"),
        ("OK id=1qABCD-0003Xy-1Z", "1qABCD-0003Xy-1Z"),
        ("6f1e2d3c Message accepted for delivery", "6f1e2d3c"),
        ("OK  1795435200 d9443c01a7336-2f0a1b2c3d4sm1234567ad.12 - gsmtp", "d9443c01a7336-2f0a1b2c3d4sm1234567ad.12"),
        ("Ok", None),
    ],
)
def test_the_queue_id_in_the_reply(text: str, expected: t.Optional[str]) -> None:
    assert queue_id(text) == expected


# -- the log in the place of a mailbox ---------------------------------------------------------------------------------


class LocalLog:
    """What the local mail server logs about the message that it has put into the lab's Maildir."""

    def __init__(self, lab: Lab, end: str) -> None:
        self._lab = lab
        self._end = end

    def lines(self) -> t.List[str]:
        texts = [path.read_text() for path in (self._lab.maildir / "new").iterdir()]
        ids = [line.split()[1] for text in texts for line in text.splitlines() if line.startswith("Message-ID:")]
        return [line for one in ids for line in (f"4LOCAL: message-id={one}", f"4LOCAL: to=<inbox@provider.test>, {self._end}")]


def test_the_log_shows_that_the_relay_took_it(lab: Lab) -> None:
    end = "relay=smtp.example.net[192.0.2.3]:465, dsn=2.0.0, status=sent (250 2.0.0 Ok)"
    with Server(lab.delivering()) as server:
        trip = lab.trip(server.port, mailbox=MailLog(lambda: [LocalLog(lab, end)]), cleanup=False)
        trip.run()
    assert (trip.result["arrived"], trip.result["folder"], trip.result["removed"]) == (True, "smtp.example.net[192.0.2.3]:465", False)
    assert trip.result["proof"] == {
        "token_matched": True, "message_id_matched": True, "queue_id_matched": True, "tls_to_relay": None, "authenticated": None,
    }  # fmt: skip
    assert trip.warnings == []


def test_the_log_shows_at_once_that_it_was_returned(lab: Lab) -> None:
    end = "relay=smtp.example.net[192.0.2.3]:465, dsn=5.7.1, status=bounced (553 5.7.1 not owned by user)"
    with Server(lab.delivering()) as server:
        trip = lab.trip(server.port, mailbox=MailLog(lambda: [LocalLog(lab, end)]), timeout=60)
        begin = time.monotonic()
        with pytest.raises(RoundTripError, match="message 4LOCAL was returned to its sender.*553 5.7.1 not owned by user") as failure:
            trip.run()
    assert failure.value.stage == "wait"
    assert time.monotonic() - begin < 30
    assert trip.result["arrived"] is False
