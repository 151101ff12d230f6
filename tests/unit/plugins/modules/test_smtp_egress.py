# SPDX-License-Identifier: GPL-3.0-or-later
"""The glue: options in, one result or one sentence out. And the rule set of the role, as it is rendered."""

from __future__ import annotations

import ipaddress
import json
import re
import sys
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "_support"))

import egress_template  # noqa: E402  (needs the path set above)

from ansible_collections.outpost.smtp.plugins.module_utils._egress import program, ruleset  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import Addresses  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError  # noqa: E402
from ansible_collections.outpost.smtp.plugins.modules import smtp_egress  # noqa: E402

WANTED: t.Dict[str, t.Any] = {"relays": [{"host": "SMTP.example.net.", "port": 465}], "ruleset": "text"}


class FakeEgress:
    """Stands for the package: keeps what it is asked and answers, or fails."""

    asked: t.ClassVar[t.List[t.Any]] = []
    outcome: t.ClassVar[t.Any] = {"changed": True}

    def __init__(self, _nft: t.Any, _run: t.Any, *, check_mode: bool, entry: str) -> None:
        self.asked.extend([check_mode, entry])

    def present(self, request: t.Any, terms: t.Any, *, report_missing: bool) -> t.Dict[str, t.Any]:
        self.asked.extend([request, terms, report_missing])
        if isinstance(self.outcome, Exception):
            raise self.outcome  # pylint: disable=raising-bad-type  # seen as the dictionary that it is at first
        return t.cast(t.Dict[str, t.Any], self.outcome)

    def absent(self) -> t.Dict[str, t.Any]:
        return {"changed": False, "asked": "absent"}

    def confirmed(self) -> t.Dict[str, t.Any]:
        return {"changed": False, "asked": "confirmed"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> t.Callable[..., t.Dict[str, t.Any]]:
    monkeypatch.setattr(smtp_egress, "Egress", FakeEgress)
    monkeypatch.setattr(FakeEgress, "asked", [])

    def call(outcome: t.Any = None, **options: t.Any) -> t.Dict[str, t.Any]:
        monkeypatch.setattr(FakeEgress, "outcome", outcome or {"changed": True})
        with patch_module_args(options), pytest.raises(SystemExit):
            smtp_egress.main()
        return t.cast(t.Dict[str, t.Any], json.loads(capsys.readouterr().out))

    return call


def test_options_become_a_request(run: t.Callable[..., t.Dict[str, t.Any]]) -> None:
    result = run(**WANTED, exempt_users=["root"], packages_missing="report", _ansible_check_mode=True)
    assert result["changed"]
    check_mode, entry, request, terms, report_missing = FakeEgress.asked
    assert check_mode and report_missing and entry == program.__name__
    assert [tuple(relay) for relay in request.relays] == [("smtp-example-net", "smtp.example.net", 465)]
    assert request[1:] == ("postfix", ["root"], "text", "auto", ("relays",))
    assert terms == (0, 10, 60)


def test_all_options_are_handed_on(run: t.Callable[..., t.Dict[str, t.Any]]) -> None:
    run(**WANTED, manager="ufw", destinations=["192.0.2.0/24"], refresh=300, proof_timeout=0, rollback_timeout=60)
    _check_mode, _entry, request, terms, _report_missing = FakeEgress.asked
    assert (request.manager, request.destinations) == ("ufw", ("192.0.2.0/24",)) and terms == (300, 0, 60)


@pytest.mark.parametrize("state", ["absent", "confirmed"])
def test_other_states_need_no_rules(run: t.Callable[..., t.Dict[str, t.Any]], state: str) -> None:
    assert run(state=state)["asked"] == state


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "state is present but all of the following are missing: relays, ruleset"),
        ({**WANTED, "relays": []}, "relays: is empty"),
        ({**WANTED, "relays": [{"host": "a b", "port": 465}]}, "relays[0]"),
        ({**WANTED, "relays": [{"host": "192.0.2.1 } }", "port": 465}]}, "relays[0]"),
        ({**WANTED, "relays": [{"host": "smtp.example.net", "port": 0}]}, "relays[0] (smtp.example.net).port"),
        ({**WANTED, "relays": [{"host": "smtp.example.net", "port": 465, "password": "x"}]}, "relays.password"),
        ({**WANTED, "destinations": "192.0.2.1 } }"}, "destinations must be 'relays', 'any' or a list of networks"),
        ({**WANTED, "destinations": ["192.0.2.1/24"]}, "destinations: '192.0.2.1/24' is not an address or network"),
        ({**WANTED, "refresh": 5}, "refresh must be 0, or from 10 to 86400 seconds, and is 5"),
        ({**WANTED, "rollback_timeout": -1}, "rollback_timeout must be 0, or from 5 to 3600 seconds"),
        ({**WANTED, "proof_timeout": 10000}, "proof_timeout must be 0, or from 1 to 300 seconds"),
    ],
)
def test_wrong_options_are_named(run: t.Callable[..., t.Dict[str, t.Any]], options: t.Dict[str, t.Any], message: str) -> None:
    result = run(**options)
    assert result["failed"] and message in result["msg"]


