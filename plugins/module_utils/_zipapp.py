# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Makes of modules of this collection one file that the Python of a host runs by itself (zipapp), for what goes on after Ansible has left."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import sys
import typing as t
import zipfile

_ROOT = __name__.rsplit(".", 1)[0]
_IMPORT = re.compile(rf"^[ ]*from ({re.escape(_ROOT)}[\w.]*) import (\([^)]*\)|[^#\n]*)", re.MULTILINE)
#: What is imported for type checkers only.
_FOR_TYPES = re.compile(r"^if t\.TYPE_CHECKING:\n(?:[ \t]+.*\n|\n)+", re.MULTILINE)
_PYTHON = "/usr/bin/python3"


def python() -> str:
    """The Python that runs this, by the name that stays when the system's packages are upgraded."""
    return _PYTHON if os.path.realpath(_PYTHON) == os.path.realpath(sys.executable) else sys.executable


def pack(entry: str) -> bytes:
    """A program that calls ``main(arguments)`` of the module `entry`, with all that it imports; the same octets for the same sources."""
    files = {}
    for name, source in _needed(entry).items():
        files[f"{name.replace('.', '/')}.py"] = source
        parts = name.split(".")[:-1]
        files.update({f"{'/'.join(parts[:depth])}/__init__.py": "" for depth in range(1, len(parts) + 1)})
    files["__main__.py"] = f"import sys\n\nfrom {entry} import main\n\nsys.exit(main(sys.argv[1:]))\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(files):
            archive.writestr(zipfile.ZipInfo(path), files[path])  # dated 1980
    return packed.getvalue()


def _needed(entry: str) -> t.Dict[str, str]:
    """The sources of a module and of all modules of this collection that it imports, by name."""
    sources: t.Dict[str, str] = {}
    waiting, seen = [entry], {entry}
    while waiting:
        name = waiting.pop()
        source = _source(name)
        if source is None:
            continue
        sources[name] = source
        found = {found for imported in _imported(source) for found in imported} - seen
        seen |= found
        waiting += found
    return sources


def _imported(source: str) -> t.Iterator[t.List[str]]:
    """What is imported from this collection: the package or module, and each name, which may be a module of the package."""
    for package, names in _IMPORT.findall(_FOR_TYPES.sub("", source)):
        words = [name.split(" as ")[0].strip() for name in re.sub(r"#.*|[()]", "", names).replace("\n", " ").split(",")]
        yield [package, *(f"{package}.{word}" for word in words if word)]


def _source(name: str) -> t.Optional[str]:
    """The source of a module; None for what is a package or not a module at all."""
    try:
        spec: t.Any = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # a name in a module
        return None
    if spec is None or spec.submodule_search_locations is not None:
        return None
    return str(spec.loader.get_source(name))
