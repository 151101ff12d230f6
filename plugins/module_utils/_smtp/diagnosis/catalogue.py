# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an entry of the catalogue of diagnoses is. The entries are in catalogue_*.py, joined in diagnoses.py.

A code is an identifier that people alert on: it never changes its meaning. One that begins with another one and an
underscore is a particular case of that (``auth_basic_disabled_tenant`` of ``auth_basic_disabled``), so that an alert on
the beginning finds both (``tls_cert_self_signed_in_chain`` is older than this rule and no case of the shorter one).

Texts may hold these fields, filled in from what was seen:

* ``{where}`` (host:port), ``{host}``, ``{port}``, ``{mode}`` (the TLS mode that was set), ``{stage}``, ``{now}`` (the clock)
* ``{detail}`` (what went wrong, in words), ``{reply}``, ``{sample}`` (the beginning of what came)
* ``{wanted}``, ``{offered}``, ``{mechanism}`` (the one that was used); ``{login}`` (what the provider wants as user name and
  password); ``{region}`` (that a reply names); ``{token}`` (what is wrong with the access token), ``{status}`` and
  ``{scope}`` (of the server's refusal of it)
* ``{asked}`` (the name that the certificate should be for), ``{names}`` (that it has), ``{issuer}``, ``{fingerprint}``;
  ``{expired}``, ``{not_before}``, ``{not_after}`` (of the certificate whose dates are wrong), ``{clock}`` (a word about it)
* ``{found}`` (what is spoken instead of the TLS mode), ``{switch}`` (what to set so that it works), ``{blocked_by}`` (own
  firewall rules), ``{interception}`` (what speaks for it)
"""

from __future__ import annotations

import typing as t

OPERATOR = "operator"
"""Who runs this server and these playbooks."""
ACCOUNT_OWNER = "account owner"
"""Who can sign in to the mail account: passwords, app passwords, tokens, sender identities."""
ADMINISTRATOR = "administrator"
"""Who administers the organisation's account at the provider (the Microsoft 365 tenant, the AWS account, ...)."""
PROVIDER = "provider"
"""The provider's own staff."""
NETWORK = "network"
"""Who runs the network between this server and the provider: firewalls, proxies, the hoster."""
WHO = (OPERATOR, ACCOUNT_OWNER, ADMINISTRATOR, PROVIDER, NETWORK)

ANY_STAGE = ("greeting", "ehlo", "starttls", "ehlo_tls", "auth", "sender", "recipient", "data")
ENVELOPE = ("sender", "recipient", "data")


class Entry(t.NamedTuple):
    """*stages* are those where it occurs, *who* must act (one of :data:`WHO`).

    *retryable* means that the same test may pass later without any change.
    """

    code: str
    stages: tuple[str, ...]
    summary: str
    remedy: str
    who: str
    retryable: bool
    source: str
