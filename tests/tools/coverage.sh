#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The unit tests and the fuzzing properties with the coverage of the login test's own package, by branch; too little is an error.
# Arguments go to pytest: coverage.sh tests/unit/plugins/module_utils/_smtp/test_reply.py
set -eu
cd "$(dirname "$0")/../.."
# Children of the tests, other users among them (run_as), write what they have seen into files of their own.
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
chmod 1777 "$data"
export COVERAGE_FILE="$data/coverage"
if [ $# -eq 0 ]; then
    # These kill thousands of children, each of which would write such a file first, and have little to do with the login test.
    apart=tests/unit/plugins/module_utils/_postfix
    .dev/venv/bin/python -m pytest --quiet --numprocesses=6 --dist=worksteal "$apart" || failed=$?
    set -- tests/unit tests/fuzz --ignore="$apart"
fi
.dev/venv/bin/python -m coverage run -m pytest --quiet --numprocesses=6 --dist=worksteal "$@" || failed=$?
.dev/venv/bin/python -m coverage combine --quiet
.dev/venv/bin/python -m coverage report
exit "${failed:-0}"
