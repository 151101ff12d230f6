# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands between a server and its provider: each device and rule is set up for real, and must be called by its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from system_lab import ROOT

HOST = "smtp.provider.test"
MIDDLEBOX = (ROOT / "tests" / "system" / "middlebox.py").read_text()
# On the provider: its own ports lead to the device, for those who come from outside.
REDIRECT = """
table ip middlebox {{
    chain prerouting {{
        type nat hook prerouting priority -100
        {only} tcp dport {{ {ports} }} redirect to :{port}
    }}
}}
"""
UPSTREAM = "table ip upstream {{\n\tchain input {{\n\t\ttype filter hook input priority 0\n\t\t{rule}\n\t}}\n}}\n"
LOCAL = "table inet guard {{\n\tchain output {{\n\t\ttype filter hook output priority 0\n\t\t{rule}\n\t}}\n}}\n"
STOP = "systemctl stop middlebox 2>/dev/null; systemctl reset-failed middlebox 2>/dev/null; rm -rf /run/middlebox; nft flush ruleset"
START = """
mkdir -p /run/middlebox && cd /run/middlebox && cat > middlebox.py
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out certificate.pem -days 30 \
    -subj "/O=Fortinet/CN=FortiGate CA" -addext subjectAltName=DNS:smtp.provider.test 2>/dev/null
systemd-run --quiet --unit middlebox python3 /run/middlebox/middlebox.py {port} {behaviour} {target}
for attempt in $(seq 100); do ss -Hltn 'sport = :{port}' | grep -q . && exit 0; sleep 0.1; done
journalctl -u middlebox --no-pager; exit 1
"""
DEVICE_PORT = 5999


@pytest.fixture
def way(lab, play, tmp_path):
    clear(lab)
    yield Way(lab, play, tmp_path)
    clear(lab)


def clear(lab):
    lab.shell(STOP)
    lab.shell(STOP, host="provider")


class Way:
    """From the server to the provider, with whatever a test puts in between."""

    def __init__(self, lab, play, directory: Path):
        self.lab = lab
        self.play = play
        self.directory = directory

    def upstream(self, rule: str) -> None:
        self.lab.shell("nft -f -", host="provider", input=UPSTREAM.format(rule=rule))

    def local(self, rule: str) -> None:
        self.lab.shell("nft -f -", input=LOCAL.format(rule=rule))

    def device(self, behaviour: str, *ports: int, target: int = 587, only: str = "") -> None:
        self.lab.shell(START.format(port=DEVICE_PORT, behaviour=behaviour, target=target), host="provider", input=MIDDLEBOX)
        self.lab.shell("nft -f -", host="provider", input=REDIRECT.format(only=only, ports=", ".join(map(str, ports)), port=DEVICE_PORT))

    def heard(self) -> str:
        return self.lab.shell("tr -cd '[:print:]\\n' < /run/middlebox/heard", host="provider").stdout

    def test(self, port: int, tls: str, *, timeout: float = 10.0, investigate: bool = True, **fields) -> dict:
        """Run the module on the server; the result of its one relay, which must hold no secret."""
        account = self.lab.accounts["canary"]
        relay = {"host": HOST, "port": port, "tls": tls, "ca_file": "/usr/local/share/rig-ca.pem", **account, **fields}
        options = {"relays": [relay], "timeout": timeout, "investigate": investigate, "on_failure": "report"}
        task = {"outpost.smtp.smtp_auth_info": options}
        playbook = self.directory / "test.yml"
        playbook.write_text(json.dumps([{"hosts": "servers", "gather_facts": False, "tasks": [{"name": "Test", **task}]}]))
        run = self.play(str(playbook), {})
        assert run.status == 0, run.output
        (result,) = run.tasks[-1]["result"]["results"]
        assert account["password"] not in json.dumps(run.tasks)
        return result

    def logins(self) -> int:
        """Logins that Dovecot, which checks the passwords, has heard of."""
        return int(self.lab.shell("grep -c 'canary' /var/log/dovecot.log || true", host="provider").stdout)


def code(result: dict) -> str:
    return result["diagnosis"]["code"]


def cause(result: dict) -> str:
    return result["blocked_by"]["cause"]


def works(result: dict) -> set:
    return {(entry["port"], entry["tls"]) for entry in result["alternatives"] if entry["works"]}


def test_a_clean_way(way):
    result = way.test(587, "starttls")

    assert result["ok"] and result["interception"]["verdict"] == "clean" and result["alternatives"] == [] and result["blocked_by"] is None


def test_a_port_that_is_dropped_upstream(way):
    way.upstream("tcp dport 587 drop")
    logins = way.logins()
    result = way.test(587, "starttls", timeout=5)

    assert code(result) == "egress_blocked_upstream" and result["interception"]["verdict"] == "filtered"
    assert cause(result) == "provider_suspected" and result["blocked_by"]["remedy"].endswith("or use port 465")
    assert works(result) == {(465, "implicit")}
    advice = "Port 587 is dropped on all addresses; port 465 answers with implicit TLS: set port: 465 and tls: implicit."
    assert advice in result["diagnosis"]["remedy"]
    assert way.logins() == logins, "the look around needs no credentials"


