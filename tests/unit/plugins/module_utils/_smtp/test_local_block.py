# SPDX-License-Identifier: GPL-3.0-or-later
"""When this host's own rules are asked about, and what is told where they can not be read."""

from __future__ import annotations

import socket
import threading
import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import Attempt
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.endpoint import normalise_endpoints
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.probe import probe_all
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings import local_block
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.refusal import Refusal


class Firewall:
    """Keeps what it was asked about, and names one rule."""

    def __init__(self, *rules: str) -> None:
        self.rules = list(rules)
        self.asked: t.List[t.Tuple[t.List[str], int]] = []

    def __call__(self, addresses: t.Sequence[str], port: int) -> t.List[str]:
        self.asked.append((list(addresses), port))
        return self.rules


def failure(kind: str, *outcomes: str) -> Observation:
    seen = Observation("smtp.example.org", 587, "starttls")
    seen.error = SmtpError(kind, "x", stage="connect")
    seen.attempts = [Attempt(Address(socket.AF_INET, (f"192.0.2.{index}", 587)), outcome) for index, outcome in enumerate(outcomes, 1)]
    return seen


def test_the_addresses_that_failed_are_asked_about() -> None:
    seen, firewall = failure(Kind.CONNECT, "timeout", "no_source_address", "refused", "not_permitted"), Firewall("rule 7")
    local_block.find(seen, firewall)

    assert firewall.asked == [(["192.0.2.1", "192.0.2.3", "192.0.2.4"], 587)] and seen.blocked_by == ["rule 7"]


@pytest.mark.parametrize(("kind", "outcomes"), [(Kind.TIMEOUT, ("timeout",)), (Kind.PROXY, ("refused",)), (Kind.CONNECT, ("no_source_address",))])
def test_nobody_is_asked_where_no_rule_can_be_the_reason(kind: str, outcomes: t.Tuple[str, ...]) -> None:
    seen, firewall = failure(kind, *outcomes), Firewall("rule 7")
    local_block.find(seen, firewall)

    assert firewall.asked == [] and seen.blocked_by == []


def test_nothing_is_asked_after_a_success() -> None:
    seen, firewall = Observation("smtp.example.org", 587, "starttls"), Firewall("rule 7")
    local_block.find(seen, firewall)

    assert firewall.asked == []


@pytest.mark.parametrize("firewall", [None, Firewall()], ids=["none", "nothing found"])
def test_an_icmp_error_of_this_host_tells_without_any_privilege(firewall: t.Optional[Firewall]) -> None:
    seen = failure(Kind.CONNECT, "refused")
    seen.refusals = [Refusal("192.0.2.1", "192.0.2.99", True, "port unreachable", 0)]
    local_block.find(seen, firewall)

    assert seen.blocked_by == ["a rule that rejects with ICMP port unreachable"]


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal("192.0.2.1", "198.51.100.1", False, "port unreachable", 0),
        Refusal("192.0.2.1", "", False, "", 0),
        Refusal("192.0.2.1", "192.0.2.99", True, "host unreachable", 3050),
    ],
    ids=["a router", "a reset", "no neighbour"],
)
def test_others_are_not_this_host(refusal: Refusal) -> None:
    seen = failure(Kind.CONNECT, "refused")
    seen.refusals = [refusal]
    local_block.find(seen, None)

    assert seen.blocked_by == []


def test_a_failure_is_told_though_the_firewall_is_not_read_in_time() -> None:
    """Fifty relays that are stopped at once wait for each other there (see who_blocks.py)."""
    never = threading.Event()

    def explain(_addresses: t.Sequence[str], _port: int) -> t.List[str]:
        never.wait()
        return []

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    try:
        target = normalise_endpoints([{"host": "127.0.0.1", "port": port}])
        (result,) = probe_all(target, 0.5, "client.example.org", investigate=False, explain=explain)
    finally:
        never.set()

    assert result["diagnosis"]["code"] == "tcp_refused"
    assert result["addresses"][0]["outcome"] == "refused"
