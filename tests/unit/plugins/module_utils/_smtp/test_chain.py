# SPDX-License-Identifier: GPL-3.0-or-later
"""What the certificates that a server sent tell about the one that is missing."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest
from pki import AIA, Pki

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import chain, x509
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust

NO_ISSUER, SELF_SIGNED, SELF_SIGNED_IN_CHAIN, LEAF_ONLY, EXPIRED = 20, 18, 19, 21, 10


def read(pki: Pki, *names: str) -> t.List[x509.Certificate]:
    return chain.read([pki.der(name) for name in names])


@pytest.fixture(scope="module")
def roots(pki: Pki) -> t.List[x509.Certificate]:
    """What this host trusts: not the root of the tests, but one of the same organization for some."""
    pki.root("other-root", "/O=Somebody Else/CN=Other Root")
    return read(pki, "other-root")


def cause(pki: Pki, names: t.Sequence[str], roots: t.Sequence[x509.Certificate], code: int = NO_ISSUER) -> str:
    return chain.explain(code, read(pki, *names), roots).cause


def test_a_leaf_whose_ca_publishes_its_certificate_lacks_the_intermediate(pki: Pki, roots: t.List[x509.Certificate]) -> None:
    explained = chain.explain(NO_ISSUER, read(pki, "leaf"), roots)

    assert explained.cause == chain.MISSING_INTERMEDIATE
    assert explained.evidence == (
        "the server sent 1 certificate; the last one that leads on is O=Provider, CN=leaf, issued by O=Test Trust, CN=Test Issuing CA",
        "its CA publishes the certificate of the issuer at http://ca.test/issuer.der, as intermediates are",
    )


def test_the_same_without_a_word_from_the_ca(pki: Pki, roots: t.List[x509.Certificate]) -> None:
    """Only the organization of a trusted root can tell then."""
    pki.server("silent", "inter")

    assert cause(pki, ["silent"], roots) == chain.UNKNOWN_ROOT
    assert cause(pki, ["silent"], [*roots, *read(pki, "root")], LEAF_ONLY) == chain.MISSING_INTERMEDIATE


def test_the_key_identifier_names_the_issuer_of_the_issuer(pki: Pki, roots: t.List[x509.Certificate]) -> None:
    pki.server("below-inter", "inter", "authorityKeyIdentifier=issuer:always")
    pki.server("below-root", "root", AIA, "authorityKeyIdentifier=issuer:always")

    assert cause(pki, ["below-inter"], roots) == chain.MISSING_INTERMEDIATE
    explained = chain.explain(NO_ISSUER, read(pki, "below-inter"), [*roots, *read(pki, "root")])
    assert explained.evidence[-1] == "its issuer was issued by O=Test Trust, CN=Test Root, which is a trusted root"
    assert cause(pki, ["below-root"], roots) == chain.UNKNOWN_ROOT  # although there is an address


def test_an_intermediate_that_was_sent_is_not_missing(pki: Pki, roots: t.List[x509.Certificate]) -> None:
    assert cause(pki, ["leaf", "inter"], roots) == chain.UNKNOWN_ROOT


def test_a_root_that_signs_servers_itself_is_unknown(pki: Pki, roots: t.List[x509.Certificate]) -> None:
    pki.server("direct", "stranger")

    explained = chain.explain(NO_ISSUER, read(pki, "direct"), roots)

    assert explained.cause == chain.UNKNOWN_ROOT
    assert explained.evidence[-1] == "none of the 1 trusted roots has to do with O=Strangers, CN=Unknown Root"


def test_somebody_who_took_the_name_of_a_trusted_root(pki: Pki) -> None:
    pki.root("imitation", "/O=Test Trust/CN=Test Root")
    pki.server("imitated", "imitation", AIA)

    explained = chain.explain(NO_ISSUER, read(pki, "imitated"), read(pki, "root"))

    assert explained.cause == chain.UNKNOWN_ROOT and explained.evidence[-1].endswith("CN=Test Root, but another key")


def test_self_signed_alone_and_at_the_end(pki: Pki, roots: t.List[x509.Certificate]) -> None:
    assert cause(pki, ["stranger"], roots, SELF_SIGNED) == chain.SELF_SIGNED
    assert cause(pki, ["leaf", "inter", "root"], roots, SELF_SIGNED_IN_CHAIN) == chain.SELF_SIGNED_IN_CHAIN


def test_out_of_order_and_with_a_stranger_in_it(pki: Pki, roots: t.List[x509.Certificate]) -> None:
    mixed = read(pki, "leaf", "root", "inter")

    assert [certificate.subject for certificate in chain.ordered(mixed)] == [
        certificate.subject for certificate in read(pki, "leaf", "inter", "root")
    ]
    assert "they are not in order" in chain.explain(SELF_SIGNED_IN_CHAIN, mixed, roots).evidence
    strange = chain.explain(NO_ISSUER, read(pki, "leaf", "stranger"), roots)
    assert strange.cause == chain.MISSING_INTERMEDIATE and "the path to it needs 1 of them only" in strange.evidence


def test_of_two_with_the_same_name_the_one_with_the_right_key_is_the_issuer(pki: Pki) -> None:
    pki.intermediate("namesake", "stranger", "/O=Test Trust/CN=Test Issuing CA")

    path = chain.ordered(read(pki, "leaf", "namesake", "inter", "root"))

    assert [certificate.der for certificate in path] == [pki.der(name) for name in ("leaf", "inter", "root")]


def test_certificates_that_issue_each_other_have_an_end(pki: Pki) -> None:
    leaf, inter = read(pki, "leaf", "inter")
    circle = [leaf, inter, inter._replace(subject=inter.issuer, issuer=inter.subject, subject_key_id="", authority_key_id="")]

    assert len(chain.ordered(circle * 3)) <= 9


def test_which_certificate_has_expired(pki: Pki) -> None:
    pki.intermediate("old-inter", "root", "/O=Test Trust/CN=Old CA", start=-20, end=-10)
    pki.server("new-leaf", "old-inter")
    sent = read(pki, "new-leaf", "old-inter")
    now = datetime.datetime.now(datetime.timezone.utc)

    assert chain.expired(sent, now) == 1
    assert chain.expired(sent, now - datetime.timedelta(days=15)) is None
    assert chain.expired(read(pki, "leaf"), now) is None
    assert chain.not_yet_valid(sent, now - datetime.timedelta(days=15)) == 0
    assert chain.not_yet_valid(sent, now) is None


def test_reading_stops_at_what_is_no_certificate(pki: Pki) -> None:
    assert [certificate.subject for certificate in chain.read([pki.der("leaf"), b"junk", pki.der("inter")])] == ["O=Provider, CN=leaf"]


@pytest.mark.parametrize(("code", "expected"), [(NO_ISSUER, True), (SELF_SIGNED, True), (EXPIRED, False), (62, False), (None, False)])
def test_only_some_errors_are_about_the_issuer(code: t.Optional[int], expected: bool) -> None:
    assert chain.leads_nowhere(code) is expected


def test_trusted_roots_of_a_file_and_of_a_directory(pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's OpenSSL has its roots in a directory of hashed names, where they are looked for one by one."""
    hashed = subprocess.run(["openssl", "x509", "-noout", "-hash", "-in", pki.path("root")], check=True, capture_output=True, text=True)
    shutil.copy(pki.path("root"), tmp_path / (hashed.stdout.strip() + ".0"))
    (tmp_path / "README").write_text("nothing")
    os.mkdir(tmp_path / "0123abcd.0")
    (tmp_path / "0123abcd.1").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))

    def subjects(**trust: t.Any) -> t.List[str]:
        return sorted(root.subject for root in chain.trusted_roots(Trust(**trust)))

    own, stranger = "O=Test Trust, CN=Test Root", "O=Strangers, CN=Unknown Root"
    assert subjects() == [own]
    assert subjects(ca_file=pki.path("stranger")) == [stranger, own]
    assert subjects(ca_file=pki.path("stranger"), system_roots=False) == [stranger]
    assert subjects(ca_path=str(tmp_path), system_roots=False) == [own]
    assert subjects(ca_file=str(tmp_path / "none.pem")) == [own]
    assert subjects(ca_path=str(tmp_path / "none"), system_roots=False) == []
    monkeypatch.setenv("SSL_CERT_FILE", pki.path("stranger"))
    assert subjects() == [stranger]
