# SPDX-License-Identifier: GPL-3.0-or-later
"""DANE: what a name server says about a certificate decides, against real TLS servers and a name server of the test."""

from __future__ import annotations

import hashlib
import socket
import ssl
import typing as t

import pytest
from dns_server import CNAME, HOST, SOA, TLSA, A, NameServer, Records, encoded
from pki import Pki
from smtp_server import PASSWORD, USERNAME, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import dns
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.resolve import Address
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import dane, x509
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.session import Session
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust

NAME = "mx.dane.test"
LOOPBACK = (A, socket.inet_aton(HOST))
MODES = pytest.mark.parametrize("mode", ["implicit", "starttls"])


def record(pki: Pki, name: str, usage: int, selector: int, matching: int) -> t.Tuple[int, bytes]:
    parsed = x509.parse(pki.der(name))
    content = parsed.public_key if selector else parsed.der
    hashed = {0: content, 1: hashlib.sha256(content).digest(), 2: hashlib.sha512(content).digest()}[matching]
    return TLSA, bytes([usage, selector, matching]) + hashed


class Zone:
    """Answers for the server under test, whose port is known only when it runs."""

    def __init__(self) -> None:
        self.records: t.Dict[t.Tuple[str, int], Records] = {("", SOA): Records(authentic=True)}

    def address(self, name: str = NAME, **options: t.Any) -> None:
        self.records[name, A] = Records([LOOPBACK], **{"authentic": True, **options})

    def tlsa(self, port: int, records: t.Sequence[t.Tuple[int, bytes]], name: str = NAME, **options: t.Any) -> None:
        self.records[f"_{port}._tcp.{name}", TLSA] = Records(records, **{"authentic": True, **options})


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Zone]:
    """What the name server of this host, which validates, says."""
    made = Zone()
    made.address()

    def script(name: str, rdtype: int, _query: bytes, _tcp: bool) -> Records:
        return made.records.get((name, rdtype), Records(rcode=3, authentic=True))

    with NameServer(script) as server:
        monkeypatch.setattr(dns, "system_resolver", lambda: dns.Resolver((dns.Server(HOST, server.port),), True))
        yield made


@pytest.fixture(scope="module", autouse=True)
def certificates_of_mx(pki: Pki) -> None:
    pki.server("mx", "inter", names=f"DNS:{NAME}")
    pki.server("stale", "stranger", names="DNS:elsewhere.test", start=-20, end=-10)
    pki.server("elsewhere", "inter", names="DNS:elsewhere.test")


def connect(context: ssl.SSLContext, mode: str, prepare: t.Callable[[int], None], host: str = NAME, **trust: t.Any) -> t.Tuple[Client, Server]:
    """Log in to a server of *context*, after *prepare* got its port."""
    with Server(conversation(tls=mode, context=context)) as server:
        prepare(server.port)
        where = [Address(socket.AF_INET, (HOST, server.port))]
        options = Trust(**{"dane": True, **trust})
        client = Client(host, server.port, mode, deadline=Deadline(10), ehlo_name="h.example", trust=options, addresses=where)
        with client:
            client.connect()
            client.greeting()
            if mode == "starttls":
                client.ehlo()
                client.starttls()
            client.ehlo()
            assert client.authenticate(Credentials(USERNAME, PASSWORD), "plain").code == 235
    return client, server


def refused(context: ssl.SSLContext, mode: str, prepare: t.Callable[[int], None], **options: t.Any) -> SmtpError:
    with pytest.raises(SmtpError) as caught:
        connect(context, mode, prepare, **options)
    return caught.value


def session(client: Client) -> Session:
    assert client.session is not None
    return client.session


