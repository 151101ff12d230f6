# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict on interference: each with its evidence, and none where the evidence has harmless causes, too."""

from __future__ import annotations

import errno
import socket
import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import Attempt
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.ehlo import Capabilities
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Alternative, Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings import interception, refusal
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.alternatives import advice
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.interception import judge
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.refusal import Refusal
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.session import Session
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.x509 import Certificate, parse

OURS, THEIRS = "smtp.example.org", "smtp.gmail.com"
PUBLIC_CA, PRIVATE_CA = "C=US, O=Let's Encrypt, CN=R11", "O=Example, CN=Example Root"


@pytest.fixture(scope="module")
def template(certificates: t.Any) -> Certificate:
    """A certificate as the reader of certificates returns it, to be given other names."""
    return parse(certificates.der("/CN=smtp.example.org", "DNS:smtp.example.org"))


def address(host: str, port: int = 587) -> Address:
    return Address(socket.AF_INET, (host, port))


def attempts(*outcomes: str, elapsed_ms: int = 30) -> t.List[Attempt]:
    """One attempt each, on addresses that are reserved for documentation."""
    made = [Attempt(address(f"192.0.2.{index}"), outcome) for index, outcome in enumerate(outcomes, 1)]
    for attempt in made:
        attempt.elapsed_ms = elapsed_ms
    return made


def observation(kind: str = "", stage: str = "greeting", *, host: str = OURS, port: int = 587, mode: str = "starttls", **facts: t.Any) -> Observation:
    """What was seen: a failure of *kind* at *stage*, with facts of the error or of the observation."""
    seen = Observation(host, port, mode)
    seen.peer, seen.attempts = "192.0.2.1", attempts("connected")
    error = {name: facts.pop(name) for name in ("reply", "errno", "sample", "verify_code") if name in facts}
    if kind:
        seen.error = SmtpError(kind, "x", stage=stage, **error)
    for name, value in facts.items():
        setattr(seen, name, value)
    return seen


def greeting(text: str) -> Reply:
    return Reply(220, [text])


def offers(*extensions: str) -> Capabilities:
    return Capabilities(Reply(250, ["host", *extensions]))


VERIFIED, BLIND = Session("TLSv1.3", "x", True, b""), Session("TLSv1.3", "x", False, b"")


def verdict(seen: Observation, *own_names: str) -> str:
    found = judge(seen, own_names)
    assert found.evidence or found.verdict == "unknown", "there is no verdict without evidence"
    return found.verdict


# -- clean -------------------------------------------------------------------------------------------------------------


def test_tls_that_verified_is_clean_whatever_comes_after_it(template: Certificate) -> None:
    certificate = template._replace(issuer=PUBLIC_CA)
    refused = observation(Kind.REPLY, "auth", reply=Reply(535, ["5.7.8 no"]), session=VERIFIED, certificate=certificate)
    passed = observation(session=VERIFIED, certificate=certificate)

    assert verdict(refused) == verdict(passed) == "clean"
    assert judge(passed).evidence == (f"TLS reaches {OURS}: its certificate verified, issued by {PUBLIC_CA}",)


def test_a_masked_greeting_before_tls_that_verified_is_told_but_nothing_is_intercepted() -> None:
    found = judge(observation(session=VERIFIED, greeting=greeting("*" * 40)))

    assert found.verdict == "clean" and "a device overwrites the greeting" in found.evidence[1]


def test_without_tls_nothing_proves_that_it_is_clean() -> None:
    assert verdict(observation(mode="none")) == "unknown"


# -- captive portal ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", ["HTTP/1.1 302 Found", "<html><head>", "<!DOCTYPE html>"])
@pytest.mark.parametrize(("kind", "stage"), [(Kind.MALFORMED, "greeting"), (Kind.NOT_TLS, "tls")])
def test_http_on_a_port_of_mail_is_a_portal(kind: str, stage: str, sample: str) -> None:
    assert verdict(observation(kind, stage, sample=sample)) == "captive_portal"


