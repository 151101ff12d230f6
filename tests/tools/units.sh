#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The unit tests of module_utils on every Python from 3.8 on that `venv.py units` found, two at a time; but for those on which
# all unit tests run anyway. What a killed run leaves on the disk is the same with each, and is tried with the oldest only.
set -eu
cd "$(dirname "$0")/../.."
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
export logs

elsewhere=$(for venv in .dev/venv .dev/venv-floor; do
    "$venv/bin/python" -c 'import sys; print(".dev/venv-units-%d.%d" % sys.version_info[:2])'
done)
# shellcheck disable=SC2016  # expanded by the inner shell
printf '%s\n' .dev/venv-units-* | grep -vxF "$elsewhere" | xargs -n 1 -P 2 sh -c '
    name=$(basename "$0")
    [ "$name" = venv-units-3.8 ] || set -- --ignore=tests/unit/plugins/module_utils/_postfix/test_kill.py
    "$0/bin/python" -m pytest --quiet "$@" --numprocesses=4 --dist=worksteal -p no:cacheprovider tests/unit/plugins/module_utils >"$logs/$name" 2>&1 || touch "$logs/failed"
    printf "%s: %s\n" "${name#venv-units-}" "$(tail -n 1 "$logs/$name")"
'
[ ! -e "$logs/failed" ] || { cat "$logs"/venv-units-*; exit 1; }
