# SPDX-License-Identifier: GPL-3.0-or-later
"""The staged change in real containers: what is tried before the switch, what is put back after it, and where the files may be.

The module runs on the servers with ansible-core's own AnsibleModule. The Postfix of each is at work, and mail has to get through it.
"""

from __future__ import annotations

import concurrent.futures

import pytest
from fault_lab import Faults, from_outside, install_code, with_parameters
from system_lab import RELEASES, RESTART

#: Everything in the configuration directory: names, modes, owners, contents, extended attributes.
FINGERPRINT = """
cd -P /etc/postfix && find -L . -printf '%p %y %m %u %g %l\\n' | sort; find . -xtype f -exec sha256sum {} + | sort
python3 -c 'import os
for name in ("main.cf", "master.cf"):
    print(name, os.path.islink(name), {label: os.getxattr(name, label) for label in os.listxattr(name)})'
"""
#: Replaces postfix(1) by one that fails the next time it is called, and then is itself again.
FAIL_ONCE = """
mv /usr/sbin/postfix /usr/sbin/postfix.real
printf '#!/bin/sh\\nmv /usr/sbin/postfix.real /usr/sbin/postfix; echo postfix: fatal: made to fail >&2; exit 1\\n' > /usr/sbin/postfix
chmod 755 /usr/sbin/postfix
"""
#: Sets or unsets a flag of main.cf, as chattr(1) does, which is not everywhere (linux/fs.h: FS_IOC_GETFLAGS, FS_IOC_SETFLAGS).
TOGGLE = """
import fcntl, os, struct, sys
descriptor = os.open("/etc/postfix/main.cf", os.O_RDONLY)
flags = struct.unpack("l", fcntl.ioctl(descriptor, 0x80086601, struct.pack("l", 0)))[0]
fcntl.ioctl(descriptor, 0x40086602, struct.pack("l", flags ^ int(sys.argv[1])))
"""
FLAGS = {"chattr +i": "16", "chattr +a": "32"}
LABEL = "python3 -c 'import os; os.setxattr(\"/etc/postfix/main.cf\", \"user.label\", b\"x\")'"


