# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that is killed: before each effect that it has on the host, Postfix works and loses no mail, and the next run finishes."""

from __future__ import annotations

import ast
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fault_lab import ABSENT, Faults, with_parameters
from system_lab import RELEASES, ROOT

#: Faults on the host during a run, by the numbers that they have in the collection's list, and the tests of each.
TESTS = {
    "C1 the disk is full": ["test_faults_disk.py::test_no_room"],
    "C2 no inodes are left": ["test_faults_disk.py::test_no_room"],
    "C3 the file system can not be written": ["test_faults_disk.py::test_read_only"],
    "C4 kill -9 of the module, of postmap": ["test_faults.py::test_killed", "test_faults_host.py::test_postmap_is_killed"],
    "C5 reboot between tasks": ["test_faults_role.py::test_reboot"],
    "C6 Postfix is missing, broken, or something else is in its place": [
        "test_faults_host.py::test_broken_beforehand",
        "test_faults_host.py::test_half_installed",
        "test_faults_role.py::test_another_mail_server",
        "test_faults_role.py::test_port_25_is_taken",
    ],
    "C7 postmap loses a key": ["test_faults_host.py::test_postmap_loses_a_key"],
    "C8 a built map has the wrong mode or owner": ["test_faults_host.py::test_a_built_map_is_open_to_others"],
    "C9 main.cf is edited by hand": ["test_faults_host.py::test_edited_by_hand_meanwhile", "test_faults_host.py::test_edited_by_hand_between_runs"],
    "C10 the relay can not be reached or refuses the password": ["test_faults_host.py::test_the_old_relay_stays"],
    "C20 two runs at once": ["test_faults_host.py::test_two_runs_at_once"],
    "C21 the connection is lost": ["test_faults_role.py::test_the_controller_goes_away"],
    "C23 the user of Postfix gets another number": ["test_faults_host.py::test_another_number_of_the_user"],
    "C24 no systemd, no /proc": ["test_faults_host.py::test_no_systemd"],
    "C25 check mode on a fresh host": [
        "test_faults_role.py::test_package_manager_is_locked",
        "test_check_mode.py::test_what_check_mode_announces_is_what_happens",
    ],
    "C26 nothing stays after the removal": ["test_faults_host.py::test_nothing_stays"],
    "C27 a second run changes nothing after each fault": ["fault_lab.py::heals", "fault_driver.py::kills", "fault_driver.py::starve"],
}
NUMBERS = [*range(1, 11), 20, 21, *range(23, 28)]

#: The same for the faults that have no number there.
MORE_TESTS = {
    "postmap is missing": ["test_faults_host.py::test_postmap_is_missing"],
    "the package manager is locked": ["test_faults_role.py::test_package_manager_is_locked"],
    "Postfix is stopped": ["test_faults_host.py::test_postfix_is_stopped"],
    "the reload fails": ["test_faults_host.py::test_reload_fails"],
    "the verification fails": ["test_transaction.py::test_what_goes_wrong_after_the_switch_brings_the_old_configuration_back"],
    "main.cf is immutable, a directory, or another user's": ["test_transaction.py::test_a_main_cf_of_an_unusual_kind"],
}

#: Both ends of each change, and one in how many steps of it is tried. Steps are the effects by which names change or other programs
#: work. There and back is the same change, but for the first, so that one in two there and the others back are all of them. Of the
#: others, each release is killed before each step that none of the changes before had, too. With OUTPOST_SMTP_EVERY_EFFECT=1 it is
#: every effect of every change, also those that only fill a file; that takes half an hour.
KILLS = {
    "a first relay, and none": (1, lambda faults: (faults.relay(), ABSENT)),
    "another relay": (2, lambda faults: (faults.relay(), faults.relay(name="second", port=587, account=faults.new_password()))),
    "another password": (6, lambda faults: (faults.relay(), faults.relay(account=faults.new_password()))),
    "another name": (6, lambda faults: (faults.relay(), faults.relay(name="second"))),
    "kept and reverted": (4, lambda faults: faults.kept_and_reverted()),
    "another password in hash": (6, lambda faults: (faults.relay(table_type="hash"), faults.relay(table_type="hash", account=faults.new_password()))),
    "from texthash to lmdb": (6, lambda faults: (faults.relay(), faults.relay(table_type="lmdb"))),
    "from hash to cdb": (6, lambda faults: (faults.relay(table_type="hash"), faults.relay(table_type="cdb"))),
    "Postfix without a main.cf": (4, lambda faults: (faults.relay(), ABSENT)),
    "a login and a restart": (12, lambda faults: (faults.relay(), with_a_restart(faults.relay(name="second", preflight="always")))),
    "what Postfix refuses": (4, lambda faults: (faults.relay(), {**faults.relay(name="refused"), "refused": True})),
}


