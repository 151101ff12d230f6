# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
while read -r user password; do
    echo "$user $(echo "$password" | base64 --decode | smtpctl encrypt)"
done > /etc/smtpd-users
chown root:opensmtpd /etc/smtpd-users
chmod 640 /etc/smtpd-users
systemctl --quiet enable --now opensmtpd
