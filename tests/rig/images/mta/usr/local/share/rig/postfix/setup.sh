# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
while read -r user password; do
    echo "$user:{PLAIN.b64}$password"
done > /etc/dovecot/users
chown root:dovecot /etc/dovecot/users
chmod 640 /etc/dovecot/users
# The key with which access tokens are checked: AZP/ALGORITHM/KID, each "default" where the token does not say.
install -d -m 750 -g dovecot /etc/dovecot/keys /etc/dovecot/keys/default /etc/dovecot/keys/default/HS256
base64 --wrap=0 /etc/rig-oauth.key | install -m 640 -g dovecot /dev/stdin /etc/dovecot/keys/default/HS256/default
# postfix(1) makes the directory in which Dovecot makes its socket.
postfix check
systemctl --quiet daemon-reload
systemctl --quiet enable --now dovecot postfix rig-token-endpoint
