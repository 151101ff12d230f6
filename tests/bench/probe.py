# SPDX-License-Identifier: GPL-3.0-or-later
"""Wall time of one login test as a whole process, against swaks, msmtp and a script with smtplib; and of 20 endpoints at once.

    make bench                   # or: probe.py [--rounds 21]

All of them talk to the same server, a provider of the rig, and run in turn, round by round; the figures that count are
ratios of medians of one run. Everything that verifies certificates does. The server's name is known inside a mount
namespace of this program only, which has an /etc/hosts of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RIG = [sys.executable, str(ROOT / "tests" / "rig" / "rig.py")]
PYTHON = str(ROOT / ".dev" / "venv" / "bin" / "python")
LAB = "probebench"
HOST = "smtp.provider.test"
PACKAGE = "ansible_collections.outpost.smtp.plugins.module_utils._smtp"
PROBE = [PYTHON, "-m", PACKAGE]
PORTS = (465, 587)
ENDPOINTS = 20
ALIASES = [f"smtp{number}.provider.test" for number in range(1, ENDPOINTS)]  # what is the same by host and login is tested once
PATIENCE = 5.0  # seconds after which the dead endpoint is given up
TO_SMTPLIB, TO_SLOWEST = 1.15, 1.2  # the targets

_MACHINE = ("PYTHONDONTWRITEBYTECODE", "SSL_CERT_FILE", "SSL_CERT_DIR")  # settings of this machine that change the work to do

Commands = t.Dict[str, t.List[str]]


class Peers:
    """The commands that do the same task; each gets the password by its standard input."""

    def __init__(self, ca_file: str, username: str, password: str) -> None:
        self._ca_file = ca_file
        self._username = username
        self._password = password
        # What was compiled stays, as it does where the collection is installed; the standard library's modules are, too.
        own = {"PYTHONPATH": str(ROOT / ".dev" / "collections"), "PYTHONPYCACHEPREFIX": str(ROOT / ".dev" / "bench-pycache")}
        self._environment = {**{name: value for name, value in os.environ.items() if name not in _MACHINE}, **own}

    def login(self, port: int) -> Commands:
        """One login at the provider's *port*; the last one does not log in, it has no such test."""
        implicit = port == 465
        swaks = ["--server", HOST, "--port", str(port), "--tls-on-connect" if implicit else "--tls"]
        msmtp = ["--host", HOST, "--port", str(port), "--tls=on", f"--tls-starttls={'off' if implicit else 'on'}"]
        verify = ["--tls-verify", "--tls-ca-path", self._ca_file]
        return {
            "this": self.probe(f"{HOST}:{port}"),
            "smtplib": [PYTHON, str(ROOT / "tests" / "bench" / "smtplib_login.py"), HOST, str(port), self._ca_file, self._username],
            "swaks": ["swaks", *swaks, *verify, "--auth", "PLAIN", "--auth-user", self._username, "--quit-after", "AUTH"],
            "msmtp": ["msmtp", "--serverinfo", *msmtp, "--tls-trust-file", self._ca_file],
        }

    def probe(self, *targets: str, timeout: float = 30.0) -> list[str]:
        login = ["--username", self._username, "--password-file", "-"]
        return [*PROBE, *targets, *login, "--ca-file", self._ca_file, "--server-name", HOST, "--timeout", str(timeout)]

    def measure(self, commands: Commands, rounds: int, expected: t.Mapping[str, int]) -> dict[str, float]:
        """Median wall time of each command in seconds; a first round warms up and does not count."""
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _number in range(rounds + 1):
            for name, command in commands.items():
                started = time.perf_counter()
                result = subprocess.run(command, env=self._environment, input=self._password + "\n", capture_output=True, text=True, check=False)
                times[name].append(time.perf_counter() - started)
                if result.returncode != expected.get(name, 0):
                    sys.exit(f"{name} ended with status {result.returncode}:\n{result.stdout}{result.stderr}".replace(self._password, "********"))
        return {name: statistics.median(seen[1:]) for name, seen in times.items()}


