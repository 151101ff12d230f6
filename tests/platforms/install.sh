#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Installs packages with the package manager of this system; without arguments, only learns what there is.
set -eu
if command -v apt-get >/dev/null; then
    apt-get update -qq
    # Debian's postfix would otherwise ask, and write a main.cf of its own.
    echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections
    [ $# -eq 0 ] || DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"
elif command -v dnf >/dev/null; then
    [ $# -eq 0 ] || dnf install -q -y --setopt=install_weak_deps=False "$@"
elif command -v zypper >/dev/null; then
    [ $# -eq 0 ] || zypper --quiet --non-interactive install --no-recommends "$@"
else
    [ $# -eq 0 ] || apk add --quiet --no-cache "$@"
fi
