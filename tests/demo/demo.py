# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: start a provider and a server, run the collection on the server, and say in plain words what came of it.

The lab is removed at the end; with KEEP=1 it stays, and the last lines say how to look around.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "demo"
RIG = [sys.executable, str(ROOT / "tests" / "rig" / "rig.py")]
LAB = "demo"
STATE = ROOT / ".dev" / "labs" / LAB
SERVER = "debian12"

_COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
_TASK = re.compile(r"^TASK \[(?:outpost\.smtp\.)?(?P<name>.*)\] \**$")
_RESULT = re.compile(r"^(?P<status>ok|changed|fatal|failed): \[")


def paint(text: str, code: str) -> str:
    return f"\033[{code}m{text}\033[0m" if _COLOUR else text


def bold(text: str) -> str:
    return paint(text, "1")


def good(text: str) -> str:
    return paint("PASS", "32") + "  " + text


def bad(text: str) -> str:
    return paint("FAIL", "31") + "  " + text


def headline(text: str) -> None:
    print(f"\n{bold('==> ' + text)}", flush=True)


def run_playbook() -> None:
    """Run demo.yml, showing each task when it ends; everything Ansible printed goes to a log. Exits when the run fails."""
    log = STATE / "ansible.log"
    command = ["ansible-playbook", "-i", STATE / "inventory.yml", "-e", f"@{STATE / 'accounts.yml'}", "-e", f"@{HERE / 'vars.yml'}"]
    command += ["-e", f"demo_results={STATE / 'results.json'}", HERE / "demo.yml"]
    started = time.monotonic()
    with open(log, "w", encoding="utf-8") as copy:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        task = ""
        for line in process.stdout or ():
            copy.write(line)
            task = match["name"] if (match := _TASK.match(line)) else task
            if result := _RESULT.match(line):
                print(f"  {time.monotonic() - started:6.1f} s  {task[:66]:<66} {result['status']}", flush=True)
    if process.wait():
        sys.exit(f"{log.read_text(encoding='utf-8')}\nThe playbook failed; the log above is also in {log}")


def summary(results: dict) -> bool:
    """Print what happened; True when everything came out as it should."""
    (login,) = results["login"]["results"]
    trip = results["roundtrip"]
    (broken,) = results["broken"]["results"]
    headline("What happened")
    print(f"  {SERVER} now relays through {login['host']}:{login['port']} ({login['tls_mode']} TLS); Postfix {results['postfix']['version']}\n")
    checks = [show_login(login), show_arrival(trip), show_broken(broken)]
    print()
    return all(checks)


def show_login(login: dict) -> bool:
    tls, auth = login["tls"], login["auth"]
    elapsed = sum(stage["elapsed_ms"] or 0 for stage in login["stages"])
    if not login["ok"]:
        print("  " + bad(f"login: {login['diagnosis']['summary']}"))
        return False
    print("  " + good(f"login in {elapsed} ms: {tls['version']}, certificate verified ({tls['days_left']} days left),"))
    print(f"        AUTH {auth['mechanism']} answered {auth['code']} {auth['enhanced_code'] or ''}".rstrip())
    return True


def show_arrival(trip: dict) -> bool:
    if not trip.get("arrived"):
        print("  " + bad(f"arrival: {trip.get('msg')}"))
        return False
    arrived = f"was in {trip['folder']} {trip['elapsed_ms']['arrived']} ms after sending"
    print("  " + good(f"arrival: the message with token {trip['token'][:8]}... {arrived}"))
    for hop in trip["hops"]:
        way = [hop["protocol"] or "?"]
        if hop["tls"]:
            way.append(hop["tls"]["version"] or "TLS")
        if hop["authenticated"]:
            way.append(f"logged in as {hop['authenticated_as']}" if hop["authenticated_as"] else "logged in")
        print(f"        {hop['from_host']} -> {hop['by']}: {', '.join(way)}")
    return all(trip["proof"][fact] for fact in ("token_matched", "queue_id_matched", "tls_to_relay", "authenticated"))


def show_broken(broken: dict) -> bool:
    diagnosis = broken["diagnosis"]
    if not diagnosis or diagnosis["code"] != "auth_bad_credentials":
        print("  " + bad(f"a wrong password should have been refused, but: {diagnosis}"))
        return False
    print("  " + good(f"a wrong password, on purpose, is explained: {bold(diagnosis['code'])}"))
    print(f"        what      {diagnosis['summary']}")
    for evidence in diagnosis["evidence"]:
        print(f"        evidence  {evidence}")
    print(f"        remedy    {diagnosis['remedy']}")
    return True


def main() -> int:
    keep = bool(os.environ.get("KEEP"))
    headline("Starting a mail provider and a server in containers (their images are built on the first run: some minutes)")
    subprocess.run([*RIG, "up", LAB, "--server", SERVER], check=True)
    try:
        headline("Running playbooks/site.yml on the server, then a login with a wrong password")
        run_playbook()
        passed = summary(json.loads((STATE / "results.json").read_text(encoding="utf-8")))
    finally:
        if not keep:
            subprocess.run([*RIG, "down", LAB], check=True)
    if keep:
        print(f"The lab stays: python3 tests/rig/rig.py ssh {LAB} {SERVER}    remove it: python3 tests/rig/rig.py down {LAB}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
