# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong between the tasks of the role: packages, other mail servers, a reboot, a controller that goes away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_lab import Faults, reboot
from system_lab import RELEASES, ROOT, run_playbook, variables

PLAY = "tests/system/plays/impatient.yml"
PURGE = """
export DEBIAN_FRONTEND=noninteractive
systemctl stop postfix 2>/dev/null || :
apt-get purge -qq -y postfix >/dev/null 2>&1
rm -rf /etc/postfix /var/spool/postfix
"""
#: Who has them holds the locks of dpkg and apt, as unattended-upgrades does.
HOLD = """
import fcntl, time
files = [open(f"/var/lib/dpkg/{name}", "w") for name in ("lock-frontend", "lock")]
for file in files:
    fcntl.lockf(file, fcntl.LOCK_EX)
open("/run/held", "w")
time.sleep(600)
"""
AWAIT = "until ss -Hltn 'sport = :25' | grep -q .; do sleep 0.1; done"
LISTEN = "import socket, time; server = socket.create_server(('127.0.0.1', 25)); time.sleep(600)"
OTHER = """
mkdir -p /root/other/DEBIAN /root/other/usr/sbin
cat > /root/other/DEBIAN/control <<CONTROL
Package: other-mta
Version: 1
Architecture: all
Maintainer: root <root@localhost>
Provides: mail-transport-agent
Conflicts: mail-transport-agent
Description: another mail server
CONTROL
printf '#!/bin/sh\\nexit 75\\n' > /root/other/usr/sbin/sendmail
chmod 755 /root/other/usr/sbin/sendmail
dpkg-deb --build /root/other /root/other.deb >/dev/null
dpkg --install /root/other.deb >/dev/null
"""
SLOW_RELOAD = """#!/bin/sh
case " $* " in *" reload "*) touch /run/reloading; sleep 3;; esac
exec $0.real "$@"
"""
STATE = "find /etc /usr/sbin /usr/lib/postfix -newer /root/before 2>/dev/null; dpkg --list | grep -c postfix || :"


@pytest.fixture(scope="module")
def faults(trio):
    faults = Faults(trio)
    with ThreadPoolExecutor() as pool:
        list(pool.map(faults.prepare, RELEASES))
    yield faults
    faults.await_delivery()


@pytest.fixture(scope="module")
def role(faults, tmp_path_factory):
    """Run the role on one server: role("debian12", "--check") -> Run."""
    directories = {host: tmp_path_factory.mktemp(host) for host in RELEASES}

    def run(host: str, *options: str):
        return run_playbook(faults.lab, directories[host], PLAY, variables(faults.lab), *options, hosts=host)

    return run


@pytest.fixture(scope="module")
def at_once(faults, role):
    """What can be done on one server each, all at the same time; the tests wait for the end of theirs."""
    with ThreadPoolExecutor() as pool:
        jobs = {name: pool.submit(job, faults, role) for name, job in JOBS.items()}
        yield lambda name: jobs[name].result()


def converges(faults, role, host: str) -> None:
    """The next run succeeds, the one after it changes nothing, and all mail gets away."""
    first = role(host)
    assert first.status == 0, first.output
    again = role(host)
    assert again.status == 0 and not again.changed(), again.output
    faults.mail(host, deliver=True)


def package_manager_is_locked(faults, role):
    """Check mode on a host without Postfix does not need it. The real run says what is in the way and has done nothing."""
    host = "debian13"
    hold = f"systemd-run --quiet --unit=hold python3 -c '{HOLD}'; until [ -e /run/held ]; do sleep 0.1; done"
    faults.lab.shell(f"{PURGE}{hold}; touch /root/before", host)
    before = faults.lab.shell(STATE, host).stdout
    checked = role(host, "--check", "--diff")
    assert checked.status == 0 and checked.changed(), checked.output
    assert faults.lab.shell(STATE, host).stdout == before
    run = role(host)
    faults.lab.shell("systemctl stop hold", host)
    assert run.status != 0 and "lock" in run.output.lower(), run.output
    assert faults.lab.shell("ls -d /etc/postfix 2>/dev/null || :", host).stdout == ""
    converges(faults, role, host)


