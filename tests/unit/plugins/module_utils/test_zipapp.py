# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that stay on a host: whole, the same each time, and run by a Python that knows nothing of Ansible."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils import _zipapp
from ansible_collections.outpost.smtp.plugins.module_utils._egress import program
from ansible_collections.outpost.smtp.plugins.module_utils._oauth import daemon

ENTRIES = [program.__name__, daemon.__name__]


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_program_needs_nothing_but_its_file(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "program.pyz"
    path.write_bytes(_zipapp.pack(entry))
    # Not an argument that it knows, so it says how it is used, after all its modules were found.
    done = subprocess.run([sys.executable, "-I", str(path), "?"], capture_output=True, text=True, cwd="/", env={}, check=False)
    assert done.returncode == 2 and "usage" in done.stderr, done.stderr


@pytest.mark.parametrize("entry", ENTRIES)
def test_all_modules_that_it_may_import_are_in_it(tmp_path: Path, entry: str) -> None:
    """Also those that are imported late, when Ansible's own files are gone."""
    path = tmp_path / "program.pyz"
    path.write_bytes(_zipapp.pack(entry))
    names = [name[:-3].replace("/", ".") for name in zipfile.ZipFile(path).namelist() if name.endswith(".py")]
    modules = [name for name in names if not name.endswith(("__init__", "__main__"))]
    code = f"import sys, importlib; sys.path.insert(0, {str(path)!r})\nfor name in {modules!r}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd="/", env={}, check=False)
    assert done.returncode == 0, done.stderr


def test_it_is_the_same_each_time_and_holds_what_is_needed_only() -> None:
    packed = _zipapp.pack(daemon.__name__)
    assert packed == _zipapp.pack(daemon.__name__)
    names = zipfile.ZipFile(io.BytesIO(packed)).namelist()
    assert len(names) == len(set(names)) and not [name for name in names if "/_egress/" in name or "/_postfix/" in name]


def test_every_manager_is_in_the_program_of_the_firewall() -> None:
    names = zipfile.ZipFile(io.BytesIO(_zipapp.pack(program.__name__))).namelist()
    for manager in ("firewalld", "ufw", "iptables", "nftables"):
        assert [name for name in names if name.endswith(f"/managers/{manager}.py")], manager
