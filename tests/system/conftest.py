# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab for the system tests, and the means to run a playbook in it and to see what every task reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from system_lab import RIG, ROOT, SERVER, Lab, Run

sys.path[:0] = [str(ROOT / "tests" / "tools"), str(ROOT / "tests" / "unit" / "_support")]

from collection_path import ensure_collection_path  # noqa: E402  (needs the path set above)

sys.path.insert(0, str(ensure_collection_path(ROOT)))


@pytest.fixture(scope="session")
def lab():
    name = os.environ.get("OUTPOST_SMTP_LAB", "system")
    subprocess.run([*RIG, "up", name, "--server", SERVER], check=True)
    yield Lab(name)
    subprocess.run([*RIG, "down", name], check=True)


@pytest.fixture
def play(lab, tmp_path):
    """Run a playbook on the lab's server: play("playbooks/site.yml", variables, "--check", ...) -> Run."""

    def run(playbook: str, variables: dict, *options: str, ansible: Path = ROOT / ".dev/venv/bin", environment: dict | None = None) -> Run:
        given = tmp_path / "variables.json"
        given.write_text(json.dumps({"outpost_smtp_hosts": "servers", **variables}))
        record = tmp_path / "record.jsonl"
        record.unlink(missing_ok=True)
        playbook = ROOT / playbook if "/" in playbook else playbook
        result = subprocess.run(
            [ansible / "ansible-playbook", "-i", lab.state / "inventory.yml", "-e", f"@{given}", *options, playbook],
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

    return run
