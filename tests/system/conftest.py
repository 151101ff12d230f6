# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab for the system tests, and the means to run a playbook in it and to see what every task reported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from system_lab import RELEASES, RIG, ROOT, SERVER, Lab, run_playbook

sys.path[:0] = [str(ROOT / "tests" / "tools"), str(ROOT / "tests" / "unit" / "_support")]

from collection_path import ensure_collection_path  # noqa: E402  (needs the path set above)

sys.path.insert(0, str(ensure_collection_path(ROOT)))


def started(name: str, servers, mtas=(), ipv6=False):
    """A lab with its provider, these servers and these other mail servers, until the tests that asked for it are done."""
    options = [*(("--server", server) for server in servers), *(("--mta", mta) for mta in mtas), *([("--ipv6",)] if ipv6 else [])]
    subprocess.run([*RIG, "up", name, *(word for option in options for word in option)], check=True)
    yield Lab(name)
    subprocess.run([*RIG, "down", name], check=True)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist's own looks for the groups
def pytest_collection_modifyitems(items):
    """With pytest-xdist, tests that share a lab run one after the other; others stay together by their file."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            shared = [name for name in ("trio", "lab") if name in item.fixturenames]
            item.add_marker(pytest.mark.xdist_group(shared[0] if shared else item.path.stem))


@pytest.fixture(scope="session")
def lab():
    yield from started(os.environ.get("OUTPOST_SMTP_LAB", "system"), [SERVER])


@pytest.fixture(scope="session")
def trio():
    """A lab with every Debian release and a second relay; who uses a server makes its Postfix as it must be (Lab.fresh_postfix)."""
    yield from started(os.environ.get("OUTPOST_SMTP_LAB", "system") + "-trio", RELEASES, ["postfix"])


@pytest.fixture
def play(lab, tmp_path):
    """Run a playbook on the lab's server: play("playbooks/site.yml", variables, "--check", ...) -> Run."""

    def run(playbook: str, variables: dict, *options: str, ansible: Path = ROOT / ".dev/venv/bin", environment: dict | None = None):
        return run_playbook(lab, tmp_path, playbook, variables, *options, ansible=ansible, environment=environment)

    return run
