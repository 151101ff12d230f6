# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""What the linter can find. docs/lint.md is made from this.

A code is an identifier that people alert on: it never changes its meaning. An ``error`` is what keeps mail from being sent
as it is meant to be, or shows a password; a ``warning`` is what will, or may.
"""

from __future__ import annotations

import typing as t

ERROR, WARNING = "error", "warning"


class Rule(t.NamedTuple):
    """``finds`` is what it looks for, ``why`` what comes of it; a finding may have a remedy of its own."""

    code: str
    severity: str
    finds: str
    why: str
    remedy: str
    source: str


NAMES = (
    Rule(
        "lint_parameter_misspelt",
        ERROR,
        "A name that is no parameter of this Postfix and that no value refers to, but almost one that is.",
        "Postfix ignores it, and what it should set keeps its default. 'postfix check' ends with 0.",
        "Write the name that is meant.",
        "postconf(1), warning 'unused parameter'",
    ),
    Rule(
        "lint_parameter_too_new",
        ERROR,
        "A parameter that came with a later version of Postfix.",
        "This version ignores it.",
        "Install the version that has it, or remove it.",
        "postconf(5), 'This feature is available in Postfix ... and later'",
    ),
    Rule(
        "lint_parameter_unknown",
        WARNING,
        "A name that is no parameter of this Postfix, and that no value refers to.",
        "It has no effect.",
        "Remove it, or use it as $name in the value of another parameter.",
        "postconf(1), warning 'unused parameter'",
    ),
    Rule(
        "lint_parameter_undefined",
        WARNING,
        "A $name in a value that stands for no parameter.",
        "It is an empty text to Postfix, so the value is not what it looks like.",
        "Set the parameter, or correct its name.",
        "postconf(1), warning 'undefined parameter'",
    ),
    Rule(
        "lint_parameter_deprecated",
        WARNING,
        "A parameter that another one has replaced.",
        "A later Postfix will ignore it, and what it protects is open then.",
        "Set the parameter that replaced it instead.",
        "DEPRECATION_README",
    ),
    Rule(
        "lint_parameter_twice",
        WARNING,
        "A parameter that main.cf sets more than once.",
        "The last one counts, wherever it is. Who edits the first one changes nothing.",
        "Remove all but one.",
        "postconf(1), warning 'overriding earlier entry'",
    ),
)

VALUES = (
    Rule(
        "lint_value_not_boolean",
        ERROR,
        "A parameter that takes yes or no and has something else.",
        "Every process that reads it ends with 'fatal: bad boolean configuration', so the mail of its transport stays in the queue.",
        "Write yes or no.",
        "Postfix log 'bad boolean configuration'",
    ),
    Rule(
        "lint_value_not_number",
        ERROR,
        "A parameter that takes a number and has something else, or nothing.",
        "Every process that reads it ends with 'fatal: bad numerical configuration', so the mail of its transport stays in the queue.",
        "Write a number without a unit, or remove the parameter.",
        "Postfix log 'bad numerical configuration'",
    ),
    Rule(
        "lint_value_not_time",
        ERROR,
        "A parameter that takes a time and has something else, or nothing. Units are lower case: s, m, h, d, w.",
        "Every process that reads it ends with 'fatal: bad time value or unit', so the mail of its transport stays in the queue.",
        "Write a number and one of s, m, h, d, w, or remove the parameter.",
        "Postfix log 'bad time value or unit'",
    ),
    Rule(
        "lint_value_unknown_word",
        ERROR,
        "A word that the parameter does not take, such as a misspelt security level.",
        "smtp(8) ends with a fatal error when it starts or when it would log in, so the mail of its transport stays in the queue.",
        "Write one of the words that postconf(5) lists for the parameter.",
        "Postfix log 'fatal: invalid TLS level', 'unknown ... value', 'invalid ...'",
    ),
    Rule(
        "lint_value_word_ignored",
        ERROR,
        "A word in a list, or a cipher grade, that Postfix does not know.",
        "A keyword is overlooked, so that it does not do what it was written for; with an unknown cipher grade no TLS connection begins.",
        "Write one of the words that postconf(5) lists for the parameter.",
        "postconf(5) smtp_discard_ehlo_keywords, smtp_tls_ciphers",
    ),
    Rule(
        "lint_value_no_protocol",
        ERROR,
        "A word in a list of TLS protocols that this Postfix does not know, also '>=TLSv1.2' before Postfix 3.6.",
        "smtp(8) gives up every TLS session ('Invalid TLS protocol list: aborting TLS session'), and keeps the mail.",
        "Write >=TLSv1.2 (from Postfix 3.6 on) or !SSLv2, !SSLv3, !TLSv1, !TLSv1.1.",
        "postconf(5) smtp_tls_mandatory_protocols",
    ),
    Rule(
        "lint_comment_in_value",
        ERROR,
        "Text after a value that was meant as a comment, as in 'relayhost = [host]:587 # note'.",
        "A comment has a line of its own in main.cf. After a value it is part of the value: a next hop, a table or a level that does not exist.",
        "Put the comment on a line above that begins with '#'.",
        "postconf(5), 'MAIN.CF FILE FORMAT'",
    ),
    Rule(
        "lint_compatibility_level_dotted",
        ERROR,
        "A compatibility_level with a dot before Postfix 3.5.11.",
        "Every program of Postfix ends with 'fatal: bad numerical configuration'.",
        "Set compatibility_level = 2.",
        "RELEASE_NOTES of Postfix 3.6, COMPATIBILITY_README",
    ),
    Rule(
        "lint_compatibility_level",
        WARNING,
        "A compatibility_level that is not set, that is later than Postfix itself, or that no version brought.",
        "Defaults are other than meant: those of Postfix 2.11 where it is missing, and a change with the next upgrade where it is too high.",
        "Set the level of the version that the configuration was written for, in quotes where a tool may read it as a number.",
        "COMPATIBILITY_README",
    ),
)

TABLES = (
    Rule(
        "lint_table_type",
        ERROR,
        "A table of a type that this Postfix does not have.",
        "Each lookup fails with 'unsupported dictionary type', and mail that needs it stays in the queue.",
        "Install the package that brings the type, or use one that 'postconf -m' lists.",
        "postconf -m; DATABASE_README, NON_BERKELEYDB_README",
    ),
    Rule(
        "lint_table_missing",
        ERROR,
        "A table whose file does not exist.",
        "Each lookup fails, and mail that needs it stays in the queue.",
        "Write the table, or remove it from the value.",
        "DATABASE_README; Postfix log 'open database ...: No such file or directory'",
    ),
    Rule(
        "lint_table_not_built",
        ERROR,
        "A table whose text exists, but not what Postfix reads.",
        "Each lookup fails, and mail that needs it stays in the queue.",
        "Run postmap (newaliases for aliases).",
        "postmap(1)",
    ),
    Rule(
        "lint_table_stale",
        WARNING,
        "A table whose text is newer than what was built from it.",
        "Postfix works with the old entries, and logs 'database ... is older than source file'.",
        "Run postmap (newaliases for aliases).",
        "postmap(1)",
    ),
    Rule(
        "lint_table_unreadable",
        ERROR,
        "A table behind proxy: that the user of proxymap(8) may not read, or one that is no regular file.",
        "Each lookup fails, and mail that needs it stays in the queue.",
        "Name the table without proxy: (smtp(8) opens it as root before it gives up its rights), or put a file there.",
        "proxymap(8), 'SECURITY'",
    ),
    Rule(
        "lint_not_read",
        WARNING,
        "A file that who runs the linter may not read.",
        "Nothing is known about what is in it; Postfix reads it as root.",
        "Run the linter as root (become: true).",
        "-",
    ),
    Rule(
        "lint_table_duplicate_key",
        WARNING,
        "A key that a table's text has twice.",
        "postmap warns, ends with 0 and keeps the first entry; who edits the second one changes nothing.",
        "Remove all but one line.",
        "postmap(1); run with Postfix 3.5, 3.7 and 3.10",
    ),
    Rule(
        "lint_table_no_value",
        WARNING,
        "A line of a table's text with a key and no value.",
        "postmap warns, ends with 0 and leaves the key out, as if the line did not exist.",
        "Write a value behind the key, on the same line.",
        "postmap(1); run with Postfix 3.5, 3.7 and 3.10",
    ),
)

CREDENTIALS = (
    Rule(
        "lint_credential_unused",
        WARNING,
        "A key of a credential that Postfix does not look up for any next hop.",
        "Postfix looks for the name of the host and for the next hop exactly as it is written, brackets and port included. "
        "Without one of these it sends without logging in.",
        "Write the next hop into the table exactly as relayhost has it, or remove the line.",
        "SASL_README; postconf(5) smtp_sasl_password_maps",
    ),
    Rule(
        "lint_no_credential",
        ERROR,
        "A relay for which none of the keys exists that Postfix looks up.",
        "Postfix sends WITHOUT logging in, and without a word in the log; most relays then refuse each message for good.",
        "Write the next hop into the table exactly as relayhost has it; 'postmap -q' with that key must find it.",
        "SASL_README; postconf(5) smtp_sasl_password_maps",
    ),
    Rule(
        "lint_login_disabled",
        ERROR,
        "A credential for a relay, and smtp_sasl_auth_enable = no.",
        "Postfix sends WITHOUT logging in, and without a word in the log.",
        "Set smtp_sasl_auth_enable = yes, or remove the credential.",
        "postconf(5) smtp_sasl_auth_enable",
    ),
    Rule(
        "lint_auth_discarded",
        ERROR,
        "A credential for a relay, and smtp_discard_ehlo_keywords with auth in it.",
        "Postfix sends WITHOUT logging in, and without a word in the log.",
        "Take auth out of smtp_discard_ehlo_keywords.",
        "postconf(5) smtp_discard_ehlo_keywords",
    ),
    Rule(
        "lint_login_without_maps",
        ERROR,
        "smtp_sasl_auth_enable = yes without smtp_sasl_password_maps.",
        "Every smtp(8) process ends with 'fatal: specify a password table', so all mail stays in the queue.",
        "Set smtp_sasl_password_maps, or smtp_sasl_auth_enable = no.",
        "Postfix log 'specify a password table'",
    ),
    Rule(
        "lint_credential_lookup",
        ERROR,
        "Credentials that can not be asked for the relay.",
        "Postfix keeps the mail (4.3.0, 'local data error').",
        "Correct the table; 'postmap -q' with the next hop as key must find it.",
        "postconf(5) smtp_sasl_password_maps",
    ),
    Rule(
        "lint_credential_malformed",
        ERROR,
        "A credential without a colon and a password behind it.",
        "Postfix logs in with an empty password, which no relay accepts.",
        "Write the value as user:password.",
        "SASL_README",
    ),
    Rule(
        "lint_credential_readable",
        ERROR,
        "A file with passwords that every user of the host may read, be it the text, what is built from it, or main.cf itself.",
        "Any program that is broken into has the password of the relay. postmap keeps the mode of a built table that exists.",
        "Give the file mode 0600, owner root, and change the password.",
        "SASL_README, 'Configuring client-side SASL'",
    ),
    Rule(
        "lint_credential_leftover",
        WARNING,
        "A file with passwords that nothing refers to, such as sasl_passwd.db after a change to another type of table.",
        "It still holds the passwords in clear text, and nobody looks after it.",
        "Remove it, if no other program uses it.",
        "postmap(1)",
    ),
)

SASL = (
    Rule(
        "lint_sasl_mechanism",
        ERROR,
        "A login for which this host has no plug-in of Cyrus SASL that the filter and the security options leave.",
        "Postfix logs 'No worthy mechs found' and keeps the mail (4.7.0).",
        "Install libsasl2-modules (Debian) or cyrus-sasl-plain (Red Hat, SUSE), and check smtp_sasl_mechanism_filter and "
        "smtp_sasl_tls_security_options (noplaintext forbids PLAIN and LOGIN).",
        "SASL_README, 'Postfix SMTP client authentication'",
    ),
    Rule(
        "lint_sasl_type",
        ERROR,
        "A smtp_sasl_type that Postfix does not have as a client, such as dovecot.",
        "Every smtp(8) process ends with 'fatal: SASL library initialization', so all mail stays in the queue.",
        "Remove smtp_sasl_type, or set it to cyrus.",
        "postconf -A; Postfix log 'SASL library initialization'",
    ),
    Rule(
        "lint_token_plugin",
        WARNING,
        "A plug-in for XOAUTH2 or OAUTHBEARER beside a credential with a password.",
        "Where the server offers it, it is preferred to all others and takes the password for a token, or for the name of a "
        "file with one, so that the login fails.",
        "Set smtp_sasl_mechanism_filter = !xoauth2, !oauthbearer, static:all; for tokens set it to xoauth2.",
        "Cyrus SASL, client plug-ins; the plug-in's README",
    ),
)

TLS = (
    Rule(
        "lint_wrappermode_missing",
        ERROR,
        "Port 465 without smtp_tls_wrappermode = yes.",
        "Both sides wait for the other to begin, until smtp_helo_timeout is over; the mail stays in the queue.",
        "Set smtp_tls_wrappermode = yes and a level of encrypt or stronger for that transport, or use port 587.",
        "TLS_README, 'Sending only mail to a specific destination via SMTPS'; RFC 8314 section 7.3",
    ),
    Rule(
        "lint_wrappermode_level",
        ERROR,
        "smtp_tls_wrappermode = yes with a security level below encrypt.",
        "Postfix skips every address of the relay with a warning, and keeps the mail (4.3.0).",
        "Set smtp_tls_security_level = secure (at least encrypt).",
        "postconf(5) smtp_tls_wrappermode",
    ),
    Rule(
        "lint_wrappermode_port",
        ERROR,
        "smtp_tls_wrappermode = yes with port 587 or 25.",
        "The TLS handshake fails at the greeting of the server; Postfix keeps the mail (4.7.5).",
        "Set smtp_tls_wrappermode = no for that transport, or use port 465.",
        "postconf(5) smtp_tls_wrappermode; RFC 6409",
    ),
    Rule(
        "lint_tls_policy",
        ERROR,
        "TLS settings that Postfix can not make sense of, in smtp_tls_policy_maps or elsewhere.",
        "Postfix keeps the mail (4.7.5, 'client TLS configuration problem'), or smtp(8) does not start.",
        "Correct what is named; TLS_README lists levels and attributes.",
        "TLS_README, 'Client TLS security levels'",
    ),
    Rule(
        "lint_tls_file",
        ERROR,
        "A file of CA certificates, or a client certificate, that is missing, unreadable or without certificates in PEM form.",
        "Postfix goes on without a TLS engine: with a level of encrypt or stronger it keeps the mail (4.7.5), below that it sends in clear text.",
        "Correct the path, or install ca-certificates.",
        "Postfix log 'cannot load Certification Authority data ... disabling TLS support'",
    ),
    Rule(
        "lint_ca_missing",
        ERROR,
        "Level verify or secure without smtp_tls_CAfile and smtp_tls_CApath.",
        "No certificate is ever trusted; Postfix keeps the mail (4.7.5). It does not take the system's certificates by itself.",
        "Set smtp_tls_CAfile to the system's file of certificates (/etc/ssl/certs/ca-certificates.crt on Debian).",
        "postconf(5) smtp_tls_CAfile, tls_append_default_CA",
    ),
    Rule(
        "lint_ca_path_in_chroot",
        ERROR,
        "smtp_tls_CApath for a service in a chroot that has no such directory.",
        "The directory is read inside of the chroot, so no certificate is ever trusted; Postfix keeps the mail (4.7.5).",
        "Use smtp_tls_CAfile instead, which is read before.",
        "postconf(5) smtp_tls_CApath",
    ),
    Rule(
        "lint_password_in_clear",
        ERROR,
        "A credential, level none or may, and security options that allow PLAIN or LOGIN without TLS.",
        "Where the server offers no STARTTLS, or somebody in between removes the offer, the password is sent in clear text.",
        "Set smtp_tls_security_level = secure (at least encrypt), and smtp_sasl_security_options = noplaintext, noanonymous.",
        "postconf(5) smtp_sasl_security_options; RFC 4954 section 4",
    ),
    Rule(
        "lint_level_without_login",
        ERROR,
        "A credential and level none.",
        "Most servers offer AUTH after STARTTLS only. Postfix then sends WITHOUT logging in, and without a word in the log.",
        "Set smtp_tls_security_level = secure (at least encrypt).",
        "postconf(5) smtp_tls_security_level",
    ),
    Rule(
        "lint_server_not_authenticated",
        WARNING,
        "A credential and a level that looks at no certificate: may or encrypt.",
        "The connection is encrypted to whoever answers. An attacker in between gets the password.",
        "Set smtp_tls_security_level = secure, with smtp_tls_CAfile.",
        "TLS_README, 'Client TLS security levels'",
    ),
)

ROUTES = (
    Rule(
        "lint_relay_mx_lookup",
        WARNING,
        "A relay without brackets.",
        "Postfix looks up the mail exchangers (MX) of the name and logs in to these, which may be other hosts, on the port of "
        "the relay. Keys of credentials and names of certificates are then those of other hosts.",
        "Write the host in brackets.",
        "transport(5), 'RESULT FORMAT'; postconf(5) relayhost",
    ),
    Rule(
        "lint_relay_bounces",
        WARNING,
        "A relay that is the next hop of a transport, and not relayhost.",
        "When its name has no address, Postfix returns all mail at once (5.4.4). For relayhost, and for a transport with '-o "
        "relayhost=' and that next hop, it keeps the mail (4.3.5).",
        "Give the transport '-o relayhost=' and the same next hop in master.cf.",
        "smtp(8); run with Postfix 3.5, 3.7 and 3.10",
    ),
    Rule(
        "lint_transport_missing",
        ERROR,
        "A transport that master.cf does not have.",
        "Postfix keeps the mail ('mail transport unavailable').",
        "Add the service to master.cf, or correct the name.",
        "transport(5)",
    ),
    Rule(
        "lint_port_unknown",
        ERROR,
        "A next hop that is no host and port, or a port by a name that Postfix does not know.",
        "Every smtp(8) process ends with 'fatal: unknown service', so all mail of its transport stays in the queue.",
        "Write the port as a number.",
        "postconf(5) relayhost; Postfix log 'unknown service'",
    ),
)

HOST = (
    Rule(
        "lint_configuration_unreadable",
        ERROR,
        "A main.cf or master.cf that Postfix itself can not read.",
        "No program of Postfix starts.",
        "Correct what postconf names.",
        "postconf(1)",
    ),
    Rule(
        "lint_start_fails",
        ERROR,
        "A value in main.cf with which every program of Postfix ends.",
        "Nothing is sent or accepted any more, not even by sendmail(1), as soon as Postfix reads the file.",
        "Correct the value that is named.",
        "postmap(1), its 'fatal:' message",
    ),
    Rule(
        "lint_interface_missing",
        ERROR,
        "An address in inet_interfaces that this host does not have, such as ::1 where IPv6 is off.",
        "Every program of Postfix ends with 'fatal: parameter inet_interfaces: no local interface found'.",
        "Set inet_interfaces = loopback-only, or inet_protocols = ipv4.",
        "postconf(5) inet_interfaces, inet_protocols",
    ),
    Rule(
        "lint_listen_address",
        ERROR,
        "A service in master.cf with an address that this host does not have, or of a family that inet_protocols leaves out.",
        "master(8) ends with a fatal error when it reads that, so nothing is accepted or sent any more.",
        "Name an address that this host has.",
        "master(5); run with Postfix 3.5, 3.7 and 3.10",
    ),
    Rule(
        "lint_chroot_differs",
        WARNING,
        "A file in /etc that smtp(8) reads in its chroot, where it is missing or has another content.",
        "Postfix works with the old copy: 'Host or domain name not found' after a change of the name server.",
        "Restart Postfix (Debian copies the files then), or copy the file.",
        "BASIC_CONFIGURATION_README, 'Running Postfix daemon processes chrooted'",
    ),
    Rule(
        "lint_postlog_missing",
        ERROR,
        "maillog_file without the service postlog in master.cf.",
        "'postfix check' and 'postfix start' fail.",
        "Add to master.cf: postlog unix-dgram n - n - 1 postlogd",
        "MAILLOG_README",
    ),
    Rule(
        "lint_maillog_prefix",
        ERROR,
        "A maillog_file outside of maillog_file_prefixes.",
        "'postfix start' fails.",
        "Write to /var/log, or add the directory to maillog_file_prefixes.",
        "MAILLOG_README",
    ),
)

AREAS: t.Tuple[t.Tuple[str, t.Tuple[Rule, ...]], ...] = (
    ("Names of parameters", NAMES),
    ("Values", VALUES),
    ("Tables", TABLES),
    ("Credentials", CREDENTIALS),
    ("Mechanisms", SASL),
    ("TLS", TLS),
    ("Relays", ROUTES),
    ("This host", HOST),
)
CATALOGUE: t.Dict[str, Rule] = {rule.code: rule for _title, rules in AREAS for rule in rules}
