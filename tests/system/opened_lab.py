# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers whose own firewall drops by default, on every Debian release at once: what is asked of each manager that opens ways.

Playbooks reach the servers over SSH, in new connections, so a server that locks its administrator out ends the test.
"""

from __future__ import annotations

import concurrent.futures
import re
import subprocess
import typing as t
from pathlib import Path

from fault_lab import reboot
from system_lab import RELEASES, RIG, Run, run_playbook

LIFE = "tests/system/plays/egress_opened.yml"
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
#: Run on a server as a given user: what came of a connection, and after how many milliseconds.
CONNECT = """
import os, pwd, socket, sys, time
user, host, *ports = sys.argv[1:]
entry = pwd.getpwnam(user)
address = socket.gethostbyname(host)
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
    print(word, min(taken))
"""
#: What the role could leave behind. The container runtime writes some at each boot.
FILES = r"""
find /etc /usr/share /usr/local -xdev -path '*/__pycache__*' -prune -o -path /etc/ld.so.cache -o -path /etc/hosts -o -path /etc/resolv.conf \
    -o -type d -printf '%p %m\n' -o -printf '%p %y %m %u %g %s %l\n' | sort
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

    def shell(self, script: str, **options) -> dict[str, str]:
        """What a script printed, by server. It must succeed on each."""

        def run(name: str) -> str:
            try:
                return self.lab.shell(script, name, **options).stdout
            except subprocess.CalledProcessError as error:
                raise AssertionError(f"{name}: {script}\n{error.stdout}{error.stderr}") from None

        return self.each(run)

    def run(self, playbook: str, variables: dict, *options: str) -> Run:
        given = {"outpost_smtp_relays": [{"name": f"on-{port}", "host": HOST, "port": port} for port in PORTS], "smtp_egress_user": USER, **variables}
        limit = ":".join(self.names)
        return run_playbook(self.lab, self._directory, playbook, given, "--diff", "--limit", limit, *options, hosts=limit)

    def role(self, variables: dict, *options: str) -> dict[str, dict]:
        """The result of the role's last call that loads, by server; it must succeed on each."""
        run = self.run(ROLE, variables, *options)
        assert run.status == 0, run.output
        return by_server(run, LOAD)

    def refused(self, variables: dict) -> dict[str, dict]:
        """As role(), but it must fail on each, and change nothing on any."""
        run = self.run(ROLE, variables)
        found = by_server(run, LOAD)
        assert set(found) == set(self.names) and all(result["failed"] and not result["changed"] for result in found.values()), run.output
        return found

    def logins(self) -> list[dict]:
        account = self.lab.accounts["alerts"]
        return [{"name": f"on-{port}", "host": HOST, "port": port, "ca_file": "/usr/local/share/rig-ca.pem", **account} for port in PORTS]

    def connect(self, user: str, *ports: int, host: str = HOST) -> dict[str, list[tuple[str, int]]]:
        """What came of a user's connections, each with its milliseconds."""
        printed = self.shell(f"python3 - {user} {host} {' '.join(map(str, ports))}", input=CONNECT)
        return {name: [(line.split()[0], int(line.split()[1])) for line in text.splitlines()] for name, text in printed.items()}

    def require_guarded(self, after: str) -> None:
        """The mail server's user reaches the relay, another one is refused at once."""
        for name, tries in self.connect(USER, *PORTS).items():
            assert [word for word, _ms in tries] == ["reached"] * len(PORTS), (after, name, tries)
        for name, tries in self.connect("nobody", *PORTS).items():
            assert all(word == "refused" and ms < AT_ONCE for word, ms in tries), (after, name, tries)

    def require_login_by_ssh(self) -> None:
        """As the administrator logs in, through the network."""
        self.each(lambda name: subprocess.run([*RIG, "ssh", self.lab.name, name, "true"], check=True, timeout=20))

    def reboot(self) -> None:
        self.each(lambda name: reboot(self.lab, name))


def by_server(run: Run, task: str) -> dict[str, dict]:
    """The last result of a task, by server."""
    return {found["host"]: {"failed": found["status"] == "failed", **found["result"]} for found in run.tasks if found["task"] == task}


def without_own_table(ruleset: str) -> str:
    """A listing of nft without our table."""
    return re.sub(r"^table inet outpost_smtp \{.*?^\}\n", "", ruleset, flags=re.MULTILINE | re.DOTALL)


def life(servers: Servers, *, manager: str, chain: str, rules: str, again: t.Sequence[str], started: str = ":") -> None:
    """From blocked to open and back, for servers whose firewall, made by the manager's own tools, drops by default.

    `chain` is in the sentence that names what blocks; the script `rules` prints the rules of others; after each script of
    `again` ours must be in force. After a boot the script `started` waits for a manager that is not ready when it says so.
    """
    before, names = servers.shell(rules), servers.shell(FILES)
    run = servers.run(LIFE, {**GUARD, "logins": servers.logins()})
    assert run.status == 0, run.output
    for name, result in by_server(run, "Log in before").items():
        for login in result["results"]:
            assert login["diagnosis"]["code"] == "egress_blocked_local", (name, login["diagnosis"])
            assert chain in str(login["diagnosis"]), (name, login["diagnosis"])
    for name, result in by_server(run, LOAD).items():
        assert result["changed"] and result["manager"] == manager and len(result["opened"]) == len(PORTS), (name, result)
        assert len(result["proof"]) == len(PORTS), (name, result["proof"])
        assert all(proof["ok"] and proof["others_ms"] < AT_ONCE for proof in result["proof"]), (name, result["proof"])
    for name, result in by_server(run, "Log in after").items():
        assert all(login["ok"] for login in result["results"]), (name, result)
    servers.require_guarded("apply")
    for user in (USER, "nobody"):
        assert all(word != "reached" for ((word, _ms),) in servers.connect(user, 25).values()), "nothing else was opened"
    servers.require_login_by_ssh()

    opened = servers.shell(rules)
    assert all(opened[name] != before[name] for name in servers.names)
    for name, result in servers.role(GUARD).items():
        assert not result["changed"], (name, result["diff"])
    for script in again:
        servers.shell(script)
        servers.require_guarded(script)
        assert servers.shell(rules) == opened, script
    servers.reboot()
    servers.shell(started)
    servers.require_guarded("reboot")
    servers.require_login_by_ssh()
    for name, result in servers.role(GUARD).items():
        assert not result["changed"], (name, result["diff"])

    assert all(result["changed"] for result in servers.role({"smtp_egress_state": "absent"}).values())
    assert servers.shell(rules) == before
    left = servers.shell(FILES)
    for name in servers.names:
        differ = sorted(set(left[name].splitlines()) ^ set(names[name].splitlines()))
        assert not differ, (name, differ)