def with_a_restart(side: dict) -> dict:
    return with_parameters(side, "inet_protocols = ipv4\n")


#: postfix(1), which keeps its work under another name, does not tell Postfix of the one that is refused.
REFUSES = """#!/bin/sh
case " $* " in
*" reload "*) if grep -q '^default_transport = outpost_refused' /etc/postfix/main.cf; then echo 'postfix: fatal: refused' >&2; exit 1; fi
esac
exec $0.real "$@"
"""
#: The types that come in packages; what they write in Postfix's own directory is not there in one that is fresh.
MORE_TYPES = "DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --reinstall postfix-lmdb postfix-cdb >/dev/null 2>&1"


#: What has effects, or none, of the functions by which the module could have one.
MODULES = ("os", "shutil", "subprocess")
COUNTED = {"open", "write", "rename", "unlink", "mkdir", "rmdir", "chmod", "fchmod", "chown", "link", "utime", "setxattr", "kill", "rmtree", "Popen"}
READING = {"close", "fdopen", "fstat", "fsync", "geteuid", "getxattr", "listdir", "listxattr", "lstat", "read", "stat", "TimeoutExpired"}


def test_whatever_the_module_does_to_a_host_is_counted_as_a_step():
    """A new kind of effect has to be one that fault_driver.py sees (EVENTS), or is made of such."""
    package = ROOT / "plugins" / "module_utils" / "_postfix"
    called = set()
    for name in ("transaction", "directory", "files", "built_maps", "configure", "examination", "host", "witness"):
        for node in ast.walk(ast.parse((package / f"{name}.py").read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in MODULES:
                called.add(node.func.attr)
    assert {"rename", "Popen"} <= called <= READING | COUNTED, called - READING - COUNTED


def test_every_fault_has_its_tests():
    assert sorted(int(name.split()[0][1:]) for name in TESTS) == NUMBERS
    here = Path(__file__).parent
    for place in {place for places in [*TESTS.values(), *MORE_TESTS.values()] for place in places}:
        file, name = place.split("::")
        names = [node.name for node in ast.walk(ast.parse((here / file).read_text())) if isinstance(node, ast.FunctionDef)]
        assert name in names, place


@pytest.fixture(scope="module")
def faults(trio):
    faults = Faults(trio)
    with faults.two_passwords(), ThreadPoolExecutor() as pool:
        list(pool.map(faults.prepare, RELEASES))
        yield faults


@pytest.fixture(scope="module")
def known():
    """The steps of the changes so far. The first is killed before each of its steps by the servers together."""
    return set()


@pytest.mark.parametrize("change", KILLS)
def test_killed(faults, known, change):
    """The servers of the lab share what is no new step among them."""
    thin, sides = KILLS[change]
    every = bool(os.environ.get("OUTPOST_SMTP_EVERY_EFFECT"))
    servers = len(RELEASES)
    stride = servers * (1 if every else thin)
    sides = sides(faults)
    daemon = change != "Postfix without a main.cf"
    number_of_change = list(KILLS).index(change)

    def kill(number: int) -> dict:
        host = RELEASES[number]
        if daemon:
            faults.queue_up(host)
        else:
            faults.begin(host, "")
        if "lmdb" in change or "cdb" in change:
            faults.lab.shell(MORE_TYPES, host)
        if change == "what Postfix refuses":
            faults.lab.shell("mv /usr/sbin/postfix /usr/sbin/postfix.real; cat > /usr/sbin/postfix; chmod 755 /usr/sbin/postfix", host, input=REFUSES)
        shares = [[(number + servers * (number_of_change + way * thin // 2)) % stride, stride] for way in (0, 1)]
        more = {"known": sorted(known), "start": faults.relay(), "last": faults.relay()}
        return faults.drive(host, "kills", sides=sides, every=every, shares=shares, daemon=daemon, **more)

    try:
        with ThreadPoolExecutor() as pool:
            reports = list(pool.map(kill, range(servers)))
    finally:
        for host in RELEASES:
            faults.lab.shell("[ ! -e /usr/sbin/postfix.real ] || mv /usr/sbin/postfix.real /usr/sbin/postfix", host)
    for report in reports:
        assert len(report["steps"]) > 20 and sum(map(len, report["killed"])) >= 8 // thin, "the counting works"
        known.update(report["steps"])
    faults.await_delivery()
