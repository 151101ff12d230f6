# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""The words that parameters take which take no others (postconf(5)), as far as they matter to mail that leaves."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import tls_policy

_SECURITY_OPTIONS = ("noplaintext", "noactive", "nodictionary", "forward_secrecy", "noanonymous", "mutual_auth")
_EHLO_KEYWORDS = (
    "8bitmime",
    "auth",
    "chunking",
    "dsn",
    "enhancedstatuscodes",
    "etrn",
    "pipelining",
    "requiretls",
    "silent-discard",
    "size",
    "smtputf8",
    "starttls",
    "verp",
    "vrfy",
    "xclient",
    "xforward",
)
_GRADES = ("export", "low", "medium", "high", "null")
_PROTOCOL = re.compile(r"!?(sslv[23]|tlsv1(\.[123])?)|(?P<bound>[<>]=)(sslv3|tlsv1(\.[123])?|0x[0-9a-f]{4}|[0-9a-f]{4})|0", re.IGNORECASE)
#: The first version of Postfix that takes a lowest and a highest protocol, as in ``>=TLSv1.2``.
_PROTOCOL_BOUNDS_SINCE = (3, 6, 0)


class Words(t.NamedTuple):
    """``several`` for a list of words, ``fatal`` where a wrong one ends the process instead of being overlooked, ``empty``
    where there may be none."""

    words: t.Tuple[str, ...]
    several: bool = False
    fatal: bool = True
    empty: bool = True

    def wrong(self, value: str) -> t.List[str]:
        """The words of a value that it must not have."""
        given = re.split(r"[\s,]+", value.strip()) if self.several else [value.strip()]
        return [word for word in given if word and word.lower() not in self.words] + ([""] if not value.strip() and not self.empty else [])


WORDS: t.Dict[str, Words] = {
    "inet_protocols": Words(("all", "ipv4", "ipv6"), several=True, empty=False),
    "notify_classes": Words(("2bounce", "bounce", "data", "delay", "policy", "protocol", "resource", "software"), several=True),
    "smtp_address_preference": Words(("any", "ipv4", "ipv6"), empty=False),
    "smtp_discard_ehlo_keywords": Words(_EHLO_KEYWORDS, several=True, fatal=False),
    "smtp_dns_support_level": Words(("disabled", "enabled", "dnssec")),
    "smtp_host_lookup": Words(("dns", "native"), several=True, empty=False),
    "smtp_sasl_security_options": Words(_SECURITY_OPTIONS, several=True),
    "smtp_sasl_tls_security_options": Words(_SECURITY_OPTIONS, several=True),
    "smtp_sasl_tls_verified_security_options": Words(_SECURITY_OPTIONS, several=True),
    "smtp_tls_ciphers": Words(_GRADES, fatal=False, empty=False),
    "smtp_tls_dane_insecure_mx_policy": Words(("may", "encrypt", "dane")),
    "smtp_tls_mandatory_ciphers": Words(_GRADES, fatal=False, empty=False),
    "smtp_tls_security_level": Words(tls_policy.LEVELS),
    "smtpd_tls_security_level": Words(tls_policy.LEVELS),
}
PROTOCOL_LISTS = ("smtp_tls_protocols", "smtp_tls_mandatory_protocols")


def wrong_protocols(value: str, version: t.Tuple[int, int, int]) -> t.List[str]:
    """The words of a list of protocols that this version of Postfix does not take; it gives up on TLS then."""
    found = []
    for word in re.split(r"[\s,:]+", value):
        match = _PROTOCOL.fullmatch(word)
        if word and (match is None or (match["bound"] and version < _PROTOCOL_BOUNDS_SINCE)):
            found.append(word)
    return found
