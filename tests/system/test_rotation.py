# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/rotate.yml on three hosts: a good secret, a wrong one, one that logs in but does not deliver, an interruption."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mail_count import await_queue, await_received, await_that, end_of_stream, received, send, stream
from system_lab import RELEASES, ROOT, run_playbook, variables

CANARY, *OTHERS = RELEASES
HOSTS = ",".join(RELEASES)
AT_ONCE = ("-e", '{"outpost_smtp_rotate_serial": ["100%"]}')
ONLY_THE_RELAY = ("--skip-tags", "smtp_egress,smtp_verify")
SEARCH = "grep --recursive --files-with-matches --binary-files=text --fixed-strings --file=- /etc /var /tmp /root /run /home /usr/local || true"
# A second and a third place for passwords of "alerts", so that the old and the new one can be valid at the same time.
_MORE_PASSWORDS = """set -e
cp -p /etc/dovecot/dovecot.conf /etc/dovecot/users /root/
for n in 1 2; do
    printf 'passdb {\\n  driver = passwd-file\\n  args = username_format=%%u /etc/dovecot/alerts.%s\\n}\\n' $n >>/etc/dovecot/dovecot.conf
    install -m 640 -g dovecot /dev/null /etc/dovecot/alerts.$n
done
sed -i /^alerts@/d /etc/dovecot/users
doveadm reload
"""
_AS_BEFORE = "cp -p /root/dovecot.conf /root/users /etc/dovecot/; rm -f /etc/dovecot/alerts.*; doveadm reload"


class Fleet:
    """Three hosts that send as `alerts`, and a provider that knows which of its passwords are valid."""

    def __init__(self, lab, directory: Path) -> None:
        self.lab = lab
        self._directory = directory
        self._written = 0

    def everywhere(self, work) -> list:
        with ThreadPoolExecutor() as pool:
            return list(pool.map(work, RELEASES))

    def provider_accepts(self, *passwords: str) -> None:
        for number in (1, 2):
            self._written += 1  # Dovecot reads a file again when its size or its time in seconds has changed
            line = f"alerts@provider.test:{{PLAIN}}{passwords[number - 1]}\n" if number <= len(passwords) else ""
            self.lab.shell(f"cat >/etc/dovecot/alerts.{number}", "provider", input=line + "#" * self._written)

    def play(self, playbook: str, *options: str, ansible: Path = ROOT / ".dev/venv/bin", **changes):
        relay = {field: changes.pop(field) for field in ("username", "password", "port", "tls") if field in changes}
        given = {**variables(self.lab, **relay), **changes}
        return run_playbook(self.lab, self._directory, f"outpost.smtp.{playbook}", given, *options, hosts=HOSTS, ansible=ansible)

    def refused_logins(self) -> int:
        return int(self.lab.shell("grep -c 'authentication failed' /var/log/mail.log || true", "provider").stdout)

    def files_with(self, host: str, password: str) -> list[str]:
        return self.lab.shell(SEARCH, host, input=password).stdout.split()

    def proves(self, name: str) -> None:
        """A message of every host arrives, right now."""
        await_received(self.lab, self.everywhere(lambda host: send(self.lab, host, f"{name}-{host}")))


def summary(run) -> list[str]:
    """The last account that the playbook gave of the fleet."""
    return [task for task in run.tasks if task["task"] == "Show how far the fleet is"][-1]["result"]["msg"]


def touched(run) -> set[str]:
    return {task["host"] for task in run.tasks}


@pytest.fixture(scope="module")
def fleet(trio, tmp_path_factory):
    fleet = Fleet(trio, tmp_path_factory.mktemp("rotation"))
    trio.shell(_MORE_PASSWORDS, "provider")
    fleet.everywhere(trio.fresh_postfix)
    yield fleet
    trio.shell(_AS_BEFORE, "provider")


@pytest.fixture(scope="module")
def old(fleet):
    """The password that all hosts have, proven."""
    password = "OLD" + secrets.token_hex(16)
    fleet.provider_accepts(password)
    done = fleet.play("site", *ONLY_THE_RELAY, password=password)
    assert done.status == 0, done.output
    fleet.proves("before")
    return password


