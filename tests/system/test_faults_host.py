# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong on a host around a run: Postfix, its programs and its files are not as they should be, or others are at work, too."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_lab import ABSENT, OLD_MAIN, Faults
from system_lab import RELEASES, RESTART

HOST = "debian12"
#: Up to Debian 12, another unit is stopped along with the first, and nobody waits for that.
STOP = "systemctl stop postfix; systemctl stop postfix@- 2>/dev/null || :; "
#: In the place of a program of Postfix, which keeps its work under the name with ".real".
INSTEAD = "mv {program} {program}.real; cat > {program}; chmod 755 {program}"
BACK = "for program in /usr/sbin/postmap /usr/sbin/postfix; do [ ! -e $program.real ] || mv $program.real $program; done"

DIES = """#!/bin/bash
case " $* " in *" -q "*|*" -s "*) exec $0.real "$@";; esac
$0.real "$@"
file=${@: -1}; truncate --size=4096 "${file#*:}.db"
kill -KILL $$
"""
LOSES = """#!/bin/bash
$0.real "$@" || exit
case " $* " in *" -q "*|*" -s "*) ;; *) $0.real -d smtp.provider.test "${@: -1}";; esac
exit 0
"""
NO_RELOAD = """#!/bin/sh
case " $* " in *" reload "*) echo "postfix: fatal: no reload today" >&2; exit 1;; esac
exec $0.real "$@"
"""
#: A server that lets everybody in and says nothing.
SILENCE = "import socket, time; server = socket.create_server(('127.0.0.1', 2525)); time.sleep(600)"


@pytest.fixture(scope="module")
def all_faults(trio):
    faults = Faults(trio)
    with ThreadPoolExecutor() as pool:
        list(pool.map(faults.prepare, RELEASES))
    with faults.two_passwords():
        yield faults


@pytest.fixture
def faults(all_faults):
    """A server with one relay at work; afterwards every program is itself again, and all mail must have arrived once."""
    all_faults.begin(HOST)
    yield all_faults
    all_faults.lab.shell(BACK, HOST)
    all_faults.await_delivery()


def instead(faults, program: str, text: str) -> None:
    faults.lab.shell(INSTEAD.format(program=program), HOST, input=text)


def text(faults, path: str = "/etc/postfix/main.cf") -> str:
    return faults.lab.shell(f"cat {path}", HOST).stdout


def survives(faults, old: dict, new: dict, repair: str, *words: str) -> None:
    """``new`` is refused with these words, ``old`` goes on, and after the repair ``new`` is set up."""
    before = text(faults)
    message = faults.refused(HOST, new)
    assert all(word in message for word in words), message
    assert text(faults) == before
    faults.mail(HOST, old)
    faults.lab.shell(repair, HOST)
    faults.heals(HOST, new)


def two(faults, **fields) -> tuple[dict, dict]:
    """A relay that is set up, and another to change to."""
    old, new = faults.relay(**fields), faults.relay(name="second", port=587, account=faults.new_password(), **fields)
    faults.set_up(HOST, old)
    return old, new


def test_postmap_is_missing(faults):
    old, new = two(faults)
    faults.lab.shell("mv /usr/sbin/postmap /usr/sbin/postmap.real", HOST)
    message = faults.refused(HOST, new)
    assert "postmap" in message and "nothing was changed" in message, message
    faults.lab.shell(BACK, HOST)
    faults.mail(HOST, old)
    faults.heals(HOST, new)


def test_postmap_is_killed(faults):
    old, new = two(faults, table_type="hash")
    instead(faults, "/usr/sbin/postmap", DIES)
    survives(faults, old, new, BACK, "nothing was changed")


def test_postmap_loses_a_key(faults):
    old, new = two(faults, table_type="hash")
    instead(faults, "/usr/sbin/postmap", LOSES)
    survives(faults, old, new, BACK, "sasl_passwd", "nothing was changed")


def test_a_built_map_is_open_to_others(faults):
    relay = faults.relay(table_type="hash")
    faults.set_up(HOST, relay)
    for damage in ("chmod 644", "chown postfix", "truncate --size=0", "rm"):
        faults.lab.shell(f"{damage} /etc/postfix/outpost_smtp/*/sasl_passwd.db", HOST)
        assert faults.set_up(HOST, relay)["changed"], damage
        assert not faults.set_up(HOST, relay)["changed"], damage
        assert faults.lab.shell("stat --format='%a %U' /etc/postfix/outpost_smtp/*/sasl_passwd.db", HOST).stdout == "600 root\n", damage
    faults.mail(HOST, relay, deliver=True)


