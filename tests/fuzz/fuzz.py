# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one target of targets.py, or each in turn, under the coverage-guided fuzzer atheris.

    fuzz.py --seconds 60 replies
    fuzz.py --seconds 10 all

Octets that break a target are written to .dev/fuzz/TARGET/ and shown; what was interesting is kept there for the next run.
Exit status 0 if nothing was found, 77 if a target was broken, 2 if atheris is not installed (tests/requirements/fuzz.txt).
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

import fuzz_path  # noqa: F401  # sets the path

ROOT = Path(__file__).resolve().parents[2]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="how long each target runs (default: 60)")
    parser.add_argument("target", help="name of a target, or 'all'")
    return parser.parse_args()


def run(name: str, seconds: int) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["ansible_collections.outpost.smtp"]):
        import targets
    if name not in targets.TARGETS:
        sys.exit(f"There is no target {name!r}, only {', '.join(sorted(targets.TARGETS))}.")
    corpus = ROOT / ".dev" / "fuzz" / name
    corpus.mkdir(parents=True, exist_ok=True)
    bounds = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=1024"]
    atheris.Setup([sys.argv[0], *bounds, f"-artifact_prefix={corpus}/broken-", str(corpus)], targets.TARGETS[name])
    atheris.Fuzz()


def run_all(seconds: int) -> int:
    import targets

    for name in sorted(targets.TARGETS):
        print(f"==> {name}", flush=True)
        status = subprocess.run([sys.executable, __file__, "--seconds", str(seconds), name], check=False).returncode
        if status:
            return status
    return 0


def main() -> int:
    given = arguments()
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: pip install --requirement tests/requirements/fuzz.txt", file=sys.stderr)
        return 2
    if given.target == "all":
        return run_all(given.seconds)
    run(given.target, given.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
