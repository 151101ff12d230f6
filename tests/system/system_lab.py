# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab of the system tests: its accounts, commands on its hosts, and what a run of a playbook leaves behind."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "rig"))

from riglib import containers, runtime  # noqa: E402  (needs the path set above)

RIG = [sys.executable, str(ROOT / "tests" / "rig" / "rig.py")]
SERVER = "debian12"
RELEASES = ("debian11", "debian12", "debian13")
_SHELL_TIMEOUT = 600
"""Seconds; packages are the slowest."""

RESTART = """systemctl stop postfix 'postfix@*'
systemctl reset-failed postfix 'postfix@*' 2>/dev/null
systemctl start postfix; timeout 20 sh -c 'until postfix status 2>/dev/null; do sleep 0.1; done'"""
"""And wait for it: on Debian 12 and before, what runs is a unit of its own, which the first one only takes along.

Tests restart more often than systemd allows (StartLimitBurst=).
"""

_FRESH_POSTFIX = """set -eu
if ! [ -e /root/pristine.tar ]; then
    echo postfix postfix/main_mailer_type select "No configuration" | debconf-set-selections
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y postfix libsasl2-modules ca-certificates >/dev/null 2>&1
    tar -C /etc -cf /root/pristine.tar postfix
fi
systemctl stop postfix 'postfix@*'
pkill -KILL -x master || :
rm -rf /etc/postfix
for queue in incoming active deferred defer bounce maildrop hold corrupt; do
    [ ! -d /var/spool/postfix/$queue ] || find /var/spool/postfix/$queue -type f -delete
done
tar -C /etc -xf /root/pristine.tar
"""


@functools.lru_cache(maxsize=None)
def _runtime() -> tuple[str, ...]:
    """The container runtime's command. It is asked about this machine once, not with every command on a host."""
    return tuple(runtime.base_command(runtime.read_facts()))


@dataclasses.dataclass
class Run:
    """What one ansible-playbook did: all that it printed, its exit status, and one record for each task and host."""

    output: str
    status: int
    tasks: list[dict]

    def changed(self) -> list[str]:
        return [task["task"] for task in self.tasks if task["changed"]]


@dataclasses.dataclass
class Lab:
    name: str

    @property
    def state(self) -> Path:
        return ROOT / ".dev" / "labs" / self.name

    @property
    def variables(self) -> dict:
        return yaml.safe_load((self.state / "accounts.yml").read_text())

    @property
    def accounts(self) -> dict:
        return self.variables["rig_accounts"]

    def address(self, host: str) -> str:
        groups = yaml.safe_load((self.state / "inventory.yml").read_text())["all"]["children"].values()
        return next(group["hosts"][host]["ansible_host"] for group in groups if host in group["hosts"])

    def entrance(self, host: str) -> list[str]:
        """What to put before a command so that it runs on a host, as `rig.py exec` does it."""
        return [*_runtime(), "exec", "--interactive", containers.Containers(_runtime(), self.name).name(host)]

    def shell(self, script: str, host: str = SERVER, **options) -> subprocess.CompletedProcess:
        """Run a shell script on a host of the lab; the script is an argument, so it must not hold a secret.

        Many wait for something. What never comes must not keep CI until its own end.
        """
        options = {"timeout": _SHELL_TIMEOUT, **options}
        return subprocess.run([*self.entrance(host), "bash", "-c", script], capture_output=True, text=True, check=True, **options)

    def fresh_postfix(self, host: str = SERVER) -> None:
        """Postfix as its package brings it, installed but without a main.cf, stopped, with nothing in its queue."""
        self.shell(_FRESH_POSTFIX, host)


def run_playbook(
    lab: Lab,
    directory: Path,
    playbook: str,
    variables: dict,
    *options: str,
    hosts: str = "servers",
    ansible: Path = ROOT / ".dev/venv/bin",
    environment: dict | None = None,
) -> Run:
    """Run a playbook on hosts of a lab. In `directory` are the variables, and what is recorded of every task."""
    given = directory / "variables.json"
    given.write_text(json.dumps({"outpost_smtp_hosts": hosts, **variables}))
    record = directory / "record.jsonl"
    record.unlink(missing_ok=True)
    path = ROOT / playbook if "/" in playbook else playbook
    result = subprocess.run(
        [ansible / "ansible-playbook", "-i", lab.state / "inventory.yml", "-e", f"@{given}", *options, path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "tests" / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".dev" / "collections"),
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests" / "system" / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "recorder",
            "RECORDER_FILE": str(record),
            **(environment or {}),
        },
    )
    tasks = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    return Run(result.stdout, result.returncode, tasks)


def variables(lab: Lab, account: str = "alerts", **relay) -> dict:
    """What site.yml needs to send as `account` of the lab's provider and to prove arrival in the inbox."""
    accounts = lab.accounts
    return {
        "outpost_smtp_relays": [
            {
                "name": "primary",
                "host": "smtp.provider.test",
                "port": 465,
                "username": accounts[account]["username"],
                "password": accounts[account]["password"],
                "ca_file": "/usr/local/share/rig-ca.pem",
                **relay,
            }
        ],
        "postfix_relay_sender_rewrite": [{"from": "*", "to": accounts[account]["username"]}],
        "smtp_verify_sender": accounts[account]["username"],
        "smtp_verify_recipient": accounts["inbox"]["username"],
        "smtp_verify_mailbox": {
            "type": "imap",
            "host": "imap.provider.test",
            "username": accounts["inbox"]["username"],
            "password": accounts["inbox"]["password"],
            "ca_file": "/usr/local/share/rig-ca.pem",
        },
    }
