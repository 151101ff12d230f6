# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a server: what 'postfix check' and the linter say about each directory that is named on standard input (JSON)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "lib"))

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.lint import lint  # noqa: E402  (needs the path set above)
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline  # noqa: E402


def told(directory: str, check: bool) -> dict:
    begun = time.monotonic()
    findings = [one.as_dict() for one in lint(directory, Deadline(30))]
    seconds = time.monotonic() - begun
    status = subprocess.run(["postfix", "-c", directory, "check"], capture_output=True, check=False).returncode if check else None
    return {"findings": findings, "accepted": None if status is None else status == 0, "seconds": seconds}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(lambda directory: told(directory, directory in asked["check"]), asked["directories"])
        print(json.dumps(dict(zip(asked["directories"], answers))))