def test_a_host_that_is_gone_is_not_called_filtered(way):
    way.upstream("tcp dport != 22 drop")
    result = way.test(587, "starttls", timeout=5)

    assert code(result) == "tcp_timeout" and result["interception"]["verdict"] == "unknown" and works(result) == set()
    assert cause(result) == "unknown"


def test_a_rule_of_the_server_itself(way):
    way.local("tcp dport 587 counter drop")
    result = way.test(587, "starttls", timeout=5)

    assert code(result) == "egress_blocked_local"
    assert cause(result) == "other_chain" and "rule 'tcp dport 587 counter drop'" in result["blocked_by"]["detail"]
    assert "rule 'tcp dport 587 counter drop'" in result["diagnosis"]["summary"] and "inet guard output" in result["diagnosis"]["summary"]
    assert works(result) == {(465, "implicit")}


@pytest.mark.parametrize("rule", ["tcp dport 587 reject", "tcp dport 587 reject with tcp reset"])
def test_a_rule_of_the_server_that_rejects_is_not_taken_for_the_provider(way, rule):
    way.local(rule)

    assert code(way.test(587, "starttls")) == "egress_blocked_local"


def test_a_rejection_by_icmp_names_its_sender(way):
    way.upstream("tcp dport 587 reject with icmp type admin-prohibited")
    result = way.test(587, "starttls")
    address = way.lab.shell(f"getent ahostsv4 {HOST} | awk '{{ print $1; exit }}'").stdout.strip()

    assert code(result) == "tcp_host_unreachable" and result["interception"]["verdict"] == "rejected"
    assert cause(result) == "provider_suspected"
    assert f"ICMP communication administratively prohibited, sent by {address}" in result["interception"]["evidence"][0]


def test_smtp_inspection(way):
    way.device("mask", 587)
    result = way.test(587, "starttls")

    assert code(result) == "cap_starttls_stripped" and result["interception"]["verdict"] == "stripped"
    assert cause(result) == "tls"
    assert any("XXXXXXXA" in line for line in result["interception"]["evidence"])
    assert any("***" in line for line in result["interception"]["evidence"])
    assert works(result) == {(465, "implicit")}
    assert "AUTH" not in way.heard() and "EHLO" in way.heard()


def test_tls_inspection(way):
    way.device("terminate", 465, target=465)
    result = way.test(465, "implicit")

    assert code(result) == "tls_intercepted" and result["interception"]["verdict"] == "terminated_by_proxy"
    assert cause(result) == "tls"
    assert "FortiGate" in result["interception"]["evidence"][0]
    assert works(result) == {(587, "starttls")} and "AUTH" not in way.heard()


def test_a_captive_portal(way):
    way.device("portal", 587, 465, 2525)
    result = way.test(587, "starttls")

    assert code(result) == "greet_captive" and result["interception"]["verdict"] == "captive_portal" and works(result) == set()
    assert cause(result) == "provider_suspected"


def test_a_tarpit(way):
    way.device("tarpit", 587, 465, 2525)
    result = way.test(587, "starttls", timeout=5)

    assert code(result) == "greet_tarpit" and result["interception"]["verdict"] == "tarpit"
    assert cause(result) == "provider_suspected"
    assert "AUTH" not in way.heard()


def test_without_permission_there_is_one_connection(way):
    way.upstream("tcp dport 587 drop; tcp dport { 465, 2525, 443 } counter")
    result = way.test(587, "starttls", timeout=3, investigate=False)

    assert result["alternatives"] == [] and code(result) == "tcp_timeout"
    assert "packets 0" in way.lab.shell("nft list chain ip upstream input", host="provider").stdout


SECOND = "10.255.7.1"


def test_every_address_has_its_own_result(way):
    """The name gets a second address of the provider's, on which a device masks STARTTLS."""
    first = way.lab.shell(f"getent ahostsv4 {HOST} | cut -d' ' -f1 | head -1").stdout.strip()
    way.lab.shell(f"ip address add {SECOND}/32 dev lo", host="provider")
    way.lab.shell(f"ip route add {SECOND} via {first}; cp /etc/hosts /etc/hosts.before; printf '%s {HOST}\\n' {SECOND} {first} >> /etc/hosts")
    try:
        way.device("mask", 587, only=f"ip daddr {SECOND}")
        result = way.test(587, "starttls", every_address=True)
    finally:
        way.lab.shell(f"cat /etc/hosts.before > /etc/hosts; rm /etc/hosts.before; ip route del {SECOND}")
        way.lab.shell(f"ip address del {SECOND}/32 dev lo", host="provider")

    found = {entry["address"]: (entry["ok"], entry["stage"]) for entry in result["addresses"]}
    assert found[SECOND] == (False, "starttls") and found[first][0] is True, found
    assert "STARTTLS differs between the addresses" in json.dumps(result)
