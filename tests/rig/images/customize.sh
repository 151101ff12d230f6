#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The last step of building an image, called by mmdebstrap:
#   customize.sh ROOT DIRECTORY[,DIRECTORY...] [PACKAGE...]
# lays the files of the directories beside this script over ROOT and keeps the packages (with what they depend on)
# in apt's cache, without installing them.

set -eu
umask 022
root=$1 directories=$2
shift 2
here=$(dirname "$0")

for directory in $(echo "$directories" | tr , ' '); do
    # Modes come from here, not from the umask under which the checkout was made.
    cp -R --no-preserve=mode,ownership "$here/$directory/." "$root/"
done
find "$root/usr/local/sbin" -type f -exec chmod 755 {} +

rm -f "$root"/etc/ssh/ssh_host_*
# apt's own timers would hold its lock when a test installs something.
chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer
# Of the provider: started by rig-provider-setup, once there are certificates and accounts.
for service in postfix dovecot; do
    if [ -e "$root/lib/systemd/system/$service.service" ]; then
        chroot "$root" systemctl --quiet disable "$service"
    fi
done

chroot "$root" apt-get clean
if [ $# -gt 0 ]; then
    # mmdebstrap leaves recommended packages out; apt on a server does not.
    DEBIAN_FRONTEND=noninteractive chroot "$root" \
        apt-get --quiet --yes --download-only --option APT::Install-Recommends=true install "$@"
fi
