# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes this checkout and the helpers of the unit tests importable, and says how much is tried.

OUTPOST_SMTP_FUZZ=long tries much more, each time something else; without it a run says what the one before it said.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

sys.path.insert(0, str(Path(__file__).resolve().parent))

import fuzz_path  # noqa: E402  # needs the path set above, and sets the rest of it

set_hypothesis_home_dir(fuzz_path.TESTS.parent / ".dev" / "hypothesis")
settings.register_profile("short", derandomize=True, max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
settings.register_profile("long", max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("OUTPOST_SMTP_FUZZ", "short"))
