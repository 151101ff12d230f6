# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why the certificates that a server sent lead to no trusted root, and which of them has expired.

OpenSSL gives one error for a server that leaves the intermediate certificate out and for a root that nobody here knows.
Who must act differs: the provider, or whoever runs this host. What tells them apart is in the certificates.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import ssl
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import client_certificate, x509
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.x509 import Certificate

MISSING_INTERMEDIATE = "missing_intermediate"
UNKNOWN_ROOT = "unknown_root"
SELF_SIGNED = "self_signed"
SELF_SIGNED_IN_CHAIN = "self_signed_in_chain"

_SELF_SIGNED_CODES = {18: SELF_SIGNED, 19: SELF_SIGNED_IN_CHAIN}
_NO_ISSUER_CODES = (2, 20, 21, 27)
"""No issuer, no issuer here, no way to verify the only certificate, not trusted."""

_HASHED_NAME = re.compile(r"[0-9a-f]{8}\.[0-9]+")
_MAX_ROOTS = 1000
_MAX_FILE = 65536


class Explanation(t.NamedTuple):
    """*cause* is one of the constants of this file, *evidence* are sentences."""

    cause: str
    evidence: t.Tuple[str, ...]


def read(sent: t.Sequence[bytes]) -> list[Certificate]:
    """The certificates that a server sent, up to the first one that can not be read."""
    chain: list[Certificate] = []
    for der in sent:
        certificate = x509.parse_or_none(der)
        if certificate is None:
            break
        chain.append(certificate)
    return chain


def leads_nowhere(verify_code: int | None) -> bool:
    """Whether *verify_code* (X509_V_ERR_* of OpenSSL) says that no trusted root was found."""
    return verify_code in _NO_ISSUER_CODES or verify_code in _SELF_SIGNED_CODES


def explain(verify_code: int, chain: t.Sequence[Certificate], roots: t.Sequence[Certificate]) -> Explanation:
    """Why *chain*, which is not empty and as the server sent it, does not lead to one of *roots* (see :func:`leads_nowhere`)."""
    path = ordered(chain)
    top = path[-1]
    evidence = [f"the server sent {_count(len(chain))}; the last one that leads on is {_shown(top.subject)}, issued by {_shown(top.issuer)}"]
    if len(path) < len(chain):
        evidence.append(f"the path to it needs {len(path)} of them only")
    elif list(chain) != path:
        evidence.append("they are not in order")
    if top.self_issued:
        cause = _SELF_SIGNED_CODES.get(verify_code, SELF_SIGNED if len(path) == 1 else SELF_SIGNED_IN_CHAIN)
        return Explanation(cause, (*evidence, "that one is self-signed, and is not among the trusted roots"))
    cause, why = _no_issuer(top, roots)
    return Explanation(cause, (*evidence, why))


def _no_issuer(top: Certificate, roots: t.Sequence[Certificate]) -> tuple[str, str]:
    """Whether the issuer of *top*, which was not sent, is an intermediate or a root, and what tells."""
    subjects = {root.subject for root in roots}
    if top.issuer in subjects:
        return UNKNOWN_ROOT, f"a trusted root has the name {_shown(top.issuer)}, but another key"
    if top.authority_issuer in subjects and top.authority_issuer != top.issuer:
        return MISSING_INTERMEDIATE, f"its issuer was issued by {_shown(top.authority_issuer)}, which is a trusted root"
    if top.authority_issuer == top.issuer:
        return UNKNOWN_ROOT, f"its issuer {_shown(top.issuer)} is self-signed, and is not among the trusted roots"
    if top.authority_issuer:
        return MISSING_INTERMEDIATE, f"its issuer was issued by {_shown(top.authority_issuer)}, so it is an intermediate"
    related = [root for root in roots if set(root.subject_organizations) & set(top.issuer_organizations)]
    if related:
        return MISSING_INTERMEDIATE, f"its issuer has the organization of the trusted root {_shown(related[0].subject)}"
    if top.ca_issuers and not top.is_ca:
        # Public roots sign no server certificates (CA/Browser Forum Baseline Requirements), so the issuer is none.
        return MISSING_INTERMEDIATE, f"its CA publishes the certificate of the issuer at {_shown(top.ca_issuers)}, as intermediates are"
    return UNKNOWN_ROOT, f"none of the {len(roots)} trusted roots has to do with {_shown(top.issuer)}"


def ordered(chain: t.Sequence[Certificate]) -> list[Certificate]:
    """The path from the server's certificate upwards as far as it goes, whatever the order in which it was sent."""
    path, rest = [chain[0]], list(chain[1:])
    while not path[-1].self_issued:
        issuer = next((certificate for certificate in rest if _issued(certificate, path[-1])), None)
        if issuer is None:
            break
        rest.remove(issuer)
        path.append(issuer)
    return path


def expired(chain: t.Sequence[Certificate], now: datetime.datetime) -> int | None:
    """The place in *chain* of the first certificate that has expired (0 is the server's own); None if none has."""
    return next((index for index, certificate in enumerate(chain) if certificate.not_after < now), None)


def not_yet_valid(chain: t.Sequence[Certificate], now: datetime.datetime) -> int | None:
    """As :func:`expired`, for the first one that is not yet valid."""
    return next((index for index, certificate in enumerate(chain) if certificate.not_before > now), None)


def trusted_roots(trust: Trust) -> list[Certificate]:
    """The roots that *trust* stands for. What can not be read is left out: a connection has failed by that already."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    directories = [trust.ca_path]
    if trust.system_roots:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if not context.get_ca_certs():
            directories.append(ssl.get_default_verify_paths().capath)
    if trust.ca_file:
        with contextlib.suppress(OSError), client_certificate.readable(trust.ca_file) as path:
            context.load_verify_locations(cafile=path)
    encoded = context.get_ca_certs(binary_form=True)
    for directory in filter(None, directories):
        encoded += _roots_in(directory)
    return [root for root in map(x509.parse_or_none, encoded[:_MAX_ROOTS]) if root]


def _roots_in(directory: str) -> list[bytes]:
    """The certificates in a directory of hashed names, which OpenSSL looks into only when it needs one."""
    roots: list[bytes] = []
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    for name in sorted(filter(_HASHED_NAME.fullmatch, names))[:_MAX_ROOTS]:
        try:
            with open(os.path.join(directory, name), encoding="utf-8", errors="replace") as stream:
                text = stream.read(_MAX_FILE)
            # Text for people may come before it.
            roots.append(ssl.PEM_cert_to_DER_cert(text[text.find(ssl.PEM_HEADER) :]))
        except (OSError, ValueError):
            continue
    return roots


def _issued(issuer: Certificate, certificate: Certificate) -> bool:
    """Whether *issuer* can have issued *certificate*, by names and key identifiers (no signature is verified here)."""
    keys = (certificate.authority_key_id, issuer.subject_key_id)
    return issuer.subject == certificate.issuer and (not all(keys) or keys[0] == keys[1])


def _count(number: int) -> str:
    return "1 certificate" if number == 1 else f"{number} certificates"


def _shown(name: str) -> str:
    return name or "(a name without readable parts)"