@MODES
@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_a_record_for_the_server_itself_makes_roots_names_and_dates_irrelevant(pki: Pki, zone: Zone, mode: str, selector: int, matching: int) -> None:
    """Usage 3 (RFC 7672 section 3.1.1); the first record is for the next certificate."""
    records = [record(pki, "leaf", 3, 1, 1), record(pki, "stale", 3, selector, matching)]
    client, server = connect(pki.context("stale"), mode, lambda port: zone.tlsa(port, records))

    assert session(client).verified
    assert session(client).dane == {"status": "verified", "detail": f"TLSA {dane.Record(3, selector, matching, records[1][1][3:])}"}
    assert len(server.peers) == 1


@MODES
@pytest.mark.parametrize(
    ("anchor", "sent", "matching"),
    [("root", ["inter", "root"], 1), ("inter", ["inter"], 2), ("root", ["inter", "root"], 0), ("root", ["inter"], 0)],
    ids=["root", "intermediate", "whole root", "whole root that is not sent"],
)
def test_a_record_for_the_ca(pki: Pki, zone: Zone, mode: str, anchor: str, sent: t.List[str], matching: int) -> None:
    """Usage 2: the CA need not be one of the system's. It is seen over a second connection, on which nothing is said."""
    tlsa = [record(pki, anchor, 2, 0, matching)]
    client, server = connect(pki.context("mx", *sent), mode, lambda port: zone.tlsa(port, tlsa))

    assert session(client).verified and session(client).dane == {"status": "verified", "detail": f"TLSA usage 2 for {NAME}"}
    assert len(server.peers) == 2
    assert server.peers[1].lines == ([b"EHLO h.example", b"STARTTLS"] if mode == "starttls" else [])


def test_a_record_for_the_ca_by_its_key(pki: Pki, zone: Zone) -> None:
    connect(pki.context("mx", "inter", "root"), "implicit", lambda port: zone.tlsa(port, [record(pki, "root", 2, 1, 1)]))


def test_the_ca_must_have_issued_the_certificate(pki: Pki, zone: Zone) -> None:
    """It is sent along, and the names fit, but the signature is another's."""
    error = refused(pki.context("mx", "stranger"), "implicit", lambda port: zone.tlsa(port, [record(pki, "stranger", 2, 0, 1)]))

    assert (error.kind, error.reason, error.stage) == (Kind.DANE, "mismatch", "tls")
    assert "does not vouch" in str(error)


def test_the_ca_must_have_issued_it_for_the_host(pki: Pki, zone: Zone) -> None:
    error = refused(pki.context("elsewhere", "inter"), "implicit", lambda port: zone.tlsa(port, [record(pki, "inter", 2, 0, 1)]))

    assert (error.kind, error.reason) == (Kind.DANE, "mismatch") and "not for mx.dane.test" in str(error)


def test_the_end_of_the_dates_counts_with_a_ca(pki: Pki, zone: Zone) -> None:
    pki.server("old-mx", "inter", names=f"DNS:{NAME}", start=-20, end=-10)
    error = refused(pki.context("old-mx", "inter"), "implicit", lambda port: zone.tlsa(port, [record(pki, "inter", 2, 0, 1)]))

    assert (error.kind, error.reason) == (Kind.DANE, "mismatch") and "expired" in str(error)


@MODES
def test_a_certificate_that_matches_no_record_gets_nothing_however_good(pki: Pki, zone: Zone, mode: str) -> None:
    with Server(conversation(tls=mode, context=pki.context("mx", "inter"))) as server:
        zone.tlsa(server.port, [record(pki, "leaf", 3, 1, 1)])
        where = [Address(socket.AF_INET, (HOST, server.port))]
        trust = Trust(ca_file=pki.path("root"), dane=True)
        client = Client(NAME, server.port, mode, deadline=Deadline(10), ehlo_name="h.example", trust=trust, addresses=where)
        with client, pytest.raises(SmtpError) as caught:
            client.connect()
            client.greeting()
            client.ehlo()
            client.starttls()
        server.settle()

        assert (caught.value.kind, caught.value.reason, caught.value.stage) == (Kind.DANE, "mismatch", "tls")
        assert not [line for peer in server.peers for line in peer.lines if line not in peer.clear_lines]
        assert not session(client).verified and session(client).certificate == pki.der("mx")


