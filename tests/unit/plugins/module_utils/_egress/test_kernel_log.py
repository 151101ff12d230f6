# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's log: who was refused, and what a security module has denied.

The lines are as Linux 6 writes them: net/netfilter/nf_log_syslog.c, security/selinux/avc.c, security/apparmor/{file,net}.c.
"""

from __future__ import annotations

import pwd
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import denials, kernel_log, refused_log
from ansible_collections.outpost.smtp.plugins.module_utils._egress.kernel_log import Line

REFUSED = (
    "outpost-smtp refused: IN= OUT=eth0 SRC=192.0.2.1 DST={address} LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=4711 DF PROTO=TCP SPT=40000 DPT={port} "
    "WINDOW=64240 RES=0x00 SYN URGP=0 UID={uid} GID=33 "
)
REFUSED6 = (
    "outpost-smtp refused: IN= OUT=eth0 SRC=2001:0db8:0000:0000:0000:0000:0000:0001 DST=2001:0db8:0000:0000:0000:0000:0000:0002 LEN=80 TC=0 "
    "HOPLIMIT=64 FLOWLBL=1029475 PROTO=TCP SPT=40001 DPT=465 WINDOW=64800 RES=0x00 SYN URGP=0 UID=0 GID=0 "
)
FORWARDED = (
    "outpost-smtp refused: IN=docker0 OUT=eth0 MAC=02:42 SRC=172.17.0.2 DST=198.51.100.9 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP "
    "SPT=5 DPT=25 WINDOW=64240 RES=0x00 SYN URGP=0 "
)
OTHER = "podman2: port 5(veth6) entered forwarding state"
JOURNAL = "\n".join(
    f"{seconds}.000000 host kernel: {text}"
    for seconds, text in [
        (1795470000, REFUSED.format(address="198.51.100.7", port=25, uid=65534)),
        (1795470001, OTHER),
        (1795470002, REFUSED6),
        (1795470003, FORWARDED),
        (1795470004, REFUSED.format(address="198.51.100.8", port=587, uid=65534)),
    ]
)


def runs(**answers: t.Tuple[int, str, str]) -> t.Callable[[t.Sequence[str], str], t.Tuple[int, str, str]]:
    return lambda arguments, _text: answers.get(arguments[0], (127, "", f"{arguments[0]} can not be run: No such file or directory"))


def test_who_was_refused() -> None:
    log = kernel_log.read(runs(journalctl=(0, JOURNAL, "")))
    by_nobody, forwarded, by_root = refused_log.refused(log.lines)

    assert (log.source, log.why) == ("journal", "")
    assert by_nobody == (65534, pwd.getpwuid(65534).pw_name, 2, "2026-11-23T21:40:04Z", ["198.51.100.8 port 587", "198.51.100.7 port 25"])
    assert forwarded[:3] == (None, "", 1) and by_root.uid == 0 and by_root.destinations[0].endswith("port 465")


def test_without_a_journal_the_buffer_is_read(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu  1 2 3\nbtime 1795460000\n")
    lines = f"[    0.000000] Linux version 6.1\n[10000.500000] {REFUSED.format(address='198.51.100.7', port=25, uid=1)}\n"
    log = kernel_log.read(runs(dmesg=(0, lines, "")), str(tmp_path))

    assert log.source == "dmesg" and refused_log.refused(log.lines)[0].last == "2026-11-23T21:40:00Z"


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({"journalctl": (0, "", ""), "dmesg": (1, "", "dmesg: read kernel buffer failed: Operation not permitted")}, "Operation not permitted"),
        ({"journalctl": (1, "", "No journal files were found."), "dmesg": (0, "", "")}, "it is empty"),
        ({}, "dmesg can not be run"),
    ],
)
def test_where_it_can_not_be_read_that_is_said(answers: t.Dict[str, t.Tuple[int, str, str]], why: str) -> None:
    log = kernel_log.read(runs(**answers))

    assert log.lines == [] and log.source == "" and "can not be read here" in log.why and why in log.why


def test_what_others_write_there_is_no_attempt() -> None:
    """A program's name may be anything, and the kernel logs it."""
    lines = ["outpost-smtp refused", "outpost-smtp refused: DST=x", "x[1]: segfault in outpost-smtp refused: DST= DPT= UID=99999999999999999999"]

    assert refused_log.refused([Line(0.0, text) for text in lines]) == []
    (found,) = refused_log.refused([Line(0.0, "outpost-smtp refused: DST=a DPT=b UID=99999999999999999999")])
    assert found.user == "" and found.last == ""