def test_a_doubt_is_a_warning(run: t.Callable[..., t.Dict[str, t.Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    # Where a test has loaded ansible-core's controller side into this process, warnings go to its display.
    warned: t.List[str] = []
    monkeypatch.setattr(smtp_egress.AnsibleModule, "warn", lambda _module, text: warned.append(text))
    doubt = {"chain": "ip filter OUTPUT", "destinations": ["192.0.2.10 port 465"]}
    lost = {"ok": False, "address": "192.0.2.11", "port": 465, "mta": "timeout"}
    note = {"at": "2026-11-23T12:00:00Z", "why": "nobody confirmed it"}
    result = run({"changed": True, "blocking_chains": [doubt], "proof": [lost, {"ok": True}], "rolled_back": note}, **WANTED)
    assert result["changed"] and warned == [
        "chain 'ip filter OUTPUT' may stop mail to 192.0.2.10 port 465; its rules alone do not tell",
        "192.0.2.11 port 465 is not reached by the mail server's user: timeout",
        "the change before this one was taken back at 2026-11-23T12:00:00Z: nobody confirmed it",
    ]


def test_a_failure_is_a_sentence_with_its_facts(run: t.Callable[..., t.Dict[str, t.Any]]) -> None:
    result = run(EgressError("what is wrong", blocking_chains=[{"chain": "inet filter output"}]), **WANTED)
    assert result["failed"] and result["msg"] == "what is wrong" and result["blocking_chains"] == [{"chain": "inet filter output"}]


def test_a_bug_is_a_sentence_too(run: t.Callable[..., t.Dict[str, t.Any]]) -> None:
    result = run(RuntimeError("surprise"), **WANTED)
    assert result["failed"] and result["msg"] == "unexpected RuntimeError: surprise; please report this as a bug"


def template(mode: str, exempt: t.List[int], ipv6: t.List[str], destinations: t.Any = "relays", forwarded: bool = False) -> str:
    """The role's rule set as it is loaded for two relays."""
    relays = [{"name": "primary", "host": "a.example.net", "port": 465}, {"name": "second", "host": "b.example.net", "port": 2525}]
    found = {"a.example.net": Addresses(["192.0.2.10"], ipv6, "dns"), "b.example.net": Addresses(["192.0.2.20"], [], "dns")}
    networks = [ipaddress.ip_network(network) for network in destinations] if isinstance(destinations, list) else []
    return ruleset.render(egress_template.rendered(relays, mode, destinations, forwarded), found, ruleset.Users(101, exempt), networks)


COUNTED = ['output: oifname "lo" accept', "output: tcp flags & (fin | syn | rst | ack) == syn jump smtp"]
GUARDED = [
    "guard: tcp dport { 25, 465, 587 } tcp flags & (fin | syn | rst | ack) == syn jump refuse",
    'refuse: oifname "lo" accept',
    "refuse: ip daddr 127.0.0.0/8 accept",
    "refuse: ip6 daddr ::1 accept",
]
REFUSE = [
    'refuse: limit rate 6/minute burst 5 packets log prefix "outpost-smtp refused: " flags skuid',
    'refuse: counter name "refused" reject with tcp reset',
]


def test_the_rules_of_mode_allow() -> None:
    text = template("allow", [], ["2001:db8::10"])
    ruleset.require_own_table_only(text)
    assert ruleset.rules(text) == [
        *COUNTED,
        'smtp: ip daddr { 192.0.2.10 } tcp dport 465 counter name "accepted" accept',
        'smtp: ip6 daddr { 2001:db8::10 } tcp dport 465 counter name "accepted" accept',
        'smtp: ip daddr { 192.0.2.20 } tcp dport 2525 counter name "accepted" accept',
    ]


def test_the_rules_of_mode_guard() -> None:
    """A relay on a port that nobody is kept from needs no exception."""
    text = template("guard", [0], [])
    ruleset.require_own_table_only(text)
    assert ruleset.rules(text) == [
        *GUARDED,
        "refuse: ip daddr { 192.0.2.10 } tcp dport 465 meta skuid 101 accept",
        "refuse: meta skuid { 0 } accept",
        *REFUSE,
        *COUNTED,
        'smtp: ip daddr { 192.0.2.10 } tcp dport 465 meta skuid 101 counter name "accepted" accept',
        'smtp: ip daddr { 192.0.2.20 } tcp dport 2525 meta skuid 101 counter name "accepted" accept',
    ]


def test_what_other_tests_load_is_what_the_role_loads() -> None:
    recorded = Path(__file__).resolve().parents[2] / "_support" / "egress_guard.nft"
    assert egress_template.rendered([{"name": "primary", "host": "relay.example", "port": 587}]) == recorded.read_text(encoding="utf-8")


def test_the_rules_for_any_destination_and_for_networks() -> None:
    for destinations, where in (("any", ""), (["192.0.2.0/24"], "ip daddr { 192.0.2.0/24 } ")):
        assert [rule for rule in ruleset.rules(template("guard", [], [], destinations)) if "skuid 101" in rule] == [
            f"refuse: {where}tcp dport 465 meta skuid 101 accept",
            f'smtp: {where}tcp dport 465 meta skuid 101 counter name "accepted" accept',
            f'smtp: {where}tcp dport 2525 meta skuid 101 counter name "accepted" accept',
        ]


def test_the_page_for_people_shows_these_rules() -> None:
    page = (egress_template.TEMPLATE.parents[1] / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"^```\n(table inet outpost_smtp\n.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert shown is not None
    text = egress_template.rendered([{"name": "smtp-example-net", "host": "smtp.example.net", "port": 465}])
    found = {"smtp.example.net": Addresses(["192.0.2.10"], ["2001:db8::10"], "dns")}
    assert ruleset.rules(shown.group(1)) == ruleset.rules(ruleset.render(text, found, ruleset.Users(101, []), []))


def test_what_is_forwarded_is_refused_only_when_asked_for() -> None:
    text = template("guard", [], [], forwarded=True)
    ruleset.require_own_table_only(text)
    refused = 'tcp dport { 25, 465, 587 } tcp flags & (fin | syn | rst | ack) == syn counter name "refused_forwarded" reject with tcp reset'
    assert [rule for rule in ruleset.rules(text) if rule.startswith("forward: ")] == ["forward: ct status dnat accept", f"forward: {refused}"]
    assert "hook forward" not in template("guard", [], [])


def test_nobody_is_exempt_by_default() -> None:
    assert not [rule for rule in ruleset.rules(template("guard", [], [])) if "skuid {" in rule]


@pytest.mark.parametrize("destinations", ["relays", "any", ["192.0.2.0/24"]])
@pytest.mark.parametrize("mode", ["allow", "guard"])
def test_no_rule_can_lock_anybody_out(mode: str, destinations: t.Any) -> None:
    """The only way to a reject goes through a rule that names the three mail ports, and no policy drops."""
    text = template(mode, [0], ["2001:db8::10"], destinations)
    guarded = mode == "guard"
    assert text.count("policy accept;") == text.count("type filter") == (2 if guarded else 1)
    rules = ruleset.rules(text)
    assert [rule for rule in rules if "reject" in rule] == (REFUSE[1:] if guarded else [])
    assert [rule for rule in rules if "jump refuse" in rule] == (GUARDED[:1] if guarded else [])
