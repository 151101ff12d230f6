# SPDX-License-Identifier: GPL-3.0-or-later
"""A wrong field ends the run with the entry and the field in the message, before the host is touched, and without the password.

The host is an address where nobody answers: a role that contacted it first would fail with UNREACHABLE instead.
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from system_lab import ROOT

SECRET = "canary-of-bad-input"
GOOD = {"name": "primary", "host": "smtp.example.net", "port": 465, "username": "alerts@example.net", "password": SECRET}
WRONG = {
    "host": {"host": "smtp example.net"},
    "host missing": {"host": None},
    "port": {"port": 70000},
    "tls": {"tls": "starttls"},
    "username": {"username": "a:b"},
    "password": {"password": SECRET + "\n"},
    "password missing": {"password": None},
    "mechanism": {"mechanism": "guess"},
    "ca_file": {"ca_file": "ca.pem"},
    "name": {"name": "Not A Label"},
    "passwort": {"passwort": SECRET},
    "oauth": {"password": None, "oauth": {"token_endpoint": "http://a.example/" + SECRET, "client_id": "a", "client_secret": SECRET}},
}
ROLES = ("postfix_relay", "smtp_egress", "smtp_verify")


def run_role(role, relays, tmp_path, **more):
    play = [{"hosts": "nobody", "gather_facts": False, "roles": [f"outpost.smtp.{role}"], "vars": {"outpost_smtp_relays": relays, **more}}]
    playbook = tmp_path / "play.yml"
    playbook.write_text(json.dumps(play))
    settings = {"ANSIBLE_CONFIG": str(ROOT / "tests" / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".dev" / "collections")}
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"all": {"hosts": {"nobody": {"ansible_host": "192.0.2.1", "ansible_ssh_timeout": 2}}}}))
    command = [ROOT / ".dev" / "venv" / "bin" / "ansible-playbook", "-vvv", "-i", inventory, playbook]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **settings})
    return result.returncode, result.stdout + result.stderr


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("role", ROLES)
def test_the_entry_and_the_field_are_named_before_the_host_is_touched(role, wrong, tmp_path):
    entry = {key: value for key, value in {**GOOD, **WRONG[wrong]}.items() if value is not None}
    status, output = run_role(role, [{**GOOD, "name": "first", "password": "other"}, entry], tmp_path)
    field = wrong.split()[0]
    assert status != 0
    assert "outpost_smtp_relays[1]" in output and f".{field}" in output, output
    assert "UNREACHABLE" not in output and "ESTABLISH SSH" not in output, output
    assert SECRET not in output, output


@pytest.mark.parametrize("role", ROLES)
def test_no_relay_at_all_is_an_error_that_names_the_variable(role, tmp_path):
    status, output = run_role(role, [], tmp_path)
    assert status != 0 and "outpost_smtp_relays" in output, output
    assert "UNREACHABLE" not in output


@pytest.mark.parametrize("wrong", [{"postfix_relay_null_client": "sometimes"}, {"smtp_egress_mode": "sometimes"}, {"smtp_verify_via": "sometimes"}])
def test_another_wrong_argument_does_not_bring_the_password_to_light(wrong, tmp_path):
    """Ansible shows the whole argument specification then, with the defaults filled in."""
    (name,) = wrong
    role = next(role for role in ROLES if name.startswith(role))
    mailbox = {"type": "imap", "host": "imap.example.net", "username": "inbox", "password": SECRET}
    status, output = run_role(role, [GOOD], tmp_path, smtp_verify_mailbox=mailbox, smtp_verify_recipient="inbox@example.net", **wrong)
    assert status != 0 and name in output and "sometimes" in output, output
    assert SECRET not in output, output
