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

EGRESS = "../unit/plugins/module_utils/_egress"
#: The same for what concerns the firewall.
FIREWALL_TESTS = {
    "C1 the disk is full": [f"{EGRESS}/test_host_faults.py::test_a_disk_that_is_full_leaves_the_rules_as_they_were"],
    "C4 kill -9 of the module, of nft": [
        "test_egress.py::test_a_run_that_is_killed_leaves_old_or_new_rules_and_the_next_one_heals",
        "test_egress_killed.py::test_a_run_that_is_killed_leaves_the_old_or_the_new_ways",
        "test_egress_firewalld.py::test_a_run_that_is_killed_is_completed_by_the_next_one",
        f"{EGRESS}/test_rollback.py::test_a_killed_run_goes_back_by_itself_or_is_completed_by_the_next",
    ],
    "C5 reboot before the confirmation": ["test_egress.py::test_a_reboot_keeps_what_was_confirmed_and_takes_back_what_was_not"],
    "C11 DNS is dead": [
        "test_egress.py::test_the_rules_follow_the_name_and_the_old_address_stays_for_a_while",
        f"{EGRESS}/test_refresh.py::test_a_failed_or_empty_answer_takes_nothing_away",
        f"{EGRESS}/test_ruleset.py::test_only_an_address_gets_into_the_text",
    ],
    "C12 a relay moves": [
        f"{EGRESS}/test_refresh.py::test_an_address_that_left_the_answer_stays_for_its_time_to_live",
        f"{EGRESS}/test_refresh.py::test_an_address_that_comes_back_stays",
        f"{EGRESS}/test_refresh.py::test_a_name_with_a_new_address_each_time_does_not_fill_the_rules",
    ],
    "C13 nft is missing, crashes, or may not": [
        "test_egress.py::test_a_host_without_nft",
        f"{EGRESS}/test_nft.py::test_a_listing_that_fails_is_never_taken_for_no_rules",
    ],
    "C14 somebody flushes, reloads, restarts": [
        "test_egress.py::test_what_somebody_flushed_or_edited_is_put_back",
        "test_egress.py::test_the_rules_outlive_the_firewall_service_and_come_back_with_the_boot_target",
        "opened_lab.py::life",
    ],
    "C15 somebody else's chain drops by default": ["test_egress.py::test_a_chain_that_drops_is_named_with_the_lines_to_add", "opened_lab.py::life"],
    "C16 nftables.conf is broken": ["test_egress_nftables.py::test_a_life_with_nftables"],
    "C17 firewalld is stopped, does not answer, or has failed before": [
        f"{EGRESS}/test_manager_firewalld.py::test_a_firewalld_that_is_stopped_finds_the_policy_when_it_starts",
        f"{EGRESS}/test_manager_firewalld.py::test_rules_of_a_firewalld_that_does_not_answer",
        f"{EGRESS}/test_manager_firewalld.py::test_a_reload_that_has_failed_before",
    ],
    "C18 before.rules of ufw is broken": ["test_egress_ufw.py::test_what_ufw_could_not_load_is_named_and_not_made_worse"],
    "C19 legacy iptables beside nft": ["test_egress_killed.py::test_two_managers_that_both_drop_are_named_and_neither_is_touched"],
    "C20 two runs at once": [f"{EGRESS}/test_host_faults.py::test_two_runs_at_once"],
    "C21 the connection is lost": ["test_egress.py::test_a_change_that_is_not_confirmed_goes_back_by_itself_and_the_next_run_says_so"],
    "C22 the clock jumps": [
        f"{EGRESS}/test_rollback.py::test_systemd_keeps_the_time_where_it_runs",  # OnActiveSec= is of the monotonic clock
        f"{EGRESS}/test_refresh.py::test_a_clock_that_was_put_back_does_not_keep_an_address_for_years",
    ],
    "C23 the user of Postfix gets another number": [f"{EGRESS}/test_host_faults.py::test_the_user_has_another_number"],
    "C24 no systemd, no privilege": [
        f"{EGRESS}/test_egress.py::test_without_systemd_the_rules_are_loaded_and_do_not_last",
        f"{EGRESS}/test_overview.py::test_a_plain_user_is_told_what_he_may_know",
    ],
    "C25 check mode on a fresh host": ["test_egress.py::test_a_host_without_nft", f"{EGRESS}/test_egress.py::test_without_the_user"],
    "C26 nothing stays after the removal": ["test_egress.py::test_a_life_beside_the_rules_of_others", "opened_lab.py::life"],
    "C27 a second run changes nothing after each fault": [f"{EGRESS}/test_egress.py::test_what_was_lost_comes_back"],
    "C28 a message in flight": ["test_egress_nftables.py::a_message_in_flight_passes"],
    "C29 300 reloads under load": ["test_egress_nftables.py::nobody_is_let_out"],
    "C30 200,000 elements of others": ["test_egress_nftables.py::foreign_elements_cost_little"],
}
FIREWALL_NUMBERS = [1, 4, 5, *range(11, 31)]

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
    for tests, numbers in ((TESTS, NUMBERS), (FIREWALL_TESTS, FIREWALL_NUMBERS)):
        assert sorted(int(name.split()[0][1:]) for name in tests) == numbers
    here = Path(__file__).parent
    for place in {place for places in [*TESTS.values(), *FIREWALL_TESTS.values(), *MORE_TESTS.values()] for place in places}:
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
