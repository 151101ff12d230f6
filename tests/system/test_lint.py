# SPDX-License-Identifier: GPL-3.0-or-later
"""The linter on the Postfix of three releases: it names every fault, 'postfix check' accepts most, and what is sound has none."""

from __future__ import annotations

import concurrent.futures
import io
import json
import re
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from lint_behaviours import BEHAVIOURS, LOG, main_cf, master_cf, recipient, transports
from lint_cases import CASES, SECRET
from system_lab import RELEASES, ROOT, Lab, run_playbook, variables

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.parameter_history import NEWER, OBSOLETE
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.macros import level

HERE = Path(__file__).parent
BASE = "/root/lint"
#: What belongs to the Postfix of a server, which does not run.
PLACES = ("/etc/postfix", "/var/spool/postfix", "/var/lib/postfix")


def run(lab: Lab, host: str, script: str, stdin: bytes = b"") -> str:
    done = subprocess.run([*lab.entrance(host), "bash", "-c", script], input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, (host, script[:200], done.stderr.decode()[-2000:])
    return done.stdout.decode()


def written(files: dict[str, tuple[str, int]]) -> bytes:
    """A tar archive with these texts and modes by path; a moment old, since Postfix waits for a main.cf that is younger."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, (text, mode) in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode, entry.mtime = len(text.encode()), mode, 1_700_000_000
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def prepared(lab: Lab, host: str) -> None:
    """The linter and every case on a server whose Postfix is as new."""
    lab.fresh_postfix(host)
    collection = f"{BASE}/lib/ansible_collections/outpost/smtp"
    files = {
        f"{collection}/plugins/{path.relative_to(ROOT / 'plugins')}": (path.read_text(), 0o644) for path in ROOT.glob("plugins/module_utils/**/*.py")
    }
    files[f"{BASE}/lint_driver.py"] = ((HERE / "lint_driver.py").read_text(), 0o644)
    master = run(lab, host, "grep -v '^postlog' /usr/share/postfix/master.cf.dist")
    for case in CASES:
        directory = f"{BASE}/{case.name}"
        for name, text in case.texts(directory).items():
            files[f"{directory}/{name}"] = (text, case.mode if name == "passwd" else 0o644 if name.endswith(".cf") else 0o600)
        files[f"{directory}/master.cf"] = (master + case.master, 0o644)
    scripts = "".join(f"cd {BASE}/{case.name} && {{ {case.script.replace('DIR', f'{BASE}/{case.name}')}; }}\n" for case in CASES if case.script)
    run(lab, host, f"chmod 755 /root; tar x -C / && {{ set -e; {scripts} }}", written(files))


def told(lab: Lab, host: str, directories: list[str], check: tuple[str, ...] = (), user: str = "root") -> dict:
    asked = json.dumps({"directories": directories, "check": check, "watched": [*directories, *PLACES]}).encode()
    return json.loads(run(lab, host, f"cd /; setpriv --reuid={user} --clear-groups python3 {BASE}/lint_driver.py", asked))


@pytest.fixture(scope="module")
def answers(trio):
    def on(host: str) -> dict:
        prepared(trio, host)
        # 'postfix check' takes a while and is the same program on all: each server asks it about a third of the cases.
        directories = [f"{BASE}/{case.name}" for case in CASES]
        return told(trio, host, directories, check=tuple(directories[RELEASES.index(host) :: len(RELEASES)]))

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(RELEASES, pool.map(on, RELEASES)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("host", RELEASES)
def test_a_fault_is_named_that_postfix_check_accepts(answers, host, case):
    answer = answers[host][f"{BASE}/{case.name}"]
    findings = answer["findings"]
    assert {one["code"] for one in findings} == set(case.codes), findings
    assert case.place in [one["place"] for one in findings][:1] or not case.place, findings
    assert case.found.replace("DIR", f"{BASE}/{case.name}") in json.dumps(findings)
    assert answer.get("accepted", case.accepted) == case.accepted


@pytest.mark.parametrize("host", RELEASES)
def test_nothing_is_written_and_nothing_run_that_a_configuration_names(answers, as_nobody, host):
    assert answers[host]["touched"] == as_nobody[host]["touched"] == []


@pytest.mark.parametrize("host", RELEASES)
def test_no_finding_holds_a_secret(answers, host):
    assert SECRET not in json.dumps(answers[host])


@pytest.fixture(scope="module")
def as_nobody(trio, answers):
    """What a user without rights is told about a sound configuration of which only root may read the credentials, or all."""

    def on(host: str) -> dict:
        run(trio, host, f"cp -a {BASE}/good {BASE}/closed; chmod 600 {BASE}/closed/main.cf")
        return told(trio, host, [f"{BASE}/good", f"{BASE}/closed"], user="nobody")

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(RELEASES, pool.map(on, RELEASES)))


@pytest.mark.parametrize("directory", ["good", "closed"])
@pytest.mark.parametrize("host", RELEASES)
def test_who_may_not_read_something_is_told_so(as_nobody, host, directory):
    found = as_nobody[host][f"{BASE}/{directory}"]["findings"]
    assert [(one["code"], one["place"]) for one in found] == [("lint_not_read", "passwd" if directory == "good" else "main.cf")]


# What the package's own script writes for "Internet Site", and what it changes for "Satellite system".
_PLAIN = """set -eu
printf 'exit 101\\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d  # starts nothing
rm -f /etc/postfix/main.cf
echo postfix postfix/main_mailer_type select Internet Site | debconf-set-selections
DEBIAN_FRONTEND=noninteractive dpkg-reconfigure postfix >/dev/null 2>&1
for kind in Internet Satellite; do
    mkdir -p /root/lint/plain_$kind && cp /etc/postfix/main.cf /etc/postfix/master.cf /root/lint/plain_$kind
done
postconf -c /root/lint/plain_Satellite -e relayhost=smtp.lab.test inet_interfaces=loopback-only
touch -d '-1 minute' /root/lint/plain_*/*
rm /usr/sbin/policy-rc.d
echo postfix postfix/main_mailer_type select No configuration | debconf-set-selections
"""
_KINDS = ("Internet", "Satellite")


@pytest.fixture(scope="module")
def plain(trio, answers):
    def on(host: str) -> dict:
        run(trio, host, _PLAIN)
        return told(trio, host, [f"{BASE}/plain_{kind}" for kind in _KINDS])

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(RELEASES, pool.map(on, RELEASES)))


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("host", RELEASES)
def test_what_the_distribution_configures_is_sound(plain, host, kind):
    findings = plain[host][f"{BASE}/plain_{kind}"]["findings"]
    assert not findings


_PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: outpost.smtp.postfix_relay
    - name: Lint
      outpost.smtp.postfix_config:
        state: linted
"""


def test_what_our_own_role_configures_is_sound(trio, answers, tmp_path):
    for host in RELEASES:
        trio.fresh_postfix(host)
    playbook = tmp_path / "play.yml"
    playbook.write_text(_PLAY)
    done = run_playbook(trio, tmp_path, str(playbook), variables(trio), "--limit", "servers")
    assert done.status == 0, done.output
    assert not [finding for task in done.tasks for finding in task["result"].get("findings") or []]
    linted = {task["host"]: task["result"] for task in done.tasks if task["task"] == "Lint"}
    assert {host: (result["changed"], result["findings"]) for host, result in linted.items()} == dict.fromkeys(RELEASES, (False, []))


def test_a_file_that_the_chroot_has_an_older_copy_of(trio):
    """While Postfix runs, with its configuration in place as the test before has left it."""

    def on(host: str) -> list[dict]:
        run(trio, host, "cp /etc/hosts /root/hosts; echo '# later' >> /etc/hosts")
        try:
            return told(trio, host, ["/etc/postfix"])["/etc/postfix"]["findings"]
        finally:
            run(trio, host, "cat /root/hosts > /etc/hosts")

    with concurrent.futures.ThreadPoolExecutor() as pool:
        for findings in pool.map(on, RELEASES):
            assert [(one["code"], one["place"]) for one in findings] == [("lint_chroot_differs", "/var/spool/postfix/etc/hosts")]


_SEND = f"""set -eu
mkdir -p /var/spool/postfix/etc /etc/rig-ca
cp /etc/resolv.conf /etc/hosts /etc/services /etc/nsswitch.conf /var/spool/postfix/etc/
cp /usr/local/share/rig-ca.pem /etc/rig-ca && openssl rehash /etc/rig-ca
grep -v '^postlog' /usr/share/postfix/master.cf.dist | cat - /etc/postfix/more.cf >/etc/postfix/master.cf
rm -f {LOG}
postfix start >/dev/null 2>&1
for to in $(cut -d' ' -f1 /etc/postfix/transport); do echo test | sendmail -N never -f root@lint.test "$to"; done
"""


@pytest.fixture(scope="module")
def logs(trio, answers, plain):
    """What each server's Postfix logs about a message by each of the transports."""

    def on(host: str) -> str:
        trio.fresh_postfix(host)
        texts = {"main.cf": main_cf(), "more.cf": master_cf(), "transport": transports()}
        files = {f"/etc/postfix/{name}": (text, 0o644) for name, text in texts.items()}
        run(trio, host, f"tar x -C / && {_SEND}", written({**files, "/etc/postfix/closed.txt": ("a b\n", 0o600)}))
        deadline = time.monotonic() + 60
        while True:
            log = run(trio, host, f"cat {LOG}")
            if all(proven(one, log) for one in BEHAVIOURS) or time.monotonic() > deadline:
                run(trio, host, "postfix stop >/dev/null 2>&1 || :")
                return log
            time.sleep(0.5)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(RELEASES, pool.map(on, RELEASES)))


def proven(one, log: str) -> bool:
    return re.search(one.log.replace("TO", re.escape(recipient(one))), log, re.MULTILINE) is not None


@pytest.mark.parametrize("one", BEHAVIOURS, ids=lambda one: one.name)
@pytest.mark.parametrize("host", RELEASES)
def test_a_fault_does_what_the_finding_says(logs, host, one):
    assert proven(one, logs[host]), one.log


#: Services, and whether Postfix starts with them where inet_protocols = ipv4.
STARTS = {"192.0.2.1:2525": False, "[::1]:2525": False, "127.0.0.1:2525": True}
_START_WITH = """cd /etc/postfix; cp master.cf kept.cf; cat >> master.cf
if postfix start; then echo started; postfix stop; else echo ended; fi 2>/dev/null; mv kept.cf master.cf"""


@pytest.mark.parametrize("host", RELEASES)
def test_master_ends_for_a_service_that_can_not_listen(trio, logs, host):
    for service, starts in STARTS.items():
        said = run(trio, host, _START_WITH, f"{service} inet n - n - - smtpd\n".encode())
        assert ("started" in said) is starts, (service, said)


@pytest.mark.parametrize("host", RELEASES)
def test_postmap_swallows_lines_and_keeps_what_it_built(trio, answers, host):
    of = f"postmap -c {BASE}/duplicate -q"
    told_by_postmap = run(
        trio,
        host,
        f"cd {BASE}; postmap -c duplicate hash:duplicate/virtual && postmap -c no_value hash:no_value/virtual;"
        f"{of} a@example.net hash:duplicate/virtual; {of} c hash:no_value/virtual || echo none;"
        f"echo 'a new' >stale/virtual; touch -d '+1 minute' stale/virtual; {of} a hash:stale/virtual",
    )
    assert told_by_postmap.split() == ["b", "none", "b"]


@pytest.mark.parametrize("host", RELEASES)
def test_which_parameters_came_and_went_is_so(trio, answers, host):
    """Those that came later are unknown here, and those that postconf warns about are the ones of the table."""
    lines = run(trio, host, f"postconf -c {BASE}/good -d").splitlines()
    built_in = dict(line.partition(" =")[::2] for line in lines)
    version = level(built_in["mail_version"])
    assert [name for name, since in NEWER.items() if (name in built_in) != (level(since) <= version)] == []
    text = "".join(f"{name} =\n" for name in OBSOLETE)
    run(
        trio,
        host,
        f"mkdir -p {BASE}/obsolete; cp {BASE}/good/master.cf {BASE}/obsolete; tar x -C /",
        written({f"{BASE}/obsolete/main.cf": (text, 0o644)}),
    )
    warnings = run(trio, host, f"postconf -c {BASE}/obsolete 2>&1 >/dev/null")
    assert [name for name, (_instead, since) in OBSOLETE.items() if (f'parameter "{name}" will be' in warnings) != (level(since) <= version)] == []
