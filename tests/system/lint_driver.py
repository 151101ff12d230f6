# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a server: what the linter and then 'postfix check' say about each directory that is named on standard input (JSON).

In between, what the linter has touched of all files in the directories that are "watched": their modes, owners and times.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "lib"))

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.lint import lint  # noqa: E402  (needs the path set above)
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline  # noqa: E402


def told(directory: str) -> dict:
    begun = time.monotonic()
    findings = [one.as_dict() for one in lint(directory, Deadline(30))]
    return {"findings": findings, "seconds": time.monotonic() - begun}


def accepted(directory: str) -> bool:
    return subprocess.run(["postfix", "-c", directory, "check"], capture_output=True, check=False).returncode == 0


def seen(directories: list[str]) -> dict[str, tuple]:
    found = {}
    for top in directories:
        for place, _directories, names in os.walk(top):
            for name in [*names, "."]:
                status = os.lstat(os.path.join(place, name))
                found[os.path.join(place, name)] = (status.st_mode, status.st_uid, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    with ThreadPoolExecutor(2) as pool:
        before = seen(asked["watched"])
        answers = dict(zip(asked["directories"], pool.map(told, asked["directories"])))
        after = seen(asked["watched"])
        answers["touched"] = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
        for directory, status in zip(asked["check"], pool.map(accepted, asked["check"])):
            answers[directory]["accepted"] = status
        print(json.dumps(answers))
