# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""By what a server proves who it is: a trusted root, a pinned fingerprint, or its TLSA records (see dane_identity.py).

Where OpenSSL can not decide, the handshake is done without verification, and :meth:`Identity.accept` is asked before anything
is sent over the connection.
"""

from __future__ import annotations

import abc
import ssl
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import x509
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.session import Session


class Identity(abc.ABC):
    """*context* is for the handshake, *server_name* for SNI (and for the certificate, where OpenSSL verifies it)."""

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self.context = context
        self.server_name = server_name

    @abc.abstractmethod
    def accept(self, session: Session) -> Session:
        """*session* as it is to be kept. Raises :class:`SmtpError` if the server is not who it should be."""

    def refused(self, error: SmtpError) -> SmtpError:
        """What to raise for *error*, by which the handshake ended."""
        return error


class Anybody(Identity):
    """Nothing is proved, and nothing that matters may be sent."""

    def accept(self, session: Session) -> Session:
        return session


class Roots(Identity):
    """OpenSSL has verified it. *dane* says why TLSA records did not decide, if they were asked for (see :class:`Session`)."""

    def __init__(self, context: ssl.SSLContext, server_name: str, dane: dict[str, str] | None = None) -> None:
        super().__init__(context, server_name)
        self._dane = dane

    def accept(self, session: Session) -> Session:
        return session._replace(verified=True, dane=self._dane)


class Fingerprint(Identity):
    """The certificate or its key must be one of *pinned*; see trust.py."""

    def __init__(self, context: ssl.SSLContext, server_name: str, pinned: t.Sequence[str]) -> None:
        super().__init__(context, server_name)
        self._pinned = pinned

    def accept(self, session: Session) -> Session:
        certificate = x509.parse_or_none(session.certificate)
        if certificate is None:
            raise SmtpError(Kind.FINGERPRINT, "the server's certificate can not be read", stage="tls")
        own = (f"sha256:{certificate.fingerprint_sha256}", f"sha256:{certificate.public_key_sha256}")
        for fingerprint in own:
            if fingerprint in self._pinned:
                return session._replace(verified=True, fingerprint=fingerprint)
        message = f"the server's certificate is {own[0]} (its public key {own[1]}), which is not pinned"
        raise SmtpError(Kind.FINGERPRINT, message, stage="tls")
