# SPDX-License-Identifier: GPL-3.0-or-later
"""What Postfix is told of a relay that wants an access token, and what the proxy is told."""

from __future__ import annotations

import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._oauth import stored_token
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.oauth_relays import behind_proxy, proxies, with_access_token
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transports import transports
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import RelayError, normalise_relays

OAUTH = {"token_endpoint": "https://login.example.net/token", "client_id": "app", "refresh_token": "CANARY-refresh"}


def entry(name: str, **fields: t.Any) -> t.Dict[str, t.Any]:
    return {"name": name, "host": "smtp.example.net", "username": "alerts@example.net", "oauth": dict(OAUTH), **fields}


def relays(*entries: t.Dict[str, t.Any]) -> t.List[t.Dict[str, t.Any]]:
    return normalise_relays(list(entries), "relays")


PLAIN = {"name": "plain", "host": "mail.example.org", "username": "x@example.org", "password": "CANARY-password"}


def test_postfix_sees_a_relay_on_the_loopback_without_tls_and_login() -> None:
    seen = behind_proxy(relays(entry("one", ca_file="/etc/ca.pem", senders=["@example.net"], concurrency_limit=3), PLAIN), "relays")
    first, second = seen
    assert (first["host"], first["port"], first["tls"], first["family"]) == ("127.0.0.1", 288, "none", "ipv4")
    assert (first["name"], first["senders"], first["concurrency_limit"]) == ("one", ["@example.net"], 3)
    assert not any(first[field] for field in ("username", "password", "oauth", "ca_file", "server_name"))
    assert second == relays(PLAIN)[0]


def test_each_relay_has_a_port_of_its_own() -> None:
    given = relays(entry("one"), PLAIN, entry("two"), entry("three", oauth={**OAUTH, "local_port": 730}))
    assert {proxy.name: proxy.local_port for proxy in proxies(given, "relays")} == {"one": 288, "two": 289, "three": 730}


def test_a_port_leads_to_one_relay() -> None:
    given = relays(entry("one"), entry("two", oauth={**OAUTH, "local_port": 288}))
    with pytest.raises(RelayError, match=r"relays\[1\] \(two\)\.oauth\.local_port: 288 leads to relay one already"):
        proxies(given, "relays")


def test_a_port_is_one_that_only_root_can_take() -> None:
    """Whoever else had it while the proxy does not run would receive the mail."""
    for port in (1024, 10465):
        with pytest.raises(RelayError, match=r"relays\[0\] \(one\)\.oauth\.local_port: must be below 1024"):
            proxies(relays(entry("one", oauth={**OAUTH, "local_port": port})), "relays")
    assert proxies(relays(entry("one", oauth={**OAUTH, "local_port": 1023})), "relays")[0].local_port == 1023


def test_the_proxy_gets_what_the_relay_says() -> None:
    oauth = {**OAUTH, "client_secret": "s", "scope": "a b", "ca_file": "/etc/login.pem"}
    given = relays(entry("one", port=465, family="ipv6", ca_file="/etc/ca.pem", server_name="mx.example.net", minimum_tls="1.3", oauth=oauth))
    assert proxies(given, "relays")[0]._asdict() == {
        "name": "one",
        "host": "smtp.example.net",
        "port": 465,
        "tls": "implicit",
        "family": "ipv6",
        "ca_file": "/etc/ca.pem",
        "server_name": "mx.example.net",
        "minimum_tls": "1.3",
        "username": "alerts@example.net",
        "local_port": 288,
        "token_endpoint": "https://login.example.net/token",
        "client_id": "app",
        "client_secret": "s",
        "refresh_token": "CANARY-refresh",
        "scope": "a b",
        "token_ca_file": "/etc/login.pem",
    }
    assert "CANARY" not in repr(proxies(given, "relays"))


@pytest.mark.parametrize(("field", "value"), [("fingerprints", ["a" * 64]), ("client_certificate", "/etc/client.pem"), ("srv", True)])
def test_what_the_proxy_can_not_do_is_refused(field: str, value: t.Any) -> None:
    with pytest.raises(RelayError, match=rf"relays\[0\] \(one\)\.{field}: can not be combined with 'oauth'"):
        proxies(relays(entry("one", **{field: value})), "relays")


def test_a_password_beside_it_stays_as_it_is() -> None:
    """No plug-in for XOAUTH2 is asked for, and the other relay's mechanisms do not include it."""
    made = transports(relays(entry("one"), PLAIN), "relays")
    one, plain = made["transports"]
    assert (one["nexthop"], one["sasl"], one["security_level"], one["table"]) == ("[127.0.0.1]:288", "no", "none", None)
    assert plain["sasl"] == "yes" and plain["security_level"] == "secure" and "!xoauth2" in plain["mechanisms"]
    assert made["sasl_mechanisms"] == ["plain", "login"]
    assert "CANARY-refresh" not in str(made)


def test_a_test_takes_the_token_that_the_host_has(tmp_path: Path) -> None:
    (given,) = relays(entry("one"))
    path = stored_token.path_of(str(tmp_path / "tokens"), proxies([given], "relays")[0])
    (tmp_path / "tokens").mkdir()
    stored_token.save(path, stored_token.Stored("the-token", time.time() + 60, 3600.0))
    found = with_access_token(given, "relays[0]", str(tmp_path))
    assert found == {**given, "oauth": None, "access_token": "the-token"}
    (plain,) = relays(PLAIN)
    assert with_access_token(plain, "relays[0]", str(tmp_path)) == plain


@pytest.mark.parametrize("stored", [None, stored_token.Stored("CANARY-token", 1.0, 3600.0), stored_token.Stored(refresh_token="CANARY")])
def test_without_a_valid_token_there_is_nothing_to_test_with(tmp_path: Path, stored: t.Optional[stored_token.Stored]) -> None:
    (given,) = relays(entry("one"))
    (tmp_path / "tokens").mkdir()
    if stored:
        stored_token.save(stored_token.path_of(str(tmp_path / "tokens"), proxies([given], "relays")[0]), stored)
    with pytest.raises(RelayError, match=r"relays\[0\]\.oauth: this host has no valid access token") as caught:
        with_access_token(given, "relays[0]", str(tmp_path))
    assert "CANARY" not in str(caught.value)