def another_mail_server(faults, role):
    """Of Debian's mail servers only one can be installed; Postfix takes the place of the one that was there."""
    host = "debian11"
    faults.lab.shell(f"{PURGE}{OTHER}", host)
    converges(faults, role, host)
    assert "other-mta" not in faults.lab.shell("dpkg --get-selections | grep -w install || :", host).stdout


def port_25_is_taken(faults, role):
    """The role says that Postfix does not run, whatever systemd makes of it; mail waits until it does."""
    host = "debian12"
    faults.lab.fresh_postfix(host)
    faults.lab.shell(f'systemd-run --quiet --unit=listen python3 -c "{LISTEN}"; {AWAIT}', host)
    run = role(host)
    faults.mail(host, daemon=False)
    faults.lab.shell("systemctl stop listen", host)
    assert run.status != 0, "Postfix can not have started"
    assert "another program may have its port" in run.output, run.output
    converges(faults, role, host)


JOBS = {"lock": package_manager_is_locked, "other": another_mail_server, "port": port_25_is_taken}


def test_package_manager_is_locked(at_once):
    at_once("lock")


def test_another_mail_server(at_once):
    at_once("other")


def test_port_25_is_taken(at_once):
    at_once("port")


#: Where a run was when the machine went down: after the installation, with half of the work done, and with all but the reload.
REBOOTS = {"debian11": "", "debian12": "open .*/stage/main.cf", "debian13": "start postfix reload"}


def test_reboot(faults, role):
    def go_down(host: str) -> None:
        faults.lab.fresh_postfix(host)
        if REBOOTS[host]:
            faults.begin(host)
            faults.set_up(host, faults.relay())
            assert faults.run(host, faults.relay(name="second", port=587), at=REBOOTS[host], script=":", kill=True) is None
            faults.mail(host)
        reboot(faults.lab, host)
        if REBOOTS[host]:
            faults.mail(host, faults.relay(), faults.relay(name="second", port=587), deliver=True)

    with ThreadPoolExecutor() as pool:
        list(pool.map(go_down, REBOOTS))
        list(pool.map(lambda host: converges(faults, role, host), REBOOTS))


def test_the_controller_goes_away(faults, role, tmp_path):
    """The run on the host goes on, or the next one finishes its work; the configuration is complete all the time."""
    host = "debian12"
    faults.begin(host)
    faults.lab.shell("mv /usr/sbin/postfix /usr/sbin/postfix.real; cat > /usr/sbin/postfix; chmod 755 /usr/sbin/postfix", host, input=SLOW_RELOAD)
    controller = start_controller(faults.lab, tmp_path, host)
    faults.lab.shell("for attempt in $(seq 600); do [ -e /run/reloading ] && exit; sleep 0.1; done; exit 1", host)
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()
    faults.mail(host)
    faults.lab.shell("rm -f /run/reloading; mv /usr/sbin/postfix.real /usr/sbin/postfix", host)
    converges(faults, role, host)


def start_controller(lab, directory, host: str) -> subprocess.Popen:
    """Start a run of the role in a process group of its own, with a connection that ends with it."""
    given = directory / "variables.json"
    given.write_text(json.dumps({"outpost_smtp_hosts": host, **variables(lab)}))
    command = [ROOT / ".dev/venv/bin/ansible-playbook", "-i", lab.state / "inventory.yml", "-e", f"@{given}", ROOT / PLAY]
    settings = {"ANSIBLE_CONFIG": str(ROOT / "tests" / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".dev" / "collections")}
    environment = {**os.environ, **settings, "ANSIBLE_SSH_ARGS": "-o ControlMaster=no"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, start_new_session=True)
