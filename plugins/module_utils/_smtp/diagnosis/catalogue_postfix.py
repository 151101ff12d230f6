# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The catalogue of what Postfix would do with its own configuration. These are read from it, not from a server's reply."""

from __future__ import annotations

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.catalogue import OPERATOR, Entry

_AUTH = ("auth",)

POSTFIX: tuple[Entry, ...] = (
    Entry(
        "postfix_no_relay",
        ("resolve",),
        "{where}: Postfix on this server has no relay, so it delivers to the recipients' own servers by itself: {detail}.",
        "Set relayhost = [host]:port (or run role postfix_relay) if mail should go through a provider.",
        OPERATOR,
        False,
        "postconf(5) relayhost, transport_maps",
    ),
    Entry(
        "postfix_no_credential",
        _AUTH,
        "{where}: no credential of Postfix matches this next hop: {detail}.",
        "Write the next hop into the table exactly as relayhost has it, brackets and port included, then rebuild it; "
        "'postmap -q' with that key must print user name and password.",
        OPERATOR,
        False,
        "postconf(5) smtp_sasl_password_maps",
    ),
    Entry(
        "postfix_credential_unreadable",
        _AUTH,
        "{where}: Postfix can not read its credentials, so it defers the mail: {detail}.",
        "Build the table (postmap), and check the path, the table's type and its owner (root, mode 0600).",
        OPERATOR,
        False,
        "DATABASE_README, postmap(1)",
    ),
    Entry(
        "postfix_would_send_unauthenticated",
        _AUTH,
        "{where}: {detail}.",
        "Use the provider's submission host and port, so that AUTH is offered, and smtp_tls_security_level = secure, since most offer it "
        "over TLS only; check smtp_sasl_auth_enable, smtp_sasl_password_maps and smtp_discard_ehlo_keywords.",
        OPERATOR,
        False,
        "postconf(5) smtp_sasl_auth_enable",
    ),
    Entry(
        "postfix_would_send_password_in_clear",
        _AUTH,
        "{where}: {detail}.",
        "Set smtp_tls_security_level = encrypt (better: verify or secure) and smtp_sasl_security_options = noanonymous, noplaintext.",
        OPERATOR,
        False,
        "postconf(5) smtp_tls_security_level, smtp_sasl_security_options",
    ),
    Entry(
        "postfix_would_not_send",
        _AUTH,
        "{where}: the relay is fine, but Postfix would not send: {detail}.",
        "Correct the setting of Postfix that is named; 'postconf' shows what is in force.",
        OPERATOR,
        False,
        "smtp(8)",
    ),
    Entry(
        "postfix_login_not_tested",
        _AUTH,
        "{where}: Postfix would log in, but the login was not tested. {detail}.",
        "Run the test as root (become: true), so that it reads what Postfix reads. Settings that it does not follow are in not_followed.",
        OPERATOR,
        False,
        "postconf(5) smtp_sasl_password_maps",
    ),
    Entry(
        "postfix_mechanism_missing",
        _AUTH,
        "{where}: Postfix has no SASL mechanism in common with the server: {detail}.",
        "Install libsasl2-modules (Debian) or cyrus-sasl-plain (Red Hat), and check smtp_sasl_mechanism_filter and "
        "smtp_sasl_tls_security_options (noplaintext there forbids PLAIN and LOGIN).",
        OPERATOR,
        False,
        "SASL_README; Postfix log 'no mechanism available'",
    ),
    Entry(
        "postfix_tls_contradiction",
        ("tls",),
        "{where}: the TLS settings of Postfix contradict each other or the port: {detail}.",
        "For port 465 set smtp_tls_wrappermode = yes and smtp_tls_security_level = encrypt or stronger; for 587 set wrappermode to no.",
        OPERATOR,
        False,
        "postconf(5) smtp_tls_wrappermode",
    ),
    Entry(
        "postfix_ca_unreadable",
        ("tls",),
        "{where}: Postfix has no CA certificates that it could use: {detail}.",
        "Correct smtp_tls_CAfile or smtp_tls_CApath (in a chroot the path is below /var/spool/postfix for CApath), or install "
        "ca-certificates. With smtp_tls_wrappermode = yes Postfix (3.5 to 3.10) crashes on it (signal 11).",
        OPERATOR,
        False,
        "postconf(5) smtp_tls_CAfile; Postfix log 'our TLS engine is unavailable'",
    ),
    Entry(
        "postfix_port_name",
        ("resolve",),
        "{where}: Postfix does not know the name of the port, which stops all its deliveries: {detail}.",
        "Write the port as a number, or add its name to /etc/services (in a chroot also below /var/spool/postfix).",
        OPERATOR,
        False,
        "Postfix log 'unknown service'",
    ),
    Entry(
        "postfix_unit_may_not_connect",
        ("connect",),
        "{where}: systemd keeps Postfix from it, though this test got through: {detail}.",
        "Lift that limit with a drop-in for the unit.",
        OPERATOR,
        False,
        "systemd.resource-control(5) IPAddressDeny, systemd.exec(5) RestrictAddressFamilies, PrivateNetwork",
    ),
)
