# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names by which devices and programs that sit in connections give themselves away, and those of the public CAs."""

from __future__ import annotations

import re

_INSPECTION = (
    "fortinet", "fortigate", "fortiguard", "zscaler", "netskope", "palo alto", "paloalto", "pan os", "check point", "sonicwall",
    "sophos", "watchguard", "blue coat", "bluecoat", "forcepoint", "websense", "mcafee web gateway", "skyhigh", "cisco umbrella",
    "cisco secure access", "cisco firepower", "umbrella root", "untangle", "smoothwall", "cyberoam", "stormshield", "sangfor",
    "hillstone", "kerio control", "endian", "securly", "lightspeed", "goguardian", "kaspersky", "avast", "avg web", "avg mail",
    "avg technologies", "eset ssl filter", "bitdefender", "dr web", "drweb", "adguard", "norton web", "norton mail", "mitmproxy",
    "portswigger", "charles proxy", "burp", "squid", "ssl inspection", "tls inspection", "decryption", "web shield", "mail shield",
)  # fmt: skip
"""In the issuer of a certificate: products that end TLS and make certificates of their own, and what they call their CAs."""

_SCANNERS = (
    "avast", "avg", "kaspersky", "eset", "norton", "symantec email proxy", "bitdefender", "fortigate", "proxsmtp", "spampd",
    "smtp proxy", "p3scan", "mail shield", "mailshield",
)  # fmt: skip
"""In a greeting: programs that are proxies by their nature. Gateways that are also run as real servers are not among them."""

_PUBLIC = (
    "let s encrypt", "isrg", "digicert", "google trust", "globalsign", "sectigo", "comodo", "usertrust", "amazon",
    "entrust", "godaddy", "go daddy", "starfield", "microsoft", "apple", "actalis", "certum", "unizeto", "asseco", "d trust",
    "t systems", "deutsche telekom", "telesec", "swisssign", "quovadis", "harica", "geant", "hellenic academic", "ssl com",
    "ssl corporation", "ssl corp", "buypass", "identrust", "certigna", "thawte", "geotrust", "rapidssl", "verisign", "zerossl",
    "gandi", "trustasia", "emsign", "trustwave", "securetrust", "network solutions", "certainly", "cybertrust", "baltimore",
    "wisekey", "affirmtrust",
)  # fmt: skip
"""In the issuer of a certificate: authorities whose roots systems bring along. An old system may lack one of them."""


def inspection_product(issuer: str) -> str:
    """What of an issuer's name is known of devices that look into TLS, in lower case; or an empty string."""
    return _found(_INSPECTION, issuer)


def scanner(greeting: str) -> str:
    """What of a greeting is known of programs that scan mail on its way, in lower case; or an empty string."""
    return _found(_SCANNERS, greeting)


def is_public_authority(issuer: str) -> bool:
    """Whether the issuer bears the name of a public CA (which proves nothing: anybody can write that name)."""
    return bool(_found(_PUBLIC, issuer))


def _found(names: tuple[str, ...], text: str) -> str:
    """The first of *names* that is in *text*, by whole words and whatever is between them."""
    words = f" {' '.join(re.findall('[a-z0-9]+', text.lower()))} "
    return next((name for name in names if f" {name} " in words), "")
