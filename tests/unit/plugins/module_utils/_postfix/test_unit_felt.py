# SPDX-License-Identifier: GPL-3.0-or-later
"""A test that got through, and a unit of Postfix that would not."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress.unit_limits import Limit
from ansible_collections.outpost.smtp.plugins.module_utils._postfix import unit_felt

RELAY, RELAY6 = "192.0.2.10", "2001:db8::10"


def result(*connected: str, **fields: t.Any) -> t.Dict[str, t.Any]:
    addresses = [{"address": address, "outcome": "connected" if address in connected else "no_answer"} for address in (RELAY, RELAY6)]
    return {"ok": True, "host": "smtp.example.net", "port": 587, "tls_mode": "starttls", "diagnosis": None, "addresses": addresses, **fields}


def limit(address: str) -> Limit:
    return Limit("postfix.service", "IPAddressDeny=any", address, [f"IPAddressAllow={address}"])


def felt(found: t.Dict[str, t.Any], *limits: Limit) -> t.Dict[str, t.Any]:
    (judged,) = unit_felt.felt([found], lambda _addresses: list(limits))
    return judged


def test_a_limit_fails_what_got_through() -> None:
    judged = felt(result(RELAY), limit(RELAY))

    assert not judged["ok"] and judged["diagnosis"]["code"] == "postfix_unit_may_not_connect" and judged["diagnosis"]["stage"] == "connect"
    assert "unit postfix.service may not connect to 192.0.2.10: IPAddressDeny=any" in judged["diagnosis"]["summary"]
    assert "systemctl edit postfix.service" in judged["diagnosis"]["remedy"]


@pytest.mark.parametrize("limits", [[], [limit(RELAY6)], [limit("198.51.100.1")]], ids=["none", "on another address", "on another relay"])
def test_one_address_is_enough(limits: t.List[Limit]) -> None:
    assert felt(result(RELAY), *limits) == result(RELAY)
    assert felt(result(RELAY, RELAY6), *limits) == result(RELAY, RELAY6)


def test_without_any_network_no_address_is_left() -> None:
    assert felt(result(RELAY, RELAY6), Limit("postfix.service", "PrivateNetwork=yes", "", ["PrivateNetwork=no"]))["ok"] is False


def test_what_did_not_connect_says_so_itself() -> None:
    failed = result(ok=False, diagnosis={"code": "tcp_timeout", "stage": "connect"})

    assert felt(failed, limit(RELAY), limit(RELAY6)) == failed
