# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""DANE for SMTP (RFC 6698, 7671, 7672): what the DNS, proved by DNSSEC, says about the certificate of a server.

Usages 2 (DANE-TA) and 3 (DANE-EE) are used; 0 and 1 are not for SMTP (RFC 7672 section 3.1.3).
"""

from __future__ import annotations

import hashlib
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import dns
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import is_address
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import x509

VERIFIED = "verified"
NO_RECORDS = "no_records"
"""The DNS says, with or without proof, that there are none; the certificate is verified as without DANE."""
NO_VALIDATING_RESOLVER = "no_validating_resolver"
"""Nothing could be proved; the certificate is verified as without DANE."""
USABLE = "usable"
UNUSABLE = "unusable"
"""The records can not be used, or the look-up failed as it does for forged data: the server must not be trusted."""

_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_TRUST_ANCHOR, _END_ENTITY = 2, 3
_FULL_CERTIFICATE, _PUBLIC_KEY = 0, 1
_HASHES: dict[int, t.Callable[..., t.Any]] = {1: hashlib.sha256, 2: hashlib.sha512}
"""By matching type; 0 is no hash but the data itself."""


class Record(t.NamedTuple):
    """A TLSA record (RFC 6698 section 2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes

    @property
    def usable(self) -> bool:
        if self.usage not in (_TRUST_ANCHOR, _END_ENTITY) or self.selector not in (_FULL_CERTIFICATE, _PUBLIC_KEY):
            return False
        if self.matching == 0:
            return bool(self.data)
        return self.matching in _HASHES and len(self.data) == _HASHES[self.matching]().digest_size

    def matches(self, certificate: x509.Certificate) -> bool:
        """Whether it is about *certificate*; it must be usable."""
        content = certificate.der if self.selector == _FULL_CERTIFICATE else certificate.public_key
        return self.data == (_HASHES[self.matching](content).digest() if self.matching else content)

    def __str__(self) -> str:
        shown = self.data.hex()
        return f"{self.usage} {self.selector} {self.matching} {shown[:64]}{'...' if len(shown) > 64 else ''}"


class Policy(t.NamedTuple):
    """What the DNS says. *status* is one of the constants of this file, *detail* says it in words.

    *records* are the usable ones, *base* is the name that they were found at, which is sent as SNI (RFC 7672 section 8.1).
    """

    status: str
    detail: str
    records: t.Tuple[Record, ...] = ()
    base: str = ""

    def end_entity(self, certificate: bytes) -> Record | None:
        """The record for the certificate or the key of the server itself, which makes its name and dates irrelevant."""
        parsed = x509.parse_or_none(certificate)
        known = (record for record in self.records if record.usage == _END_ENTITY)
        return next((record for record in known if parsed and record.matches(parsed)), None)

    @property
    def names_anchors(self) -> bool:
        """Whether there is a record for the certificate of a CA."""
        return any(record.usage == _TRUST_ANCHOR for record in self.records)

    def anchors(self, chain: t.Sequence[bytes]) -> list[bytes]:
        """The CAs to trust: those in *chain*, which the server sent, and those that are in the DNS themselves."""
        known = [record for record in self.records if record.usage == _TRUST_ANCHOR]
        sent = [parsed for parsed in map(x509.parse_or_none, chain[1:]) if parsed]
        whole = [record.data for record in known if (record.selector, record.matching) == (_FULL_CERTIFICATE, 0)]
        return whole + [certificate.der for certificate in sent if any(record.matches(certificate) for record in known)]


def look_up(host: str, port: int, deadline: Deadline, resolver: dns.Resolver | None = None) -> Policy:
    """What the DNS says about the certificate of *host* on TCP *port*. Never raises :class:`SmtpError`."""
    if is_address(host):
        return Policy(NO_RECORDS, "an IP address has no TLSA records")
    resolver = resolver or dns.system_resolver()
    if not resolver.trusted:
        return Policy(NO_VALIDATING_RESOLVER, resolver.why_not)
    name = host.rstrip(".")
    try:
        # RFC 7672 section 2.2: name servers of zones that are not signed may fail on TLSA, so the zone is looked at first.
        known = dns.query(name, dns.A, deadline, resolver)
    except SmtpError as exc:
        return Policy(NO_VALIDATING_RESOLVER, exc.message)
    if known.failed:
        return Policy(UNUSABLE, f"the look-up of {name} failed ({known.status}), as it does for forged data")
    if not known.authenticated:
        return _unproved(name, deadline, resolver)
    return _records(name, known.canonical, port, deadline, resolver)


def _records(name: str, canonical: str, port: int, deadline: Deadline, resolver: dns.Resolver) -> Policy:
    """The records at *canonical*, or else those at its alias *name* (RFC 7671 section 7)."""
    for base in dict.fromkeys((canonical, name.lower())):
        if not _HOST_NAME.fullmatch(base):
            continue  # the target of an alias may be anything, but this becomes a name in TLS
        try:
            answer = dns.tlsa(base, port, deadline, resolver)
        except SmtpError as exc:
            return Policy(UNUSABLE, exc.message)
        if answer.failed:
            return Policy(UNUSABLE, f"the look-up of the TLSA records of {base} failed ({answer.status}), as it does for forged data")
        if answer.records and answer.authenticated:
            records = tuple(Record(*record) for record in answer.records)
            usable = tuple(record for record in records if record.usable)
            if usable:
                return Policy(USABLE, f"usable TLSA records for {base} port {port}: {len(usable)}", usable, base)
            return Policy(UNUSABLE, f"no TLSA record for {base} port {port} can be used: {'; '.join(map(str, records[:4]))}")
    return Policy(NO_RECORDS, f"there are no TLSA records for {name} port {port}")


def _unproved(name: str, deadline: Deadline, resolver: dns.Resolver) -> Policy:
    """Tell a zone that is not signed from a name server that does not validate: the root is signed."""
    try:
        validates = dns.query(".", dns.SOA, deadline, resolver).authenticated
    except SmtpError:
        validates = False
    if validates:
        return Policy(NO_RECORDS, f"the zone of {name} is not signed with DNSSEC")
    hosts = ", ".join(server.host for server in resolver.servers)
    return Policy(NO_VALIDATING_RESOLVER, f"name server {hosts} does not validate with DNSSEC")


def error(reason: str, message: str) -> SmtpError:
    """The server can not be trusted; *reason* is ``mismatch`` or ``unusable``."""
    return SmtpError(Kind.DANE, message, stage="tls", reason=reason)
