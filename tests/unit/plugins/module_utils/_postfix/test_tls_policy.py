# SPDX-License-Identifier: GPL-3.0-or-later
"""How much TLS is demanded, and of whom."""

from __future__ import annotations

import pytest
from postfix_instance import Instance

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.tls_policy import (
    PolicyError,
    accepted_names,
    engine_is_wanted,
    global_level,
    minimum_version,
    policy_for,
)

POLICIES = {
    "[smtp.example.net]:587": "encrypt protocols=>=TLSv1.3",
    "example.net": "secure match=a.example:.b.example match=nexthop servername=sni.example",
    ".example.com": "verify",
    "off.example": "none match=x",
    "pins.example": "fingerprint match=AA:BB|CC:DD match=EE",
    "bad.example": "encrpyt",
    "attribute.example": "encrypt nonsense=1",
    "match.example": "encrypt match=x",
    "name.example": "encrypt servername=a_b..c",
    "anchor.example": "secure tafile=/ta.pem",
    "half.example": "half-dane",
}


def policy(destination, **overrides):
    instance = Instance(tables={"hash:/p": POLICIES})
    return policy_for(destination, instance.parameters(smtp_tls_policy_maps="hash:/p", **overrides), instance.maps())


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, ("none", "smtp_tls_security_level")),
        ({"smtp_tls_security_level": "Encrypt"}, ("encrypt", "smtp_tls_security_level")),
        ({"smtp_use_tls": "yes"}, ("may", "smtp_use_tls")),
        ({"smtp_use_tls": "yes", "smtp_enforce_tls": "yes"}, ("verify", "smtp_enforce_tls")),
        ({"smtp_enforce_tls": "yes", "smtp_tls_enforce_peername": "no"}, ("encrypt", "smtp_enforce_tls")),
        ({"smtp_tls_security_level": "may", "smtp_enforce_tls": "yes"}, ("may", "smtp_tls_security_level")),
    ],
)
def test_global_level(overrides, expected):
    assert global_level(Instance().parameters(**overrides)) == expected


def test_an_invalid_level():
    with pytest.raises(PolicyError, match="encrpyt"):
        global_level(Instance().parameters(smtp_tls_security_level="encrpyt"))


@pytest.mark.parametrize(
    ("destination", "level", "decided_by"),
    [
        ("[smtp.example.net]:587", "encrypt", "smtp_tls_policy_maps"),
        ("[smtp.example.net]:465", "may", "smtp_tls_security_level"),
        ("[smtp.example.net]", "may", "smtp_tls_security_level"),
        ("smtp.example.net:587", "may", "smtp_tls_security_level"),
        ("example.net", "secure", "smtp_tls_policy_maps"),
        ("sub.example.net", "may", "smtp_tls_security_level"),
        ("deep.sub.example.com", "verify", "smtp_tls_policy_maps"),
        ("example.com", "may", "smtp_tls_security_level"),
        ("[sub.example.com]:587", "may", "smtp_tls_security_level"),
        ("off.example", "none", "smtp_tls_policy_maps"),
    ],
)
def test_which_entry_counts(destination, level, decided_by):
    found = policy(destination, smtp_tls_security_level="may")
    assert (found.level, found.decided_by) == (level, decided_by)


@pytest.mark.parametrize("destination", ["bad.example", "attribute.example", "match.example", "name.example", "half.example"])
def test_entries_that_defer_the_mail(destination):
    with pytest.raises(PolicyError):
        policy(destination)


def test_a_policy_table_that_can_not_be_read():
    instance = Instance()
    with pytest.raises(PolicyError, match="smtp_tls_policy_maps can not be read"):
        policy_for("x", instance.parameters(smtp_tls_policy_maps="hash:/none"), instance.maps())


def test_names():
    found = policy("example.net", smtp_tls_security_level="may")
    assert found.server_name == "sni.example"
    assert accepted_names(found, "mx.example.net", "example.net") == ["a.example", ".b.example", "example.net"]
    verify = policy("[h.example]", smtp_tls_security_level="verify")
    assert accepted_names(verify, "h.example", "h.example") == ["h.example"]
    secure = policy("h.example", smtp_tls_security_level="secure")
    assert accepted_names(secure, "mx.other", "h.example") == ["h.example", ".h.example"]
    assert policy("pins.example").match == ("AA:BB", "CC:DD", "EE")
    assert policy("anchor.example").trust_anchors == ("/ta.pem",)
    assert accepted_names(policy("[x]", smtp_tls_security_level="encrypt"), "x", "x") == []


def test_fingerprints_are_needed_where_they_decide():
    with pytest.raises(PolicyError, match="without a fingerprint"):
        policy("[x]", smtp_tls_security_level="fingerprint")


def test_dane_without_dnssec():
    assert policy("[x]", smtp_tls_security_level="dane").level == "may"
    assert policy("[x]", smtp_tls_security_level="dane", smtp_dns_support_level="dnssec").level == "dane"
    assert policy("[x]", smtp_tls_security_level="dane", smtp_dns_support_level="dnssec", smtp_host_lookup="native").level == "may"
    with pytest.raises(PolicyError, match="dnssec"):
        policy("[x]", smtp_tls_security_level="dane-only")


def test_when_tls_is_set_up():
    assert not engine_is_wanted(Instance().parameters())
    assert engine_is_wanted(Instance().parameters(smtp_tls_security_level="may"))
    assert engine_is_wanted(Instance().parameters(smtp_tls_policy_maps="static:none"))


@pytest.mark.parametrize(
    ("protocols", "expected"),
    [
        ("!SSLv2, !SSLv3", "1.2"),
        (">=TLSv1", "1.2"),
        (">=TLSv1.3", "1.3"),
        ("!TLSv1, !TLSv1.1, !TLSv1.2", "1.3"),
        ("TLSv1.3", "1.3"),
        ("TLSv1.2, TLSv1.3", "1.2"),
        ("TLSv1.2", "1.2"),
        ("", "1.2"),
    ],
)
def test_lowest_version(protocols, expected):
    assert minimum_version(protocols) == expected
