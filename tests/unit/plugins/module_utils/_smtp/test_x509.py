# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate reader against certificates of openssl(1), and against damage."""

from __future__ import annotations

import hashlib
import random
import ssl
import subprocess
import typing as t

import pytest
from pki import AIA, Pki
from smtp_server import Certificates

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import x509


@pytest.fixture(scope="module")
def der(certificates: Certificates) -> bytes:
    return certificates.der(
        "/C=DE/O=Beispiel \u00fc GmbH/OU=Mail/CN=smtp.example.net", "DNS:smtp.example.net,DNS:*.example.net,IP:192.0.2.1,IP:2001:db8::1,email:a@b.c"
    )


def test_it_reads_what_openssl_wrote(der: bytes, tmp_path: t.Any) -> None:
    certificate = x509.parse(der)

    assert certificate.names == ["smtp.example.net", "*.example.net", "192.0.2.1", "2001:db8::1"]
    assert certificate.subject == certificate.issuer == "C=DE, O=Beispiel \u00fc GmbH, OU=Mail, CN=smtp.example.net"
    path = tmp_path / "x.der"
    path.write_bytes(der)
    printed = subprocess.run(
        ["openssl", "x509", "-inform", "DER", "-in", str(path), "-noout", "-dates"], check=True, capture_output=True, text=True
    ).stdout
    dates = dict(line.split("=", 1) for line in printed.splitlines())
    assert certificate.not_before.timestamp() == ssl.cert_time_to_seconds(dates["notBefore"])
    assert certificate.not_after.timestamp() == ssl.cert_time_to_seconds(dates["notAfter"])


def test_the_common_name_counts_where_there_is_no_other(certificates: Certificates) -> None:
    assert x509.parse(certificates.der("/CN=old.example.net", "")).names == ["old.example.net"]


def test_dates_after_2049_are_of_another_kind(certificates: Certificates) -> None:
    der = certificates.der("/CN=x", "", days=20000)

    assert x509.parse(der).not_after.year > 2070


def test_years_before_2000(der: bytes) -> None:
    """UTCTime has two digits: 50 to 99 are of the last century."""
    year = x509.parse(der).not_before.strftime("%y").encode()

    assert x509.parse(der.replace(b"\x17\x0d" + year, b"\x17\x0d99", 1)).not_before.year == 1999


def test_control_bytes_in_names_are_escaped(der: bytes) -> None:
    names = x509.parse(der.replace(b"smtp.example.net", b"\x1b[2J\x00mple.net\n!!")).names

    assert names[0] == r"\x1b[2J\x00mple.net\x0a!!"


def test_damage_gives_an_error_or_a_result_and_never_anything_else(der: bytes) -> None:
    source = random.Random(509)
    for _count in range(5000):
        damaged = bytearray(der)
        for _count in range(source.randrange(1, 4)):
            damaged[source.randrange(len(damaged))] = source.choice((0, 0x30, 0x7F, 0x80, 0x84, 0xFF, source.randrange(256)))
        try:
            certificate = x509.parse(bytes(damaged))
        except ValueError:
            continue
        assert all(name.isprintable() and len(name) < 300 for name in certificate.names)


def test_every_cut_is_an_error(der: bytes) -> None:
    for size in range(len(der)):
        with pytest.raises(ValueError):
            x509.parse(der[:size])


