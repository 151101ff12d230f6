# SPDX-License-Identifier: GPL-3.0-or-later
"""The server of a domain by its SRV records, and what its certificate must be for."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import dns, srv
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust


@pytest.fixture
def records(monkeypatch):
    """The records, best first, by service and domain."""
    known = {}
    monkeypatch.setattr(dns, "srv", lambda service, domain, deadline: known.get((service, domain), []))
    return known


def led(domain="example.com", trust=Trust()):  # noqa: B008  # immutable
    client = Client(domain, 587, "starttls", deadline=Deadline(5), trust=trust)
    srv.lead(client, "submission")
    return client.host, client.port, client.trust.server_name


def test_the_best_server_is_taken_at_its_own_port(records):
    records["submission", "example.com"] = [(0, 5, 1587, "mx.example.com"), (10, 0, 587, "other.example.com")]
    assert led() == ("mx.example.com", 1587, None)


def test_the_certificate_of_a_server_elsewhere_must_be_for_the_domain(records):
    records["submission", "example.com"] = [(0, 0, 587, "evilexample.com")]
    assert led() == ("evilexample.com", 587, "example.com")
    assert led(trust=Trust(server_name="mx.example.org"))[2] == "mx.example.org"


@pytest.mark.parametrize("answer", [[], [(0, 0, 0, ".")], [(0, 0, 0, "")]])
def test_a_domain_without_the_service_is_told_by_its_record(records, answer):
    records["submission", "example.com"] = answer
    with pytest.raises(SmtpError, match=r"_submission\._tcp\.example\.com") as caught:
        led()
    assert caught.value.stage == "resolve" and caught.value.errno == socket.EAI_NONAME, "asking again would not help"
