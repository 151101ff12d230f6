# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a certificate is for a host, by its names (RFC 9525, formerly RFC 6125).

OpenSSL decides that for every certificate that it verifies; this is for those that it does not, and for saying why.
"""

from __future__ import annotations

import ipaddress
import typing as t


def names_that_match(host: str, names: t.Sequence[str]) -> list[str]:
    """Those of *names* (of a certificate, as in :class:`x509.Certificate`) that are for *host*, a name or an address."""
    address = _address(host)
    if address is not None:
        return [name for name in names if _address(name) == address]
    labels = _labels(host)
    return [name for name in names if labels and _address(name) is None and _covers(_labels(name), labels)]


def _address(text: str) -> t.Any:
    """*text* as an address that can be compared, however it is written; None if it is none."""
    try:
        return ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _labels(name: str) -> list[str]:
    """The labels in the form in which they are compared: A-labels in lower case; empty if it is no name."""
    try:
        labels = [label.encode("ascii" if label.isascii() else "idna").decode("ascii").lower() for label in name.rstrip(".").split(".")]
    except UnicodeError:
        return []
    return labels if all(labels) else []


def _covers(pattern: list[str], labels: list[str]) -> bool:
    """A wildcard stands for exactly one label and is the whole leftmost one (RFC 9525 section 6.3).

    As in OpenSSL, it needs two labels after it: ``*.test`` is for nobody.
    """
    if len(pattern) != len(labels):
        return False
    if pattern[0] == "*":
        return len(pattern) > 2 and pattern[1:] == labels[1:]
    return pattern == labels
