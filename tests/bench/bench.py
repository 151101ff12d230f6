# SPDX-License-Identifier: GPL-3.0-or-later
"""Wall time of plays with role postfix_relay against plays that only gather facts or only ping, on one host and on many.

    make bench                   # or: bench.py [--rounds 9] [--server debian12] [--hosts 20]

All plays run in turn, round by round, over SSH with pipelining, in one run of this program; the figures that count are
ratios of medians. The role has three relays. A run that changes anything where nothing is to change is an error, and so is a first
run that changes nothing. With --chart the cost per host is drawn.
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

from chart import line_chart

ROOT = Path(__file__).resolve().parents[2]
PLAYS = ROOT / "tests" / "bench" / "plays"
RIG = [sys.executable, str(ROOT / "tests" / "rig" / "rig.py")]
LAB = "bench"
FORKS = 10
STEADY, FIRST, SCALING = 1.5, 4.0, 1.3  # the targets
TITLES = {
    "ping": "one ping task",
    "facts": "facts only",
    "relay": "role `postfix_relay`, three relays, nothing to change",
    "first": "role `postfix_relay`, first run, Postfix is installed",
}
FRESH = """set -eu
systemctl stop postfix 'postfix@*'
[ -e /root/pristine.tar ] || tar -C /etc --exclude=main.cf --exclude=outpost_smtp -cf /root/pristine.tar postfix
rm -rf /etc/postfix
tar -C /etc -xf /root/pristine.tar
"""

Times = dict[str, list[float]]


def run_play(name: str, limit: str) -> tuple[float, str]:
    """Return the wall time of one run in seconds, and what it printed."""
    state = ROOT / ".dev" / "labs" / LAB
    command = ["ansible-playbook", "-i", state / "inventory.yml", "-e", f"@{state / 'accounts.yml'}", "-e", f"@{PLAYS / 'vars.yml'}"]
    started = time.monotonic()
    result = subprocess.run([*command, "--forks", str(FORKS), "--limit", limit, PLAYS / f"{name}.yml"], capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stdout + result.stderr)
    return time.monotonic() - started, result.stdout


def timed(name: str, hosts: list[str]) -> float:
    """The wall time of one of the plays in TITLES."""
    if name == "first":
        subprocess.run([*RIG, "exec", LAB, hosts[0], "sh", "-c", FRESH], check=True)
    seconds, output = run_play("relay" if name == "first" else name, ",".join(hosts))
    unchanged = len(re.findall(r"changed=0\b", output))
    if name == "relay" and unchanged != len(hosts) or name == "first" and unchanged:
        sys.exit("The role changed what it should not, or nothing where it should:\n" + output)
    return seconds


def measure(names: tuple[str, ...], hosts: list[str], rounds: int) -> Times:
    """Time every play once a round."""
    times: Times = {name: [] for name in names}
    for number in range(rounds):
        for name, seen in times.items():
            seen.append(timed(name, hosts))
        shown = "  ".join(f"{name} {seen[-1]:.2f} s" for name, seen in times.items())
        print(f"{len(hosts)} host(s), round {number + 1} of {rounds}: {shown}", flush=True)
    return times


def report_one(times: Times) -> bool:
    """Print the table of one host; True when both targets are met."""
    median = {name: statistics.median(seen) for name, seen in times.items()}
    print("\n| play on one host | median | to facts only | to ping |\n|---|---|---|---|")
    for name, title in TITLES.items():
        print(f"| {title} | {median[name]:.2f} s | {median[name] / median['facts']:.2f} | {median[name] / median['ping']:.2f} |")
    met = True
    for name, target in (("relay", STEADY), ("first", FIRST)):
        ratio = median[name] / median["facts"]
        met = met and ratio <= target
        print(f"\n{'met' if ratio <= target else 'MISSED'}: {ratio:.2f} times the facts-only play; the target is at most {target}")
    return met


def report_fleet(fleet: dict[int, Times], chart: Path | None) -> bool:
    """Print the table of many hosts, and draw it; True when the target is met."""
    counts = sorted(fleet)
    median = {name: [statistics.median(fleet[count][name]) for count in counts] for name in ("facts", "relay")}
    print(f"\n| hosts, forks={FORKS} | facts only | role, nothing to change | per host |\n|---|---|---|---|")
    for count, facts, relay in zip(counts, median["facts"], median["relay"], strict=True):
        print(f"| {count} | {facts:.2f} s | {relay:.2f} s | {facts / count:.2f} s, {relay / count:.2f} s |")
    if chart:
        names = {"facts only": "facts", "postfix_relay": "relay"}
        per_host = {title: [seconds / count for seconds, count in zip(median[name], counts, strict=True)] for title, name in names.items()}
        chart.write_text(line_chart("Seconds per host as a fleet grows", f"hosts (forks={FORKS})", "seconds per host", counts, per_host))
    ratio = (median["relay"][-1] / median["relay"][0]) / (median["facts"][-1] / median["facts"][0])
    print(f"\n{'met' if ratio <= SCALING else 'MISSED'}: from {counts[0]} to {counts[-1]} hosts the role grows {ratio:.2f} times as much as")
    print(f"the facts-only play; the target is at most {SCALING}")
    return ratio <= SCALING


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--server", default="debian12")
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--chart", type=Path, help="where to draw the cost per host, as SVG")
    options = parser.parse_args()
    subprocess.run([*RIG, "up", LAB, "--server", options.server, "--count", str(options.hosts)], check=True)
    try:
        hosts = [options.server] if options.hosts == 1 else [f"{options.server}-{number}" for number in range(1, options.hosts + 1)]
        print("bringing the hosts to their final state", flush=True)
        run_play("relay", "servers")
        one = measure(tuple(TITLES), hosts[:1], options.rounds)
        fleet = {count: measure(("facts", "relay"), hosts[:count], max(3, options.rounds // 3)) for count in (1, 2, 5, 10, 20) if count <= len(hosts)}
        print(f"\n{datetime.date.today()}, {os.cpu_count()} cores ({platform.machine()}), {options.server} over SSH, command: make bench")
        met = [report_one(one), report_fleet(fleet, options.chart)]
    finally:
        subprocess.run([*RIG, "down", LAB], check=True)
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
