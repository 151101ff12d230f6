# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that send mail through a relay already, set up in the ways that people and common roles do it."""

from __future__ import annotations

import dataclasses
import io
import tarfile

from system_lab import Lab

#: The stock main.cf of Debian's package for a satellite system, as the installer leaves it.
_STOCK = """\
# See /usr/share/postfix/main.cf.dist for a commented, more complete version

smtpd_banner = $myhostname ESMTP $mail_name (Debian/GNU)
biff = no

# appending .domain is the MUA's job.
append_dot_mydomain = no

readme_directory = no
compatibility_level = 2

smtp_tls_CAfile=/etc/ssl/certs/ca-certificates.crt
smtp_tls_security_level=may
smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache

smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
myhostname = NAME.lab.test
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
mydestination = $myhostname, localhost
relayhost =
mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128
mailbox_size_limit = 0
recipient_delimiter = +
inet_interfaces = loopback-only
inet_protocols = all
"""


@dataclasses.dataclass(frozen=True)
class Style:
    """Files by path, the maps that postmap made of them, and services added to master.cf. ALERTS and BILLING stand for passwords."""

    files: dict[str, str]
    maps: tuple[str, ...]
    services: str = ""
    modes: dict[str, int] = dataclasses.field(default_factory=dict)


#: Grown over years by an editor: one relay on 587, a second account by sender, and a transport of its own for 465.
BY_HAND = Style(
    files={
        "/etc/postfix/main.cf": _STOCK.replace("relayhost =\n", "relayhost = [smtp.provider.test]:587   \n").replace("level=may", "level=encrypt")
        + """
# outgoing mail, see ticket 4711 -- DO NOT TOUCH
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
smtp_sasl_security_options = noanonymous
# invoices leave with their own account
smtp_sender_dependent_authentication = yes
sender_dependent_relayhost_maps = hash:/etc/postfix/relay_by_sender
# the provider knows nothing of root@web1
smtp_generic_maps = hash:/etc/postfix/generic
# the archive wants 465
transport_maps = hash:/etc/postfix/transport
""",
        "/etc/postfix/sasl_passwd": """\
# provider
[smtp.provider.test]:587 alerts@provider.test:ALERTS
[smtp.provider.test]:465 alerts@provider.test:ALERTS
billing@provider.test    billing@provider.test:BILLING
""",
        "/etc/postfix/relay_by_sender": "billing@provider.test [smtp.provider.test]:587\n",
        "/etc/postfix/generic": "root@NAME.lab.test alerts@provider.test\n",
        "/etc/postfix/transport": "inbox+archive@provider.test smtps-relay:[smtp.provider.test]:465\n",
    },
    maps=("sasl_passwd", "relay_by_sender", "generic", "transport"),
    services="""\
smtps-relay unix  -       -       y       -       -       smtp
  -o smtp_tls_wrappermode=yes
  -o smtp_tls_security_level=encrypt
""",
    modes={"/etc/postfix/sasl_passwd": 0o640},
)

#: A role that owns the whole main.cf: one template, deprecated names included, and a sasl_passwd beside it.
WHOLE_FILE = Style(
    files={
        "/etc/postfix/main.cf": """\
# {{ ansible_managed }}
# Ansible managed: modifications will be overwritten
smtpd_banner = $myhostname ESMTP $mail_name
biff = no
append_dot_mydomain = no
readme_directory = no
compatibility_level = 2
smtpd_use_tls = no
smtp_use_tls = yes
smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache
myhostname = NAME.lab.test
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
mydestination = NAME.lab.test, NAME, localhost.localdomain, localhost
mynetworks = 127.0.0.0/8
mailbox_size_limit = 0
recipient_delimiter = +
inet_interfaces = loopback-only
inet_protocols = ipv4
relayhost = [smtp.provider.test]:587
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
smtp_sasl_security_options = noanonymous
smtp_sasl_tls_security_options = noanonymous
smtp_sasl_mechanism_filter = plain, login
smtp_tls_security_level = encrypt
smtp_tls_note_starttls_offer = yes
smtp_generic_maps = hash:/etc/postfix/generic
""",
        "/etc/postfix/sasl_passwd": "[smtp.provider.test]:587 alerts@provider.test:ALERTS\n",
        "/etc/postfix/generic": "root@NAME.lab.test alerts@provider.test\n@NAME.lab.test alerts@provider.test\n",
    },
    maps=("sasl_passwd", "generic"),
    modes={"/etc/postfix/sasl_passwd": 0o600},
)

#: A null client made by single lines in the packaged main.cf: everything over 465, for the whole host, and a readable .db.
SINGLE_LINES = Style(
    files={
        "/etc/postfix/main.cf": _STOCK.replace("relayhost =\n", "relayhost = [smtp.provider.test]:465\n")
        .replace("mydestination = $myhostname, localhost\n", "mydestination =\n")
        .replace("smtp_tls_security_level=may\n", "smtp_tls_security_level = encrypt\n")
        + """\
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
smtp_sasl_security_options = noanonymous
smtp_tls_wrappermode = yes
# BEGIN ANSIBLE MANAGED BLOCK
sender_canonical_maps = regexp:/etc/postfix/sender_canonical
local_transport = error:no local delivery here
# END ANSIBLE MANAGED BLOCK
""",
        "/etc/postfix/sasl_passwd": "[smtp.provider.test]:465 alerts@provider.test:ALERTS\n",
        "/etc/postfix/sender_canonical": "/^(root|nobody|www-data)@/ alerts@provider.test\n",
    },
    maps=("sasl_passwd",),
    modes={"/etc/postfix/sasl_passwd": 0o644},
)


def set_up(lab: Lab, host: str, style: Style) -> None:
    """Make a host's Postfix, just installed, one of this style, and start it."""
    lab.fresh_postfix(host)
    values = {"NAME": host, **{name.upper(): lab.accounts[name]["password"] for name in ("alerts", "billing")}}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, text in style.files.items():
            for placeholder, value in values.items():
                text = text.replace(placeholder, value)
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(text.encode()), style.modes.get(path, 0o644)
            archive.addfile(entry, io.BytesIO(text.encode()))
    lab.shell("tar -C / -x", host, input=buffer.getvalue().decode())
    postmaps = "".join(f"postmap hash:/etc/postfix/{name}\n" for name in style.maps)
    script = f"set -e\ntouch /etc/aliases\n{postmaps}cat >>/etc/postfix/master.cf\nnewaliases\nsystemctl restart postfix"
    lab.shell(script, host, input=style.services)
