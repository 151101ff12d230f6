# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations with one fault each, and what the linter must call it.

Each is GOOD with a change. DIR stands for the directory that it is in; what is in a table is a secret.
"""

from __future__ import annotations

import dataclasses

HOST = "smtp.provider.test"
CA = "/usr/local/share/rig-ca.pem"
SECRET = "CANARY-of-the-linter"
LOGIN = f"me@provider.test:{SECRET}"

GOOD = {
    "compatibility_level": "2",
    "mydestination": "",
    "inet_interfaces": "loopback-only",
    "inet_protocols": "ipv4",
    "alias_maps": "",
    "alias_database": "",
    "relayhost": f"[{HOST}]:587",
    "smtp_tls_security_level": "secure",
    "smtp_tls_CAfile": CA,
    "smtp_sasl_auth_enable": "yes",
    "smtp_sasl_password_maps": "texthash:DIR/passwd",
    "smtp_sasl_security_options": "noplaintext, noanonymous",
    "smtp_sasl_tls_security_options": "noanonymous",
}
TABLE = f"[{HOST}]:587 {LOGIN}\n"


@dataclasses.dataclass
class Case:
    """``codes`` are all that the linter may find. ``main`` changes GOOD, None removes; ``accepted`` tells what 'postfix check' says.

    ``place`` must be the place of the first finding, and ``found`` be in its text; ``script`` runs in the directory at last.
    """

    name: str
    codes: tuple[str, ...]
    main: dict = dataclasses.field(default_factory=dict)
    master: str = ""
    files: dict = dataclasses.field(default_factory=dict)
    mode: int = 0o600
    script: str = ""
    accepted: bool = True
    place: str = ""
    found: str = ""

    def texts(self, directory: str) -> dict[str, str]:
        """The files to write, besides the master.cf that they follow."""
        values = {name: value for name, value in {**GOOD, **self.main}.items() if value is not None}
        main = "".join(f"{name} = {value}\n" for name, value in values.items())
        return {name: text.replace("DIR", directory) for name, text in {"main.cf": main, "passwd": TABLE, **self.files}.items()}


def maps(value: str) -> dict:
    return {"smtp_sasl_password_maps": value}


def level(name: str, **more: str) -> dict:
    return {"smtp_tls_security_level": name, **more}


NAMES = [
    Case("misspelt", ("lint_parameter_misspelt",), {"smtp_tls_securty_level": "encrypt"}, found="smtp_tls_security_level"),
    Case("misspelt_option", ("lint_parameter_misspelt",), master="extra unix - - n - - smtp -o smtp_tls_secrity_level=may\n", found="extra"),
    Case("unknown", ("lint_parameter_unknown",), {"wholly_other": "1"}, place="main.cf:14: wholly_other"),
    Case("no_such_service", ("lint_parameter_unknown",), {"nowhere_destination_concurrency_limit": "1"}, found="nowhere"),
    Case("too_new", ("lint_parameter_too_new",), {"smtp_log_tls_feature_status": "yes"}, found="3.11"),
    Case("undefined", ("lint_parameter_undefined",), {"relay_domains": "$my_orgin"}, found="$my_orgin"),
    Case("user_defined", (), {"my_relay": f"[{HOST}]:587", "relayhost": "$my_relay"}),
    Case("deprecated", ("lint_parameter_deprecated",), {"smtp_use_tls": "yes"}, found="smtp_use_tls"),
    Case("deprecated_option", ("lint_parameter_deprecated",), master="extra unix - - n - - smtp -o smtp_enforce_tls=yes\n"),
    Case("twice", ("lint_parameter_twice",), {"relayhost": f"[a.example.net]\nrelayhost = [{HOST}]:587"}, place="main.cf:8: relayhost"),
]
VALUES = [
    Case("boolean", ("lint_value_not_boolean",), {"smtp_always_send_ehlo": "maybe"}, found="maybe"),
    Case("number", ("lint_value_not_number",), {"smtp_mx_session_limit": "12x"}),
    Case("no_number", ("lint_value_not_number", "lint_start_fails"), {"default_process_limit": ""}, accepted=False),
    Case("time", ("lint_value_not_time",), {"smtp_connect_timeout": "3x"}),
    Case("time_upper_case", ("lint_value_not_time",), {"smtp_connect_timeout": "30S"}),
    Case("time_in_option", ("lint_value_not_time",), master="extra unix - - n - - smtp -o smtp_connect_timeout=soon\n", found="smtp_connect_timeout"),
    Case("indirect", ("lint_value_not_time",), {"my_time": "3x", "smtp_connect_timeout": "$my_time"}),
    Case("level", ("lint_value_unknown_word", "lint_tls_policy"), level("encrpyt"), found="encrpyt"),
    Case("options", ("lint_value_unknown_word", "lint_sasl_mechanism"), {"smtp_sasl_tls_security_options": "noanonimous"}, found="noanonimous"),
    Case("families", ("lint_value_unknown_word",), {"smtp_address_preference": "ipv5"}),
    Case("lookup", ("lint_value_unknown_word",), {"smtp_host_lookup": "dsn"}),
    Case("dns", ("lint_value_unknown_word",), {"smtp_dns_support_level": "dnsec"}),
    Case("notify", ("lint_value_unknown_word",), {"notify_classes": "resource, sofware"}, found="sofware"),
    Case("keyword", ("lint_value_word_ignored",), {"smtp_discard_ehlo_keywords": "pipelinig"}),
    Case("grade", ("lint_value_word_ignored",), {"smtp_tls_mandatory_ciphers": "hihg"}),
    Case("protocol", ("lint_value_no_protocol",), {"smtp_tls_mandatory_protocols": "TLSv12"}),
    Case("comment", ("lint_comment_in_value",), {"smtp_connect_timeout": "30s # note"}, place="main.cf:14: smtp_connect_timeout"),
    Case(
        "comment_relayhost",
        ("lint_comment_in_value", "lint_relay_mx_lookup", "lint_relay_bounces"),
        {"relayhost": f"[{HOST}]:587 # note"},
        place="main.cf:7: relayhost",
    ),
    Case("comment_above", (), {"smtp_connect_timeout": "30s\n# note"}),
    Case("banner", (), {"smtpd_banner": "$myhostname ESMTP # welcome"}),
    Case("level_unset", ("lint_compatibility_level",), {"compatibility_level": None}),
    Case("level_float", ("lint_compatibility_level",), {"compatibility_level": "3.1"}),
    Case("level_later", ("lint_compatibility_level",), {"compatibility_level": "9.9"}),
]
TABLES = [
    Case("type", ("lint_credential_lookup", "lint_table_type"), maps("lmdb:DIR/passwd"), found="postfix-lmdb"),
    Case("type_elsewhere", ("lint_table_type",), {"virtual_alias_maps": "cdb:DIR/virtual"}, files={"virtual": "a b\n"}),
    Case("missing", ("lint_table_missing", "lint_credential_lookup"), maps("hash:DIR/nothing")),
    Case("not_built", ("lint_table_not_built",), {"virtual_alias_maps": "hash:DIR/virtual"}, files={"virtual": "a b\n"}),
    Case("built", (), {"virtual_alias_maps": "hash:DIR/virtual"}, files={"virtual": "a b\n"}, script="postmap -c DIR hash:DIR/virtual"),
    Case(
        "stale",
        ("lint_table_stale",),
        {"virtual_alias_maps": "hash:DIR/virtual"},
        files={"virtual": "a b\n"},
        script="postmap -c DIR hash:DIR/virtual; touch -d '+1 minute' DIR/virtual",
        found="postmap hash:DIR/virtual",
    ),
    Case("proxied", ("lint_table_unreadable",), {"virtual_alias_maps": "proxy:texthash:DIR/virtual"}, files={"virtual": "a b\n"}),
    Case(
        "duplicate",
        ("lint_table_duplicate_key",),
        {"virtual_alias_maps": "hash:DIR/virtual"},
        files={"virtual": "a@example.net b\n# note\nc d\nA@example.net e\n"},
        script="postmap -c DIR hash:DIR/virtual",
        place="virtual:4",
    ),
    Case(
        "no_value",
        ("lint_table_no_value",),
        {"virtual_alias_maps": "hash:DIR/virtual"},
        files={"virtual": "a b\nc\nd\n e\n"},
        script="postmap -c DIR hash:DIR/virtual",
        place="virtual:2",
    ),
    Case("permission", (), {"proxy_read_maps": "proxy:hash:DIR/nothing", "proxy_write_maps": "proxy:btree:DIR/nothing"}),
    Case("cache", (), {"smtp_tls_session_cache_database": "btree:DIR/cache", "address_verify_map": "btree:DIR/verify"}),
]
CREDENTIALS = [
    Case("key_host", (), files={"passwd": f"{HOST} {LOGIN}\n"}),
    Case("key_without_port", ("lint_no_credential", "lint_credential_unused"), files={"passwd": f"[{HOST}] {LOGIN}\n"}, found=f"[{HOST}]:587"),
    Case("key_without_brackets", ("lint_no_credential", "lint_credential_unused"), files={"passwd": f"{HOST}:587 {LOGIN}\n"}),
    Case("key_other", ("lint_credential_unused",), files={"passwd": f"{TABLE}smtp.example.net {LOGIN}\n"}, found="smtp.example.net"),
    Case("key_sender", (), {"smtp_sender_dependent_authentication": "yes"}, files={"passwd": f"{TABLE}a@example.net {LOGIN}\n"}),
    Case("disabled", ("lint_login_disabled",), {"smtp_sasl_auth_enable": "no"}),
    Case("discarded", ("lint_auth_discarded",), {"smtp_discard_ehlo_keywords": "auth"}),
    Case("no_maps", ("lint_login_without_maps",), maps("")),
    Case("no_password", ("lint_credential_malformed",), files={"passwd": f"[{HOST}]:587 me@provider.test\n"}),
    Case("readable", ("lint_credential_readable",), mode=0o644),
    Case(
        "built_readable",
        ("lint_credential_readable",),
        maps("hash:DIR/passwd"),
        script="postmap -c DIR hash:DIR/passwd; chmod 644 DIR/passwd.db",
        place="passwd.db",
    ),
    Case("in_main", ("lint_credential_readable",), maps(f"static:{LOGIN}")),
    Case("leftover", ("lint_credential_leftover",), script="postmap -c DIR hash:DIR/passwd", place="passwd.db"),
    Case("leftover_by_name", ("lint_credential_leftover",), files={"sasl_passwd": TABLE}, place="sasl_passwd"),
]
LOGINS = [
    Case("sasl_type", ("lint_sasl_type",), {"smtp_sasl_type": "dovecot"}),
    Case("filter", ("lint_sasl_mechanism",), {"smtp_sasl_mechanism_filter": "gssapi"}),
    Case("noplaintext", (), {"smtp_sasl_tls_security_options": "noplaintext, noanonymous"}),
]
TLS = [
    Case("465_plain", ("lint_wrappermode_missing",), {"relayhost": f"[{HOST}]:465"}, files={"passwd": f"{HOST} {LOGIN}\n"}),
    Case("465", (), {"relayhost": f"[{HOST}]:465", "smtp_tls_wrappermode": "yes"}, files={"passwd": f"{HOST} {LOGIN}\n"}),
    Case("587_wrapped", ("lint_wrappermode_port",), {"smtp_tls_wrappermode": "yes"}),
    Case(
        "wrapped_may",
        ("lint_wrappermode_level", "lint_server_not_authenticated"),
        {"relayhost": f"[{HOST}]:465", **level("may", smtp_tls_wrappermode="yes")},
        files={"passwd": f"{HOST} {LOGIN}\n"},
    ),
    Case("encrypt", ("lint_server_not_authenticated",), level("encrypt")),
    Case("may", ("lint_server_not_authenticated",), level("may")),
    Case("may_clear", ("lint_password_in_clear",), level("may", smtp_sasl_security_options="noanonymous")),
    Case("none", ("lint_level_without_login",), level("none")),
    Case("none_clear", ("lint_password_in_clear",), level("", smtp_sasl_security_options="noanonymous")),
    Case("filter_on_this_host", (), {"relayhost": "[127.0.0.1]:10025", **level("none")}, files={"passwd": f"127.0.0.1 {LOGIN}\n"}),
    Case("policy", ("lint_tls_policy",), {"smtp_tls_policy_maps": "static:{encrypt nonsense=1}"}),
    Case("ca_missing", ("lint_ca_missing",), {"smtp_tls_CAfile": ""}),
    Case("ca_gone", ("lint_tls_file",), {"smtp_tls_CAfile": "/nonexistent.pem"}, found="/nonexistent.pem"),
    Case("ca_empty", ("lint_tls_file",), {"smtp_tls_CAfile": "/etc/hostname"}),
    Case(
        "ca_crash",
        ("lint_tls_file",),
        {"relayhost": f"[{HOST}]:465", "smtp_tls_wrappermode": "yes", "smtp_tls_CAfile": "/nonexistent.pem"},
        files={"passwd": f"{HOST} {LOGIN}\n"},
        found="signal 11",
    ),
    Case("ca_path", ("lint_ca_path_in_chroot",), {"smtp_tls_CAfile": "", "smtp_tls_CApath": "/usr/share/ca-certificates"}),
]
ROUTES = [
    Case("mx", ("lint_relay_mx_lookup",), {"relayhost": f"{HOST}:587"}, files={"passwd": f"{HOST}:587 {LOGIN}\n"}, found=f"[{HOST}]:587"),
    Case("bounces", ("lint_relay_bounces",), {"relayhost": None, "default_transport": f"smtp:[{HOST}]:587"}),
    Case("keeps", (), {"default_transport": f"smtp:[{HOST}]:587"}),
    Case("transport", ("lint_transport_missing",), {"default_transport": "smpt"}),
    Case("port", ("lint_port_unknown",), {"relayhost": f"[{HOST}]:nosuch"}, files={"passwd": f"{HOST} {LOGIN}\n"}),
]
HERE = [
    Case("interface", ("lint_interface_missing",), {"inet_interfaces": "192.0.2.1"}, accepted=False),
    Case("listen", ("lint_listen_address",), master="192.0.2.1:2525 inet n - n - - smtpd\n", place="master.cf: 192.0.2.1:2525"),
    Case("listen_family", ("lint_listen_address",), master="[::1]:2525 inet n - n - - smtpd\n", found="inet_protocols = ipv4 leaves out"),
    Case("postlog", ("lint_postlog_missing",), {"maillog_file": "/var/log/postfix.log"}, accepted=False),
    Case(
        "postlog_prefix", ("lint_postlog_missing", "lint_maillog_prefix", "lint_start_fails"), {"maillog_file": "/root/postfix.log"}, accepted=False
    ),
    Case("garbage", ("lint_configuration_unreadable",), {"relayhost": f"[{HOST}]:587\nneither this nor that"}, accepted=False),
]
# Programs that main.cf names are run by 'postfix check', and leave a file behind.
PROGRAMS = ("postconf", "postmap", "master", "postfix-script", "postlog", "postmulti")
HERE.append(
    Case(
        "programs",
        (),
        {**dict.fromkeys(("command_directory", "daemon_directory", "shlib_directory", "meta_directory"), "DIR"), "mailbox_command": "DIR/master"},
        files=dict.fromkeys(PROGRAMS, "#!/bin/sh\ntouch DIR/was_run\nexit 1\n"),
        script=f"chmod 755 {' '.join(PROGRAMS)}",
        accepted=False,
    )
)
CASES = [Case("good", ()), *NAMES, *VALUES, *TABLES, *CREDENTIALS, *LOGINS, *TLS, *ROUTES, *HERE]