def on_each(work) -> None:
    """Do something with every server at once."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(work, host) for host in RELEASES]:
            done.result()


@pytest.fixture(scope="module")
def faults(trio):
    found = Faults(trio)
    on_each(lambda host: install_code(trio, host))
    return found


def fingerprint(faults, host: str) -> str:
    return faults.lab.shell(FINGERPRINT, host).stdout


def test_a_login_that_fails_keeps_the_old_relay_and_a_good_one_is_switched_to(faults):
    old, new = faults.relay(), faults.relay(name="second", port=587)
    wrong = faults.relay(account={"password": "mistyped"})

    def change(host):
        faults.begin(host)
        result = faults.set_up(host, old, preflight="always")
        assert [(one["ok"], one["auth"]["code"]) for one in result["preflight"]] == [(True, 235)] and result["running"]
        before = fingerprint(faults, host)
        refused = faults.run(host, wrong, preflight="auto")
        assert refused["failed"] and refused["msg"].endswith("; nothing was changed"), refused["msg"]
        assert "[auth_bad_credentials]" in refused["msg"] and "Check both" in refused["msg"], refused["msg"]
        (login,) = refused["preflight"]
        assert login["auth"]["code"] == 535 and len(login["auth"]["attempts"]) == 1 and not refused["rolled_back"]
        assert "mistyped" not in str(refused)
        assert fingerprint(faults, host) == before
        faults.mail(host, old, deliver=True)
        assert faults.set_up(host, new, preflight="auto")["preflight"][0]["port"] == 587
        assert faults.set_up(host, with_parameters(new, "biff = no\n"), preflight="auto")["preflight"] == [], "no login is different"
        faults.mail(host, new, deliver=True)

    on_each(change)
    faults.await_delivery()


def test_what_goes_wrong_after_the_switch_brings_the_old_configuration_back(faults):
    old, new = faults.relay(), faults.relay(name="second", port=587)
    taken = "127.0.0.1:22 inet n - n - - smtpd\n"
    #: What is asked for, before what something is done to the server, what, and what the message must say.
    cases = (
        (new, r"^start postfix reload", FAIL_ONCE, "Postfix did not reload: made to fail"),
        (with_parameters(new, "", taken), "", "", "Address already in use"),
        (with_parameters(new, "inet_interfaces = 127.0.0.1\n", taken), "", "", "Address already in use"),
        (new, r"^in postfix reload", "pkill -KILL -x master", "Postfix d"),
    )

    def change(host):
        faults.begin(host)
        faults.set_up(host, old)
        before = fingerprint(faults, host)
        for side, at, script, said in cases:
            result = faults.run(host, side, at=at, script=script)
            assert result.get("failed") and said in result["msg"], result
            assert result["msg"].endswith("; the old configuration is in place again") and result["rolled_back"], result["msg"]
            assert fingerprint(faults, host) == before, said
            faults.mail(host, old)
        faults.mail(host, old, deliver=True)
        faults.heals(host, new)

    on_each(change)
    faults.await_delivery()


def test_going_back_to_the_configuration_that_was_kept(faults):
    reverted, new = faults.kept_and_reverted()

    def change(host):
        faults.begin(host)
        faults.set_up(host, faults.relay())
        before = fingerprint(faults, host)
        assert faults.set_up(host, new)["previous_kept"]
        faults.mail(host, new, deliver=True)
        predicted = faults.set_up(host, reverted, check=True)
        result = faults.set_up(host, reverted)
        assert result["changed"] and result["reloaded"] and result["diff"] == predicted["diff"]
        assert fingerprint(faults, host) == before
        assert not faults.set_up(host, reverted)["changed"]
        faults.mail(host, faults.relay(), deliver=True)

    on_each(change)
    faults.await_delivery()


def test_files_that_are_somewhere_else(faults):
    """A file system of its own, both files behind links to another one, and the whole directory behind a link."""
    places = {
        "debian11": ("/etc/postfix", "cp -a /srv/postfix/. /etc/postfix/"),
        "debian12": ("/mnt", "mv /etc/postfix/main.cf /etc/postfix/master.cf /mnt/; ln -s /mnt/main.cf /mnt/master.cf /etc/postfix/"),
        "debian13": ("/mnt", "mv /etc/postfix /mnt/; ln -s /mnt/postfix /etc/postfix"),
    }
    old, new = faults.relay(), faults.relay(name="second", port=587)

    def change(host):
        faults.begin(host)
        where, moving = places[host]
        faults.lab.shell("rm -rf /srv/postfix; cp -a /etc/postfix /srv/", host)
        from_outside(faults.lab, host, "mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", where)
        try:
            faults.lab.shell(f"{moving}; {RESTART}", host)
            before = fingerprint(faults, host)
            faults.set_up(host, old, preflight="always")
            faults.mail(host, old)
            faults.set_up(host, new, keep_previous=True)
            faults.mail(host, new, deliver=True)
            faults.set_up(host, {"name": "back", "options": {"state": "reverted"}})
            faults.set_up(host, {"name": "nothing", "options": {"state": "absent"}})
            assert fingerprint(faults, host) == before
        finally:
            faults.lab.shell("systemctl stop postfix", host)
            from_outside(faults.lab, host, "umount", where)

    on_each(change)
    faults.await_delivery()


def test_a_file_that_can_not_be_exchanged_is_refused_before_anything_changes(faults):
    """main.cf as a mount point of its own; and labels, which replaced files keep."""

    def change(host):
        faults.begin(host)
        faults.lab.shell(LABEL, host)
        before = fingerprint(faults, host)
        from_outside(faults.lab, host, "mount", "--bind", "/etc/postfix/main.cf", "/etc/postfix/main.cf")
        try:
            assert "main.cf can not be written: it is a mount point of its own; nothing was changed" in faults.refused(host, faults.relay())
        finally:
            from_outside(faults.lab, host, "umount", "/etc/postfix/main.cf")
        assert fingerprint(faults, host) == before
        faults.set_up(host, faults.relay())
        assert "b'x'" in fingerprint(faults, host)

    on_each(change)


def test_a_main_cf_of_an_unusual_kind(faults):
    """Immutable, only to be appended to, a directory: refused, and left as it is. Another user's, and closed: stays so."""
    old, new = faults.relay(), faults.relay(name="second", port=587)

    def change(host):
        faults.begin(host)
        faults.set_up(host, old)
        before = fingerprint(faults, host)
        for flag in FLAGS.values():
            from_outside(faults.lab, host, "python3", "-c", TOGGLE, flag)
            try:
                said = faults.refused(host, new)
            finally:
                from_outside(faults.lab, host, "python3", "-c", TOGGLE, flag)
            assert "main.cf can not be written: it is marked as immutable or append-only" in said and said.endswith("; nothing was changed"), said
            assert fingerprint(faults, host) == before
        faults.lab.shell("cd /etc/postfix; mv main.cf /root/kept.cf; mkdir main.cf", host)
        said = faults.refused(host, new)
        assert said == "/etc/postfix/main.cf can not be used: Is a directory; nothing was changed", said
        faults.lab.shell("cd /etc/postfix; rmdir main.cf; mv /root/kept.cf main.cf", host)
        assert fingerprint(faults, host) == before
        faults.lab.shell("cd /etc/postfix; chown postfix main.cf; chmod 640 main.cf", host)
        faults.set_up(host, new)
        assert faults.lab.shell("stat --format='%a %U' /etc/postfix/main.cf", host).stdout == "640 postfix\n"
        faults.mail(host, new, deliver=True)

    on_each(change)
    faults.await_delivery()


