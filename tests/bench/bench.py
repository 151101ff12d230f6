# SPDX-License-Identifier: GPL-3.0-or-later
"""Steady-state wall time of a play with role postfix_relay, against a play that only gathers facts and one that only pings.

    make bench                   # or: bench.py [--rounds 9] [--server debian12]

The three plays run in turn, round by round, over SSH with pipelining, in one run of this program; the figures that count
are the ratios of their medians. A run in which the role changed anything is an error, since it would not be the steady state.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLAYS = ROOT / "tests" / "bench" / "plays"
RIG = [sys.executable, str(ROOT / "tests" / "rig" / "rig.py")]
TARGET = 1.6  # times the facts-only play


def run_play(name: str, lab: str) -> tuple[float, str]:
    """Return the wall time of one run in seconds, and what it printed."""
    state = ROOT / ".dev" / "labs" / lab
    command = ["ansible-playbook", "-i", state / "inventory.yml", "-e", f"@{state / 'accounts.yml'}", "-e", f"@{PLAYS / 'vars.yml'}"]
    started = time.monotonic()
    result = subprocess.run([*command, PLAYS / f"{name}.yml"], capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stdout + result.stderr)
    return time.monotonic() - started, result.stdout


def measure(lab: str, rounds: int) -> dict[str, list[float]]:
    """Bring the host to its final state, then time every play once a round."""
    print("bringing the host to its final state", flush=True)
    run_play("relay", lab)
    times: dict[str, list[float]] = {"ping": [], "facts": [], "relay": []}
    for number in range(rounds):
        for name, seen in times.items():
            seconds, output = run_play(name, lab)
            if name == "relay" and not re.search(r"changed=0\b", output):
                sys.exit("The role changed something in a second run:\n" + output)
            seen.append(seconds)
        print(f"round {number + 1} of {rounds}: " + "  ".join(f"{name} {seen[-1]:.2f} s" for name, seen in times.items()), flush=True)
    return times


def report(times: dict[str, list[float]], server: str) -> bool:
    """Print the table; True when the target is met."""
    median = {name: statistics.median(seen) for name, seen in times.items()}
    machine = f"{os.cpu_count()} cores ({platform.machine()})"
    print(f"\n{datetime.date.today()}, {machine}, {server} over SSH, {len(times['ping'])} rounds, command: make bench\n")
    print("| play | median | to facts only | to ping |\n|---|---|---|---|")
    for name, title in (("ping", "one ping task"), ("facts", "facts only"), ("relay", "role postfix_relay, nothing to change")):
        print(f"| {title} | {median[name]:.2f} s | {median[name] / median['facts']:.2f} | {median[name] / median['ping']:.2f} |")
    ratio = median["relay"] / median["facts"]
    print(f"\n{'met' if ratio <= TARGET else 'MISSED'}: {ratio:.2f} times the facts-only play; the target is at most {TARGET}")
    return ratio <= TARGET


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--server", default="debian12")
    options = parser.parse_args()
    subprocess.run([*RIG, "up", "bench", "--server", options.server], check=True)
    try:
        met = report(measure("bench", options.rounds), options.server)
    finally:
        subprocess.run([*RIG, "down", "bench"], check=True)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
