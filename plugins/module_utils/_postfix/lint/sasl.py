# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""SASL plug-ins of this host that take the login away from the password."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import Finding, finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.instance import Instance
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.relays import at, names_of

#: Mechanisms whose plug-ins take the password for a token, or for the name of a file with one.
_TOKEN = ("XOAUTH2", "OAUTHBEARER")
_FILTER = "smtp_sasl_mechanism_filter"


def check(instance: Instance) -> t.Iterator[Finding]:
    for relay in instance.relays:
        if relay.credential is None or not relay.login_enabled:
            continue
        taken = relay.mechanisms.without_password(_TOKEN)
        wanted = {word.upper() for word in relay.mechanisms.filter} <= set(_TOKEN) and relay.mechanisms.filter
        if taken and not wanted:
            found = f"{at(relay)}: the plug-in for {taken[0]} is installed, and {_FILTER} lets it through"
            yield finding("lint_token_plugin", instance.place(_FILTER, relay.service), found, names_of(instance, relay, (_FILTER,)))
