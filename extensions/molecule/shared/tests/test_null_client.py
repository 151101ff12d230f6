# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a null client behind an authenticated relay."""

from __future__ import annotations

import os

# The scenarios that share this file are named for the port that they relay through.
PORT = os.environ["MOLECULE_SCENARIO_NAME"].rpartition("_")[2]


def test_postfix_runs_and_starts_at_boot(host):
    assert host.service("postfix").is_running
    assert host.service("postfix").is_enabled


def test_smtp_is_open_on_loopback_only(host):
    listeners = host.run("ss --no-header --listening --numeric --tcp 'sport = :25'").stdout.split("\n")
    addresses = {line.split()[3] for line in listeners if line}
    assert addresses and addresses <= {"127.0.0.1:25", "[::1]:25"}


def test_the_relay_is_in_force(host):
    transport = host.check_output("postconf -h default_transport")
    assert transport == f"outpost_primary:[smtp.provider.test]:{PORT}"


def test_the_credential_is_for_root_alone(host):
    tables = host.check_output("find /etc/postfix/outpost_smtp -name sasl_primary").split("\n")
    assert len(tables) == 1, "one generation, no leftovers"
    table = host.file(tables[0])
    assert (table.user, table.group, table.mode) == ("root", "root", 0o600)
    assert host.run(f"runuser -u nobody -- cat {tables[0]}").failed


def test_nothing_waits_in_the_queue(host):
    assert host.check_output("postqueue -j") == ""


def test_postfix_has_not_complained(host):
    # Since it was started last: the journal also holds what scenarios before this one made it say.
    started = host.check_output("stat --format=%Y /var/spool/postfix/pid/master.pid")
    sources = "--identifier=postfix/master --identifier=postfix/smtp"
    log = host.check_output(f"journalctl --quiet --no-pager --output=cat --since=@{started} --priority=warning {sources}")
    assert log == ""
