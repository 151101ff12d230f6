# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of certificates against hosts; what OpenSSL decides about the same pairs is the reference."""

from __future__ import annotations

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.certnames import names_that_match


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("smtp.example.net", "smtp.example.net"),
        ("SMTP.Example.NET", "smtp.example.net"),
        ("smtp.example.net.", "smtp.example.net"),
        ("smtp.example.net", "*.example.net"),
        ("b\u00fccher.example.net", "xn--bcher-kva.example.net"),
        ("b\u00fccher.example.net", "*.example.net"),
        ("smtp.b\u00fccher.example", "*.xn--bcher-kva.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
    ],
)
def test_names_for_the_host(host: str, name: str) -> None:
    assert names_that_match(host, ["other.example.org", name]) == [name]


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("smtp.example.net", "example.net"),
        ("example.net", "*.example.net"),
        ("a.b.example.net", "*.example.net"),
        ("smtp.example.net", "s*.example.net"),
        ("smtp.example.net", "smtp.*.net"),
        ("smtp.example.net", "*"),
        ("mail.test", "*.test"),
        ("192.0.2.1", "*.0.2.1"),
        ("192.0.2.1", "192.0.2.10"),
        ("smtp.example.net", ""),
        ("", ""),
        ("smtp..example.net", "smtp..example.net"),
        ("\ud800.example.net", "*.example.net"),
        ("smtp.example.net", r"smtp.example.net\x00.evil.test"),
    ],
)
def test_names_for_others(host: str, name: str) -> None:
    assert names_that_match(host, [name]) == []
