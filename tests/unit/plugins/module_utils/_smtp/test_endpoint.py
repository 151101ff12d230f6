# SPDX-License-Identifier: GPL-3.0-or-later
"""What an endpoint may hold, what follows from what, and what is refused before anything is sent."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import endpoint
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.endpoint import normalise_endpoints
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import RelayError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.route import Proxy
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials

SECRET = "Tr0ub4dor&3 kettle"
LOGIN = {"username": "alerts@example.net", "password": SECRET}
DIGEST = "ab" * 32


def one(**fields: t.Any) -> t.Dict[str, t.Any]:
    return normalise_endpoints([{"host": "smtp.example.net", **fields}])[0]


def refused(field: str, **fields: t.Any) -> str:
    """The message that refuses *fields*; it names *field* and tells no secret."""
    with pytest.raises(RelayError) as caught:
        one(**fields)
    assert caught.value.field.endswith(f".{field}"), caught.value.field
    assert SECRET not in str(caught.value)
    return caught.value.reason


def test_has_every_field_with_its_default() -> None:
    found = one()
    assert set(found) == {*endpoint.FIELDS, *endpoint.ONLY_POSTFIX}
    assert found["port"] == 587 and found["tls"] == "starttls"
    assert found["family"] == "any" and found["minimum_tls"] == "1.2" and found["fingerprints"] == []
    assert endpoint.credentials(found) is None


def test_the_rules_of_a_relay_hold_for_an_endpoint() -> None:
    assert "contradicts port 465" in refused("tls", port=465, tls="starttls")
    assert "is not a field" in refused("pasword", pasword="x")


@pytest.mark.parametrize("entries", ["text", {"host": "h"}, []])
def test_wants_a_list_of_dictionaries(entries: t.Any) -> None:
    with pytest.raises(RelayError):
        normalise_endpoints(entries)


def test_credentials_trust_and_route_come_from_the_fields() -> None:
    found = one(
        **LOGIN,
        ca_file="/etc/ssl/ca.pem",
        server_name="MX.example.net.",
        minimum_tls="1.3",
        fingerprints=[DIGEST.upper(), "sha256:" + ":".join(["cd"] * 32)],
        source_address="2001:DB8::1",
        proxy={"host": "proxy.example.net", "username": "u", "password": "p"},
    )
    assert endpoint.credentials(found) == Credentials("alerts@example.net", SECRET, None)
    trust = endpoint.trust(found)
    assert (trust.ca_file, trust.server_name, trust.minimum_version) == ("/etc/ssl/ca.pem", "mx.example.net", "1.3")
    assert trust.fingerprints == (f"sha256:{DIGEST}", "sha256:" + "cd" * 32)
    route = endpoint.route(found)
    assert route.source_address == "2001:db8::1"
    assert route.proxy == Proxy("socks5", "proxy.example.net", 1080, "u", "p")


def test_an_access_token_is_a_credential() -> None:
    found = one(username="a@example.net", access_token="ya29.a0Af_-~+/==")
    assert endpoint.credentials(found) == Credentials("a@example.net", None, "ya29.a0Af_-~+/==")


def test_external_logs_in_with_the_certificate_alone() -> None:
    found = one(mechanism="external", client_certificate="/etc/ssl/client.pem")
    assert endpoint.credentials(found) == Credentials(None, None, None)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("password", {"username": "a@example.net"}),
        ("username", {"password": SECRET}),
        ("username", {"access_token": "ya29.x"}),
        ("username", {**LOGIN, "username": "a:b"}),
        ("access_token", {**LOGIN, "access_token": "ya29.x"}),
        ("access_token", {"username": "a", "access_token": "two words"}),
        ("access_token", {"username": "a", "access_token": "x\r\nMAIL FROM:<>"}),
        ("mechanism", {**LOGIN, "mechanism": "ntlm"}),
        ("mechanism", {**LOGIN, "mechanism": "xoauth2"}),
        ("mechanism", {"username": "a", "access_token": "ya29.x", "mechanism": "plain"}),
        ("mechanism", {**LOGIN, "mechanism": "external", "client_certificate": "/c.pem"}),
        ("client_certificate", {"mechanism": "external"}),
        ("client_certificate", {"client_key": "/k.pem"}),
        ("client_certificate", {"client_certificate": "relative.pem"}),
        ("tls", {**LOGIN, "tls": "none", "port": 2500}),
        ("server_name", {"tls": "none", "port": 2500, "server_name": "mx.example.net"}),
        ("server_name", {"server_name": "not a name"}),
        ("fingerprints", {"fingerprints": ["ab:cd"]}),
        ("fingerprints", {"fingerprints": DIGEST}),
        ("fingerprints", {"fingerprints": [DIGEST + "\n"]}),
        ("fingerprints", {"fingerprints": [DIGEST], "dane": True}),
        ("dane", {"dane": "yes"}),
        ("minimum_tls", {"minimum_tls": "1.0"}),
        ("minimum_tls", {**LOGIN, "minimum_tls": "1.3", "mechanism": "scram-sha-256-plus"}),
        ("minimum_tls", {"minimum_tls": 1.3}),
        ("family", {"family": "v6"}),
        ("source_address", {"source_address": "eth0"}),
        ("source_address", {"source_address": "fe80::1%eth0"}),
        ("source_address", {"source_address": "192.0.2.1", "family": "ipv6"}),
        ("sender", {"sender": "alerts"}),
        ("sender", {"sender": "a@example.net\r\nDATA"}),
        ("sender", {"sender": "a@example.net> SIZE=1"}),
        ("sender", {"sender": "ä@example.net"}),
        ("sender", {"recipient": "a@example.net"}),
        ("recipient", {"sender": "a@example.net", "recipient": "a b@example.net"}),
        ("proxy", {"proxy": "socks5://h"}),
        ("host", {"proxy": {"type": "http"}}),
        ("type", {"proxy": {"type": "socks4", "host": "h"}}),
        ("port", {"proxy": {"host": "h", "port": 0}}),
        ("password", {"proxy": {"host": "h", "username": "u"}}),
        ("password", {"proxy": {"host": "h", "username": "u", "password": "ä" * 128}}),
        ("username", {"proxy": {"type": "http", "host": "h", "username": "u:v", "password": "p"}}),
        ("url", {"proxy": {"host": "h", "url": "x"}}),
        ("proxy", {"proxy": {"host": "h"}, "dane": True}),
        ("proxy", {"proxy": {"host": "h"}, "every_address": True}),
        ("every_address", {"every_address": 1}),
    ],
)
def test_refuses_and_names_the_field(field: str, fields: t.Dict[str, t.Any]) -> None:
    assert refused(field, **fields)


def test_a_mechanism_with_channel_binding_keeps_to_the_tls_version_that_has_one() -> None:
    assert endpoint.trust(one(**LOGIN, mechanism="scram-sha-1-plus")).maximum_version == "1.2"
    assert endpoint.trust(one(**LOGIN, mechanism="scram-sha-1")).maximum_version is None


def test_a_password_in_clear_text_is_allowed_on_purpose_only() -> None:
    found = one(**LOGIN, tls="none", port=2500, allow_unencrypted=True)
    assert endpoint.credentials(found) is not None and found["allow_unencrypted"] is True


def test_messages_call_the_entry_by_its_place_and_name() -> None:
    with pytest.raises(RelayError, match=r"^relays\[1\] \(second\)\.family: "):
        normalise_endpoints([{"host": "a.example.net"}, {"host": "b.example.net", "name": "second", "family": "x"}])
