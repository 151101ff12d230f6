# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transports import transports
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import RelayError, normalise_relays


def transport(**fields: t.Any) -> t.Dict[str, t.Any]:
    return transports(normalise_relays([{"host": "smtp.example.net", **fields}]), "v")[0]


def test_465_is_implicit_and_587_is_not() -> None:
    credentials = {"username": "u", "password": "p"}
    by_port = {port: transport(port=port, **credentials) for port in (465, 587)}
    assert [(by_port[port]["wrappermode"], by_port[port]["security_level"], by_port[port]["sasl"]) for port in (465, 587)] == [
        ("yes", "secure", "yes"),
        ("no", "secure", "yes"),
    ]
    assert by_port[465]["nexthop"] == "[smtp.example.net]:465"


def test_a_relay_without_credentials_is_still_verified_unless_tls_is_off() -> None:
    assert (transport()["security_level"], transport()["sasl"]) == ("secure", "no")
    assert transport(port=25, tls="none")["security_level"] == "none"


def test_names_of_parameters_have_no_hyphen() -> None:
    assert (transport(name="a-b")["service"], transport(name="a-b")["prefix"]) == ("outpost_a-b", "outpost_a_b")


def test_auto_allows_any_mechanism_that_uses_a_password() -> None:
    assert transport(mechanism="login")["mechanisms"] == "login"
    assert "!xoauth2" in transport()["mechanisms"] and transport()["mechanisms"].endswith("static:all")


def test_an_address_can_not_be_verified() -> None:
    with pytest.raises(RelayError, match=r"v\[0\] \(.*\)\.host: is an IP address"):
        transport(host="192.0.2.1")
    assert transport(host="192.0.2.1", port=25, tls="none")["nexthop"] == "[192.0.2.1]:25"
