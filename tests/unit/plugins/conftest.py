# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for everything that talks SMTP."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_support"))

from pki import AIA, Pki  # noqa: E402  (needs the path set above)
from smtp_server import Certificates  # noqa: E402


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of every sort, made once per run."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def relay() -> t.Callable[..., t.Dict[str, t.Any]]:
    """Makes a complete entry, as the tests of relays take it, for a server on loopback."""
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.endpoint import normalise_endpoints

    def make(port: int, tls: str = "implicit", **fields: t.Any) -> t.Dict[str, t.Any]:
        return normalise_endpoints([{"name": "primary", "host": "127.0.0.1", "port": port, "tls": tls, **fields}])[0]

    return make


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Certification authorities: a root, an intermediate below it, and who they have issued certificates to."""
    made = Pki(tmp_path_factory.mktemp("pki"))
    made.root("root", "/O=Test Trust/CN=Test Root")
    made.root("stranger", "/O=Strangers/CN=Unknown Root")
    made.intermediate("inter", "root", "/O=Test Trust/CN=Test Issuing CA", AIA, "authorityKeyIdentifier=keyid")
    made.server("leaf", "inter", AIA, "authorityKeyIdentifier=keyid")
    return made
