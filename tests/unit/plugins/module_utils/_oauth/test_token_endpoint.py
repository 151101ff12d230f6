# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking a token endpoint: what it is told, what is taken from its answer, and what a hostile one can not do."""

from __future__ import annotations

import time
import typing as t

import pytest
from smtp_server import Certificates, Peer
from token_server import TOKEN, TokenServer

from ansible_collections.outpost.smtp.plugins.module_utils._oauth import token_endpoint
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.settings import OAuthError, RelaySettings

Make = t.Callable[..., RelaySettings]


def refusal(relay: RelaySettings, deadline: float = 20.0) -> str:
    with pytest.raises(OAuthError) as caught:
        token_endpoint.request(relay, relay.refresh_token, deadline=deadline)
    assert "CANARY" not in str(caught.value)
    return str(caught.value)


def test_a_refresh_token_earns_an_access_token(endpoint: TokenServer, settings: Make) -> None:
    relay = settings(token_endpoint=endpoint.url)
    grant = token_endpoint.request(relay, relay.refresh_token, now=lambda: 1000.0)
    assert grant == (TOKEN, 4600.0, 3600.0, None)
    assert endpoint.forms == [
        {
            "grant_type": "refresh_token",
            "refresh_token": relay.refresh_token,
            "client_id": "outpost",
            "client_secret": relay.client_secret,
            "scope": relay.scope,
        }
    ]


def test_an_application_acts_for_itself(endpoint: TokenServer, settings: Make) -> None:
    relay = settings(token_endpoint=endpoint.url, refresh_token=None, scope=None)
    token_endpoint.request(relay, None)
    assert endpoint.forms == [{"grant_type": "client_credentials", "client_id": "outpost", "client_secret": relay.client_secret}]


def test_a_new_refresh_token_is_part_of_the_answer(endpoint: TokenServer, settings: Make) -> None:
    endpoint.body = {"access_token": TOKEN, "token_type": "bearer", "expires_in": "600", "refresh_token": "0.AX new~one"}
    grant = token_endpoint.request(settings(token_endpoint=endpoint.url), "old")
    assert (grant.refresh_token, grant.lifetime) == ("0.AX new~one", 600.0)


def test_without_a_lifetime_a_short_one_is_assumed(endpoint: TokenServer, settings: Make) -> None:
    endpoint.body = {"access_token": TOKEN}
    assert token_endpoint.request(settings(token_endpoint=endpoint.url), "x").lifetime == 1800.0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": "invalid_grant", "error_description": "AADSTS700082: CANARY-refresh token has expired"}, "HTTP 400 invalid_grant AADSTS700082"),
        ({"error": "CANARY"}, "HTTP 400"),
        ({"error": "secret_of_the_client"}, "HTTP 400"),
        ({"error": ["invalid_grant"]}, "HTTP 400"),
        (b"<html>CANARY</html>", "HTTP 400"),
    ],
)
def test_a_refusal_is_told_without_what_could_be_a_secret(endpoint: TokenServer, settings: Make, body: t.Any, reason: str) -> None:
    endpoint.status, endpoint.body = "400 Bad Request", body
    assert refusal(settings(token_endpoint=endpoint.url)) == f"the token endpoint refuses: {reason}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "no access token"),
        ([], "no access token"),
        (b"\xff\xfe", "no access token"),
        (b"[" * 100000, "no access token"),
        ({"access_token": "CANARY two words"}, "no access token"),
        ({"access_token": "line\nbreak"}, "no access token"),
        ({"access_token": "A" * 20000}, "no access token"),
        ({"access_token": TOKEN, "token_type": "mac"}, "another type"),
        ({"access_token": TOKEN, "token_type": 1}, "another type"),
        ({"access_token": TOKEN, "refresh_token": "line\nbreak"}, "refresh token that none can be"),
        ({"access_token": TOKEN, "refresh_token": ["x"]}, "refresh token that none can be"),
        ({"access_token": TOKEN, "expires_in": -1}, "how long"),
        ({"access_token": TOKEN, "expires_in": "soon"}, "how long"),
        ({"access_token": TOKEN, "expires_in": "nan"}, "how long"),
        ({"access_token": TOKEN, "expires_in": [1]}, "how long"),
        ({"access_token": TOKEN, "expires_in": 10**400}, "how long"),
        (b"x" * (token_endpoint.MAX_ANSWER + 1), "more than"),
    ],
    ids=range(17),
)
def test_an_answer_that_is_none_is_refused(endpoint: TokenServer, settings: Make, body: t.Any, words: str) -> None:
    endpoint.body = body
    assert words in refusal(settings(token_endpoint=endpoint.url))


def test_no_redirect_is_followed(endpoint: TokenServer, settings: Make, certificates: Certificates) -> None:
    with TokenServer(certificates.good()) as elsewhere:
        endpoint.status, endpoint.headers = "307 Temporary Redirect", f"Location: {elsewhere.url}\r\n"
        assert "redirect (HTTP 307)" in refusal(settings(token_endpoint=endpoint.url))
        assert not elsewhere.peers


def test_an_unverified_endpoint_gets_no_secret(endpoint: TokenServer, settings: Make, certificates: Certificates) -> None:
    assert "can not be verified" in refusal(settings(token_endpoint=endpoint.url, token_ca_file=None))
    with TokenServer(certificates.wrong_name()) as other:
        assert "can not be verified" in refusal(settings(token_endpoint=other.url))
        assert not other.forms
    assert not endpoint.forms


def drip(peer: Peer) -> None:
    """One octet of a header now and then: each comes in time, the answer never does."""
    peer.send_raw(b"HTTP/1.1 200 OK\r\nX: ")
    while not peer.gone(0.05):
        peer.send_raw(b"x")


@pytest.mark.parametrize("handler", [drip, Peer.wait_until_closed], ids=["drips", "is silent"])
def test_a_slow_endpoint_is_left(endpoint: TokenServer, settings: Make, handler: t.Callable[[Peer], None]) -> None:
    endpoint.handler = handler
    start = time.monotonic()
    assert "within" in refusal(settings(token_endpoint=endpoint.url), deadline=0.5)
    assert time.monotonic() - start < 5


def test_what_is_no_http_is_told(endpoint: TokenServer, settings: Make) -> None:
    endpoint.handler = lambda peer: peer.send("CANARY is no status line")
    assert "does not speak HTTP" in refusal(settings(token_endpoint=endpoint.url))
    endpoint.handler = Peer.reset
    assert "reached" in refusal(settings(token_endpoint=endpoint.url)) or "HTTP" in refusal(settings(token_endpoint=endpoint.url))


def test_a_name_without_an_address_is_told(settings: Make) -> None:
    assert "absent.invalid" in refusal(settings(token_endpoint="https://absent.invalid/token"))


def test_a_ca_file_that_can_not_be_used_is_named(settings: Make) -> None:
    assert "/nowhere/ca.pem" in refusal(settings(token_ca_file="/nowhere/ca.pem"))