def test_http_on_another_port_is_a_port_that_was_mistaken() -> None:
    assert verdict(observation(Kind.MALFORMED, sample="HTTP/1.1 400 Bad Request", port=8080)) == "unknown"


def test_http_on_other_ports_is_more_evidence() -> None:
    sibling = Alternative(465, "implicit", False, "the answer to the TLS ClientHello was 'HTTP/1.1 302 Found'", "192.0.2.1", 3)
    found = judge(observation(Kind.MALFORMED, sample="HTTP/1.1 302 Found", alternatives=[sibling]))

    assert [line.split(":")[0] for line in found.evidence] == ["port 587 answers with HTTP", "port 465 answers with HTTP"]


@pytest.mark.parametrize(("port", "expected"), [(587, "captive_portal"), (465, "captive_portal")])
def test_a_portal_that_waits_for_a_request_answers_a_client_hello(port: int, expected: str) -> None:
    hello = Alternative(port, "implicit", False, "the answer to the TLS ClientHello was 'HTTP/1.1 400 Bad Request'", "192.0.2.1")
    assert verdict(observation(Kind.TIMEOUT, alternatives=[hello])) == expected


def test_a_web_server_on_another_port_is_no_portal_where_mail_answers() -> None:
    other = Alternative(465, "implicit", False, "the answer to the TLS ClientHello was 'HTTP/1.1 400 Bad Request'", "192.0.2.1")
    assert verdict(observation(Kind.REPLY, reply=Reply(554, ["no"]), alternatives=[other])) == "unknown"


# -- stripped ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offer", ["XXXXXXXA", "XXXXXXXX", "********"])
def test_starttls_that_is_overwritten(offer: str) -> None:
    assert verdict(observation(Kind.NO_STARTTLS, "starttls", before_tls=offers("SIZE 1", offer))) == "stripped"


def test_a_greeting_that_is_overwritten() -> None:
    found = judge(observation(Kind.CLOSED, "ehlo", greeting=greeting("*" * 40)))

    assert found.verdict == "stripped" and "*" * 40 in found.evidence[0]


@pytest.mark.parametrize(
    ("sibling", "expected"),
    [
        (Alternative(2525, "starttls", True, "works", "192.0.2.1"), "stripped"),
        (Alternative(587, "starttls", True, "works", "192.0.2.2"), "stripped"),
        (Alternative(465, "implicit", True, "works", "192.0.2.1"), "unknown"),
        (Alternative(2525, "starttls", False, "no STARTTLS offered", "192.0.2.1"), "unknown"),
    ],
)
def test_starttls_that_is_missing_is_stripped_where_the_host_offers_it_elsewhere(sibling: Alternative, expected: str) -> None:
    assert verdict(observation(Kind.NO_STARTTLS, "starttls", before_tls=offers("SIZE 1"), alternatives=[sibling])) == expected


def test_a_port_of_its_own_may_have_no_starttls_although_another_one_has_it() -> None:
    sibling = Alternative(587, "starttls", True, "works")
    seen = observation(Kind.NO_STARTTLS, "starttls", before_tls=offers("SIZE 1"), alternatives=[sibling], port=13587)
    assert verdict(seen) == "unknown"


@pytest.mark.parametrize(("host", "expected"), [(THEIRS, "stripped"), (OURS, "unknown")])
def test_starttls_that_a_provider_always_offers(host: str, expected: str) -> None:
    assert verdict(observation(Kind.NO_STARTTLS, "starttls", host=host, before_tls=offers("SIZE 1"))) == expected


@pytest.mark.parametrize(("code", "expected"), [(500, "stripped"), (502, "stripped"), (454, "unknown"), (554, "unknown")])
def test_starttls_that_is_offered_but_not_understood(code: int, expected: str) -> None:
    assert verdict(observation(Kind.REPLY, "starttls", reply=Reply(code, ["what"]), before_tls=offers("STARTTLS"))) == expected