def test_a_restart_only_where_a_reload_is_not_enough(faults):
    """A parameter that master(8) reads when it starts, and an address that it can not listen on, which is found before it is told."""
    relay = faults.relay()
    listening = "ss -Hltn sport = :25 | awk '{ print $4 }' | sort | xargs"

    def change(host):
        faults.begin(host)
        master = "cat /var/spool/postfix/pid/master.pid"
        first = faults.lab.shell(master, host).stdout
        for side in (relay, with_parameters(relay, "smtp_helo_timeout = 30s\n", "another unix - - n - - smtp\n")):
            assert faults.set_up(host, side)["reloaded"]
            assert faults.lab.shell(master, host).stdout == first
        assert faults.lab.shell(listening, host).stdout == "127.0.0.1:25 [::1]:25\n"
        assert faults.set_up(host, with_parameters(relay, "inet_protocols = ipv4\n"))["reloaded"]
        assert faults.lab.shell(master, host).stdout != first
        assert faults.lab.shell(listening, host).stdout == "127.0.0.1:25\n"
        before = fingerprint(faults, host)
        for service, word in (("[::1]:2525", "inet_protocols = ipv4 leaves out"), ("192.0.2.1:2525", "no interface of this host")):
            result = faults.run(host, with_parameters(relay, "inet_protocols = ipv4\n", f"{service} inet n - n - - smtpd\n"))
            assert result["failed"] and word in result["msg"] and "[lint_listen_address]" in result["msg"], result
            assert not result["rolled_back"] and fingerprint(faults, host) == before
        faults.mail(host, relay, deliver=True)

    on_each(change)
    faults.await_delivery()


def test_a_postfix_that_was_broken_before_is_not_made_worse(faults):
    """The administrator has broken main.cf while Postfix goes on with what it had read; and what would keep it from starting again."""

    def change(host):
        faults.begin(host)
        faults.lab.shell("cp -p /etc/postfix/main.cf /root/; echo 'this is no assignment' >> /etc/postfix/main.cf", host)
        before = fingerprint(faults, host)
        said = faults.refused(host, faults.relay())
        assert "as it is now, before any change" in said and said.endswith("Mend that first; nothing was changed"), said
        assert fingerprint(faults, host) == before
        faults.lab.shell("cp -p /root/main.cf /etc/postfix/main.cf; echo 'mail_owner = nobody-at-all' >> /etc/postfix/main.cf", host)
        said = faults.refused(host, with_parameters(faults.relay(), "inet_interfaces = all\n"))
        assert "nobody-at-all" in said and said.endswith("; nothing was changed"), said
        faults.lab.shell("cp -p /root/main.cf /etc/postfix/main.cf", host)
        faults.mail(host, {"name": "what runs", "transport": None, "login": None}, deliver=True)

    on_each(change)
    faults.await_delivery()
