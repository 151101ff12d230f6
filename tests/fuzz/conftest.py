# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes this checkout and the helpers of the unit tests importable."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis.configuration import set_hypothesis_home_dir

sys.path.insert(0, str(Path(__file__).resolve().parent))

import fuzz_path  # noqa: E402  # needs the path set above, and sets the rest of it

set_hypothesis_home_dir(fuzz_path.TESTS.parent / ".dev" / "hypothesis")