# -- terminated by a proxy ---------------------------------------------------------------------------------------------


def test_the_certificate_of_an_inspection_product_even_if_it_verified(template: Certificate) -> None:
    certificate = template._replace(issuer="O=Zscaler Inc., CN=Zscaler Intermediate Root CA (zscaler.net)")
    found = judge(observation(session=VERIFIED, certificate=certificate))

    assert found.verdict == "terminated_by_proxy" and "Zscaler" in found.evidence[0]


def test_the_product_may_be_named_further_up_the_chain(template: Certificate) -> None:
    chain = [template._replace(issuer="CN=issuing 7"), template._replace(issuer="O=Fortinet, CN=FG100")]
    assert verdict(observation(session=VERIFIED, certificate=chain[0], chain=chain)) == "terminated_by_proxy"


@pytest.mark.parametrize(
    ("host", "issuer", "code", "expected"),
    [
        (THEIRS, PRIVATE_CA, 20, "terminated_by_proxy"),
        (THEIRS, PRIVATE_CA, 19, "terminated_by_proxy"),
        (THEIRS, PUBLIC_CA, 20, "unknown"),
        (THEIRS, PRIVATE_CA, 10, "unknown"),
        (OURS, PRIVATE_CA, 20, "unknown"),
    ],
    ids=["unknown CA", "unknown root", "old system", "expired", "own server"],
)
def test_a_provider_whose_certificate_no_public_ca_issued(template: Certificate, host: str, issuer: str, code: int, expected: str) -> None:
    seen = observation(Kind.TLS, "tls", host=host, verify_code=code, session=BLIND, certificate=template._replace(issuer=issuer))
    assert verdict(seen) == expected


@pytest.mark.parametrize(("names", "expected"), [(["mail.elsewhere.test"], "terminated_by_proxy"), (["mx.google.com"], "unknown")])
def test_a_provider_whose_certificate_is_for_others(template: Certificate, names: t.List[str], expected: str) -> None:
    certificate = template._replace(names=names, issuer=PUBLIC_CA)
    assert verdict(observation(Kind.TLS, "tls", host=THEIRS, verify_code=62, session=BLIND, certificate=certificate)) == expected


@pytest.mark.parametrize(
    ("host", "text", "expected"),
    [
        (OURS, "smtp.example.org ESMTP avast! proxy", "terminated_by_proxy"),
        (OURS, "smtp.example.org ESMTP Postfix", "unknown"),
        (THEIRS, "fw.example.net ESMTP Postfix", "terminated_by_proxy"),
        (THEIRS, "smtp.gmail.com ESMTP 4fb4d7f45d1cf-5c0-gsmtp", "unknown"),
    ],
)
def test_a_greeting_that_is_not_the_hosts(host: str, text: str, expected: str) -> None:
    assert verdict(observation(Kind.CLOSED, "ehlo", host=host, greeting=greeting(text))) == expected


def test_a_refusing_greeting_is_read_as_well() -> None:
    seen = observation(Kind.REPLY, "greeting", host=THEIRS, reply=Reply(554, ["fw.example.net no mail from here"]))
    assert verdict(seen) == "terminated_by_proxy"


def test_a_far_host_that_greets_as_this_server() -> None:
    seen = observation(Kind.CLOSED, "ehlo", greeting=greeting("Client.Example.net ESMTP Postfix"))

    assert verdict(seen, "", "client.example.net") == "terminated_by_proxy"
    assert verdict(seen, "other.example.net") == "unknown"


@pytest.mark.parametrize(("host", "peer"), [(OURS, "127.0.0.1"), ("client.example.net", "192.0.2.1"), (OURS, "")])
def test_this_server_may_greet_with_its_own_name(host: str, peer: str) -> None:
    seen = observation(Kind.CLOSED, "ehlo", host=host, greeting=greeting("client.example.net ESMTP"), peer=peer)
    assert verdict(seen, "client.example.net") == "unknown"


