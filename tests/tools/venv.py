# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the virtual environments of the tests: .dev/venv (newest ansible-core), .dev/venv-floor (oldest supported), .dev/venv-units-X.Y.

    venv.py main floor          make these, as far as this machine has the Pythons
    venv.py units               make one with nothing but pytest for every Python from 3.8 on that this machine has

An environment lives in the cache directory under a name made from its contents, so checkouts share it, and a changed
list of requirements makes a new one. A build that was killed has no marker and is made again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "tests" / "requirements"
UNIT_PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
# ansible-core 2.21 runs on 3.12 and newer, 2.19 on 3.11; a Debian 12 without other Pythons has 3.11 for both.
CONTROLLER_PYTHONS = {"main": ("3.12", "3.13", "3.11"), "floor": ("3.11",)}


def cache_directory() -> Path:
    """The directory for what is slow to make, shared by all checkouts."""
    given = os.environ.get("OUTPOST_SMTP_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "outpost-smtp"


def find_python(version: str) -> Path | None:
    """The interpreter of that version from PATH or from pyenv, as its real path; None when there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = sorted(pyenv.glob(f"{version}.*/bin/python{version}"))
    on_path = shutil.which(f"python{version}", path="/usr/local/bin:/usr/bin:" + os.environ.get("PATH", ""))
    for candidate in [*candidates, *([Path(on_path)] if on_path else [])]:
        probe = subprocess.run([candidate, "-c", "import ssl, venv, ensurepip"], capture_output=True, check=False)
        if probe.returncode == 0:
            return candidate.resolve()
    return None


def make_venv(python: Path, requirements: Path) -> Path:
    """Return the directory of an environment of `python` that holds exactly `requirements`."""
    key = hashlib.sha256(str(python).encode() + requirements.read_bytes()).hexdigest()[:16]
    venv = cache_directory() / "venvs" / f"{requirements.stem}-{key}"
    marker = venv / ".complete"
    if not marker.exists():
        print(f"==> making a virtual environment for {python.name} from {requirements.name}", file=sys.stderr, flush=True)
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([python, "-m", "venv", venv], check=True)
        install = [venv / "bin" / "pip", "--disable-pip-version-check", "--quiet", "install", "--requirement", requirements]
        result = subprocess.run([*install, "--no-deps"] if requirements.stem == "test" else install, stderr=subprocess.PIPE, text=True, check=False)
        if result.returncode:
            sys.exit(result.stderr)
        subprocess.run([venv / "bin" / "pip", "--quiet", "check"], check=True)
        marker.touch()
    return venv


def link(name: str, venv: Path) -> None:
    """Point .dev/`name` at `venv`."""
    path = ROOT / ".dev" / name
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_name(f"{name}.new{os.getpid()}")
    fresh.symlink_to(venv)
    fresh.replace(path)


def controllers(names: list[str]) -> None:
    for name in names:
        python = next(filter(None, map(find_python, CONTROLLER_PYTHONS[name])), None)
        if python is None:
            sys.exit(f"No Python of {', '.join(CONTROLLER_PYTHONS[name])} with venv and ensurepip was found; on Debian: apt-get install python3-venv")
        link("venv" if name == "main" else f"venv-{name}", make_venv(python, REQUIREMENTS / "test.txt"))


def units() -> None:
    """An environment for each Python found, and .dev/pythons with a link to each for ansible-test."""
    found = {version: find_python(version) for version in UNIT_PYTHONS}
    pythons = ROOT / ".dev" / "pythons"
    shutil.rmtree(pythons, ignore_errors=True)
    pythons.mkdir(parents=True)
    for version, python in found.items():
        if python:
            link(f"venv-units-{version}", make_venv(python, REQUIREMENTS / "units.txt"))
            (pythons / f"python{version}").symlink_to(python)
    print("Unit tests will run on Python " + ", ".join(version for version, python in found.items() if python))


if __name__ == "__main__":
    wanted = sys.argv[1:]
    if not wanted or set(wanted) - {"main", "floor", "units"}:
        sys.exit(__doc__)
    controllers([name for name in wanted if name != "units"])
    if "units" in wanted:
        units()
