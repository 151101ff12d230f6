# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Parameters that came and went: what a name means on a Postfix that does not know it yet, or will not for long."""

from __future__ import annotations

import typing as t

#: Parameters that came after 3.5, the oldest version in use, with the version that brought each (postconf(5), "This feature
#: is available in Postfix X and later").
NEWER: t.Dict[str, str] = {
    "allow_srv_lookup_fallback": "3.8",
    "default_cache_db_type": "3.11",
    "ignore_srv_lookup_error": "3.8",
    "known_tcp_ports": "3.6",
    "local_login_sender_maps": "3.6",
    "maillog_file_permissions": "3.9",
    "smtp_bind_address_enforce": "3.7",
    "smtp_log_tls_feature_status": "3.11",
    "smtp_min_data_rate": "3.7",
    "smtp_per_request_deadline": "3.7",
    "smtp_tls_enable_rpk": "3.9",
    "smtp_tls_enforce_sts_mx_patterns": "3.10",
    "smtp_tlsrpt_enable": "3.10",
    "smtp_tlsrpt_skip_reused_handshakes": "3.10",
    "smtp_tlsrpt_socket_name": "3.10",
    "smtpd_relay_before_recipient_restrictions": "3.6",
    "use_srv_lookup": "3.8",
}
#: Parameters that others have replaced for long, and since when postconf(1) warns about them itself (DEPRECATION_README).
OBSOLETE: t.Dict[str, t.Tuple[str, str]] = {
    "disable_dns_lookups": ("smtp_dns_support_level", "3.9"),
    "fallback_relay": ("smtp_fallback_relay", "3.11"),
    "lmtp_enforce_tls": ("lmtp_tls_security_level", "3.9"),
    "lmtp_tls_per_site": ("lmtp_tls_policy_maps", "3.9"),
    "lmtp_use_tls": ("lmtp_tls_security_level", "3.9"),
    "smtp_enforce_tls": ("smtp_tls_security_level", "3.9"),
    "smtp_per_record_deadline": ("smtp_per_request_deadline", "3.11"),
    "smtp_tls_enforce_peername": ("smtp_tls_security_level", "3.11"),
    "smtp_tls_per_site": ("smtp_tls_policy_maps", "3.9"),
    "smtp_use_tls": ("smtp_tls_security_level", "3.9"),
    "smtpd_enforce_tls": ("smtpd_tls_security_level", "3.9"),
    "smtpd_per_record_deadline": ("smtpd_per_request_deadline", "3.11"),
    "smtpd_use_tls": ("smtpd_tls_security_level", "3.9"),
    "virtual_maps": ("virtual_alias_maps", "3.11"),
}