@pytest.mark.parametrize(
    "data",
    [b"\0\1\1" + bytes(32), b"\1\1\1" + bytes(32), b"\3\2\1" + bytes(32), b"\3\1\3" + bytes(32), b"\3\1\1" + bytes(31), b"\3\1\0"],
    ids=["PKIX-TA", "PKIX-EE", "selector", "matching type", "length", "empty"],
)
def test_records_that_can_not_be_used_are_not_passed_over(pki: Pki, zone: Zone, data: bytes) -> None:
    options = {"ca_file": pki.path("root")}
    error = refused(pki.context("mx", "inter"), "implicit", lambda port: zone.tlsa(port, [(TLSA, data)]), **options)
    assert (error.kind, error.reason) == (Kind.DANE, "unusable")

    connect(pki.context("mx", "inter"), "implicit", lambda port: zone.tlsa(port, [(TLSA, data), record(pki, "mx", 3, 1, 1)]))


def test_a_failed_look_up_is_what_forged_records_look_like(pki: Pki, zone: Zone) -> None:
    for prepare in (lambda port: zone.tlsa(port, [], rcode=2, authentic=False), lambda port: zone.address(rcode=2, authentic=False)):
        error = refused(pki.context("mx", "inter"), "implicit", prepare, ca_file=pki.path("root"))

        assert (error.kind, error.reason) == (Kind.DANE, "unusable") and "SERVFAIL" in str(error)


def ordinary(pki: Pki, prepare: t.Callable[[int], None]) -> t.Dict[str, str]:
    """A good certificate is accepted, one of an unknown root is not; what was said about DANE."""
    client, server = connect(pki.context("mx", "inter"), "implicit", prepare, ca_file=pki.path("root"))
    error = refused(pki.context("mx", "inter"), "implicit", prepare)
    assert error.kind == Kind.TLS and error.verify_code == 20
    assert session(client).dane is not None
    return session(client).dane or {}


def test_without_records_the_certificate_is_verified_as_always(pki: Pki, zone: Zone) -> None:
    assert ordinary(pki, lambda port: None)["status"] == "no_records"


def test_records_of_an_unsigned_zone_do_not_count(pki: Pki, zone: Zone) -> None:
    def prepare(port: int) -> None:
        zone.address(authentic=False)
        zone.tlsa(port, [record(pki, "stranger", 3, 1, 1)], authentic=False)

    assert ordinary(pki, prepare) == {"status": "no_records", "detail": "the zone of mx.dane.test is not signed with DNSSEC"}


def test_records_without_proof_do_not_count(pki: Pki, zone: Zone) -> None:
    """The host's name is proved, but not what is below it (a delegation that is not signed)."""
    told = ordinary(pki, lambda port: zone.tlsa(port, [record(pki, "stranger", 3, 1, 1)], authentic=False))

    assert told["status"] == "no_records"


def test_a_name_server_that_does_not_validate(pki: Pki, zone: Zone) -> None:
    def prepare(_port: int) -> None:
        zone.address(authentic=False)
        zone.records["", SOA] = Records()

    told = ordinary(pki, prepare)
    assert told["status"] == "no_validating_resolver" and "does not validate" in told["detail"]


