# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
: > /etc/exim4/passwords
while read -r user password; do
    echo "$user: $password" >> /etc/exim4/passwords
    echo "$password" | base64 --decode | saslpasswd2 -p -c -u "${user#*@}" "${user%@*}"
done
chown root:Debian-exim /etc/exim4/passwords /etc/sasldb2
chmod 640 /etc/exim4/passwords /etc/sasldb2
install -m 640 -g Debian-exim /etc/ssl/rig/server.key /etc/exim4/server.key
systemctl --quiet enable --now exim4
