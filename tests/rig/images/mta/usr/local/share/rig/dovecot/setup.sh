# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
while read -r user password; do
    echo "$user:{PLAIN.b64}$password"
done > /etc/dovecot/users
chown root:dovecot /etc/dovecot/users
chmod 640 /etc/dovecot/users
systemctl --quiet enable --now dovecot
