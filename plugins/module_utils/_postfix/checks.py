# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""What is wrong with the settings of a relay whatever its server does."""

from __future__ import annotations

import os

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import literal_tables, sasl_lookup, tls_policy
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.effective_relay import EffectiveRelay, Problem

#: Ports that speak TLS from the first byte, and ports that do not (RFC 8314 section 7.3, RFC 6409).
_IMPLICIT_PORTS, _STARTTLS_PORTS = (465,), (25, 587)


def check(relay: EffectiveRelay) -> None:
    """Add the problems of a relay to it, those that come first in a delivery first."""
    for one in (_tls_contradiction, _tls_files, _login, _mechanism, _not_followed):
        one(relay)


def _tls_contradiction(relay: EffectiveRelay) -> None:
    code = "postfix_tls_contradiction"
    if relay.crash or relay.policy is None:
        relay.problems.append(Problem(code, relay.crash or relay.policy_error, "lint_tls_policy"))
    elif relay.wrappermode and relay.level in tls_policy.OPPORTUNISTIC:
        text = f"smtp_tls_wrappermode = yes needs a security level of encrypt or stronger, not {relay.level}"
        relay.problems.append(Problem(code, text, "lint_wrappermode_level"))
    elif relay.wrappermode and relay.port in _STARTTLS_PORTS:
        text = f"smtp_tls_wrappermode = yes with port {relay.port}, which begins without TLS"
        relay.problems.append(Problem(code, text, "lint_wrappermode_port"))
    elif not relay.wrappermode and relay.port in _IMPLICIT_PORTS:
        text = f"port {relay.port} without smtp_tls_wrappermode = yes: both sides wait for the other to begin"
        relay.problems.append(Problem(code, text, "lint_wrappermode_missing"))


def _tls_files(relay: EffectiveRelay) -> None:
    files = relay.tls_files
    if files.error:
        relay.problems.append(Problem("postfix_ca_unreadable", files.error, "lint_tls_file"))
    elif relay.level in tls_policy.BY_ISSUER and not (files.ca_file or files.ca_path):
        text = f"security level {relay.level} without smtp_tls_CAfile and smtp_tls_CApath: no certificate is ever trusted"
        relay.problems.append(Problem("postfix_ca_unreadable", text, "lint_ca_missing"))
    if files.unreadable:
        relay.unclear.append(f"a file that this test may not read, other than Postfix ({files.unreadable})")


def _login(relay: EffectiveRelay) -> None:
    parameters, lookup, credential = relay.parameters, relay.lookup, relay.credential
    if not relay.login_enabled:
        if credential is not None:
            text = f"Postfix would send WITHOUT logging in: {credential.table} has a credential for {credential.key}, but smtp_sasl_auth_enable is no"
            relay.problems.append(Problem("postfix_would_send_unauthenticated", text, "lint_login_disabled"))
        return
    if not parameters.get("smtp_sasl_password_maps"):
        relay.crash = relay.crash or "smtp_sasl_auth_enable = yes without smtp_sasl_password_maps"
        relay.problems.append(Problem("postfix_credential_unreadable", relay.crash, "lint_login_without_maps"))
    elif parameters.get("smtp_sasl_type") not in ("", "cyrus"):
        relay.crash = relay.crash or f"smtp_sasl_type = {parameters.get('smtp_sasl_type')} is none that Postfix has as a client"
        relay.problems.append(Problem("postfix_mechanism_missing", relay.crash, "lint_sasl_type"))
    elif lookup.error and "Permission denied" in lookup.error and os.geteuid() != 0:
        relay.unclear.append(f"a table that this test may not read, other than Postfix ({lookup.error})")
    elif lookup.error:
        relay.problems.append(Problem("postfix_credential_unreadable", lookup.error, "lint_credential_lookup"))
    elif not sasl_lookup.followed(parameters):
        relay.unclear.append("a table in smtp_sasl_password_maps that is made of others (randmap, pipemap or unionmap)")
    elif credential is None:
        similar = f"; there is {' and '.join(lookup.near)}, which Postfix does not look up for it" if lookup.near else ""
        tried, tables = " and ".join(lookup.keys), literal_tables.shown(parameters.get("smtp_sasl_password_maps"))
        relay.problems.append(Problem("postfix_no_credential", f"{tables} has no entry for {tried}{similar}", "lint_no_credential"))
    elif not credential.password:
        text = f"the entry of {credential.table} for {credential.key} has no colon with a password after it"
        relay.problems.append(Problem("postfix_credential_unreadable", text, "lint_credential_malformed"))


def _mechanism(relay: EffectiveRelay) -> None:
    """Whether there is any mechanism at all for a password under the settings for an encrypted connection."""
    if not relay.login_enabled or relay.credential is None:
        return
    found = relay.mechanisms
    if not found.usable(found.installed, found.options_with_tls):
        options = ", ".join(sorted(found.options_with_tls))
        text = f"with the plug-ins on this host, smtp_sasl_tls_security_options = {options} and the filter {', '.join(found.filter) or 'empty'}"
        relay.problems.append(Problem("postfix_mechanism_missing", f"{text} no mechanism is left", "lint_sasl_mechanism"))


def _not_followed(relay: EffectiveRelay) -> None:
    """Settings that change what Postfix does, and that are not looked into."""
    parameters, policy = relay.parameters, relay.policy
    filters = [word.lstrip("!").lower() for word in parameters.names("smtp_sasl_mechanism_filter")]
    found = {
        "smtp_tls_per_site": bool(parameters.get("smtp_tls_per_site")) and not parameters.get("smtp_tls_policy_maps"),
        "smtp_tls_connection_reuse, which leaves TLS to tlsproxy(8)": parameters.flag("smtp_tls_connection_reuse"),
        "smtp_discard_ehlo_keyword_address_maps": bool(parameters.get("smtp_discard_ehlo_keyword_address_maps")),
        "smtp_never_send_ehlo": parameters.flag("smtp_never_send_ehlo"),
        "more than one trust anchor file": policy is not None and len(policy.trust_anchors) > 1,
        "fingerprints that are not SHA-256": relay.level == tls_policy.FINGERPRINT and not list(relay.fingerprints()),
        "a table in smtp_sasl_mechanism_filter": any(":" in word and not word.startswith("static:") for word in filters),
    }
    relay.unclear += [text for text, is_set in found.items() if is_set]
    if relay.login_enabled and relay.credential is not None and not relay.vouched_for:
        relay.notes.append(f"{relay.host} is named by an MX or SRV record alone, which can be forged: this test sends no password there")
    if parameters.get("smtp_sasl_auth_cache_name"):
        relay.notes.append("smtp_sasl_auth_cache_name is set: Postfix remembers a refused login and does not try it again for a while")
