# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode tells the truth: what it announces is what the real run does, and it touches nothing."""

from __future__ import annotations

import pytest
from system_lab import variables

FINGERPRINT = """
find /etc /usr/local /root -xdev -not -path '/root/.ansible*' -printf '%p %y %m %u %g %s %T@ %l\\n' | sort
dpkg-query --show; systemctl list-unit-files --no-legend --no-pager; nft list ruleset
"""
# Ansible's own package and service modules predict their diffs in other words; those of this collection must be the same.
OURS = ("outpost.smtp.postfix_relay : Configure the relay", "outpost.smtp.smtp_egress : Load the outbound mail rules")


def diffs(run, without=""):
    """The diffs that the modules of this collection reported, by task, without the file of that name."""
    ours = [task for task in run.tasks if task["changed"] and task["task"].startswith(OURS)]
    return [(task["task"], [diff for diff in task["diff"] if diff["before_header"] != without]) for task in ours]


CASES = {
    "a host without Postfix": {},
    "another port and TLS mode": {"port": 587},
    "another password": {"password": "another password"},
}


@pytest.mark.parametrize("case", CASES)
def test_what_check_mode_announces_is_what_happens(lab, play, case):
    # The provider does not know the other password, so a login before the switch would refuse it; check mode logs in nowhere.
    given = {**variables(lab, **CASES[case]), "postfix_relay_preflight": "never"}
    if case == "a host without Postfix":
        lab.shell("apt-get purge --yes --quiet postfix >/dev/null 2>&1; rm -rf /etc/postfix; nft flush ruleset")
    else:
        assert play("playbooks/site.yml", variables(lab), "--skip-tags", "smtp_verify").status == 0
    before = lab.shell(FINGERPRINT).stdout
    predicted = play("playbooks/site.yml", given, "--check", "--diff", "--skip-tags", "smtp_verify")
    assert predicted.status == 0, predicted.output
    assert lab.shell(FINGERPRINT).stdout == before, "check mode touched the host"

    real = play("playbooks/site.yml", given, "--diff", "--skip-tags", "smtp_verify")
    assert real.status == 0, real.output
    assert real.changed(), "the case changes something"
    assert predicted.changed() == real.changed()
    # What the package will bring as its master.cf can not be known before it is installed.
    unknown = "/etc/postfix/master.cf" if case == "a host without Postfix" else ""
    assert diffs(predicted, without=unknown) == diffs(real, without=unknown)
    assert diffs(real, without=unknown) and all(text for _task, text in diffs(real, without=unknown))

    again = play("playbooks/site.yml", given, "--diff", "--skip-tags", "smtp_verify")
    assert again.status == 0 and not again.changed(), again.output
