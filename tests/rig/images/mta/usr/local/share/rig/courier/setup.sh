# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
: > /etc/courier/userdb
chmod 600 /etc/courier/userdb
while read -r user password; do
    hashed() {
        echo "$password" | base64 --decode | userdbpw "$1"
    }
    printf '%s\tuid=8|gid=8|home=/var/mail|systempw=%s|hmac-md5pw=%s|hmac-sha1pw=%s|hmac-sha256pw=%s\n' "$user" \
        "$(hashed -md5)" "$(hashed -hmac-md5)" "$(hashed -hmac-sha1)" "$(hashed -hmac-sha256)" >> /etc/courier/userdb
done
makeuserdb
install -m 640 -g courier /etc/ssl/rig/server.pem /etc/courier/esmtpd.pem
sed -i 's/^authmodulelist=.*/authmodulelist="authuserdb"/' /etc/courier/authdaemonrc
sed -i 's/^ESMTPAUTH_TLS=.*/ESMTPAUTH_TLS="PLAIN LOGIN CRAM-MD5 CRAM-SHA1 CRAM-SHA256"/' /etc/courier/esmtpd
echo ESMTP_TLS_REQUIRED=1 >> /etc/courier/esmtpd
# Tests come from one address, more than five at a time, and are answered at once when they are refused.
sed -i 's/^MAXPER\(C\|IP\)=.*/MAXPER\1=40/; s/^TARPIT=.*/TARPIT=0/' /etc/courier/esmtpd /etc/courier/esmtpd-ssl /etc/courier/esmtpd-msa
echo courier.provider.test > /etc/courier/me
systemctl --quiet enable --now courier-mta-ssl courier-msa
