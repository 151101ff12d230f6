# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is worth knowing of an endpoint although it does not make the test fail."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import resolve
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Observation

if t.TYPE_CHECKING:
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client

SOON = 14
"""Days before the end of a certificate from which on it is a warning; CAs renew at 30, so something is stuck by then."""


def collect(seen: Observation, client: Client) -> list[str]:
    """A sentence for each."""
    found = [] if client.route.proxy else resolve.warnings(client.host, client.addresses)
    found += _certificate(seen)
    if seen.error is None:
        # After a failure they are part of the diagnosis' evidence.
        found += [*(sentence for _code, sentence in seen.complaints), *seen.notes]
        found += _interception(seen)
    if seen.session is not None and seen.session.dane is not None and seen.session.dane["status"] != "verified":
        found.append(f"DANE does not protect this connection: {seen.session.dane['detail']}")
    return found


def _certificate(seen: Observation) -> list[str]:
    if seen.session is None or not seen.session.verified or seen.certificate is None:
        return []
    found = []
    days = (seen.certificate.not_after - seen.now).days
    if days < SOON:
        found.append(f"the certificate expires in {days} days")
    if any(certificate.weak_signature for certificate in seen.chain):
        found.append("a certificate of the chain is signed over a hash that can be forged (MD5 or SHA-1)")
    return found


def _interception(seen: Observation) -> list[str]:
    """Who trusts the CA of an inspection product passes the test, and the product reads the password."""
    if seen.interception is None or seen.interception.verdict != "terminated_by_proxy":
        return []
    return [f"something in between reads all of this, the login included: {'; '.join(seen.interception.evidence)}"]
