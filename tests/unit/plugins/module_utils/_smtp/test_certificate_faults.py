# SPDX-License-Identifier: GPL-3.0-or-later
"""What the test of an endpoint says about certificates that are wrong, in one way each."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from pki import AIA, Pki
from smtp_server import PASSWORD, USERNAME, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.probe import probe_all

Relay = t.Callable[..., t.Dict[str, t.Any]]


@pytest.fixture(autouse=True)
def trusts_one_root(pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system trusts the root of the tests, and so everything that it has issued, directly or not."""
    monkeypatch.setenv("SSL_CERT_FILE", pki.path("root"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))


@pytest.fixture(scope="module", autouse=True)
def faulty(pki: Pki) -> None:
    pki.intermediate("far-inter", "stranger", "/O=Strangers/CN=Strange Issuing CA", AIA)
    pki.intermediate("dead-inter", "root", "/O=Test Trust/CN=Dead Issuing CA", start=-20, end=-10)
    pki.server("far-leaf", "far-inter", AIA)
    pki.server("far-direct", "stranger")
    pki.server("by-the-dead", "dead-inter")
    pki.server("dead-leaf", "inter", start=-20, end=-10)
    pki.server("early-leaf", "inter", start=10, end=20)
    pki.server("other-name", "inter", names="DNS:mail.other.test")


@pytest.mark.parametrize(
    ("sent", "code", "evidence"),
    [
        (["leaf"], "tls_cert_missing_intermediate", "O=Test Trust, CN=Test Issuing CA"),
        (["far-leaf"], "tls_cert_missing_intermediate", "http://ca.test/issuer.der"),
        (["far-leaf", "far-inter"], "tls_cert_untrusted_issuer", "O=Strangers, CN=Unknown Root"),
        (["far-direct"], "tls_cert_untrusted_issuer", "none of the 1 trusted roots"),
        (["far-leaf", "far-inter", "stranger"], "tls_cert_self_signed_in_chain", "self-signed"),
        (["stranger"], "tls_cert_self_signed", "self-signed"),
        (["dead-leaf", "inter"], "tls_cert_expired", ""),
        (["by-the-dead", "dead-inter"], "tls_cert_expired", "CN=Dead Issuing CA"),
        (["early-leaf", "inter"], "tls_cert_not_yet_valid", ""),
        (["other-name", "inter"], "tls_name_mismatch", "mail.other.test"),
    ],
)
@pytest.mark.parametrize("newest", ["1.2", ""], ids=["TLS 1.2", "TLS 1.3"])
def test_each_fault_has_its_own_name(pki: Pki, relay: Relay, sent: t.List[str], code: str, evidence: str, newest: str) -> None:
    with Server(conversation(tls="implicit", context=pki.context(*sent, newest=newest))) as server:
        result = probe_all([relay(server.port, username=USERNAME, password=PASSWORD)], timeout=10)[0]

        assert server.auth_attempts == 0
    diagnosis = result["diagnosis"]
    assert diagnosis["code"] == code
    assert evidence in " ".join([diagnosis["summary"], *diagnosis["evidence"]])
    assert len(result["tls"]["chain"]) == len(sent)
    assert result["tls"]["verified"] is False