@contextlib.contextmanager
def dead_endpoint() -> t.Iterator[str]:
    """A port of this machine that never answers: the kernel drops what comes after the queue of a listener is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        while True:
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.3)
            try:
                filler.connect(listener.getsockname())
            except socket.timeout:
                break
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def compare(peers: Peers, rounds: int) -> bool:
    """Print the table of one login per port; True when the target is met on each."""
    titles = {"this": "this collection", "smtplib": "script with smtplib", "swaks": "swaks", "msmtp": "msmtp --serverinfo (no login)"}
    met = True
    print("| one login, whole process | port | median | to smtplib |\n|---|---|---|---|")
    for port in PORTS:
        median = peers.measure(peers.login(port), rounds, {})
        for name, title in titles.items():
            print(f"| {title} | {port} | {median[name] * 1000:.0f} ms | {median[name] / median['smtplib']:.2f} |")
        met = met and median["this"] / median["smtplib"] <= TO_SMTPLIB
    print(f"\n{'met' if met else 'MISSED'}: the target is at most {TO_SMTPLIB} times the script with smtplib on each port\n", flush=True)
    return met


def crowd(peers: Peers, rounds: int) -> bool:
    """Print the table of many endpoints at once; True when the target is met."""
    live = [f"{name}:{PORTS[number % len(PORTS)]}" for number, name in enumerate(ALIASES)]
    with dead_endpoint() as dead:
        commands = {
            "one": peers.probe(live[0]),
            "live": peers.probe(*live),
            "dead": peers.probe(dead, timeout=PATIENCE),
            "all": peers.probe(*live, dead, timeout=PATIENCE),
        }
        median = peers.measure(commands, rounds, {"dead": 10, "all": 10})
    titles = {
        "one": "one",
        "live": f"{len(live)} at once",
        "dead": f"the dead one, given up after {PATIENCE:g} s",
        "all": f"{ENDPOINTS} at once, one of them dead",
    }
    print("| endpoints | median | to the slowest one |\n|---|---|---|")
    for name, title in titles.items():
        print(f"| {title} | {median[name]:.2f} s | {median[name] / median['dead']:.2f} |")
    ratio = median["all"] / median["dead"]
    print(f"\n{'met' if ratio <= TO_SLOWEST else 'MISSED'}: {ratio:.2f} times the slowest one; the target is at most {TO_SLOWEST}")
    return ratio <= TO_SLOWEST


def measure(ca_file: str, rounds: int) -> bool:
    """Everything that is measured, with the account that is on standard input."""
    account = json.load(sys.stdin)
    peers = Peers(ca_file, account["username"], account["password"])
    python = subprocess.run([PYTHON, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    print(f"\n{datetime.date.today()}, {os.cpu_count()} cores ({platform.machine()}), {python}, {rounds} rounds, command: make bench\n")
    logins = compare(peers, rounds)
    return crowd(peers, max(3, rounds // 5)) and logins


def in_own_namespace(rounds: int) -> int:
    """Run this program again, where the name of the lab's provider resolves; return its exit status."""
    state = ROOT / ".dev" / "labs" / LAB
    inventory = json.loads((state / "inventory.yml").read_text())  # YAML that is JSON, as the rig writes it
    accounts = json.loads((state / "accounts.yml").read_text())
    address = inventory["all"]["children"]["providers"]["hosts"]["provider"]["ansible_host"]
    with tempfile.NamedTemporaryFile("w", suffix=".hosts") as hosts:
        hosts.write(f"127.0.0.1 localhost {socket.gethostname()}\n{address} {HOST} {' '.join(ALIASES)}\n")
        hosts.flush()
        script = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
        inner = [sys.executable, __file__, "--rounds", str(rounds), "--measure", str(state / "ca.pem")]
        command = ["unshare", "--mount", "sh", "-c", script, "sh", hosts.name, *inner]
        return subprocess.run(command, input=json.dumps(accounts["rig_accounts"]["alerts"]), text=True, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--measure", metavar="CA_FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return 0 if measure(options.measure, options.rounds) else 1
    subprocess.run([ROOT / "tests" / "tools" / "packages.sh", "swaks", "libnet-ssleay-perl", "msmtp"], check=True)
    subprocess.run([*RIG, "up", LAB], check=True)
    try:
        return in_own_namespace(options.rounds)
    finally:
        subprocess.run([*RIG, "down", LAB], check=True)


if __name__ == "__main__":
    sys.exit(main())
