#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Run `ansible-test sanity` of one virtual environment's ansible-core: sanity.sh .dev/venv [TEST...]
#
# ansible-test insists on a path .../ansible_collections/NAMESPACE/NAME, so it gets a copy of what git knows of.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
venv=$(cd "$root" && cd "$1" && pwd)
shift

cache="${OUTPOST_SMTP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/outpost-smtp}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
collection="$work/ansible_collections/outpost/smtp"
mkdir -p "$collection"
(cd "$root" && git ls-files --cached --others --exclude-standard --deduplicate | tar --create --ignore-failed-read --files-from=- --file=- 2>/dev/null) |
    tar --extract --directory="$collection" --file=-

# A private HOME: ansible-test keeps its virtual environments there, and the stand-in for its download.
HOME="$cache/ansible-test/$(basename "$venv")"
export HOME
requirements=$(echo "$venv"/lib/python3.*/site-packages/ansible_test/_internal/python_requirements.py)
mkdir -p "$HOME/.ansible/test/cache"
sed -n "s/.*pip='\([0-9.]*\)'.*/\1/p" "$requirements" | tr . _ | while read -r version; do
    cp "$root/tests/tools/get_pip.py" "$HOME/.ansible/test/cache/get_pip_$version.py"
done
# Only interpreters that start: a version manager's shims are found by name and then refuse.
export PATH="$root/.dev/pythons:$venv/bin:/usr/sbin:/usr/bin:/sbin:/bin"
cd "$collection"
git init --quiet . && git add --all
"$venv/bin/ansible-test" sanity --color no "$@"
