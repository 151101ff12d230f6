# SPDX-License-Identifier: GPL-3.0-or-later
"""The canary credential is searched for, in every form it could take, in all that runs leave behind."""

from __future__ import annotations

import base64

import pytest
from system_lab import variables

ALLOWED = "/outpost_smtp/"  # the credential tables below the configuration directory; the test looks at their mode
HOST_FILE = "/root/canary.password"


def forms(username: str, password: str) -> list[str]:
    """The password as it could be seen: its unescapable end, the base64 of AUTH PLAIN and LOGIN at every alignment, hex."""
    raw = password.encode()
    end = password[-32:]
    blobs = [base64.b64encode(text.encode()) for text in (password, f"\0{username}\0{password}", f"{username}\0{username}\0{password}")]
    aligned = [base64.b64encode(b"x" * shift + raw)[4 if shift else 0 : -4] for shift in range(3)]
    return [end, end[::-1], raw.hex(), *(blob.decode().rstrip("=") for blob in blobs + aligned)]


WATCH_PROCESSES = """
cat > /run/watch.py <<'PY'
import glob, os, time
seen, end = set(), time.time() + 900
with open("/run/watched.txt", "w") as out:
    while time.time() < end and not os.path.exists("/run/watch.stop"):
        for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
            try:
                with open(path, "rb") as f:
                    text = f.read().replace(b"\\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if text not in seen:
                seen.add(text)
                print(text, file=out, flush=True)
        time.sleep(0.01)
PY
rm -f /run/watch.stop; systemd-run --quiet --unit=watch python3 /run/watch.py
"""
# The patterns come by standard input: as an argument they would be found in the search's own process.
PLACES = "/etc /var /tmp /root /run /home /usr/local /opt /srv"
SEARCH_FILES = f"grep --recursive --files-with-matches --binary-files=text --fixed-strings --file=- {PLACES} || true"
SEARCH_JOURNAL = "p=$(cat); journalctl --all --no-pager --output=export | grep --text --count --fixed-strings --file=<(printf '%s' \"$p\") || true"


@pytest.fixture(scope="module")
def canary(lab):
    account = lab.accounts["canary"]
    return forms(account["username"], account["password"])


def found_in(text: str, patterns: list[str]) -> list[str]:
    return [pattern for pattern in patterns if pattern in text]


def test_the_canary_is_nowhere_but_in_its_own_table(lab, play, canary):
    lab.shell(WATCH_PROCESSES)
    given = variables(lab, "canary")
    only_the_relay = ("-vvvv", "--diff", "--skip-tags", "smtp_egress,smtp_verify")
    stranger = {**variables(lab, "canary", username="nobody@provider.test"), "postfix_relay_preflight": "always"}
    of_the_host = {**variables(lab, "canary", password=None, name="second", password_file=HOST_FILE, port=587), "postfix_relay_keep_previous": True}
    lab.shell(f"umask 077; cat > {HOST_FILE}", input=lab.accounts["canary"]["password"] + "\n")
    outputs = {
        "check": play("playbooks/site.yml", given, "-vvvv", "--diff", "--check"),
        "first run": play("playbooks/site.yml", given, "-vvvv", "--diff"),
        "second run": play("playbooks/site.yml", given, "-vvvv", "--diff"),
        "a password of the host, and the table before it kept": play("playbooks/site.yml", of_the_host, *only_the_relay),
        "a change that is refused before the switch": play("playbooks/site.yml", stranger, *only_the_relay),
        "login with a wrong user name": play("playbooks/verify.yml", variables(lab, "canary", username="nobody@provider.test"), "-vvvv", "--diff"),
        "TLS that can not be verified": play("playbooks/verify.yml", variables(lab, "canary", ca_file=None), "-vvvv", "--diff"),
        "a host that does not exist": play("playbooks/verify.yml", variables(lab, "canary", host="absent.provider.test"), "-vvvv", "--diff"),
    }
    lab.shell(f"rm {HOST_FILE}; touch /run/watch.stop; while systemctl is-active --quiet watch; do sleep 0.1; done")
    assert [name for name, run in outputs.items() if run.status] == list(outputs)[4:], [(n, r.status, r.output[-2000:]) for n, r in outputs.items()]

    for name, run in outputs.items():
        assert not found_in(run.output, canary), name
        assert not found_in(str(run.tasks), canary), name

    watched = lab.shell("cat /run/watched.txt").stdout
    assert "postfix" in watched, "the watcher has seen the run"
    assert not found_in(watched, canary)

    patterns = "\n".join(canary)
    files = lab.shell(SEARCH_FILES, input=patterns).stdout.split()
    tables = [path for path in files if ALLOWED in path]
    assert files == tables and len(tables) == 2, files
    modes = lab.shell("stat --format='%a %U' " + " ".join(tables)).stdout.split("\n")[:-1]
    assert set(modes) == {"600 root"}, modes
    assert lab.shell(SEARCH_JOURNAL, input=patterns).stdout.strip() == "0"


def test_the_search_finds_what_it_looks_for(lab, canary):
    """A canary that was put there is found, so that finding nothing means something."""
    lab.shell("cat > /var/tmp/leak", input="password=" + canary[0])
    lab.shell("logger --tag leak \"$(cat)\"", input=canary[4])
    try:
        assert "/var/tmp/leak" in lab.shell(SEARCH_FILES, input="\n".join(canary)).stdout.split()
        assert int(lab.shell(SEARCH_JOURNAL, input="\n".join(canary)).stdout) > 0
    finally:
        lab.shell("rm /var/tmp/leak; journalctl --rotate --quiet; journalctl --vacuum-time=1s --quiet")
