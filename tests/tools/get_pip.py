# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for the get-pip.py that ansible-test downloads: it runs the pip that CPython bundles, so that no download is needed.

ansible-test calls it as `python get-pip.py --disable-pip-version-check pip==... setuptools==... wheel==...` inside a virtual environment.
"""

from __future__ import annotations

import ensurepip
import runpy
import sys
from pathlib import Path

bundled = Path(ensurepip.__file__).parent / "_bundled"
sys.path.insert(0, str(next(bundled.glob("pip-*.whl"))))
sys.argv = ["pip", "install", *(word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel"))]
runpy.run_module("pip", run_name="__main__")
