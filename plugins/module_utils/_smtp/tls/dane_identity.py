# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a server proves by its TLSA records who it is (RFC 7672 section 3)."""

from __future__ import annotations

import ssl
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import dane, x509
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.certnames import names_that_match
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.identity import Identity, Roots
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.session import Session
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.tls import Contexts, anchored_context
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust


def by_records(policy: dane.Policy, trust: Trust, host: str, contexts: Contexts, look: t.Callable[[], t.Sequence[bytes]]) -> Identity:
    """By what *host* proves who it is after *policy*; *look* gets the chain that it sends over another connection.

    Raises :class:`SmtpError` (``dane``) if the records forbid to trust it, and what *look* raises.
    """
    if policy.status == dane.UNUSABLE:
        raise dane.error("unusable", policy.detail)
    if policy.status != dane.USABLE:
        return Roots(contexts.verifying(trust), trust.server_name or host, {"status": policy.status, "detail": policy.detail})
    name = trust.server_name or policy.base
    chain = look() if policy.names_anchors else ()
    anchors = policy.anchors(chain)
    if anchors and not (chain and policy.end_entity(chain[0])):
        return AnchorRecord(trust, name, policy, anchors, tuple(dict.fromkeys((name, host, policy.base))))
    return ServerRecord(contexts.inspecting(trust), name, policy)


class ServerRecord(Identity):
    """A TLSA record of usage 3 must be for the certificate, whatever its name and dates (section 3.1.1)."""

    def __init__(self, context: ssl.SSLContext, server_name: str, policy: dane.Policy) -> None:
        super().__init__(context, server_name)
        self._policy = policy

    def accept(self, session: Session) -> Session:
        record = self._policy.end_entity(session.certificate)
        if record is None:
            raise _mismatch(self._policy)
        return _verified(session, f"TLSA {record}")


class AnchorRecord(Identity):
    """A CA that a TLSA record of usage 2 names must have issued the certificate, for one of *names* (section 3.1.2)."""

    def __init__(self, trust: Trust, server_name: str, policy: dane.Policy, anchors: t.Sequence[bytes], names: t.Sequence[str]) -> None:
        super().__init__(anchored_context(trust, anchors), server_name)
        self._policy = policy
        self._names = names

    def accept(self, session: Session) -> Session:
        certificate = x509.parse_or_none(session.certificate)
        if certificate is None or not any(names_that_match(name, certificate.names) for name in self._names):
            raise dane.error("mismatch", f"the certificate is by the CA of the TLSA records, but not for {' or '.join(self._names)}")
        return _verified(session, f"TLSA usage 2 for {self._policy.base}")

    def refused(self, error: SmtpError) -> SmtpError:
        if not error.verify_code:
            return error
        return dane.error("mismatch", f"the CA of the TLSA records does not vouch for the certificate: {error.message}")


def _mismatch(policy: dane.Policy) -> SmtpError:
    known = "; ".join(map(str, policy.records[:4]))
    return dane.error("mismatch", f"the certificate matches none of the TLSA records of {policy.base} ({known})")


def _verified(session: Session, detail: str) -> Session:
    return session._replace(verified=True, dane={"status": dane.VERIFIED, "detail": detail})
