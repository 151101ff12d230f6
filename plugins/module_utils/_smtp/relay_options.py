# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The fields of a relay as options of a module, for those that take entries of ``outpost_smtp_relays`` as they are."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import TLS_MODES
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay_login import MECHANISMS
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.route import FAMILIES
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import TLS_VERSIONS

OAUTH_OPTIONS: t.Dict[str, t.Any] = {
    "token_endpoint": {"type": "str", "required": True, "no_log": False},
    "client_id": {"type": "str", "required": True},
    "client_secret": {"type": "str", "no_log": True},
    "refresh_token": {"type": "str", "no_log": True},
    "scope": {"type": "str"},
    "ca_file": {"type": "str"},
    "local_port": {"type": "int"},
}
RELAY_OPTIONS: t.Dict[str, t.Any] = {
    "name": {"type": "str"},
    "host": {"type": "str", "required": True},
    "port": {"type": "int"},
    "tls": {"type": "str", "choices": list(TLS_MODES)},
    "srv": {"type": "bool", "default": False},
    "family": {"type": "str", "choices": list(FAMILIES), "default": "any"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "password_file": {"type": "str", "no_log": False},
    "password_credential": {"type": "str", "no_log": False},
    "oauth": {"type": "dict", "options": OAUTH_OPTIONS},
    "mechanism": {"type": "str", "choices": list(MECHANISMS), "default": "auto"},
    "ca_file": {"type": "str"},
    "server_name": {"type": "str"},
    "minimum_tls": {"type": "str", "choices": list(TLS_VERSIONS), "default": TLS_VERSIONS[0]},
    "fingerprints": {"type": "list", "elements": "str"},
    "client_certificate": {"type": "str"},
    "client_key": {"type": "str", "no_log": False},
    "senders": {"type": "list", "elements": "str"},
    "concurrency_limit": {"type": "int"},
    "rate_delay": {"type": "str"},
    "recipient_limit": {"type": "int"},
}
