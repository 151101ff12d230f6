# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The fields of a relay that say which server is trusted, and what this host shows of itself (see tls/trust.py)."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import Fields
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import TLS_VERSIONS

FIELDS = ("ca_file", "server_name", "minimum_tls", "fingerprints", "client_certificate", "client_key")
UNSET: t.Mapping[str, t.Any] = {**dict.fromkeys(FIELDS), "minimum_tls": TLS_VERSIONS[0], "fingerprints": ()}

_ONLY_WITH_TLS = ("server_name", "fingerprints", "client_certificate")
_FINGERPRINT = re.compile(r"(?:sha256:)?([0-9a-f]{2}(?::?[0-9a-f]{2}){31})\Z", re.IGNORECASE)


def read(fields: Fields, with_tls: bool) -> t.Dict[str, t.Any]:
    """The fields of :data:`FIELDS`, checked. Raises :class:`RelayError`."""
    found = {
        "ca_file": fields.path("ca_file"),
        "server_name": fields.host("server_name") if fields.has("server_name") else None,
        "minimum_tls": fields.choice("minimum_tls", TLS_VERSIONS, TLS_VERSIONS[0]),
        "fingerprints": _fingerprints(fields),
        "client_certificate": fields.path("client_certificate"),
        "client_key": fields.path("client_key"),
    }
    if found["client_key"] and not found["client_certificate"]:
        raise fields.refuse("client_certificate", "is required because 'client_key' is given")
    for name in _ONLY_WITH_TLS:
        if found[name] and not with_tls:
            raise fields.refuse(name, "has no meaning with 'tls: none'")
    return found


def _fingerprints(fields: Fields) -> t.List[str]:
    """As ``sha256:`` and lower-case hex, from the forms that openssl and Postfix print (with colons, with or without prefix)."""
    found = []
    for value in fields.texts("fingerprints"):
        match = _FINGERPRINT.match(value)
        if match is None:
            raise fields.refuse("fingerprints", "must be SHA-256 fingerprints of a certificate or of its public key: 64 hex digits, colons allowed")
        found.append("sha256:" + match.group(1).replace(":", "").lower())
    return found