# -- tarpit ------------------------------------------------------------------------------------------------------------


def silent(port: int) -> Alternative:
    return Alternative(port, "implicit", False, "silent at tls", "192.0.2.1", 3900)


def test_silence_on_all_ports_is_a_tarpit() -> None:
    closed = Alternative(2525, "starttls", False, "refused")
    assert verdict(observation(Kind.TIMEOUT, alternatives=[silent(465), silent(2525)])) == "tarpit"
    assert verdict(observation(Kind.TIMEOUT, alternatives=[silent(465), closed])) == "tarpit"


def test_silence_on_one_port_is_not_enough() -> None:
    works = Alternative(2525, "starttls", True, "works", "192.0.2.1", 90)
    assert verdict(observation(Kind.TIMEOUT)) == "unknown"
    assert verdict(observation(Kind.TIMEOUT, alternatives=[silent(465), works])) == "unknown"
    assert verdict(observation(Kind.TIMEOUT, alternatives=[silent(465)], found="TLS")) == "unknown"


@pytest.mark.parametrize(("waited", "expected"), [(interception.SLOW_MS, "tarpit"), (interception.SLOW_MS - 1, "unknown")])
def test_a_greeting_that_drips(waited: int, expected: str) -> None:
    assert verdict(observation(Kind.TIMEOUT, sample="220 m", elapsed_ms={"greeting": waited})) == expected


# -- filtered and rejected ---------------------------------------------------------------------------------------------

WORKS_465 = Alternative(465, "implicit", True, "works", "192.0.2.1", 90)


def connect_failure(*outcomes: str, **facts: t.Any) -> Observation:
    return observation(Kind.CONNECT, "connect", **{"attempts": attempts(*outcomes), "peer": "", **facts})


@pytest.mark.parametrize(
    "facts",
    [{"alternatives": [WORKS_465]}, {"alternatives": [WORKS_465._replace(works=False, outcome="refused")]}, {"web": "connected"}, {"web": "refused"}],
    ids=["465 works", "465 refuses", "443 open", "443 refuses"],
)
def test_no_answer_from_any_address_while_others_answer_is_a_filter(facts: t.Dict[str, t.Any]) -> None:
    found = judge(connect_failure("timeout", "net_unreachable", "timeout", **facts))

    assert found.verdict == "filtered" and "from any of 2 addresses" in found.evidence[0]


@pytest.mark.parametrize(
    ("outcomes", "facts"),
    [
        (("timeout",), {}),
        (("timeout",), {"web": "timeout", "alternatives": [Alternative(465, "implicit", False, "timeout")]}),
        (("timeout",), {"web": "net unreachable, timeout"}),
        (("net_unreachable",), {"web": "connected"}),
    ],
    ids=["nobody looked", "all silent", "half without route", "no route"],
)
def test_a_host_that_may_be_down_is_not_called_filtered(outcomes: t.Tuple[str, ...], facts: t.Dict[str, t.Any]) -> None:
    assert verdict(connect_failure(*outcomes, **facts)) == "unknown"


def test_that_nothing_answers_is_told() -> None:
    found = judge(connect_failure("timeout", web="timeout", alternatives=[Alternative(465, "implicit", False, "timeout")]))
    assert found.evidence == ("no port of the host answers: it is down, or this server is cut off, or all of it is filtered",)


def test_nothing_on_the_way_drops_what_goes_to_this_server_itself() -> None:
    seen = connect_failure("timeout", web="connected")
    seen.attempts[0].address = address("127.0.0.1")
    assert verdict(seen) == "unknown"


def test_who_rejects_is_in_the_evidence() -> None:
    icmp = Refusal("192.0.2.1", "198.51.100.1", False, "host administratively prohibited", 3)
    found = judge(connect_failure("host_unreachable", refusals=[icmp]))

    assert found.verdict == "rejected"
    assert found.evidence == ("192.0.2.1: ICMP host administratively prohibited, sent by 198.51.100.1 after 3 ms",)


