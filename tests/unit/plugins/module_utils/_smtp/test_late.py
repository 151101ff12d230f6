# SPDX-License-Identifier: GPL-3.0-or-later
"""What is imported at first use is known to late.py, and a login that works needs none of it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import typing as t
from pathlib import Path

from smtp_server import PASSWORD, USERNAME, Certificates, Server, conversation

ROOT = Path(__file__).resolve().parents[5]
PACKAGE = "ansible_collections.outpost.smtp.plugins.module_utils._smtp"
DIRECTORY = ROOT / "plugins" / "module_utils" / "_smtp"
NOT_OF_A_TEST = {"run_as", "as_user"}  # imported before the identity is dropped, since it does that

REPORT = f"""
import sys
sys.argv[0] = "smtp-test"
from {PACKAGE}.cli.cli import main
status = main()
print("|".join(sys.modules), file=sys.stderr)
raise SystemExit(status)
"""


def imported_by(node: ast.AST) -> t.Set[str]:
    """Names of the modules of the package that an import statement names."""
    if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(PACKAGE):
        return set()
    rest = (node.module or "")[len(PACKAGE) + 1 :]
    if rest and (DIRECTORY / rest.replace(".", "/")).with_suffix(".py").exists():
        return {rest}
    return {f"{rest}.{alias.name}".lstrip(".") for alias in node.names}


def imports_in_functions(path: Path) -> t.Set[str]:
    functions = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef))
    return {name for function in functions for node in ast.walk(function) for name in imported_by(node)}


def test_all_that_is_imported_in_functions_is_loaded_by_late() -> None:
    used = {name for path in DIRECTORY.rglob("*.py") for name in imports_in_functions(path)}
    loaded = {name for node in ast.walk(ast.parse((DIRECTORY / "late.py").read_text())) for name in imported_by(node)}
    assert used - NOT_OF_A_TEST == loaded


def test_a_login_that_works_loads_nothing_that_it_does_not_need(certificates: Certificates) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".dev" / "collections"), "OUTPOST_SMTP_PASSWORD": PASSWORD}
    with Server(conversation(tls="implicit", context=certificates.good())) as server:
        arguments = [f"127.0.0.1:{server.port}", "--tls", "implicit", "--ca-file", certificates.ca_file, "--username", USERNAME]
        command = [sys.executable, "-S", "-c", REPORT, *arguments]
        done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, timeout=20, check=False)
    loaded = set(done.stderr.decode().strip().split("|"))
    assert done.returncode == 0
    late = {name for node in ast.walk(ast.parse((DIRECTORY / "late.py").read_text())) for name in imported_by(node)}
    assert not {f"{PACKAGE}.{name}" for name in late} & loaded
    assert f"{PACKAGE}.late" not in loaded
    slow = {"dataclasses", "inspect", "json", "html", "urllib.parse", "traceback", "shutil", "email", "_strptime", "encodings.idna", "getpass"}
    if sys.version_info < (3, 9):
        slow.remove("shutil")  # argparse imports it whatever one does
    assert not slow & loaded
