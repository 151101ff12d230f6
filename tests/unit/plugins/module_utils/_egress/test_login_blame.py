# SPDX-License-Identifier: GPL-3.0-or-later
"""From the result of a login to the one answer what stops the mail."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import blame, login_blame, who_blocks
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.diagnoses import CATALOGUE

#: On loopback there is a route on every machine.
HERE = "127.0.0.1"


def result(code: str, stage: str, evidence: t.Sequence[str] = (), outcome: str = "timeout", **fields: t.Any) -> t.Dict[str, t.Any]:
    diagnosis = {"code": code, "stage": stage, "summary": "What happened.", "evidence": list(evidence), "remedy": "What to do."}
    address = {"address": HERE, "family": "ipv4", "outcome": outcome, "elapsed_ms": 2000}
    return {"ok": False, "port": 587, "diagnosis": diagnosis, "addresses": [address], "alternatives": [], **fields}


def cause(found: t.Dict[str, t.Any]) -> t.Optional[str]:
    (judged,) = login_blame.with_blame([found])
    return judged["blocked_by"]["cause"] if judged["blocked_by"] else None


def alternative(port: int, outcome: str) -> t.Dict[str, t.Any]:
    return {"port": port, "tls": "implicit", "works": outcome == "works", "outcome": outcome}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (result("egress_blocked_local", "connect", [f"firewall of this server: {who_blocks.OWN}, which refuses this user"]), blame.OWN_TABLE),
        (result("egress_blocked_local", "connect", ["x", "firewall of this server: rule 'tcp dport 587 drop'"]), blame.OTHER_CHAIN),
        (result("egress_blocked_upstream", "connect", alternatives=[alternative(465, "works")]), blame.PROVIDER_SUSPECTED),
        (result("egress_blocked_upstream", "connect"), blame.PROVIDER_SUSPECTED),
        (result("tcp_timeout", "connect", alternatives=[alternative(465, "timeout")]), blame.UNKNOWN),
        (result("tcp_refused", "connect", outcome="refused"), blame.RELAY_REFUSED),
        (result("tcp_eperm", "connect", outcome="not_permitted"), blame.UNIT_SANDBOX),
        (result("postfix_unit_may_not_connect", "connect"), blame.UNIT_SANDBOX),
        (result("greet_554", "greeting", ["reply: 554 5.7.1 no"]), blame.RELAY_REFUSED),
        (result("greet_timeout", "greeting", ["greeting: timeout"]), blame.RELAY_REFUSED),
        (result("sender_not_owned", "sender"), blame.RELAY_REFUSED),
        (result("greet_captive", "tls"), blame.PROVIDER_SUSPECTED),
        (result("greet_tarpit", "greeting"), blame.PROVIDER_SUSPECTED),
        (result("tls_wrong_mode", "greeting"), blame.TLS),
        (result("tls_name_mismatch", "tls"), blame.TLS),
        (result("cap_starttls_absent", "starttls"), blame.TLS),
        (result("auth_bad_credentials", "auth", ["reply to AUTH PLAIN: 535"]), blame.AUTHENTICATION),
        (result("cap_auth_absent_plain", "ehlo"), blame.AUTHENTICATION),
        (result("dns_nxdomain", "resolve"), None),
        (result("proxy_unreachable", "connect"), None),
    ],
    ids=lambda value: value["diagnosis"]["code"] if isinstance(value, dict) else None,
)
def test_the_cause(found: t.Dict[str, t.Any], expected: t.Optional[str]) -> None:
    assert cause(found) == expected


def test_every_diagnosis_has_an_answer() -> None:
    """Whatever the code and its stages: none of them breaks it."""
    for entry in CATALOGUE:
        for stage in entry.stages:
            cause(result(entry.code, stage))


def test_an_address_without_a_route_is_the_routes_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_blame.probe, "route", lambda _address: 101)

    assert cause(result("tcp_net_unreachable", "connect", outcome="net_unreachable")) == blame.ROUTE


def test_our_own_rules_say_what_they_are_for() -> None:
    """To change them, as the diagnosis advises for rules of others, would be wrong."""
    (judged,) = login_blame.with_blame([result("egress_blocked_local", "connect", [f"firewall of this server: {who_blocks.OWN}"])])

    assert judged["diagnosis"]["remedy"].startswith("Mail goes out by the mail server only") and judged["diagnosis"]["remedy"].endswith(".")


def test_a_login_that_works_is_blocked_by_nothing() -> None:
    (judged,) = login_blame.with_blame([{"ok": True, "diagnosis": None}])

    assert judged["blocked_by"] is None


@pytest.mark.parametrize(
    ("uid", "investigated", "nft", "known"),
    [(0, True, "/usr/sbin/nft", True), (1000, True, "/usr/sbin/nft", False), (0, False, "/usr/sbin/nft", False), (0, True, None, False)],
)
def test_who_has_not_read_the_rules_does_not_call_them_clean(
    monkeypatch: pytest.MonkeyPatch, uid: int, investigated: bool, nft: t.Optional[str], known: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(login_blame.nft, "find", lambda: nft)
    detail = login_blame.with_blame([result("tcp_refused", "connect", outcome="refused")], investigated)[0]["blocked_by"]["detail"]

    assert ("nothing on this server is in the way" if known else "could not be read") in detail


class TestInACloud:
    @pytest.fixture
    def root(self, tmp_path: Path) -> str:
        (tmp_path / "sys/class/dmi/id").mkdir(parents=True)
        (tmp_path / "sys/class/dmi/id/sys_vendor").write_text("Hetzner\n")
        return str(tmp_path)

    def test_the_block_is_mentioned_where_nothing_answers(self, root: str) -> None:
        (judged,) = login_blame.with_blame([result("tcp_timeout", "connect", port=465)], root=root)

        assert judged["blocked_by"]["cause"] == blame.PROVIDER_SUSPECTED and "Hetzner Cloud" in judged["blocked_by"]["detail"]
        assert judged["diagnosis"]["remedy"].startswith("What to do. This server runs at Hetzner Cloud")
        assert judged["diagnosis"]["code"] == "tcp_timeout"

    @pytest.mark.parametrize(
        "found",
        [
            result("tcp_timeout", "connect", port=587),
            result("tcp_refused", "connect", outcome="refused", port=465),
            result("egress_blocked_local", "connect", ["firewall of this server: a rule"], port=465),
        ],
        ids=["another port", "refused", "a rule of this host"],
    )
    def test_and_not_where_it_explains_nothing(self, root: str, found: t.Dict[str, t.Any]) -> None:
        assert "Hetzner" not in str(login_blame.with_blame([found], root=root))