APPARMOR = (
    'audit: type=1400 audit(1795470000.123:45): apparmor="DENIED" operation="open" class="file" profile="postfix-smtp" '
    'name="/etc/postfix/outpost_smtp/7/sasl_primary" pid=999 comm="smtp" requested_mask="r" denied_mask="r" fsuid=101 ouid=0'
)
APPARMOR_SOCKET = (
    'audit: type=1400 audit(1795470000.123:46): apparmor="DENIED" operation="create" class="net" profile="/usr/lib/postfix/sbin/smtp" '
    'pid=999 comm="smtp" family="inet6" sock_type="stream" protocol=6 requested_mask="create" denied_mask="create"'
)
SELINUX_PORT = (
    'audit: type=1400 audit(1795470000.123:47): avc:  denied  { name_connect } for  pid=999 comm="smtp" dest=2526 '
    "scontext=system_u:system_r:postfix_smtp_t:s0 tcontext=system_u:object_r:unreserved_port_t:s0 tclass=tcp_socket permissive=0"
)
SELINUX_FILE = (
    'audit: type=1400 audit(1795470000.123:48): avc:  denied  { read } for  pid=999 comm="smtp" name="main.cf" dev="sda1" ino=5 '
    "scontext=system_u:system_r:postfix_smtp_t:s0 tcontext=unconfined_u:object_r:user_tmp_t:s0 tclass=file permissive=0"
)
SELINUX_SOCKET = (
    'audit: type=1400 audit(1795470000.123:49): avc:  denied  { create } for  pid=999 comm="smtp" '
    "scontext=system_u:system_r:postfix_smtp_t:s0 tcontext=system_u:system_r:postfix_smtp_t:s0 tclass=tcp_socket permissive=0"
)


@pytest.mark.parametrize(
    ("line", "module", "detail", "remedy"),
    [
        (APPARMOR, "apparmor", "/etc/postfix/outpost_smtp/**", "'/etc/postfix/outpost_smtp/** r,' to /etc/apparmor.d/local/postfix-smtp"),
        (APPARMOR_SOCKET, "apparmor", "family inet6", "'network inet6 stream,' to /etc/apparmor.d/local/usr.lib.postfix.sbin.smtp"),
        (SELINUX_PORT, "selinux", "port 2526", "semanage port -a -t smtp_port_t -p tcp 2526"),
        (SELINUX_PORT.replace("unreserved_port_t", "http_cache_port_t"), "selinux", "2526 of type http_cache_port_t", "audit2why"),
        (SELINUX_SOCKET, "selinux", "may not create tcp_socket of type postfix_smtp_t", "audit2why"),
        (APPARMOR.replace('denied_mask="r"', 'denied_mask="wc"'), "apparmor", "/etc/postfix", "outpost_smtp/** w,'"),
        (SELINUX_FILE, "selinux", "main.cf of type user_tmp_t", "restorecon -Rv /etc/postfix"),
    ],
)
def test_a_denial_tells_what_lets_it_pass(tmp_path: Path, line: str, module: str, detail: str, remedy: str) -> None:
    (found,) = denials.find([Line(1795470000.0, line), Line(0.0, OTHER)], str(tmp_path))

    assert found.module == module and detail in found.detail and remedy in found.remedy and found.last == "2026-11-23T21:40:00Z"


def test_the_file_of_a_profile_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "etc/apparmor.d").mkdir(parents=True)
    (tmp_path / "etc/apparmor.d/usr.lib.postfix.smtp").write_text("profile postfix-smtp /usr/lib/postfix/{bin/,sbin/,}smtp {\n}\n")
    (found,) = denials.find([Line(0.0, APPARMOR)], str(tmp_path))

    assert found.remedy.endswith("apparmor_parser -r /etc/apparmor.d/usr.lib.postfix.smtp")


def test_where_auditd_runs_its_log_has_them(tmp_path: Path) -> None:
    """Only its end is read, and a line that is cut off there is left out."""
    (tmp_path / "var/log/audit").mkdir(parents=True)
    log = tmp_path / "var/log/audit/audit.log"
    lines = f"type=AVC msg={SELINUX_PORT.partition('type=1400 ')[2]}\ntype=SYSCALL msg=audit(1795470000.123:47): arch=c000003e\n"
    log.write_text("type=AVC msg=audit(1795460000.000:1): old\n" * 10000 + lines)
    found = denials.audited(str(tmp_path))

    assert 1000 < len(found) < 10000 and [denial.last for denial in denials.find(found)] == ["2026-11-23T21:40:00Z"]
    assert denials.audited(str(tmp_path / "elsewhere")) == []


def test_profiles_that_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel/security/apparmor").mkdir(parents=True)
    (tmp_path / "sys/kernel/security/apparmor/profiles").write_text("postfix-smtp (enforce)\npostfix-qmgr (complain)\n/usr/bin/man (enforce)\n")
    enforced, complaining = denials.profiles(str(tmp_path))

    assert (enforced.name, enforced.mode) == ("postfix-smtp", "enforce") and "/etc/apparmor.d/local/postfix-smtp" in enforced.remedy
    assert "/etc/postfix/outpost_smtp/** r," in enforced.remedy and complaining == ("postfix-qmgr", "complain", "")
    assert denials.profiles(str(tmp_path / "elsewhere")) == []


def test_denials_of_others_are_none_of_ours() -> None:
    others = [
        APPARMOR.replace("postfix-smtp", "firefox"),
        SELINUX_FILE.replace("postfix_smtp_t", "httpd_t"),
        SELINUX_PORT.replace("permissive=0", "permissive=1"),
    ]

    assert denials.find([Line(0.0, text) for text in others]) == []


def test_the_same_denial_is_told_once() -> None:
    """With each new set of tables the path changes, and what is denied does not."""
    lines = [Line(1795470000.0 + number, APPARMOR.replace("/7/", f"/{number}/")) for number in range(20)]

    assert [found.last for found in denials.find(lines)] == ["2026-11-23T21:40:19Z"]
