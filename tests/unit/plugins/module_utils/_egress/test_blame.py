# SPDX-License-Identifier: GPL-3.0-or-later
"""What stops mail, with real rules, routes and a real neighbour in networks of their own."""

from __future__ import annotations

import errno
import sys
import typing as t
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "_support"))

import namespace  # noqa: E402  (needs the path set above)

from ansible_collections.outpost.smtp.plugins.module_utils._egress import blame, clouds, unit_limits, who_blocks  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._egress.blame import BlockedBy, Evidence  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._egress.probe import Outcome  # noqa: E402

real = pytest.mark.skipif(not namespace.available(), reason="needs root and nft")

GUARD = namespace.guard(8)
SCRIPT = """
import json, os, subprocess, tempfile
from ansible_collections.outpost.smtp.plugins.module_utils._egress import blame
root = tempfile.mkdtemp()
if VENDOR:
    os.makedirs(root + "/sys/class/dmi/id")
    with open(root + "/sys/class/dmi/id/sys_vendor", "w") as file:
        file.write(VENDOR + "\\n")
for command in COMMANDS:
    subprocess.run(command.split(), check=True)
found = blame.find(ADDRESSES, 587, UID, 0.7, lambda arguments, text: (127, "", ""), root)
print(json.dumps(found and list(found)))
"""


def blocked_by(
    rules: str = "",
    far_rules: str = "",
    listening: t.Sequence[int] = (),
    addresses: t.Sequence[str] = (namespace.FAR, namespace.FAR6),
    uid: int = 8,
    commands: t.Sequence[str] = (),
    vendor: str = "",
) -> t.Optional[BlockedBy]:
    values = {"ADDRESSES": list(addresses), "UID": uid, "COMMANDS": list(commands), "VENDOR": vendor}
    script = SCRIPT
    for name, value in values.items():
        script = script.replace(name, repr(value))
    found = namespace.run_beside(listening, rules, script, far_rules)
    return BlockedBy(*found) if found else None


def output(rule: str) -> str:
    return f"table inet guard {{\n chain output {{\n type filter hook output priority 0\n {rule}\n }}\n}}"


def far(rule: str) -> str:
    return f"table inet far {{\n chain input {{\n type filter hook input priority 0\n {rule}\n }}\n}}"


@real
def test_nothing() -> None:
    assert blocked_by(listening=[587]) is None


@real
def test_one_address_that_answers_is_enough() -> None:
    assert blocked_by(output("ip6 nexthdr tcp tcp dport 587 drop"), listening=[587]) is None


@real
def test_our_own_table_refuses_other_users() -> None:
    found = blocked_by(GUARD, listening=[587], uid=0)

    assert found is not None and found.cause == blame.OWN_TABLE and "smtp_egress_exempt_users" in found.remedy
    assert blocked_by(GUARD, listening=[587]) is None, "the user of the mail server gets out"


@real
def test_an_address_that_our_table_does_not_know_yet_is_not_taken_for_a_relay_that_refuses() -> None:
    found = blocked_by(GUARD.replace(namespace.FAR6, "2001:db8::3"), far("tcp dport 587 drop"))

    assert found is not None and found.cause == blame.OWN_TABLE, found


@real
@pytest.mark.parametrize("verdict", ["drop", "reject with tcp reset", "reject"])
def test_another_chain_is_named_with_its_rule(verdict: str) -> None:
    """A reset of this host's looks like the relay's own, and what it drops like what the hoster drops."""
    found = blocked_by(GUARD + output(f"tcp dport 587 {verdict}"), listening=[443, 587])

    assert found is not None and found.cause == blame.OTHER_CHAIN, found
    assert f"rule 'tcp dport 587 {verdict}" in found.detail and "chain 'inet guard output'" in found.detail


@real
@pytest.mark.parametrize("rules", ["", GUARD], ids=["alone", "beside our table"])
def test_rules_that_do_not_tell_are_not_called_clean(rules: str) -> None:
    """The mark of a packet is known to the kernel alone, and without a counter nothing shows that the rule is the one."""
    doubtful = blocked_by(rules + output("meta mark 0 tcp dport 587 drop"), listening=[443])
    assert doubtful is not None and "do not tell" in doubtful.detail, doubtful


@real
def test_what_our_own_chain_has_counted_has_passed_such_rules() -> None:
    passed = blocked_by(GUARD + output("meta mark 1 tcp dport 587 drop"), far("tcp dport 587 drop"), listening=[443])
    assert passed is not None and passed.cause == blame.PROVIDER_SUSPECTED and "nothing on this server is in the way" in passed.detail, passed


@real
@pytest.mark.parametrize("kind", ["prohibit", "blackhole", "unreachable"])
def test_a_route(kind: str) -> None:
    found = blocked_by(commands=[f"ip route add {kind} {namespace.FAR}", f"ip -6 route add {kind} {namespace.FAR6}"], listening=[587])

    assert found is not None and found.cause == blame.ROUTE and f"a route of type {kind}" in found.detail, found
    assert f"ip route get {namespace.FAR}" in found.remedy


@real
def test_no_route_at_all() -> None:
    found = blocked_by(addresses=["203.0.113.1"])

    assert found is not None and found.cause == blame.ROUTE and "no route" in found.detail


@real
def test_the_relay_refuses() -> None:
    found = blocked_by(GUARD)

    assert found is not None and found.cause == blame.RELAY_REFUSED, found


@real
def test_a_port_that_is_silent_while_others_answer_is_the_hosters() -> None:
    found = blocked_by(GUARD, far("tcp dport 587 drop"), listening=[2525])

    assert found is not None and found.cause == blame.PROVIDER_SUSPECTED, found
    assert "port 443, 2525 of the same host answers" in found.detail and "use port 2525" in found.remedy


