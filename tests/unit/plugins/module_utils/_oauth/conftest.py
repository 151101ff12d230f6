# SPDX-License-Identifier: GPL-3.0-or-later
"""A relay whose server and token endpoint are on loopback."""

from __future__ import annotations

import typing as t

import pytest
from smtp_server import Certificates
from token_server import TokenServer

from ansible_collections.outpost.smtp.plugins.module_utils._oauth.settings import RelaySettings


@pytest.fixture
def endpoint(certificates: Certificates) -> t.Iterator[TokenServer]:
    with TokenServer(certificates.good()) as server:
        yield server


@pytest.fixture
def settings(certificates: Certificates) -> t.Callable[..., RelaySettings]:
    def make(**fields: t.Any) -> RelaySettings:
        given: t.Dict[str, t.Any] = {
            "name": "primary",
            "host": "localhost",
            "port": 465,
            "tls": "implicit",
            "family": "ipv4",
            "ca_file": certificates.ca_file,
            "server_name": None,
            "minimum_tls": "1.2",
            "username": "alerts@provider.test",
            "local_port": 0,
            "token_endpoint": "https://localhost/token",
            "client_id": "outpost",
            "client_secret": "CANARY-client/secret&=",
            "refresh_token": "CANARY-refresh token",
            "scope": "https://provider.test/SMTP.Send offline_access",
            "token_ca_file": certificates.ca_file,
        }
        return RelaySettings(**{**given, **fields})

    return make
