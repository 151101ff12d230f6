# SPDX-License-Identifier: GPL-3.0-or-later
"""A Postfix instance as postconf(1) and postmap(1) show it: recorded defaults of a release, and tables given by the test."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import effective, settings
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.effective_relay import EffectiveRelay
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.maps import Maps
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.packages import Platform
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.settings import Service, Settings
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline

#: As "postconf -d" of 3.10 prints them, without what is never read.
DEFAULTS_3_10 = """\
canonical_classes = envelope_sender, envelope_recipient, header_sender, header_recipient
compatibility_level = 0
default_transport = smtp
empty_address_default_transport_maps_lookup_key = <>
empty_address_relayhost_maps_lookup_key = <>
inet_interfaces = all
inet_protocols = all
known_tcp_ports = lmtp=24, smtp=25, smtps=submissions=465, submission=587
mail_version = 3.10.13
mydestination = $myhostname, localhost.$mydomain, localhost
mydomain = example.org
myhostname = host.example.org
myorigin = $myhostname
parent_domain_matches_subdomains = debug_peer_list,fast_flush_domains,mynetworks,permit_mx_backup_networks,qmqpd_authorized_clients
queue_directory = /var/spool/postfix
recipient_delimiter =
relay_domains = ${{$compatibility_level} <level {2} ? {$mydestination} : {}}
relay_transport = relay
relayhost =
sender_canonical_classes = envelope_sender, header_sender
smtp_dns_support_level =
smtp_helo_name = $myhostname
smtp_host_lookup = dns
smtp_sasl_auth_enable = no
smtp_sasl_auth_soft_bounce = yes
smtp_sasl_mechanism_filter =
smtp_sasl_password_maps =
smtp_sasl_security_options = noplaintext, noanonymous
smtp_sasl_tls_security_options = $smtp_sasl_security_options
smtp_sasl_tls_verified_security_options = $smtp_sasl_tls_security_options
smtp_sasl_type = cyrus
smtp_sender_dependent_authentication = no
smtp_skip_5xx_greeting = yes
smtp_tcp_port = smtp
smtp_tls_cert_file =
smtp_tls_enforce_peername = yes
smtp_tls_fingerprint_digest = ${{$compatibility_level} <level {3.6} ? {md5} : {sha256}}
smtp_tls_key_file = $smtp_tls_cert_file
smtp_tls_mandatory_protocols = >=TLSv1
smtp_tls_policy_maps =
smtp_tls_protocols = >=TLSv1
smtp_tls_secure_cert_match = nexthop, dot-nexthop
smtp_tls_security_level =
smtp_tls_verify_cert_match = hostname
smtp_tls_wrappermode = no
smtp_use_tls = no
tls_append_default_CA = no
virtual_alias_domains = $virtual_alias_maps
virtual_alias_maps = $virtual_maps
"""
#: The same of 2.10, where it differs: no levels, no lists of ports, another syntax of conditions.
DEFAULTS_2_10 = (
    DEFAULTS_3_10.replace("mail_version = 3.10.13", "mail_version = 2.10.1")
    .replace("relay_domains = ${{$compatibility_level} <level {2} ? {$mydestination} : {}}", "relay_domains = $mydestination")
    .replace("${{$compatibility_level} <level {3.6} ? {md5} : {sha256}}", "md5")
    .replace("compatibility_level = 0\n", "")
    .replace("known_tcp_ports = lmtp=24, smtp=25, smtps=submissions=465, submission=587\n", "")
    .replace("smtp_tcp_port = smtp\n", "")
    .replace(">=TLSv1", "!SSLv2")
)
MASTER = """\
smtp       inet  n       -       y       -       -       smtpd
rewrite    unix  -       -       y       -       -       trivial-rewrite
cleanup    unix  n       -       y       -       0       cleanup
smtp       unix  -       -       n       -       -       smtp
relay      unix  -       -       n       -       -       smtp -o syslog_name=postfix/$service_name
error      unix  -       -       y       -       -       error
lmtp       unix  -       -       y       -       -       lmtp
"""
Tables = t.Mapping[str, t.Union[t.Mapping[str, str], str]]


class Instance:
    """Answers for the programs. A table that is a text is broken, and the text is what postmap says about it."""

    def __init__(self, main: str = "", master: str = "", tables: t.Optional[Tables] = None, defaults: str = DEFAULTS_3_10) -> None:
        self.main = defaults + main
        self.master = MASTER + master
        self.tables = tables or {}
        self.calls: t.List[t.Tuple[t.List[str], str]] = []

    def run(self, argv: t.Sequence[str], stdin: str) -> Result:
        self.calls.append((list(argv), stdin))
        if argv[0] == "postconf":
            assert argv[1:3] == ["-c", "/etc/postfix"]
            return Result(0, self.master if argv[3:] == ["-M"] else self.main, "postconf: warning: unused parameter\n")
        assert argv[:3] == ["postmap", "-c", "/etc/postfix"]
        table = argv[-1]
        if table.startswith("static:"):
            return Result(0, "".join(f"{key}\t{table[7:]}\n" for key in stdin.splitlines()), "")
        entries = self.tables.get(table, f"postmap: fatal: open database {table}: No such file or directory")
        if isinstance(entries, str):
            return Result(1, "", entries + "\n")
        if argv[3] == "-s":
            return Result(0, "".join(f"{key}\t{value}\n" for key, value in entries.items()), "")
        found = [(key, entries[key.lower()]) for key in stdin.splitlines() if key.lower() in entries]
        return Result(0 if found else 1, "".join(f"{key}\t{value}\n" for key, value in found), "")

    def settings(self) -> Settings:
        return settings.read("/etc/postfix", self.run)

    def maps(self) -> Maps:
        return Maps("/etc/postfix", self.run)

    def parameters(self, **overrides: str) -> settings.Parameters:
        """The parameters of a service with these overrides."""
        return self.settings().of(Service("smtp", "n", "smtp", overrides))

    def relays(self, plugins: t.Sequence[str] = ("plain", "login"), **options: t.Any) -> t.List[EffectiveRelay]:
        return effective.relays("/etc/postfix", Deadline(10), run=self.run, platform=_Platform(plugins), **options)


class _Platform(Platform):
    """A host with these plug-ins of Cyrus SASL."""

    def __init__(self, plugins: t.Sequence[str]) -> None:
        super().__init__("/nonexistent")
        self._plugins = plugins

    def has_sasl_mechanism(self, mechanism: str) -> bool:
        return mechanism in self._plugins
