# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixture of the tests against hostile servers."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from hostile import Hostile
from smtp_server import Certificates


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, certificates: Certificates, relay: t.Callable[..., t.Dict[str, t.Any]]) -> Hostile:
    """Tests servers on loopback, which answer at once: what is not there yet does not come. See hostile.py."""
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp import client, probe

    monkeypatch.setattr(probe, "PATIENCE", 0.3)
    monkeypatch.setattr(client, "QUIT_SECONDS", 0.3)
    monkeypatch.setattr(probe, "_RESERVE", 1.0)  # a server that broke off is often silent when it is looked at again
    # The system trusts one root, whatever the machine is that the tests run on.
    monkeypatch.setenv("SSL_CERT_FILE", certificates.unrelated_root())
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    return Hostile(certificates, relay)
