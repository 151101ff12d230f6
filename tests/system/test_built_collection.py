# SPDX-License-Identifier: GPL-3.0-or-later
"""The tarball is complete: installed into an empty directory it runs site.yml, on the oldest supported ansible-core."""

from __future__ import annotations

import json
import os
import subprocess

from system_lab import ROOT, variables

FLOOR = ROOT / ".dev" / "venv-floor" / "bin"


def test_site_yml_runs_from_an_installation_of_the_tarball(lab, play, tmp_path):
    subprocess.run([FLOOR / "ansible-galaxy", "collection", "build", "--output-path", tmp_path, ROOT], check=True, capture_output=True)
    (tarball,) = tmp_path.glob("outpost-smtp-*.tar.gz")
    installed = tmp_path / "collections"
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(installed)}  # or the checkout would be found installed already
    command = [FLOOR / "ansible-galaxy", "collection", "install", "--offline", "-p", installed, tarball]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    files = json.loads((installed / "ansible_collections/outpost/smtp/FILES.json").read_text())["files"]
    assert not [entry["name"] for entry in files if entry["name"].startswith((".dev", ".git", "tests/output"))]

    run = play("outpost.smtp.site", variables(lab), ansible=FLOOR, environment={"ANSIBLE_COLLECTIONS_PATH": str(installed)})
    assert run.status == 0, run.output
    assert "[WARNING]" not in run.output and "[DEPRECATION" not in run.output, run.output