def test_reload_fails(faults):
    """Neither the new configuration nor, after that, the old one can be told to the running Postfix. The files are the old one's."""
    old, new = two(faults)
    instead(faults, "/usr/sbin/postfix", NO_RELOAD)
    result = faults.run(HOST, new)
    assert result["failed"] and result["rolled_back"] and "no reload today" in result["msg"], result["msg"]
    faults.mail(HOST, old)
    faults.lab.shell(BACK, HOST)
    faults.heals(HOST, new)


def test_postfix_was_restarted_too_often(faults):
    """systemd then starts it no more for a while, and a restart by us would leave it stopped."""
    old, new = two(faults)
    faults.lab.shell("systemctl reset-failed postfix@-; for start in 1 2 3 4 5; do systemctl restart postfix@-; done", HOST)
    restart = {**new, "options": {**new["options"], "parameters": f"{new['options']['parameters']}inet_protocols = ipv4\n"}}
    assert faults.set_up(HOST, restart)["running"]
    faults.heals(HOST, old)


def test_postfix_is_stopped(faults):
    old, new = two(faults)
    faults.lab.shell(STOP, HOST)
    faults.mail(HOST, old, daemon=False)
    assert not faults.set_up(HOST, new)["running"]
    faults.mail(HOST, new, daemon=False)
    faults.lab.shell("systemctl start postfix", HOST)
    faults.heals(HOST, new)


@pytest.mark.parametrize(
    ("damage", "repair", "word"),
    [
        ("echo this is no parameter >> /etc/postfix/main.cf", "sed -i '/no parameter/d' /etc/postfix/main.cf", "main.cf"),
        ("mv /etc/postfix/master.cf /root", "mv /root/master.cf /etc/postfix", "master.cf"),
    ],
)
def test_broken_beforehand(faults, damage, repair, word):
    old, new = two(faults)
    faults.lab.shell(damage, HOST)
    before = text(faults)
    message = faults.refused(HOST, new)
    assert word in message and "password" not in message
    assert text(faults) == before
    faults.lab.shell(repair, HOST)
    faults.mail(HOST, old)
    faults.heals(HOST, new)


def test_half_installed(faults):
    """The package is unpacked, and nothing more: there is no user, no queue, no main.cf."""
    purge = "DEBIAN_FRONTEND=noninteractive apt-get purge -qq -y postfix >/dev/null 2>&1; rm -rf /etc/postfix /var/spool/postfix"
    faults.lab.shell(f"{STOP}{purge}; deluser --quiet postfix || :; dpkg --unpack /var/cache/apt/archives/postfix_3*.deb >/dev/null", HOST)
    relay = faults.relay()
    faults.run(HOST, relay)  # may fail or not; what matters is that it can be gone on with
    # The package's own main.cf refers to this file, which only its installation by hand makes.
    faults.lab.shell("hostname --fqdn >/etc/mailname; DEBIAN_FRONTEND=noninteractive dpkg --configure -a >/dev/null 2>&1", HOST)
    faults.set_up(HOST, relay)
    faults.lab.shell(RESTART, HOST)
    faults.heals(HOST, relay)


def test_edited_by_hand_between_runs(faults):
    old, new = two(faults)
    edit = "sed -i '1i # a comment' /etc/postfix/main.cf; echo 'delay_warning_time = 4h' >> /etc/postfix/main.cf"
    faults.lab.shell(f"{edit}; sed -i 's/^default_transport = .*/default_transport = smtp/' /etc/postfix/main.cf", HOST)
    assert faults.set_up(HOST, old)["changed"]
    faults.mail(HOST, old)
    faults.heals(HOST, new)
    lines = text(faults).splitlines()
    assert lines[0] == "# a comment" and "delay_warning_time = 4h" in lines


@pytest.mark.parametrize("at", ["open .*/stage/main.cf", "os.rename .*/.master.cf", "start postfix reload"])
def test_edited_by_hand_meanwhile(faults, at):
    """An administrator saves main.cf in the middle of a run: what they wrote is not lost."""
    old, new = two(faults)
    edit = "echo 'delay_warning_time = 4h' > /root/edit; cat /etc/postfix/main.cf /root/edit > /root/main.cf; mv /root/main.cf /etc/postfix/main.cf"
    message = faults.refused(HOST, new, at=at, script=edit)
    assert "somebody else" in message, message
    assert "delay_warning_time = 4h" in text(faults).splitlines()
    faults.mail(HOST, old, new)
    faults.heals(HOST, new)
    assert "delay_warning_time = 4h" in text(faults).splitlines()


