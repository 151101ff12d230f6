#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Install the Debian packages that the rig and the tests need, and those given as arguments, when one is missing.
set -eu

# netavark fails without the iptables program; crun refuses a hybrid cgroup hierarchy, so runc is there too.
packages="podman runc netavark aardvark-dns iptables mmdebstrap iproute2 nftables uidmap
          openssl openssh-client git make python3 python3-venv ca-certificates shellcheck"

missing=""
for package in $packages "$@"; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "These packages are missing:$missing" >&2
    echo "Install them, or run this as root on Debian or Ubuntu." >&2
    exit 1
fi
echo "==> installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet --quiet
# shellcheck disable=SC2086  # one word for each package
apt-get install --quiet --quiet --yes --no-install-recommends $missing >/dev/null
