# SPDX-License-Identifier: GPL-3.0-or-later
"""What the linter says comes of a fault: transports with one fault each, and what Postfix must log for it.

Crashes, logins that are left out and mail that is returned are proven by from_postfix_scenarios.py already.
"""

from __future__ import annotations

import dataclasses

CA = "/usr/local/share/rig-ca.pem"
LOG = "/var/log/lint.log"


@dataclasses.dataclass
class Behaviour:
    """A transport with these options; ``log`` is a regular expression, in which TO stands for the recipient."""

    name: str
    log: str
    options: dict
    chroot: str = "y"


def deferred(dsn: str, text: str = "") -> str:
    return rf"to=<TO>.* dsn={dsn}, status=deferred .*{text}"


def tls(level: str = "encrypt", **more: str) -> dict:
    return {"smtp_tls_security_level": level, "smtp_tls_CAfile": CA, **more}


def login(**more: str) -> dict:
    return tls(smtp_sasl_auth_enable="yes", smtp_sasl_password_maps="static:a:b", **more)


BEHAVIOURS = [
    Behaviour("boolean", "fatal: bad boolean configuration: smtp_always_send_ehlo", {"smtp_always_send_ehlo": "maybe"}),
    Behaviour("number", "fatal: bad numerical configuration: smtp_mx_session_limit = 12x", {"smtp_mx_session_limit": "12x"}),
    Behaviour("no_number", "fatal: bad numerical configuration: smtp_mx_address_limit = *$", {"smtp_mx_address_limit": ""}),
    Behaviour("time", "fatal: parameter smtp_connect_timeout: bad time value or unit: 3x", {"smtp_connect_timeout": "3x"}),
    Behaviour("upper_case", "fatal: parameter smtp_helo_timeout: bad time value or unit: 30S", {"smtp_helo_timeout": "30S"}),
    Behaviour("families", "fatal: bad smtp_address_preference value: ipv5", {"smtp_address_preference": "ipv5"}),
    Behaviour("lookup", 'fatal: unknown smtp_host_lookup value "dsn"', {"smtp_host_lookup": "dsn"}),
    Behaviour("dns", 'fatal: invalid smtp_dns_support_level: "dnsec"', {"smtp_dns_support_level": "dnsec"}),
    Behaviour("protocols", 'fatal: unknown inet_protocols value "ipv5"', {"inet_protocols": "ipv5"}),
    Behaviour("dane", 'fatal: invalid smtp_tls_dane_insecure_mx_policy: "bogus"', tls(smtp_tls_dane_insecure_mx_policy="bogus")),
    Behaviour("sasl_type", "fatal: SASL library initialization", login(smtp_sasl_type="dovecot")),
    Behaviour("options", "fatal: SASL per-connection initialization failed", login(smtp_sasl_tls_security_options="noanonimous")),
    Behaviour("protocol", deferred("4.7.5"), tls(smtp_tls_mandatory_protocols="TLSv12")),
    Behaviour("grade", deferred("4.7.5"), tls(smtp_tls_mandatory_ciphers="hihg")),
    Behaviour("table_type", "unsupported dictionary type: lmdb", {"smtp_generic_maps": "lmdb:/etc/postfix/virtual"}),
    Behaviour("table", "error: open database /etc/postfix/nothing.db: No such file", {"smtp_generic_maps": "hash:/etc/postfix/nothing"}),
    Behaviour("proxied", "closed.txt: Permission denied", {"smtp_generic_maps": "proxy:texthash:/etc/postfix/closed.txt"}),
    Behaviour("ca_path", deferred("4.7.5", "not (verified|trusted)"), tls("secure", smtp_tls_CAfile="", smtp_tls_CApath="/etc/rig-ca")),
    # The same outside of the chroot is good: the provider refuses the message because nobody has logged in.
    Behaviour("ca_path_outside", "to=<TO>.*in reply to", tls("secure", smtp_tls_CAfile="", smtp_tls_CApath="/etc/rig-ca"), chroot="n"),
]


def main_cf() -> str:
    lines = [
        "compatibility_level = 2",
        f"maillog_file = {LOG}",
        "mydestination =",
        "inet_interfaces = loopback-only",
        "inet_protocols = ipv4",
        "alias_maps =",
        "transport_maps = texthash:/etc/postfix/transport",
        "proxy_read_maps = proxy:texthash:/etc/postfix/closed.txt",
    ]
    return "\n".join(lines) + "\n"


def master_cf() -> str:
    entries = ["postlog unix-dgram n - n - 1 postlogd"]
    for one in BEHAVIOURS:
        entries.append(f"b_{one.name} unix - - {one.chroot} - - smtp")
        entries += [f"  -o {name}={value}" for name, value in one.options.items()]
    return "\n".join(entries) + "\n"


def transports() -> str:
    return "".join(f"{recipient(one)} b_{one.name}:[smtp.provider.test]:587\n" for one in BEHAVIOURS)


def recipient(one: Behaviour) -> str:
    return f"{one.name}@lint.test"