def test_a_port_that_refuses_answers_and_is_no_use() -> None:
    silent = Evidence(587, TIMED_OUT, siblings={465: False, 2525: False, 443: True})

    assert blame.judge(silent).cause == blame.PROVIDER_SUSPECTED and "or use" not in blame.judge(silent).remedy
    assert blame.judge(silent._replace(siblings={465: False, 2525: True})).remedy.endswith("use port 2525")


@real
def test_a_refusal_of_our_own_on_another_port_is_no_answer_of_the_relay() -> None:
    """The guard refuses the user of the mail server port 465, which is no relay's."""
    found = blocked_by(GUARD, far("tcp dport != 1 drop"))

    assert found is not None and found.cause == blame.UNKNOWN, found


@real
def test_a_silent_host_in_a_cloud_that_blocks_the_port() -> None:
    found = blocked_by("", far("tcp dport != 1 drop"), vendor="Akamai")

    assert found is not None and found.cause == blame.PROVIDER_SUSPECTED and "runs at Akamai" in found.detail, found


@real
def test_the_cloud_is_not_mentioned_while_a_rule_of_this_host_is_in_the_way() -> None:
    found = blocked_by(output("tcp dport 587 drop"), vendor="Akamai")

    assert found is not None and found.cause == blame.OTHER_CHAIN and "Akamai" not in found.detail


TIMED_OUT = {"192.0.2.2": Outcome("timeout", errno.ETIMEDOUT, 2000)}
LIMIT = unit_limits.Limit("postfix.service", "IPAddressDeny=0.0.0.0/0", "192.0.2.2", ["IPAddressAllow=192.0.2.2"])


def test_what_is_near_is_blamed_before_what_is_far() -> None:
    everything = Evidence(587, TIMED_OUT, [who_blocks.Rule("a rule"), who_blocks.Rule(who_blocks.OWN, own=True)], [LIMIT], {}, {443: True}, "a cloud")
    causes = []
    for without in ({}, {"rules": everything.rules[:1]}, {"rules": []}, {"limits": []}, {"siblings": {}}, {"hint": ""}):
        everything = everything._replace(**without)
        causes.append(blame.judge(everything).cause)

    assert causes == ["own_table", "other_chain", "unit_sandbox", "provider_suspected", "provider_suspected", "unknown"]


def test_a_limit_of_a_unit_tells_how_it_is_lifted() -> None:
    found = blame.judge(Evidence(587, TIMED_OUT, limits=[LIMIT]))

    assert found.detail == "unit postfix.service may not connect to 192.0.2.2: IPAddressDeny=0.0.0.0/0"
    assert found.remedy == "systemctl edit postfix.service, add [Service] and IPAddressAllow=192.0.2.2, then systemctl restart postfix.service"


@pytest.mark.parametrize(
    ("word", "ms", "cause"),
    [("host_unreachable", 3000, blame.ROUTE), ("host_unreachable", 1, blame.PROVIDER_SUSPECTED), ("access_denied", 1, blame.PROVIDER_SUSPECTED)],
)
def test_a_next_hop_that_is_gone_takes_its_time(word: str, ms: int, cause: str) -> None:
    assert blame.judge(Evidence(587, {"192.0.2.2": Outcome(word, 0, ms)})).cause == cause


def test_an_answer_of_somebody_on_the_way_is_not_called_silence() -> None:
    assert blame.judge(Evidence(587, {"192.0.2.2": Outcome("host_unreachable", 0, 1)})).detail.startswith("a router or firewall on the way refuses")
    assert blame.judge(Evidence(587, TIMED_OUT, siblings={465: True})).detail.startswith("there is no answer")


def test_what_forbids_connect_is_on_this_host() -> None:
    assert blame.judge(Evidence(587, {"192.0.2.2": Outcome("not_permitted", errno.EPERM, 0)})).cause == blame.UNIT_SANDBOX


class TestClouds:
    def recognised(self, root: Path, **files: str) -> t.Optional[clouds.Cloud]:
        directory = root / "sys/class/dmi/id"
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name).write_text(text + "\n")
        return clouds.recognise(str(root))

    @pytest.mark.parametrize(
        ("files", "name", "blocked", "open_"),
        [
            ({"sys_vendor": "Hetzner", "product_name": "vServer"}, "Hetzner Cloud", 465, 587),
            ({"sys_vendor": "Google", "product_name": "Google Compute Engine"}, "Google Cloud", 25, 465),
            ({"sys_vendor": "Microsoft Corporation", "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77"}, "Microsoft Azure", 25, 587),
            ({"sys_vendor": "Linode", "product_name": "Compute Instance"}, "Linode (Akamai)", 587, 2525),
        ],
    )
    def test_a_cloud_is_told_by_dmi(self, tmp_path: Path, files: t.Dict[str, str], name: str, blocked: int, open_: int) -> None:
        found = self.recognised(tmp_path, **files)

        assert found is not None and found.name == name
        assert f"{blocked}" in found.hint(blocked) and found.source in found.hint(blocked) and found.hint(open_) == ""

    def test_a_machine_that_is_none(self, tmp_path: Path) -> None:
        assert clouds.recognise(str(tmp_path)) is None
        assert self.recognised(tmp_path, sys_vendor="Microsoft Corporation", product_name="Surface Pro") is None

    def test_the_page_for_people_has_them_all(self) -> None:
        page = (Path(__file__).resolve().parents[5] / "docs" / "firewall.md").read_text(encoding="utf-8")
        rows = [line for line in page.splitlines() if line.startswith("|")]
        for cloud in clouds.CLOUDS:
            (row,) = [line for line in rows if cloud.name.split(" (")[0] in line]
            assert all(str(port) in row for port in cloud.ports), cloud
