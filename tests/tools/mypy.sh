#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# mypy on the plugins, under their real names, and on the tools of the rig.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
cd .dev/collections
"$root/.dev/venv/bin/mypy" --config-file "$root/pyproject.toml" --cache-dir "$root/.dev/mypy" --no-error-summary \
    --package ansible_collections.outpost.smtp.plugins
