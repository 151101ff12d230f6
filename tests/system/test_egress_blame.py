# SPDX-License-Identifier: GPL-3.0-or-later
"""What stops mail, with causes made for real: rules here and there, routes, limits of a unit; over IPv4 and over IPv6."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile

import pytest
from conftest import started
from system_lab import ROOT, SERVER, run_playbook

RELAY = "smtp.provider.test"
HERE = "/root/blame"
CODE = "ansible_collections/outpost/smtp/plugins/module_utils"
LOOK = f"""
import json, sys
sys.path.insert(0, "{HERE}")
from ansible_collections.outpost.smtp.plugins.module_utils._egress import command, overview
from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import Relay
asked = json.load(sys.stdin)
relays = [Relay(name, host, port) for name, (host, port) in asked["relays"].items()]
print(json.dumps(overview.Overview(command.run).facts(relays, asked["user"], 2)))
"""
# The provider as the rig makes it listens on IPv4 only.
LISTEN = """
postconf -e inet_protocols=all && postfix stop >/dev/null 2>&1; postfix start >/dev/null 2>&1
for attempt in $(seq 100); do ss -Hltn 'sport = :587' | grep -q '\\[::\\]' && exit 0; sleep 0.1; done; exit 1
"""
#: An address of the provider's that answers on no port.
GONE = "10.255.8.1"
FAR_RULES = f"""
table inet far {{
    chain input {{
        type filter hook input priority 0
        tcp dport 2465 drop
        tcp dport 3587 reject with icmpx type admin-prohibited
        ip daddr {GONE} drop
    }}
}}
"""
HERE_RULES = """
table inet guard {
    chain output {
        type filter hook output priority 0
        tcp dport 1025 drop
        tcp dport 1465 reject with tcp reset
        tcp dport 1587 reject with icmpx type admin-prohibited
    }
}
"""
ROUTES = {
    "prohibit": ("198.51.100.1", "2001:db8:1::1"),
    "blackhole": ("198.51.100.2", "2001:db8:1::2"),
    "unreachable": ("198.51.100.3", "2001:db8:1::3"),
}
PLAY = "tests/system/plays/egress.yml"
GUARD = {"outpost_smtp_relays": [{"name": "primary", "host": RELAY, "port": 587}], "smtp_egress_mode": "guard"}


@pytest.fixture(scope="module")
def dual():
    """A lab with both families, and a Postfix on its server."""
    for lab in started(os.environ.get("OUTPOST_SMTP_LAB", "system") + "-dual", [SERVER], ipv6=True):
        lab.fresh_postfix()
        lab.shell(LISTEN, host="provider")
        code = io.BytesIO()
        with tarfile.open(fileobj=code, mode="w") as archive:
            archive.add(ROOT / "plugins" / "module_utils", f"{HERE}/{CODE}"[1:], filter=lambda entry: None if "__pycache__" in entry.name else entry)
        subprocess.run([*lab.entrance(SERVER), "tar", "-C", "/", "-xf", "-"], input=code.getvalue(), check=True)
        yield lab


@pytest.fixture
def host(dual, tmp_path):
    dual.shell("nft flush ruleset")
    yield Host(dual, tmp_path)
    dual.shell("nft flush ruleset")
    dual.shell("nft flush ruleset", host="provider")


class Host:
    def __init__(self, lab, directory):
        self.lab = lab
        self.directory = directory
        found = lab.shell(f"getent ahosts {RELAY} | awk '$2 == \"STREAM\" {{ print $1 }}' | sort -u").stdout.split()
        (self.ipv4,) = [address for address in found if ":" not in address]
        (self.ipv6,) = [address for address in found if ":" in address]

    def look(self, relays=None, user="postfix"):
        asked = {"relays": relays or {}, "user": user}
        return json.loads(self.lab.shell(f"python3 -c '{LOOK}'", input=json.dumps(asked)).stdout)

    def causes(self, relays, user="postfix"):
        found = self.look(relays, user)["relays"]
        return {entry["name"]: entry["blocked_by"]["cause"] if entry["blocked_by"] else None for entry in found}

    def run(self, given):
        run = run_playbook(self.lab, self.directory, PLAY, given)
        assert run.status == 0, run.output
        return run


def test_each_cause_by_its_name(host):
    host.lab.shell("nft -f -", input=HERE_RULES)
    host.lab.shell("nft -f -", host="provider", input=FAR_RULES)
    host.lab.shell(f"ip address replace {GONE}/32 dev lo", host="provider")
    routes = [f"ip route replace {kind} {address}" for kind, addresses in ROUTES.items() for address in addresses]
    host.lab.shell("; ".join(["set -e", f"ip route replace {GONE} via {host.ipv4}", *routes]))
    relays = {"open": (RELAY, 587), "gone": (GONE, 587)}
    expected = {"open": None, "gone": "unknown"}
    for family, address in (("IPv4", host.ipv4), ("IPv6", host.ipv6)):
        for name, port, cause in (
            ("open", 587, None),
            ("dropped here", 1025, "other_chain"),
            ("reset here", 1465, "other_chain"),
            ("rejected here", 1587, "other_chain"),
            ("closed there", 3465, "relay_refused"),
            ("dropped there", 2465, "provider_suspected"),
            ("rejected on the way", 3587, "provider_suspected"),
        ):
            relays[f"{name}, {family}"], expected[f"{name}, {family}"] = (address, port), cause
    for kind, addresses in ROUTES.items():
        for address in addresses:
            relays[f"{kind} {address}"], expected[f"{kind} {address}"] = (address, 587), "route"

    assert host.causes(relays) == expected


def test_the_rule_and_the_ports_that_answer_are_named(host):
    host.lab.shell("nft -f -", input=HERE_RULES)
    host.lab.shell("nft -f -", host="provider", input=FAR_RULES)
    here, there = [entry["blocked_by"] for entry in host.look({"here": (RELAY, 1025), "there": (RELAY, 2465)})["relays"]]

    assert "rule 'tcp dport 1025 drop'" in here["detail"] and "chain 'inet guard output' of nftables" in here["detail"]
    assert "465, 587" in there["detail"] and "nothing on this server is in the way" in there["detail"] and "use port 465" in there["remedy"]


def logins(lab):
    """The login test as root on a host with mode guard, in a play that knows nothing of the role: by default, as root, and by role smtp_verify."""
    login = {"host": RELAY, "port": 587, "tls": "starttls", "ca_file": "/usr/local/share/rig-ca.pem", **lab.accounts["canary"]}
    relays = [{**login, "name": "right"}, {**login, "name": "wrong", "password": "x" * 9}, {**login, "name": "untrusted", "ca_file": None}]
    test = {"outpost.smtp.smtp_auth_info": {"relays": relays, "on_failure": "report"}}
    as_root = {"outpost.smtp.smtp_auth_info": {"relays": relays[:1], "on_failure": "report", "run_as": ""}}
    verify = {"ansible.builtin.include_role": {"name": "outpost.smtp.smtp_verify"}, "vars": {"outpost_smtp_relays": relays[:1]}}
    return [{"hosts": "servers", "gather_facts": False, "tasks": [test, as_root, verify]}]


def test_the_guard_on_both_families(host, tmp_path):
    """The proof of the role is by address and family; and who asks as another user is told that it is our table."""
    run = host.run(GUARD)
    proof = next(task["result"]["proof"] for task in reversed(run.tasks) if task["result"].get("proof"))

    assert {(entry["version"], entry["mta"], entry["others"], entry["counted"]) for entry in proof} == {
        (4, "reached", "refused", True),
        (6, "reached", "refused", True),
    }
    assert all(entry["others_ms"] < 100 for entry in proof), proof
    assert host.causes({"relay": (RELAY, 587)}) == {"relay": None}
    relays = {"IPv4": (host.ipv4, 587), "IPv6": (host.ipv6, 587), "web": (RELAY, 2525)}
    assert host.causes(relays, "nobody") == {"IPv4": "own_table", "IPv6": "own_table", "web": "relay_refused"}
    found = host.look()
    assert found["loaded"] and found["in_force"] and found["persistent"] and found["counters"]["refused"] >= 2
    assert any("kernel's log" in reason for reason in found["unreadable"]), "a container has no kernel log"

    playbook = tmp_path / "logins.yml"
    playbook.write_text(json.dumps(logins(host.lab)))
    run = run_playbook(host.lab, tmp_path, str(playbook), {})
    assert run.status == 0, run.output
    told = [task["result"]["results"] for task in run.tasks if task["result"].get("results")]
    blamed = [[entry["blocked_by"] and entry["blocked_by"]["cause"] for entry in results] for results in told]
    assert blamed == [[None, "authentication", "tls"], ["own_table"], [None]], run.output

    host.run({**GUARD, "smtp_egress_state": "absent"})
    assert not host.look()["loaded"]


def limit(lab, line):
    directory = "/etc/systemd/system/postfix@-.service.d"
    lab.shell(
        f"mkdir -p {directory}; printf '[Service]\\n{line}\\n' > {directory}/limit.conf; systemctl daemon-reload"
        if line
        else f"rm -rf {directory}; systemctl daemon-reload"
    )


SETTINGS = f"""
cat > /etc/postfix/main.cf <<'EOF'
compatibility_level = 3.6
relayhost = [{RELAY}]:587
smtp_tls_security_level = secure
smtp_tls_CAfile = /usr/local/share/rig-ca.pem
inet_interfaces = loopback-only
maillog_file = /var/log/postfix.log
EOF
cp /usr/share/postfix/master.cf.dist /etc/postfix/master.cf 2>/dev/null || :
"""
SEND = """
: > /var/log/postfix.log
systemctl restart postfix@-
printf 'Subject: x\\n\\nx\\n' | sendmail -f someone@provider.test inbox@provider.test
for attempt in $(seq 100); do grep -q 'status=' /var/log/postfix.log && break; sleep 0.1; done
grep 'postfix/smtp' /var/log/postfix.log; postsuper -d ALL >/dev/null 2>&1; systemctl stop postfix@-
"""


def test_what_systemd_keeps_from_postfix_though_the_test_gets_through(host, tmp_path):
    """Seen in the mail log of the real Postfix, foretold by both modules."""
    host.lab.shell(SETTINGS)
    limit(host.lab, "RestrictAddressFamilies=AF_UNIX AF_NETLINK")
    try:
        logged = host.lab.shell(SEND).stdout
        options = {"from_postfix": True, "on_failure": "report"}
        task = {"outpost.smtp.smtp_auth_info": options}
        playbook = tmp_path / "test.yml"
        info = {"outpost.smtp.smtp_egress_info": {"relays": [{"host": RELAY, "port": 587}]}}
        playbook.write_text(json.dumps([{"hosts": "servers", "gather_facts": False, "tasks": [info, task]}]))
        run = run_playbook(host.lab, tmp_path, str(playbook), {})
    finally:
        limit(host.lab, "")

    assert "Address family not supported by protocol" in logged, logged
    (found,), (result,) = run.tasks[-2]["result"]["relays"], run.tasks[-1]["result"]["results"]
    assert found["blocked_by"]["cause"] == "unit_sandbox" and "postfix@-.service" in found["blocked_by"]["remedy"], found
    assert result["diagnosis"]["code"] == "postfix_unit_may_not_connect" and result["blocked_by"]["cause"] == "unit_sandbox", result
    assert result["postfix"]["prediction"]["action"] == "defers"
    assert host.causes({"relay": (RELAY, 587)}) == {"relay": None}, "without the limit nothing is in the way"


def test_addresses_that_systemd_denies(host):
    """Only where cgroups are of version 2; elsewhere systemd ignores the setting, and so must the blame."""
    limit(host.lab, "IPAddressDeny=any")
    try:
        cause = host.causes({"relay": (RELAY, 587)})["relay"]
    finally:
        limit(host.lab, "")
    unified = host.lab.shell("test -e /sys/fs/cgroup/cgroup.controllers && echo yes || :").stdout.strip() == "yes"

    assert cause == ("unit_sandbox" if unified else None)