@pytest.mark.parametrize(
    "data", [b"", b"\x30", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\x31\x00", b"\x30\x00", b"\x30" * 500, b"\x30\x82\x01\x00" * 200]
)
def test_what_is_no_certificate_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        x509.parse(data)


def test_a_certificate_that_is_too_large_is_not_read(der: bytes) -> None:
    with pytest.raises(ValueError, match="larger"):
        x509.parse(der + b"\0" * x509.MAX_SIZE)


def test_nothing_is_cut_before_somebody_could_mask_it(certificates: Certificates) -> None:
    name = ".".join(["label" * 8] * 7)

    assert x509.parse(certificates.der("/CN=x", f"DNS:{name}")).names == [name]


def test_thousands_of_names_are_cut(certificates: Certificates) -> None:
    der = certificates.der("/CN=x", ",".join(f"DNS:n{number}.example.net" for number in range(300)))

    assert len(x509.parse(der).names) == x509.MAX_NAMES


# -- what openssl(1) says about certificates of every sort is the reference --------------------------------------------------


def printed(pki: Pki, name: str, *options: str) -> str:
    command = ["openssl", "x509", "-in", pki.path(name), "-noout", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("key", "key_type", "bits", "said"),
    [
        ("ec", "EC P-256", 256, "(256 bit)"),
        ("p384", "EC P-384", 384, "(384 bit)"),
        ("rsa", "RSA", 2048, "(2048 bit)"),
        ("ed25519", "Ed25519", 256, "ED25519 Public-Key"),
    ],
)
def test_keys_and_fingerprints(pki: Pki, key: str, key_type: str, bits: int, said: str) -> None:
    name = pki.server(f"key-{key}", "inter", key=key)
    certificate = x509.parse(pki.der(name))

    assert (certificate.key_type, certificate.key_bits) == (key_type, bits)
    assert said in printed(pki, name, "-text")
    assert certificate.signature_algorithm == "ECDSA with SHA-256" and not certificate.weak_signature
    fingerprint = printed(pki, name, "-fingerprint", "-sha256").strip().split("=")[1]
    assert certificate.fingerprint_sha256 == fingerprint.replace(":", "").lower()
    public_key = ssl.PEM_cert_to_DER_cert(printed(pki, name, "-pubkey").replace("PUBLIC KEY", "CERTIFICATE"))
    assert certificate.public_key == public_key
    assert certificate.public_key_sha256 == hashlib.sha256(public_key).hexdigest()
    assert certificate.der == pki.der(name)
    assert int(certificate.serial, 16) == int(printed(pki, name, "-serial").strip().split("=")[1], 16)


@pytest.mark.parametrize(
    ("key", "digest", "algorithm", "weak"),
    [
        ("rsa", "sha1", "RSA with SHA-1", True),
        ("rsa", "sha512", "RSA with SHA-512", False),
        ("ec", "sha1", "ECDSA with SHA-1", True),
        ("ec", "sha384", "ECDSA with SHA-384", False),
        ("ed25519", "null", "Ed25519", False),
    ],
)
def test_signatures(pki: Pki, key: str, digest: str, algorithm: str, weak: bool) -> None:
    issuer = pki.root(f"signer-{key}", "/CN=Signer", key=key)
    certificate = x509.parse(pki.der(pki.server(f"signed-{key}-{digest}", issuer, digest=digest)))

    assert (certificate.signature_algorithm, certificate.weak_signature) == (algorithm, weak)


def test_a_root_is_not_weak_by_its_own_signature(pki: Pki) -> None:
    certificate = x509.parse(pki.der("root"))._replace(signature_algorithm="RSA with SHA-1")

    assert certificate.self_issued and not certificate.weak_signature


def test_who_has_issued_it(pki: Pki) -> None:
    leaf, inter, root = (x509.parse(pki.der(name)) for name in ("leaf", "inter", "root"))

    assert (leaf.is_ca, inter.is_ca, root.is_ca) == (False, True, True)
    assert (leaf.self_issued, inter.self_issued, root.self_issued) == (False, False, True)
    assert leaf.ca_issuers == "http://ca.test/issuer.der" and root.ca_issuers == ""
    assert leaf.authority_key_id == inter.subject_key_id == printed(pki, "inter", "-ext", "subjectKeyIdentifier").split()[-1].replace(":", "").lower()
    assert inter.authority_key_id == root.subject_key_id
    assert leaf.authority_issuer == ""
    assert leaf.issuer_organizations == ("Test Trust",) and leaf.subject_organizations == ("Provider",)
    named = pki.server("named-issuer", "inter", "authorityKeyIdentifier=keyid,issuer:always")
    assert x509.parse(pki.der(named)).authority_issuer == "O=Test Trust, CN=Test Root"
    assert x509.parse(pki.der(named)).authority_key_id == inter.subject_key_id


def test_a_ca_says_so_with_a_word_that_is_true(pki: Pki) -> None:
    der = pki.der("inter")
    assert der.count(b"\x30\x03\x01\x01\xff") == 1

    assert not x509.parse(der.replace(b"\x30\x03\x01\x01\xff", b"\x30\x03\x01\x01\x00")).is_ca


def test_damage_of_a_certificate_with_everything_is_an_error_and_nothing_else(pki: Pki) -> None:
    der = pki.der(pki.server("everything", "inter", AIA, "authorityKeyIdentifier=keyid,issuer:always", "subjectKeyIdentifier=hash", key="rsa"))
    source = random.Random(5280)
    read = 0
    for _count in range(5000):
        damaged = bytearray(der)
        for _count in range(source.randrange(1, 4)):
            damaged[source.randrange(len(damaged))] = source.choice((0, 0x30, 0x7F, 0x80, 0x84, 0xFF, source.randrange(256)))
        try:
            x509.parse(bytes(damaged))
        except ValueError:
            continue
        read += 1

    assert 500 < read < 4900  # both happened
