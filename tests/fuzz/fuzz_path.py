# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes this checkout importable as ansible_collections.outpost.smtp, and the helpers of the unit tests by their names."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "tools"), str(TESTS / "unit" / "_support"), str(TESTS / "fuzz")]

from collection_path import ensure_collection_path  # noqa: E402  (needs the path set above)

sys.path.insert(0, str(ensure_collection_path(TESTS.parent)))
