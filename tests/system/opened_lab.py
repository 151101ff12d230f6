# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers whose own firewall drops by default, on every Debian release at once: what is asked of each manager that opens ways.

Playbooks reach the servers over SSH, in new connections, so a server that locks its administrator out ends the test.
"""

from __future__ import annotations

import concurrent.futures
import subprocess
import typing as t
from pathlib import Path

from fault_lab import reboot
from system_lab import RELEASES, RIG, Run, run_playbook

OPENED = "tests/system/plays/egress_opened.yml"
CLOSED = "tests/system/plays/egress_closed.yml"
ROLE = "tests/system/plays/egress.yml"
LOAD = "outpost.smtp.smtp_egress : Load the outbound mail rules"
HOST = "smtp.provider.test"
PORTS = (465, 587)
#: A user of every Debian takes the mail server's part, so that no Postfix is needed.
USER = "mail"
GUARD = {"smtp_egress_mode": "guard", "smtp_egress_rollback_timeout": 60}
#: Milliseconds within which somebody else must be refused.
AT_ONCE = 100

#: What a test that ended early leaves of ours and of the rules that it made.
CLEAN = """
systemctl stop outpost-smtp-egress-refresh.timer outpost-smtp-egress-rollback.timer nftables netfilter-persistent 2>/dev/null
systemctl disable --quiet outpost-smtp-egress outpost-smtp-egress-rollback nftables netfilter-persistent 2>/dev/null
rm -rf /usr/local/sbin/* /etc/outpost-smtp /var/lib/outpost-smtp /usr/local/lib/outpost-smtp \
       /etc/systemd/system/outpost-smtp-egress* /etc/systemd/system/*/outpost-smtp-egress* /etc/systemd/system/*/50-outpost-smtp.conf \
       /usr/share/netfilter-persistent/plugins.d/90-outpost-smtp
rmdir /etc/systemd/system/*.service.d 2>/dev/null
systemctl daemon-reload; systemctl reset-failed
nft flush ruleset
for family in ip ip6; do
    [ -s /proc/net/${family}_tables_names ] || continue
    printf '*filter\\n:INPUT ACCEPT\\n:FORWARD ACCEPT\\n:OUTPUT ACCEPT\\nCOMMIT\\n' | ${family}tables-legacy-restore
done
:
"""
#: What others have beside the manager: Docker, fail2ban and the like in iptables, and somebody in a table of nftables.
STRANGERS = """
iptables -w -N STRANGERS; iptables -w -A STRANGERS -d 203.0.113.9 -j DROP; iptables -w -I OUTPUT -j STRANGERS
iptables -w -t nat -A POSTROUTING -s 203.0.113.0/24 -j MASQUERADE; ip6tables -w -t mangle -A INPUT -s 2001:db8::9 -j DROP
nft add table ip strangers; nft add chain ip strangers output '{ type filter hook output priority 0; }'
nft add rule ip strangers output tcp dport 9999 reject
"""
LIST_STRANGERS = """
iptables -S STRANGERS; iptables -S OUTPUT | grep STRANGERS; iptables -t nat -S; ip6tables -t mangle -S; nft --stateless list table ip strangers
"""
#: Run on a server as given users, one after the other: what came of their connections, and after how many milliseconds.
CONNECT = """
import os, pwd, socket, sys, time
host, users, *ports = sys.argv[1:]
address = socket.gethostbyname(host)
for user in users.split(","):
    if os.fork():
        os.wait()
        continue
    entry = pwd.getpwnam(user)
    os.setgroups([]); os.setgid(entry.pw_gid); os.setuid(entry.pw_uid)
    for port in ports:
        taken = []
        while not taken or word == "refused" and min(taken) >= 100 and len(taken) < 3:  # a busy machine may be slow to look once
            begun = time.monotonic()
            try:
                with socket.socket() as connection:
                    connection.settimeout(3)
                    connection.connect((address, int(port)))
                word = "reached"
            except ConnectionRefusedError:
                word = "refused"
            except OSError as error:
                word = type(error).__name__
            taken.append(round((time.monotonic() - begun) * 1000))
        print(user, word, min(taken), flush=True)
    break
"""
#: Other tests of the lab may have removed what systemd makes again when the server is restarted.
AS_AT_BOOT = "systemd-tmpfiles --create --prefix=/etc"
#: What the role could leave behind. The container runtime writes some at each boot, and what iptables saves has other counts each time.
FILES = r"""
find /etc /usr/share /usr/local -xdev -path '*/__pycache__*' -prune -o -path /etc/ld.so.cache -o -path /etc/hosts -o -path /etc/resolv.conf \
    -o -path '/etc/iptables/*' -o -type d -printf '%p %m\n' -o -printf '%p %y %m %u %g %s %l\n' | sort
"""


class Servers:
    """The servers of a lab, each with an address of its own to the provider; what is done is done on all of them at once."""

    def __init__(self, lab, directory: Path, names: t.Sequence[str] = RELEASES) -> None:
        self.lab = lab
        self.names = list(names)
        self._directory = directory

    def each(self, work: t.Callable[[str], t.Any]) -> dict[str, t.Any]:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            return dict(zip(self.names, pool.map(work, self.names)))

    def shell(self, script: str | dict[str, str], **options) -> dict[str, str]:
        """What a script, or each server's own one, printed, by server. It must succeed on each."""

        def run(name: str) -> str:
            text = script if isinstance(script, str) else script[name]
            try:
                return self.lab.shell(text, name, **options).stdout
            except subprocess.CalledProcessError as error:
                raise AssertionError(f"{name}: {text}\n{error.stdout}{error.stderr}") from None

        return self.each(run)

    def run(self, playbook: str, variables: dict, *options: str) -> Run:
        given = {"outpost_smtp_relays": [{"name": f"on-{port}", "host": HOST, "port": port} for port in PORTS], "smtp_egress_user": USER, **variables}
        limit = ":".join(self.names)
        return run_playbook(self.lab, self._directory, playbook, given, "--diff", "--limit", limit, *options, hosts=limit)

    def role(self, variables: dict, *options: str) -> dict[str, dict]:
        """The result of the role's last call that loads, by server; it must succeed on each."""
        run = self.run(ROLE, variables, *options)
        assert run.status == 0, run.output
        return {name: results[-1] for name, results in self.results(run, LOAD).items()}

    def refused(self, variables: dict) -> dict[str, dict]:
        """As role(), but it must fail on each, and change nothing on any."""
        run = self.run(ROLE, variables)
        found = self.results(run, LOAD)
        assert all(result["failed"] and not result["changed"] for (result,) in found.values()), run.output
        return {name: result for name, (result,) in found.items()}

    def results(self, run: Run, task: str) -> dict[str, list[dict]]:
        """The results of a task on each of the servers, one after the other."""
        found: dict[str, list[dict]] = {name: [] for name in self.names}
        for one in run.tasks:
            if one["task"] == task:
                found[one["host"]].append({"failed": one["status"] == "failed", **one["result"]})
        assert all(found.values()), run.output
        return found

    def logins(self) -> list[dict]:
        account = self.lab.accounts["alerts"]
        return [{"name": f"on-{port}", "host": HOST, "port": port, "ca_file": "/usr/local/share/rig-ca.pem", **account} for port in PORTS]

    def connect(self, users: t.Sequence[str], *ports: int, host: str = HOST) -> dict[str, list[tuple[str, str, int]]]:
        """What came of the users' connections, by server: user, outcome and milliseconds."""
        printed = self.shell(f"python3 - {host} {','.join(users)} {' '.join(map(str, ports))}", input=CONNECT)
        return {name: [(user, word, int(ms)) for user, word, ms in map(str.split, text.splitlines())] for name, text in printed.items()}

    def require_guarded(self, after: str) -> None:
        """The mail server's user reaches the relay, another one is refused at once."""
        for name, tries in self.connect((USER, "nobody"), *PORTS).items():
            expected = [(USER, "reached")] * len(PORTS) + [("nobody", "refused")] * len(PORTS)
            assert [(user, word) for user, word, _ms in tries] == expected, (after, name, tries)
            assert all(ms < AT_ONCE for user, _word, ms in tries if user == "nobody"), (after, name, tries)

    def require_login_by_ssh(self) -> None:
        """As the administrator logs in, through the network."""
        self.each(lambda name: subprocess.run([*RIG, "ssh", self.lab.name, name, "true"], check=True, timeout=20))

    def reboot(self) -> None:
        self.each(lambda name: reboot(self.lab, name))


def life(servers: Servers, *, manager: str, chain: str, rules: str, again: t.Sequence[str], started: str = ":", beside: bool = True) -> None:
    """From blocked to open and back, for servers whose firewall, made by the manager's own tools, drops by default.

    `chain` is in the sentence that names what blocks; the script `rules` prints the rules of others; after each script of
    `again` ours must be in force. After a boot the script `started` waits for a manager that is not ready when it says so.
    `beside` it there are strangers, which neither the way out nor the way back may touch.
    """
    strangers, list_strangers = (STRANGERS, LIST_STRANGERS) if beside else (":", ":")
    servers.shell(f"{strangers}\n{AS_AT_BOOT}")
    theirs, before, names = servers.shell(list_strangers), servers.shell(rules), servers.shell(FILES)
    run = servers.run(OPENED, {**GUARD, "logins": servers.logins()})
    assert run.status == 0, run.output
    for name, (result,) in servers.results(run, "Log in before").items():
        for login in result["results"]:
            assert login["diagnosis"]["code"] == "egress_blocked_local", (name, login["diagnosis"])
            assert chain in str(login["diagnosis"]), (name, login["diagnosis"])
    for name, (first, second) in servers.results(run, LOAD).items():
        ways = sum(len(relay["ipv4"] + relay["ipv6"]) for relay in first["addresses"])
        assert first["changed"] and first["manager"] == manager and len(first["opened"]) == ways >= len(PORTS), (name, first)
        assert [(proof["ok"], proof["others"]) for proof in first["proof"]] == [(True, "refused")] * ways, (name, first["proof"])
        assert not second["changed"] and second["opened"] == first["opened"], (name, second["diff"])
    for name, (result,) in servers.results(run, "Log in after").items():
        assert all(login["ok"] for login in result["results"]), (name, result)
    servers.require_guarded("apply")
    for name, tries in servers.connect((USER, "nobody"), 25).items():
        assert all(word == "refused" and ms < AT_ONCE for _user, word, ms in tries), (name, "another port is closed at once, to both", tries)
    opened = servers.shell(rules)
    assert all(opened[name] != before[name] for name in servers.names)
    assert servers.shell(list_strangers) == theirs

    for script in again:
        assert servers.shell(f"( {script} ) >/dev/null || exit 1\n{rules}") == opened, script
        servers.require_guarded(script)
    servers.reboot()
    servers.shell(started)
    servers.require_guarded("reboot")
    servers.require_login_by_ssh()

    servers.shell(strangers)
    run = servers.run(CLOSED, GUARD)
    assert run.status == 0, run.output
    for name, (kept, removed) in servers.results(run, LOAD).items():
        assert not kept["changed"] and removed["changed"], (name, kept["diff"])
    assert servers.shell(rules) == before and servers.shell(list_strangers) == theirs
    left = servers.shell(FILES)
    for name in servers.names:
        differ = sorted(set(left[name].splitlines()) ^ set(names[name].splitlines()))
        assert not differ, (name, differ)
