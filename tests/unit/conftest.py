# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes this checkout importable as ansible_collections.outpost.smtp, wherever it lies."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

from collection_path import ensure_collection_path  # noqa: E402  (needs the path set above)

sys.path.insert(0, str(ensure_collection_path(ROOT)))
