# SPDX-License-Identifier: GPL-3.0-or-later
"""However many relays of a run are one account, a wrong password reaches its server once."""

from __future__ import annotations

import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor

import pytest
from smtp_server import PASSWORD, USERNAME, Certificates, Handler, Peer, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.endpoint import normalise_endpoints
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.logins import Logins
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.probe import probe_all
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials

TIMEOUT = 20.0


def entries(server: Server, certificates: Certificates, *differences: t.Dict[str, t.Any]) -> t.List[t.Dict[str, t.Any]]:
    common = {"host": "127.0.0.1", "port": server.port, "tls": "implicit", "ca_file": certificates.ca_file}
    login = {"username": USERNAME, "password": PASSWORD}
    return normalise_endpoints([{"name": f"relay-{number}", **common, **login, **one} for number, one in enumerate(differences)])


def served(certificates: Certificates, **replies: t.Any) -> Handler:
    return conversation(tls="implicit", context=certificates.good(), offer_tls=("AUTH PLAIN LOGIN",), replies=replies)


ACCEPTED = Reply(235, ["2.7.0 ok"])
REFUSED = "535 5.7.8 authentication failed"


@pytest.mark.parametrize("replies", [{"AUTH": REFUSED}, {"AUTH": "454 4.7.0 try again later"}])
def test_a_refused_login_is_sent_once_and_told_by_all(certificates: Certificates, replies: t.Dict[str, t.Any]) -> None:
    others = ({"minimum_tls": "1.3"}, {"mechanism": "login"}, {"sender": "a@example.org"}, {})
    with Server(served(certificates, **replies)) as server:
        results = probe_all(entries(server, certificates, {}, *others), TIMEOUT, "client.example.org")
        server.settle()

    assert server.auth_attempts == 1
    assert [result["name"] for result in results] == [f"relay-{number}" for number in range(5)]
    code = int(replies["AUTH"][:3])
    assert [(result["ok"], result["diagnosis"]["stage"], result["auth"]["code"]) for result in results] == [(False, "auth", code)] * 5
    # The first and the last are the same, and so is their result; which of the others is first to log in is open.
    assert {**results[0], "name": ""} == {**results[4], "name": ""}
    told = [result for result in results[:4] if any("the login was not sent" in line for line in result["diagnosis"]["evidence"])]
    assert len(told) == 3
    assert all(not result["auth"]["tried"] and result["auth"]["attempts"] == [] for result in told)


def test_two_ports_of_a_host_are_one_account(certificates: Certificates) -> None:
    with Server(served(certificates, AUTH=REFUSED)) as one, Server(served(certificates, AUTH=REFUSED)) as other:
        relays = [*entries(one, certificates, {}), *({**entry, "name": "other"} for entry in entries(other, certificates, {}))]
        results = probe_all(relays, TIMEOUT, "client.example.org")
        one.settle()
        other.settle()

    assert one.auth_attempts + other.auth_attempts == 1
    assert [result["auth"]["code"] for result in results] == [535, 535]


def test_a_server_that_hangs_up_at_the_password_is_not_given_it_again(certificates: Certificates) -> None:
    with Server(served(certificates, AUTH=Peer.reset)) as server:
        results = probe_all(entries(server, certificates, {}, {"mechanism": "plain"}), TIMEOUT, "client.example.org", investigate=False)
        server.settle()

    assert server.auth_attempts == 1
    assert [result["diagnosis"]["stage"] for result in results] == ["auth", "auth"]


def test_a_server_that_never_answers_is_not_given_it_again(certificates: Certificates) -> None:
    with Server(served(certificates, AUTH=Peer.wait_until_closed)) as server:
        results = probe_all(entries(server, certificates, {}, {"mechanism": "plain"}), 1.5, "client.example.org", investigate=False)
        server.settle()

    assert server.auth_attempts == 1
    assert [result["diagnosis"]["stage"] for result in results] == ["auth", "auth"]


def test_a_good_login_is_done_by_each_and_after_the_first_by_all_at_once() -> None:
    """That the second and the third, who waited for the first, meet in their attempts proves that they are not kept apart."""
    started, waiting, together = threading.Event(), threading.Semaphore(0), threading.Barrier(2)

    class Waiting(Deadline):
        def remaining(self) -> float:
            waiting.release()  # asked just before the wait for the first one's answer
            return super().remaining()

    def first() -> Reply:
        started.set()
        assert waiting.acquire(timeout=TIMEOUT) and waiting.acquire(timeout=TIMEOUT)
        return ACCEPTED

    def other() -> Reply:
        together.wait(TIMEOUT)
        return ACCEPTED

    logins, credentials = Logins(), Credentials(USERNAME, PASSWORD)

    def log_in(deadline: Deadline, attempt: t.Callable[[], Reply]) -> Reply:
        return logins.log_in(Client("mail.example.org", 465, "implicit", deadline=deadline), credentials, attempt)

    with ThreadPoolExecutor(3) as pool:
        replies = [pool.submit(log_in, Deadline(TIMEOUT), first)]
        assert started.wait(TIMEOUT)
        replies += [pool.submit(log_in, Waiting(TIMEOUT), other) for _other in range(2)]
        assert [reply.result(TIMEOUT) for reply in replies] == [ACCEPTED] * 3


@pytest.mark.parametrize("difference", [{"password": "another-one"}, {"username": "another"}, {"try_all_mechanisms": True}])
def test_what_is_another_login_is_tried(certificates: Certificates, difference: t.Dict[str, t.Any]) -> None:
    with Server(served(certificates, AUTH=REFUSED)) as server:
        probe_all(entries(server, certificates, {"mechanism": "plain"}, {"mechanism": "plain", **difference}), TIMEOUT, "client.example.org")
        server.settle()

    assert server.auth_attempts == 2


def test_a_failure_before_the_login_stops_nobody_else(certificates: Certificates) -> None:
    with Server(served(certificates)) as server:
        others = ({"mechanism": "cram-md5"}, {"ca_file": None}, {})
        results = probe_all(entries(server, certificates, *others), TIMEOUT, "client.example.org")

    assert [result["ok"] for result in results] == [False, False, True]
    assert [result["diagnosis"] and result["diagnosis"]["stage"] for result in results] == ["auth", "tls", None]


def test_what_differs_by_its_name_only_is_tested_once(certificates: Certificates) -> None:
    with Server(served(certificates)) as server:
        results = probe_all(entries(server, certificates, {}, {"mechanism": "plain"}, {}), TIMEOUT, "client.example.org")
        server.settle()

    assert [(result["name"], result["ok"]) for result in results] == [("relay-0", True), ("relay-1", True), ("relay-2", True)]
    assert server.auth_attempts == 2 and len(server.peers) == 2