def test_a_refusal_is_a_rejection_even_if_nobody_looked_again() -> None:
    assert judge(connect_failure("refused")).evidence == ("192.0.2.1: refused after 30 ms",)
    assert verdict(connect_failure("refused")) == "rejected"


def test_a_neighbour_that_does_not_answer_rejects_nothing() -> None:
    missing = Refusal("192.0.2.1", "192.0.2.99", True, "host unreachable", 3061)
    rule = missing._replace(elapsed_ms=1)

    assert missing.is_neighbour_missing and not missing.is_own_rule
    assert rule.is_own_rule and not rule.is_neighbour_missing
    assert verdict(connect_failure("host_unreachable", refusals=[missing])) == "unknown"
    assert verdict(connect_failure("host_unreachable", refusals=[rule])) == "rejected"


@pytest.mark.parametrize(("number", "expected"), [(errno.ECONNRESET, "rejected"), (errno.EPIPE, "unknown")])
def test_a_reset_in_the_handshake(number: int, expected: str) -> None:
    assert verdict(observation(Kind.OS_ERROR, "tls", errno=number)) == expected


# -- evidence without a verdict ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("connect_ms", "answer_ms", "near"), [(1, 60, True), (30, 60, False), (1, 6, False)])
def test_a_connection_that_is_answered_nearby(connect_ms: int, answer_ms: int, near: bool) -> None:
    seen = observation(attempts=attempts("connected", elapsed_ms=connect_ms), elapsed_ms={"greeting": 90, "ehlo": answer_ms}, session=VERIFIED)
    found = judge(seen)

    assert found.verdict == "clean" and any("the connection opens in" in line for line in found.evidence) is near


def test_a_name_that_greeting_and_certificate_agree_on(template: Certificate) -> None:
    certificate = template._replace(names=["Server7.hosting.test"], issuer=PUBLIC_CA)
    seen = observation(Kind.TLS, "tls", verify_code=62, session=BLIND, certificate=certificate, greeting=greeting("server7.hosting.test ESMTP"))
    assert judge(seen) == ("unknown", ("greeting and certificate agree that this is server7.hosting.test",))


def test_an_input_error_has_no_verdict() -> None:
    assert judge(observation(Kind.CA_FILE, "tls", attempts=[], peer="")) == ("unknown", ())


# -- the advice --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (
            connect_failure("timeout", alternatives=[WORKS_465]),
            "Port 587 is dropped on all addresses; port 465 answers with implicit TLS: set port: 465 and tls: implicit.",
        ),
        (
            connect_failure("timeout", "refused", alternatives=[WORKS_465]),
            "Port 587 can not be connected to; port 465 answers with implicit TLS: set port: 465 and tls: implicit.",
        ),
        (
            connect_failure("refused", alternatives=[Alternative(2525, "starttls", True, "works")]),
            "Port 587 is refused on all addresses; port 2525 answers with STARTTLS: set port: 2525.",
        ),
        (
            observation(Kind.TIMEOUT, alternatives=[WORKS_465]),
            "Port 587 is silent at greeting; port 465 answers with implicit TLS: set port: 465 and tls: implicit.",
        ),
        (
            observation(Kind.TLS, "tls", verify_code=62, alternatives=[WORKS_465]),
            "Port 587 shows a certificate that does not verify; port 465 answers with implicit TLS: set port: 465 and tls: implicit.",
        ),
        (observation(Kind.TIMEOUT, alternatives=[Alternative(587, "starttls", True, "works", "192.0.2.2")]), ""),
        (observation(Kind.TIMEOUT, alternatives=[WORKS_465._replace(works=False)]), ""),
        (observation(), ""),
    ],
)
def test_the_advice_names_what_works(seen: Observation, expected: str) -> None:
    assert advice(seen) == expected


def test_own_addresses_are_known() -> None:
    assert refusal.is_own("127.0.0.1") and not refusal.is_own("192.0.2.1") and not refusal.is_own("2001:db8::1")