def test_a_distant_name_server_is_not_even_asked(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    with NameServer({}) as server:
        monkeypatch.setattr(dns, "system_resolver", lambda: dns.Resolver((dns.Server(HOST, server.port),), False, "it is far away"))

        assert ordinary(pki, lambda port: None) == {"status": "no_validating_resolver", "detail": "it is far away"}
        assert server.asked == []


def test_a_name_server_that_is_not_there(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind((HOST, 0))
        port = closed.getsockname()[1]
    monkeypatch.setattr(dns, "system_resolver", lambda: dns.Resolver((dns.Server(HOST, port),), True))

    assert ordinary(pki, lambda port: None)["status"] == "no_validating_resolver"


def test_the_records_of_an_alias_are_those_of_its_target(pki: Pki, zone: Zone) -> None:
    asked: t.List[t.Optional[str]] = []
    context = pki.context("stale")
    context.sni_callback = lambda _sock, name, _context: asked.append(name)  # type: ignore[assignment]
    zone.records["www.dane.test", A] = Records([(CNAME, encoded(NAME)), (*LOOPBACK, NAME)], authentic=True)

    connect(context, "implicit", lambda port: zone.tlsa(port, [record(pki, "stale", 3, 1, 1)]), host="www.dane.test")

    assert asked == [NAME]


@pytest.mark.parametrize(
    ("target", "name"),
    [(b"\0", ""), (b"\1*\4test\0", ".*.test"), (b"\2\xc3\xbc\4test\0", ".xn--tda.test"), (b"\3a b\4test\0", ".a b.test")],
    ids=["root", "wildcard", "UTF-8", "blank"],
)
def test_an_alias_of_what_is_no_host_name_stands_for_itself(pki: Pki, zone: Zone, target: bytes, name: str) -> None:
    asked: t.List[t.Optional[str]] = []
    context = pki.context("stale")
    context.sni_callback = lambda _sock, name, _context: asked.append(name)  # type: ignore[assignment]
    zone.records["www.dane.test", A] = Records([(CNAME, target)], authentic=True)

    def prepare(port: int) -> None:
        zone.tlsa(port, [record(pki, "stale", 3, 1, 1)], name="www.dane.test")
        zone.records[f"_{port}._tcp{name}", TLSA] = zone.records[f"_{port}._tcp.www.dane.test", TLSA]

    connect(context, "implicit", prepare, host="www.dane.test")

    assert asked == ["www.dane.test"]


def test_an_alias_with_records_of_its_own(pki: Pki, zone: Zone) -> None:
    zone.records["www.dane.test", A] = Records([(CNAME, encoded(NAME)), (*LOOPBACK, NAME)], authentic=True)
    tlsa = [record(pki, "stale", 3, 1, 1)]

    connect(pki.context("stale"), "implicit", lambda port: zone.tlsa(port, tlsa, name="www.dane.test"), host="www.dane.test")


def test_a_name_server_that_falls_silent(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its answer about TLSA records nothing may be trusted; without any proof there is nothing to lose."""
    silent_for: t.List[int] = [TLSA]

    def script(_name: str, rdtype: int, _query: bytes, _tcp: bool) -> t.Optional[Records]:
        return None if rdtype in silent_for else Records([LOOPBACK], authentic=rdtype != A or TLSA in silent_for)

    monkeypatch.setattr(dns, "PATIENCE", 0.2)
    with NameServer(script) as server:
        monkeypatch.setattr(dns, "system_resolver", lambda: dns.Resolver((dns.Server(HOST, server.port),), True))
        assert dane.look_up(NAME, 25, Deadline(5)).status == dane.UNUSABLE
        silent_for[:] = [SOA]
        assert dane.look_up(NAME, 25, Deadline(5)).status == dane.NO_VALIDATING_RESOLVER


def test_pins_decide_before_records(pki: Pki, zone: Zone) -> None:
    pinned = ("sha256:" + hashlib.sha256(pki.der("mx")).hexdigest(),)
    client, _server = connect(pki.context("mx"), "implicit", lambda port: zone.tlsa(port, [record(pki, "leaf", 3, 1, 1)]), fingerprints=pinned)

    assert session(client).dane is None and session(client).fingerprint == pinned[0]


def test_an_address_has_no_records() -> None:
    assert dane.look_up("192.0.2.1", 25, Deadline(5)).status == dane.NO_RECORDS
    assert dane.look_up("[2001:db8::1]", 25, Deadline(5)).status == dane.NO_RECORDS
