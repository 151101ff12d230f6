# SPDX-License-Identifier: GPL-3.0-or-later
"""Try the targets of targets.py for a while, each in a process of its own: with atheris, guided by coverage, where it is installed.

    fuzz.py --seconds 60 replies dialogues
    fuzz.py --seconds 20                    all of them

Without atheris (tests/requirements/fuzz.txt) hypothesis tries them at random, and that is said. Octets that break a target are
shown; atheris writes them to .dev/fuzz/TARGET/, where it also keeps for the next run what was interesting. Exit status 0 if
nothing was found, 1 otherwise.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
import typing as t

import fuzz_path

ROOT = fuzz_path.TESTS.parent
_SEEDS = 200
_GUIDED = "ansible_collections.outpost.smtp.plugins.module_utils"
_BOUNDS = ("-max_len=4096", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1")


def main() -> int:
    given = _arguments()
    if given.one is not None:
        _run(given.one, given.seconds)
        return 0
    if not _atheris_is_installed():
        print("atheris is not installed (pip install --requirement tests/requirements/fuzz.txt): hypothesis tries at random instead", flush=True)
    import targets

    unknown = sorted(set(given.targets) - set(targets.TARGETS))
    if unknown:
        sys.exit(f"There is no target {unknown[0]!r}, only {', '.join(targets.TARGETS)}.")
    broken = [name for name in given.targets or targets.TARGETS if not _holds(name, given.seconds)]
    print(f"broken: {', '.join(broken)}" if broken else "nothing was found")
    return 1 if broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="how long each target is tried (default: 60)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    return parser.parse_args()


def _atheris_is_installed() -> bool:
    return importlib.util.find_spec("atheris") is not None


def _holds(name: str, seconds: int) -> bool:
    print(f"==> {name}", flush=True)
    return subprocess.run([sys.executable, __file__, "--seconds", str(seconds), "--one", name], check=False).returncode == 0


def _run(name: str, seconds: int) -> None:
    if _atheris_is_installed():
        _by_atheris(name, seconds)
    else:
        _by_hypothesis(name, seconds)


def _by_atheris(name: str, seconds: int) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris  # type: ignore[import-untyped,unused-ignore]  # has no type hints, and is not always there

    with atheris.instrument_imports(include=[_GUIDED]):
        import targets
    corpus = ROOT / ".dev" / "fuzz" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(_seeds(name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", *_BOUNDS, f"-artifact_prefix={corpus}/broken-", str(corpus)], targets.TARGETS[name])
    atheris.Fuzz()


def _seeds(name: str) -> t.List[bytes]:
    """What hypothesis begins with, so that atheris need not find the form of the octets by chance."""
    import strategies
    from hypothesis import given, settings

    seeds: t.List[bytes] = []

    @settings(max_examples=_SEEDS, derandomize=True, database=None, deadline=None)
    @given(strategies.BY_TARGET[name])
    def collect(data: bytes) -> None:
        seeds.append(data)

    collect()
    return seeds


def _by_hypothesis(name: str, seconds: int) -> None:
    """Raises what breaks the target."""
    import strategies
    import targets
    from hypothesis import HealthCheck, given, settings

    @settings(max_examples=500, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategies.BY_TARGET[name])
    def holds(data: bytes) -> None:
        targets.TARGETS[name](data)

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        holds()


if __name__ == "__main__":
    sys.exit(main())