def test_a_wrong_secret_is_tried_once_and_stops_at_the_canary(fleet, old):
    wrong = "WRONG" + secrets.token_hex(16)
    before = fleet.refused_logins()
    fingerprint = "find /etc/postfix -xdev -type f -printf '%p %m %s %T@\\n' | grep -v lock | sort"
    files = fleet.lab.shell(fingerprint, CANARY).stdout
    run = fleet.play("rotate", "-vvvv", "--diff", password=wrong)
    assert run.status == 2, run.output
    assert touched(run) == {CANARY}
    assert fleet.refused_logins() == before + 1
    assert fleet.lab.shell(fingerprint, CANARY).stdout == files
    verdict = run.tasks[-1]["result"]["msg"]
    assert verdict.startswith(f"{CANARY}: NOT SWITCHED.") and "auth_bad_credentials" in verdict, verdict
    assert summary(run)[-1] == "  not reached yet: 2"
    assert f"  untouched, because it failed before the switch: 1 ({CANARY})" in summary(run)
    assert not [host for host in RELEASES if fleet.files_with(host, wrong)]
    assert wrong not in run.output and old not in run.output
    fleet.proves("after-wrong")


def test_a_secret_that_does_not_deliver_is_taken_back(fleet, old):
    """The account `billing` may log in, but not send as `alerts`: what the proof is for."""
    billing = fleet.lab.accounts["billing"]
    run = fleet.play("rotate", username=billing["username"], password=billing["password"], smtp_verify_mailbox={"type": "log"})
    assert run.status == 2, run.output
    assert touched(run) == {CANARY}
    verdict = run.tasks[-1]["result"]["msg"]
    assert verdict.startswith(f"{CANARY}: ROLLED BACK to the old secret, with which mail gets through. With the new one:"), verdict
    assert "not owned by user billing@provider.test" in verdict
    assert f"  rolled back to the old secret: 1 ({CANARY})" in summary(run)
    assert fleet.files_with(CANARY, billing["password"]) == []
    assert len(fleet.files_with(CANARY, old)) == 1
    again = fleet.play("site", "--check", "--diff", *ONLY_THE_RELAY, password=old)
    assert again.status == 0 and not again.changed(), again.output
    fleet.proves("after-rollback")


def test_a_batch_that_fails_more_than_it_may_ends_the_run(fleet, old):
    """Batches of two and one; the first host can not reach the relay. There, and then, with half of a batch allowed to fail, back again."""
    other = "OTHER" + secrets.token_hex(16)
    fleet.provider_accepts(old, other)
    serial = ("-e", '{"outpost_smtp_rotate_serial": [2, 1]}')
    unreachable = {"port": f"{{{{ 26 if inventory_hostname == '{CANARY}' else 465 }}}}", "tls": "implicit"}
    run = fleet.play("rotate", *serial, password=other, **unreachable)
    assert run.status == 2 and touched(run) == set(RELEASES[:2]), run.output
    assert f"  untouched, because it failed before the switch: 1 ({CANARY})" in summary(run) and summary(run)[-1] == "  not reached yet: 1"
    assert [host for host in RELEASES if fleet.files_with(host, other)] == [OTHERS[0]] and len(fleet.files_with(CANARY, old)) == 1

    run = fleet.play("rotate", *serial, password=old, **unreachable, outpost_smtp_rotate_max_fail_percentage=50)
    assert run.status == 2 and touched(run) == set(RELEASES), run.output
    assert f"  switched, and proven: 1 ({OTHERS[0]})" in summary(run) and f"  had it already: 1 ({OTHERS[1]})" in summary(run)
    (verdict,) = [task["result"]["msg"] for task in run.tasks if task["status"] == "failed" and task["task"].startswith("Fail where")]
    assert verdict.startswith(f"{CANARY}: NOT SWITCHED.") and "[tcp_refused]" in verdict, verdict
    fleet.proves("after-threshold")


