# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""What the proxy is told: the relays that want an access token, where to get one, and what for.

The files of this package except install.py run on the host by themselves, long after Ansible is gone: they need nothing but
Python's standard library, and import nothing but each other.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import typing as t

DATA = "/var/lib/outpost-smtp-oauth"
"""The directory of settings and tokens on a host. Where there is none, there is no proxy."""


class OAuthError(Exception):
    """What went wrong, in words that hold no secret."""


class RelaySettings(t.NamedTuple):
    """One relay: the server, the port on this host that leads to it, and how to get an access token for it."""

    name: str
    host: str
    port: int
    tls: str  #: "implicit" or "starttls"
    family: str  #: "any", "ipv4" or "ipv6"
    ca_file: t.Optional[str]  #: trusted for the server in addition to the system's certificates
    server_name: t.Optional[str]  #: the name that the server's certificate must have, if it is not ``host``
    minimum_tls: str  #: "1.2" or "1.3"
    username: str
    local_port: int
    token_endpoint: str  #: an https URL
    client_id: str
    client_secret: t.Optional[str]
    refresh_token: t.Optional[str]  #: None: the grant is client_credentials (RFC 6749 section 4.4)
    scope: t.Optional[str]
    token_ca_file: t.Optional[str]  #: trusted for the token endpoint in addition to the system's certificates

    def __repr__(self) -> str:
        """Without the secrets: a traceback may show it."""
        return f"RelaySettings({self.name!r}, ...)"

    @property
    def grant(self) -> str:
        """Tells grants apart, so that a token is not used for another account than it was issued for.

        The client's secret is not part of it: who renews that keeps the refresh token.
        """
        parts = [self.username, self.token_endpoint, self.client_id, self.refresh_token, self.scope]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def to_json(relays: t.Sequence[RelaySettings]) -> str:
    """The text of a file with these settings."""
    return json.dumps([relay._asdict() for relay in relays], indent=1, sort_keys=True) + "\n"


def read(path: str) -> t.List[RelaySettings]:
    """Return the settings in a file. Raises OAuthError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, encoding="utf-8") as file:
            if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
                raise OAuthError(f"{path} can be read by others; its mode must be 0600")
            return [RelaySettings(**entry) for entry in json.load(file)]
    except OSError as error:
        raise OAuthError(f"{path} can not be read: {error.strerror}") from None
    except (ValueError, TypeError, RecursionError):
        raise OAuthError(f"{path} is damaged; the next run of Ansible writes it again") from None