@pytest.mark.parametrize("case", ["password", "host", "silence"])
def test_the_old_relay_stays(faults, case):
    old, _new = two(faults)
    if case == "password":
        new = faults.relay(account={"password": "a wrong one"})
    else:
        new = faults.relay(name="second", port=587 if case == "host" else 465)
        place = "absent.provider.test" if case == "host" else "192.0.2.1"
        new["options"]["parameters"] = new["options"]["parameters"].replace("[smtp.provider.test]", f"[{place}]")
    before = text(faults)
    result = faults.run(HOST, {**new, "options": {**new["options"], "preflight": "auto", "preflight_timeout": 5}})
    assert result.get("failed") and "nothing was changed" in result["msg"], result
    assert text(faults) == before
    faults.mail(HOST, old, deliver=True)
    assert not faults.set_up(HOST, old)["changed"]


@pytest.mark.parametrize("host", RELEASES)
def test_a_transport_goes_while_its_client_is_at_work(all_faults, host):
    """master(8) of Debian 13 may not end it (its unit takes CAP_KILL away), and would do nothing else until it has ended."""
    faults = all_faults
    faults.begin(host)
    faults.lab.shell(f'systemd-run --quiet --unit=silence python3 -c "{SILENCE}"; until ss -Hltn sport = :2525 | grep -q .; do sleep 0.1; done', host)
    silent, relay = faults.relay(name="silent", port=587), faults.relay()
    silent["options"]["parameters"] = silent["options"]["parameters"].replace("[smtp.provider.test]:587", "[127.0.0.1]:2525")
    silent["options"]["secret_tables"] = {"sasl_passwd": "127.0.0.1 somebody:something\n"}
    silent = {**silent, "transport": "outpost_silent:[127.0.0.1]:2525", "login": "somebody:something"}
    try:
        faults.set_up(host, silent)
        faults.mail(host, silent)
        faults.lab.shell("until ss -Htn dport = :2525 | grep -q ESTAB; do sleep 0.1; done", host)
        faults.set_up(host, relay)
        faults.mail(host, relay, deliver=True)
    finally:
        faults.lab.shell("systemctl stop silence", host)
    faults.await_delivery()


def test_two_runs_at_once(faults):
    """They take turns, and the configuration is that of the last."""
    first, second = two(faults)
    with ThreadPoolExecutor() as pool:
        for _turn in range(3):
            for result in pool.map(lambda side: faults.run(HOST, side), (first, second, first, second)):
                assert not result.get("failed"), result
            faults.mail(HOST, first, second)
    faults.heals(HOST, second)


def test_another_number_of_the_user(faults):
    """Postfix was installed anew, and its user has another number."""
    old, new = two(faults)
    number = faults.lab.shell("id -u postfix", HOST).stdout.strip()
    script = STOP + "usermod -u {} postfix; postfix set-permissions; chown -R postfix /var/lib/postfix; systemctl start postfix"
    faults.lab.shell(script.format(4711), HOST)
    try:
        assert not faults.set_up(HOST, old)["changed"]
        faults.heals(HOST, {**new, "options": {**new["options"], "preflight": "always"}})
    finally:
        faults.lab.shell(script.format(number), HOST)


def test_no_systemd(faults):
    """As in a plain container: Postfix was started by hand, and neither systemd nor /proc is there."""
    old, new = faults.relay(), faults.relay(name="second", port=587)
    faults.lab.shell(STOP + "postfix start", HOST)
    for side in (old, new):
        assert faults.set_up(HOST, side, bare=True)["reloaded"]
        assert not faults.set_up(HOST, side, bare=True)["changed"]
        faults.mail(HOST, side, deliver=True)
    restart = {**new, "options": {**new["options"], "parameters": f"{new['options']['parameters']}inet_protocols = ipv4\n"}}
    assert faults.set_up(HOST, restart, bare=True)["running"]
    faults.mail(HOST, restart, deliver=True)
    faults.lab.shell("postfix stop", HOST)


def test_nothing_stays(faults):
    """Also after a run that was killed."""
    relay, second = faults.relay(table_type="hash"), faults.relay(name="second")
    faults.set_up(HOST, relay, keep_previous=True)
    assert faults.run(HOST, second, at="start postfix reload", script=":", kill=True) is None
    faults.mail(HOST, relay, second, deliver=True)
    faults.set_up(HOST, ABSENT)
    assert text(faults) == OLD_MAIN
    search = 'p=$(cat); grep --recursive --files-with-matches --binary-files=text --fixed-strings -e "$p" /etc /var /tmp /root /run || :'
    assert faults.lab.shell(search, HOST, input=relay["login"].partition(":")[2]).stdout == ""
    assert faults.lab.shell("find /etc/postfix -name '*outpost*'", HOST).stdout == ""
    faults.mail(HOST, ABSENT, deliver=True)
    assert not faults.set_up(HOST, ABSENT)["changed"]
