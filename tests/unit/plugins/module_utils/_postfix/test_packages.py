# SPDX-License-Identifier: GPL-3.0-or-later
"""Platforms from the os-release(5) that they ship."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.packages import Platform


@pytest.mark.parametrize(
    ("os_release", "packages", "chroot"),
    [
        ("ID=debian\n", ["libsasl2-modules"], "y"),
        ("NAME=Ubuntu\nID=ubuntu\nID_LIKE=debian\n", ["libsasl2-modules"], "y"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', ["libsasl2-modules"], "y"),
        ('ID="rhel"\nID_LIKE="fedora"\n', ["cyrus-sasl-plain"], "n"),
        ('ID="almalinux"\nID_LIKE="rhel centos fedora"\n', ["cyrus-sasl-plain"], "n"),
        ("ID=fedora\n", ["cyrus-sasl-plain"], "n"),
        ('ID="amzn"\nID_LIKE="fedora"\n', ["cyrus-sasl-plain"], "n"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', ["cyrus-sasl-plain"], "n"),
        ("ID=alpine\n", ["cyrus-sasl", "cyrus-sasl-login"], "n"),
        ("ID=plan9\n", ["cyrus-sasl-plain"], "n"),
        (None, ["cyrus-sasl-plain"], "n"),
    ],
)
def test_what_the_sasl_plugins_are_called(tmp_path: Path, os_release: str, packages: str, chroot: str) -> None:
    (tmp_path / "etc").mkdir()
    if os_release is not None:
        (tmp_path / "etc/os-release").write_text(os_release)
    platform = Platform(str(tmp_path))
    assert platform.package_names(["plain", "login"]) == packages and platform.default_chroot() == chroot


@pytest.mark.parametrize("directory", ["usr/lib/x86_64-linux-gnu/sasl2", "usr/lib64/sasl2", "usr/lib/sasl2"])
def test_a_plugin_is_found_where_distributions_put_it(tmp_path: Path, directory: str) -> None:
    (tmp_path / directory).mkdir(parents=True)
    assert not Platform(str(tmp_path)).has_sasl_mechanism("plain")
    (tmp_path / directory / "libplain.so.2").touch()
    assert Platform(str(tmp_path)).has_sasl_mechanism("PLAIN") and not Platform(str(tmp_path)).has_sasl_mechanism("login")


def test_the_first_bundle_of_certificates_is_used(tmp_path: Path) -> None:
    (tmp_path / "etc/pki/tls/certs").mkdir(parents=True)
    (tmp_path / "etc/os-release").write_text("ID=fedora\n")
    assert Platform(str(tmp_path)).ca_bundle() is None
    (tmp_path / "etc/pki/tls/certs/ca-bundle.crt").touch()
    assert Platform(str(tmp_path)).ca_bundle() == "/etc/pki/tls/certs/ca-bundle.crt"
