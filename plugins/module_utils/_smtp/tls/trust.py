# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What makes a server trusted, and what this host shows of itself."""

from __future__ import annotations

import typing as t

TLS_VERSIONS = ("1.2", "1.3")


class Trust(t.NamedTuple):
    """With nothing set: a certificate for the host from one of the system's roots, TLS 1.2 or later.

    * *ca_file*, *ca_path*: PEM file, and directory of hashed names (openssl-rehash(1)), of roots that are trusted in
      addition to the system's, or alone without *system_roots* (as Postfix does)
    * *server_name*: sent as SNI, and the name that the certificate must be for, instead of the host
    * *minimum_version*, *maximum_version*: of :data:`TLS_VERSIONS`; no maximum if it is None. SCRAM with channel binding
      needs TLS 1.2 at most (see sasl_scram.py)
    * *client_certificate*, *client_key*: PEM files; the key may be in the certificate's file
    * *fingerprints*: ``sha256:`` and 64 lower-case hex digits of the certificate or of its public key. With any of
      them, they alone decide: neither roots, name nor dates are looked at (as Postfix does at its level "fingerprint")
    * *dane*: TLSA records decide, if there are any that a validating resolver vouches for (RFC 7672)
    """

    ca_file: t.Optional[str] = None
    ca_path: t.Optional[str] = None
    system_roots: bool = True
    server_name: t.Optional[str] = None
    minimum_version: str = "1.2"
    maximum_version: t.Optional[str] = None
    client_certificate: t.Optional[str] = None
    client_key: t.Optional[str] = None
    fingerprints: t.Tuple[str, ...] = ()
    dane: bool = False

    @property
    def wanted_tls(self) -> str:
        """The versions of TLS that are offered to the server, in words."""
        if self.maximum_version is not None:
            return f"TLS {self.maximum_version}"
        return f"TLS {self.minimum_version}" + ("" if self.minimum_version == TLS_VERSIONS[-1] else " or later")