def test_an_interrupted_rotation_goes_on_and_no_mail_is_lost(fleet, old, tmp_path):
    new = "NEW" + secrets.token_hex(16)
    fleet.provider_accepts(old, new)
    fleet.everywhere(lambda host: stream(fleet.lab, host, f"rotation-{host}"))
    try:
        kill_while_it_proves(fleet, new, tmp_path)
        # Switched, and what to go back to is still there: that is how the host is known, by people and by the next run.
        assert len(fleet.files_with(CANARY, old)) == len(fleet.files_with(CANARY, new)) == 1
        told = fleet.play("rotate", "--check", password=new)
        assert told.status == 0, told.output
        assert f"  would be switched, or only proven: 3 ({', '.join(RELEASES)})" in summary(told)

        run = fleet.play("rotate", "-vvvv", "--diff", password=new)
    finally:
        sent = [name for names in fleet.everywhere(lambda host: end_of_stream(fleet.lab, host, f"rotation-{host}")) for name in names]
    assert run.status == 0, run.output
    assert f"  switched, and proven: 3 ({', '.join(RELEASES)})" in summary(run)
    switches = [task["host"] for task in run.tasks if task["task"].endswith(": Configure the relay") and task["changed"]]
    # Nothing was left to switch on the canary, only to drop; both on the others, the second after the first is through.
    assert switches == [CANARY, OTHERS[0], OTHERS[0], OTHERS[1], OTHERS[1]]
    assert old not in run.output and new not in run.output

    for host in RELEASES:
        assert fleet.files_with(host, old) == [], host
        (table,) = fleet.files_with(host, new)
        assert fleet.lab.shell(f"stat --format='%a %U' {table}", host).stdout == "600 root\n"
    fleet.provider_accepts(new)
    fleet.everywhere(lambda host: await_queue(fleet.lab, host))
    assert len(sent) > 30
    await_received(fleet.lab, sent)
    fleet.proves("after-rotation")
    idle = fleet.play("rotate", *AT_ONCE, password=new)
    assert idle.status == 0 and not idle.changed(), idle.output
    assert f"  had it already: 3 ({', '.join(RELEASES)})" in summary(idle)


def test_mail_waits_where_old_and_new_are_never_valid_together(fleet, old):
    newest = "NEWEST" + secrets.token_hex(16)
    fleet.provider_accepts(newest)
    waiting = fleet.everywhere(lambda host: send(fleet.lab, host, f"gap-{host}"))
    fleet.everywhere(lambda host: await_queue(fleet.lab, host, "deferred"))
    run = fleet.play("rotate", *AT_ONCE, password=newest)
    assert run.status == 0, run.output
    assert f"  switched, and proven: 3 ({', '.join(RELEASES)})" in summary(run)
    assert not sum(received(fleet.lab)[name] for name in waiting)
    fleet.everywhere(lambda host: await_queue(fleet.lab, host))
    await_received(fleet.lab, waiting)


def kill_while_it_proves(fleet, password: str, directory: Path) -> None:
    """Begin a rotation whose message is never found, and kill the controller while it looks for it."""
    wrapper = directory / "ansible-playbook"
    wrapper.write_text(f"#!/bin/sh\necho $$ >{directory}/pid\nexec {ROOT}/.dev/venv/bin/ansible-playbook \"$@\"\n")
    wrapper.chmod(0o755)
    nobody = {"smtp_verify_recipient": "billing@provider.test", "smtp_verify_timeout": 20}
    mailbox = "find /var/mail/billing -type f 2>/dev/null | wc -l"
    before = fleet.lab.shell(mailbox, "provider").stdout
    with ThreadPoolExecutor() as pool:
        killed = pool.submit(fleet.play, "rotate", ansible=directory, password=password, **nobody)
        await_that(lambda: fleet.lab.shell(mailbox, "provider").stdout != before, "the message that is to prove it arrives elsewhere")
        kill_tree(int((directory / "pid").read_text()))
        assert killed.result().status == -signal.SIGKILL


def kill_tree(pid: int) -> None:
    """SIGKILL for a process and all its descendants."""
    children = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True, check=False).stdout.split()
    os.kill(pid, signal.SIGKILL)
    for child in children:
        kill_tree(int(child))
