# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
(umask 077 && cat > /etc/rig-passwords)
systemctl --quiet enable --now rig-aiosmtpd
