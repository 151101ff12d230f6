# SPDX-License-Identifier: GPL-3.0-or-later
"""What is worth knowing of a test that passed."""

from __future__ import annotations

import datetime
import socket
import typing as t

import pytest
from pki import Pki

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import warnings
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Interception, Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.route import Proxy, Route
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import x509
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.session import Session

HERE = Address(socket.AF_INET, ("127.0.0.1", 465))


def client(**options: t.Any) -> Client:
    return Client("mx.provider.test", 465, "implicit", deadline=Deadline(1), **options)


def seen(pki: Pki, name: str = "leaf", verified: bool = True, **facts: t.Any) -> Observation:
    """A connection to a server with the certificate of that name."""
    certificate = x509.parse(pki.der(name))
    session = Session("TLSv1.3", "TLS_AES_256_GCM_SHA384", verified, pki.der(name))
    return Observation("mx.provider.test", 465, "implicit", certificate=certificate, chain=[certificate], session=session, **facts)


def test_nothing_is_odd(pki: Pki) -> None:
    assert warnings.collect(seen(pki), client()) == []


@pytest.mark.parametrize(("days", "told"), [(warnings.SOON + 1, False), (warnings.SOON - 1, True)])
def test_a_certificate_that_ends_soon(pki: Pki, days: int, told: bool) -> None:
    pki.server("ending", "root", end=90)
    end = x509.parse(pki.der("ending")).not_after
    found = warnings.collect(seen(pki, "ending", now=end - datetime.timedelta(days=days, hours=1)), client())

    assert found == ([f"the certificate expires in {days} days"] if told else [])


def test_one_that_did_not_verify_is_the_diagnosis_and_no_warning(pki: Pki) -> None:
    pki.server("over", "root", start=-20, end=-10)

    assert warnings.collect(seen(pki, "over", verified=False), client()) == []


def test_a_signature_that_can_be_forged(pki: Pki) -> None:
    pki.server("forgeable", "root", digest="sha1")

    assert any("MD5 or SHA-1" in text for text in warnings.collect(seen(pki, "forgeable"), client()))


def test_an_inspection_product_whose_ca_is_trusted(pki: Pki) -> None:
    found = warnings.collect(seen(pki, interception=Interception("terminated_by_proxy", ("issued by a product",))), client())

    assert found == ["something in between reads all of this, the login included: issued by a product"]


def test_addresses_are_not_those_of_the_host_behind_a_proxy(pki: Pki) -> None:
    direct, by_proxy = client(addresses=[HERE]), client(addresses=[HERE], route=Route(proxy=Proxy("socks5", "proxy.test", 1080)))

    assert any("loopback" in text for text in warnings.collect(seen(pki), direct))
    assert warnings.collect(seen(pki), by_proxy) == []


def test_what_was_noticed_is_a_warning_only_if_nothing_failed(pki: Pki) -> None:
    noticed = {"notes": ["odd"], "complaints": [("oauth_wrong_account", "the access token is for somebody else")]}
    failure = SmtpError(Kind.TIMEOUT, "x", stage="auth")

    assert warnings.collect(seen(pki, **noticed), client()) == ["the access token is for somebody else", "odd"]
    assert warnings.collect(seen(pki, error=failure, **noticed), client()) == []


def test_dane_that_does_not_protect(pki: Pki) -> None:
    found = seen(pki)
    assert found.session is not None
    found.session = found.session._replace(dane={"status": "insecure", "detail": "no signature"})

    assert warnings.collect(found, client()) == ["DANE does not protect this connection: no signature"]
