# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
while read -r user password; do
    echo "$password" | base64 --decode | saslpasswd2 -p -c -u "${user#*@}" "${user%@*}"
done
chgrp smmsp /etc/sasldb2
chmod 640 /etc/sasldb2
# Debian's own is a link into a directory that sendmail itself finds unsafe.
rm /usr/lib/sasl2/Sendmail.conf
printf '%s\n' 'pwcheck_method: auxprop' 'auxprop_plugin: sasldb' > /usr/lib/sasl2/Sendmail.conf
m4 /etc/mail/sendmail.mc > /etc/mail/sendmail.cf
systemctl --quiet enable --now sendmail
