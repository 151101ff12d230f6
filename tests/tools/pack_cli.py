# SPDX-License-Identifier: GPL-3.0-or-later
"""Pack the login test's command line into one file that runs wherever Python 3.8 or later is: pack_cli.py OUTPUT.pyz

    python3 tests/tools/pack_cli.py smtp-test.pyz && scp smtp-test.pyz web1: && ssh web1 python3 smtp-test.pyz --help

It holds the files of the collection that the command imports, and no others. The same files make the same bytes.
"""

from __future__ import annotations

import argparse
import ast
import io
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = "ansible_collections.outpost.smtp."
COMMAND = COLLECTION + "plugins.module_utils._smtp.__main__"
MAIN = f"""\
# SPDX-License-Identifier: GPL-3.0-or-later
from {COMMAND} import run

run()
"""
TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can tell


def source(module: str) -> Path | None:
    """The file of *module*; None for a package, and for what is not part of this collection."""
    path = ROOT / (module[len(COLLECTION) :].replace(".", "/") + ".py")
    return path if module.startswith(COLLECTION) and path.is_file() else None


def imports(path: Path) -> set[str]:
    """All that the file imports, also inside of functions; for ``from a import b``, both ``a`` and ``a.b``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def needed(module: str) -> dict[str, Path]:
    """*module* and all modules of this collection that it needs, with their files."""
    found: dict[str, Path] = {}
    waiting = {module}
    while waiting:
        name = waiting.pop()
        path = source(name)
        if path is not None and name not in found:
            found[name] = path
            waiting |= imports(path)
    return found


def pack(output: Path) -> None:
    """Write the archive to *output*, executable."""
    files = {"__main__.py": MAIN}
    for module, path in needed(COMMAND).items():
        parts = module.split(".")
        files["/".join(parts) + ".py"] = path.read_text()
        # Python finds no package without such a file in an archive before 3.13.
        files.update({"/".join([*parts[:depth], "__init__.py"]): "" for depth in range(1, len(parts))})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, TIME), files[name], zipfile.ZIP_DEFLATED)
    output.write_bytes(b"#!/usr/bin/env python3\n" + content.getvalue())
    output.chmod(0o755)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("output", type=Path, metavar="OUTPUT.pyz")
    pack(parser.parse_args().output)


if __name__ == "__main__":
    main()
