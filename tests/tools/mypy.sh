#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# mypy on the plugins, under their real names, and on the rig.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
cd .dev/collections
"$root/.dev/venv/bin/mypy" --config-file "$root/pyproject.toml" --cache-dir "$root/.dev/mypy" --no-error-summary \
    --package ansible_collections.outpost.smtp.plugins
cd "$root/tests/rig"
"$root/.dev/venv/bin/mypy" --strict --cache-dir "$root/.dev/mypy" --no-error-summary rig.py riglib
