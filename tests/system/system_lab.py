# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab of the system tests: its accounts, commands on its hosts, and what a run of a playbook leaves behind."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
RIG = [sys.executable, str(ROOT / "tests" / "rig" / "rig.py")]
SERVER = "debian12"


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

    def shell(self, script: str, host: str = SERVER, **options) -> subprocess.CompletedProcess:
        """Run a shell script on a host of the lab; the script is an argument, so it must not hold a secret."""
        return subprocess.run([*RIG, "exec", self.name, host, "bash", "-c", script], capture_output=True, text=True, check=True, **options)


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
