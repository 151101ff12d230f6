# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for the get-pip.py that ansible-test downloads: it installs the pip that comes with Python, so that no download is needed.

ansible-test calls it as `python get-pip.py --disable-pip-version-check pip==... setuptools==... wheel==...` inside a virtual environment.
"""

from __future__ import annotations

import importlib
import runpy
import subprocess
import sys

# In a process of its own, because it makes its process forget the user's settings of pip.
subprocess.run([sys.executable, "-m", "ensurepip"], check=True)
importlib.invalidate_caches()
sys.argv = ["pip", "install", *(word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel"))]
runpy.run_module("pip", run_name="__main__")
