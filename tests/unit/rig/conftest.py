# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the parts of the test rig importable."""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "rig"))
