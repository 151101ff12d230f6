# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Whether the TLS security level of a relay is what its password deserves, and where its CA certificates are looked for."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import tls_policy
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.effective_relay import EffectiveRelay
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import Finding, finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.instance import Instance
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.relays import at, is_local, names_of
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.sasl_lookup import IN_CLEAR

#: How c_rehash(1) calls a certificate in a directory that OpenSSL looks into.
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")


def check(instance: Instance) -> t.Iterator[Finding]:
    for relay in instance.relays:
        if relay.host and not relay.crash:
            yield from _level(instance, relay)
            yield from _ca_path(instance, relay)


def _level(instance: Instance, relay: EffectiveRelay) -> t.Iterator[Finding]:
    if relay.credential is None or not relay.login_enabled or relay.policy is None or is_local(relay):
        return
    about = (relay.policy.decided_by, "smtp_sasl_security_options")
    place, names = instance.place(about[0], relay.service), names_of(instance, relay, about)
    in_clear = relay.mechanisms.usable(IN_CLEAR, relay.mechanisms.options_in_clear)
    if relay.level in tls_policy.OPPORTUNISTIC and in_clear:
        found = f"{at(relay)}: level {relay.level} sends the password without TLS where the server offers none, or where somebody hides it"
        yield finding("lint_password_in_clear", place, found, names)
    elif relay.level == tls_policy.NONE:
        found = f"{at(relay)}: without TLS most servers offer no AUTH, so Postfix sends without logging in although there is a credential"
        yield finding("lint_level_without_login", place, found, names)
    elif relay.level in (tls_policy.MAY, tls_policy.ENCRYPT):
        found = f"{at(relay)}: at level {relay.level} any certificate will do, so whoever is in between gets the password"
        yield finding("lint_server_not_authenticated", place, found, names)


def _ca_path(instance: Instance, relay: EffectiveRelay) -> t.Iterator[Finding]:
    """A directory of certificates is read after the process has entered its chroot (postconf(5), smtp_tls_CApath)."""
    path = relay.tls_files.ca_path
    if path is None or not relay.chroot or relay.level not in tls_policy.BY_ISSUER:
        return
    outside = relay.parameters.get("smtp_tls_CApath")
    inside, missing = _hashes(path), _hashes(outside) - _hashes(path)
    about = ("smtp_tls_CApath", "smtp_tls_CAfile")
    place, names = instance.place(about[0], relay.service), names_of(instance, relay, about)
    if not inside and not relay.tls_files.ca_file:
        found = f"{at(relay)}: smtp(8) runs in a chroot, where {outside} is {path}, which has no certificates"
        yield finding("lint_ca_path_in_chroot", place, found, names)
    elif missing and not relay.tls_files.ca_file:
        found = f"{at(relay)}: {path}, which smtp(8) reads in its chroot, lacks {len(missing)} of the certificates of {outside}"
        yield finding("lint_chroot_differs", place, found, names)


def _hashes(path: str) -> t.Set[str]:
    try:
        return {name for name in os.listdir(path) if _HASHED.fullmatch(name)}
    except OSError:
        return set()
