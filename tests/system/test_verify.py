# SPDX-License-Identifier: GPL-3.0-or-later
"""Who logs in first when role smtp_verify works through a fleet in batches. The fleet is this machine under several names."""

from __future__ import annotations

import json
import sys
import types

import pytest
from system_lab import ROOT, run_playbook

sys.path.insert(0, str(ROOT / "tests" / "unit" / "_support"))

from smtp_server import PASSWORD, USERNAME, Certificates, Server, conversation  # noqa: E402  (needs the path set above)

FLEET = ("web1", "web2", "web3", "web4")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def verify(certificates, tmp_path):
    """Let the fleet log in, two hosts at a time, with fields of the relay that may be templates; the verdicts, and the logins tried."""

    def run(**relay):
        hosts = dict.fromkeys(FLEET, {"ansible_connection": "local", "ansible_python_interpreter": sys.executable})
        (tmp_path / "inventory.yml").write_text(json.dumps({"all": {"hosts": hosts}}))
        play = {"hosts": "all", "gather_facts": False, "serial": 2, "roles": ["outpost.smtp.smtp_verify"]}
        (tmp_path / "play.yml").write_text(json.dumps([play]))
        with Server(conversation(tls="implicit", context=certificates.good())) as server:
            known = {"host": "localhost", "port": server.port, "tls": "implicit", "family": "ipv4", "ca_file": certificates.ca_file}
            given = {"outpost_smtp_relays": [{**known, "username": USERNAME, "password": PASSWORD, **relay}]}
            done = run_playbook(types.SimpleNamespace(state=tmp_path), tmp_path, str(tmp_path / "play.yml"), given, hosts="all")
            assert done.status == 2, done.output
            said = {task["host"]: task["result"]["msg"][0] for task in done.tasks if task["task"].endswith("Show the verdict")}
            return {host: line.removeprefix(f"{host}: ").split(",")[0] for host, line in said.items()}, server.auth_attempts

    return run


def test_a_host_that_fails_does_not_keep_the_next_batch_from_its_test(verify):
    verdicts, logins = verify(host="{{ 'nowhere.invalid' if inventory_hostname == 'web1' else 'localhost' }}")
    assert verdicts == {"web1": "BROKEN", "web2": "OK", "web3": "OK", "web4": "OK"} and logins == 3


def test_a_wrong_password_is_tried_once_by_the_whole_fleet(verify):
    assert verify(password="wrong") == ({"web1": "BROKEN", "web2": "NOT TESTED"}, 1)
