# SPDX-License-Identifier: GPL-3.0-or-later
"""The stub resolver against a name server that answers by a script, well or badly."""

from __future__ import annotations

import socket
import struct
import threading
import time
import typing as t
from pathlib import Path

import pytest
from dns_server import CNAME, HOST, MX, TLSA, A, NameServer, Records, encoded

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import dns
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError

NAME = "mail.example.net"


def at(*servers: NameServer, trusted: bool = True) -> dns.Resolver:
    return dns.Resolver(tuple(dns.Server(HOST, server.port) for server in servers), trusted, "" if trusted else "it is far away")


def address(text: str) -> t.Tuple[int, bytes]:
    return A, socket.inet_aton(text)


def test_addresses_and_the_end_of_the_aliases() -> None:
    records = [(CNAME, encoded("Front.example.org")), (A, socket.inet_aton("192.0.2.7"), "front.example.org"), (A, b"\1\1\1\1", "other.example.org")]
    with NameServer({(NAME, A): Records(records)}) as server:
        answer = dns.query(NAME, dns.A, Deadline(5), at(server))

    assert (answer.records, answer.canonical, answer.rcode) == (("192.0.2.7",), "front.example.org", dns.NOERROR)


def test_an_answer_may_be_kept_as_long_as_the_shortest_of_its_records() -> None:
    class Hourly(Records):
        """The first record may be kept for an hour, the others for the minute that the server gives."""

        def message(self, query: bytes, over_tcp: bool) -> bytes:
            return super().message(query, over_tcp).replace(struct.pack("!I", 60), struct.pack("!I", 3600), 1)

    records = [(CNAME, encoded("front.example.org")), (A, socket.inet_aton("192.0.2.7"), "front.example.org")]
    with NameServer({(NAME, A): Hourly(records[:1]), ("two.example.net", A): Hourly(records), ("none.example.net", A): Records([])}) as server:
        found = [dns.query(name, dns.A, Deadline(5), at(server)).time_to_live for name in (NAME, "two.example.net", "none.example.net")]

    assert found == [3600, 60, None]


def test_mail_exchangers_come_best_first() -> None:
    exchangers = [(MX, struct.pack("!H", 20) + encoded("b.example.net")), (MX, struct.pack("!H", 5) + b"\1a\xc0\x0c")]
    with NameServer({("example.net", MX): Records(exchangers)}) as server:
        assert dns.mx("example.net.", Deadline(5), at(server)) == [(5, "a.example.net"), (20, "b.example.net")]
        assert dns.mx("nothing.example.net", Deadline(5), at(server)) == []


def test_servers_of_a_service_come_best_first():
    hosts = [(20, 0, 587, "c"), (10, 1, 465, "b"), (10, 9, 465, "a")]
    records = [(33, struct.pack("!HHH", *host[:3]) + encoded(f"{host[3]}.example.net")) for host in hosts]
    with NameServer({("_submission._tcp.example.net", 33): Records(records)}) as server:
        found = dns.srv("submission", "example.net", Deadline(5), at(server))
        assert [(host, port) for _priority, _weight, port, host in found] == [("a.example.net", 465), ("b.example.net", 465), ("c.example.net", 587)]
        assert dns.srv("submission", "nothing.example.net", Deadline(5), at(server)) == []


def test_tlsa_records() -> None:
    with NameServer({("_587._tcp." + NAME, TLSA): Records([(TLSA, b"\3\1\1" + bytes(32))], authentic=True)}) as server:
        answer = dns.tlsa(NAME, 587, Deadline(5), at(server))

    assert answer.records == ((3, 1, 1, bytes(32)),) and answer.authenticated


def test_the_word_of_a_distant_name_server_does_not_count() -> None:
    with NameServer({(NAME, A): Records([address("192.0.2.1")], authentic=True)}) as server:
        answer = dns.query(NAME, dns.A, Deadline(5), at(server, trusted=False))

    assert not answer.authenticated


def test_an_answer_without_the_bit_is_not_authenticated() -> None:
    with NameServer({(NAME, A): Records([address("192.0.2.1")])}) as server:
        answer = dns.query(NAME, dns.A, Deadline(5), at(server))

    assert not answer.authenticated


def test_the_query_asks_for_dnssec_and_has_a_new_identifier_each_time() -> None:
    with NameServer({(NAME, A): Records([address("192.0.2.1")])}) as server:
        for _count in range(4):
            dns.query(NAME, dns.A, Deadline(5), at(server))

        flags = {struct.unpack_from("!H", query, 2)[0] for query in server.queries}
        assert flags == {0x0120}  # recursion desired, AD
        assert all(query.endswith(b"\0\0\x29\x04\xd0\0\0\x80\0\0\0") for query in server.queries)  # EDNS0, 1232 octets, DO
        assert len({query[:2] for query in server.queries}) > 1


def test_a_cut_answer_is_fetched_over_tcp() -> None:
    many = [address(f"192.0.2.{number}") for number in range(150)]
    with NameServer({(NAME, A): Records(many, truncated=True)}) as server:
        answer = dns.query(NAME, dns.A, Deadline(5), at(server))

        assert len(answer.records) == 150
        assert server.asked == [(NAME, A, False), (NAME, A, True)]


@pytest.mark.parametrize("case", ["closed", "cut short", "of a stranger", "silent"])
def test_what_goes_wrong_over_tcp_is_no_answer(case: str) -> None:
    release = threading.Event()

    def script(_name: str, _rdtype: int, query: bytes, over_tcp: bool) -> t.Any:
        if not over_tcp:
            return Records(truncated=True)
        message = Records([address("203.0.113.66")]).message(query, over_tcp)
        if case == "silent":
            release.wait(5)
        return {"cut short": message[:-3], "of a stranger": bytes([query[0] ^ 1]) + message[1:]}.get(case, [])

    with NameServer(script) as server:
        with pytest.raises(SmtpError) as caught:
            dns.query(NAME, dns.A, Deadline(0.5), at(server))
        release.set()

    assert caught.value.kind == Kind.RESOLVE


def test_types_without_a_reader_are_given_as_they_are() -> None:
    with NameServer({(NAME, 16): Records([(16, b"\3abc")])}) as server:
        assert dns.query(NAME, 16, Deadline(5), at(server)).records == (b"\3abc",)


def test_ipv6_addresses() -> None:
    with NameServer({(NAME, 28): Records([(28, socket.inet_pton(socket.AF_INET6, "2001:db8::1"))])}) as server:
        assert dns.query(NAME, dns.AAAA, Deadline(5), at(server)).records == ("2001:db8::1",)


def test_answers_of_strangers_are_passed_over() -> None:
    """Another identifier, another question, no answer at all but the query itself: then comes the right one."""
    good = Records([address("192.0.2.1")])

    def script(name: str, rdtype: int, query: bytes, over_tcp: bool) -> t.Sequence[bytes]:
        evil = Records([address("203.0.113.66")]).message(query, over_tcp)
        other_question = evil.replace(b"\4mail", b"\4evil")
        return [bytes([evil[0] ^ 1]) + evil[1:], other_question, query, b"", b"x", good.message(query, over_tcp)]

    with NameServer(script) as server:
        assert dns.query(NAME, dns.A, Deadline(5), at(server)).records == ("192.0.2.1",)


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(b"\xc0\x22" + bytes(10), id="points at itself"),
        pytest.param(b"\x01a\xc0\x22" + bytes(10), id="points at its own beginning"),
        pytest.param(b"\xff\xff" + bytes(10), id="points behind the end"),
        pytest.param(b"\xc0", id="pointer cut short"),
        pytest.param((b"\x3f" + b"a" * 63) * 5 + b"\0" + bytes(10), id="longer than a name"),
        pytest.param(b"\x40" + b"a" * 64 + b"\0" + bytes(10), id="label of a reserved kind"),
        pytest.param(b"\xc0\x0c\0\1\0\1\0\0\0\0\0\xff1234", id="data cut short"),
        pytest.param(b"\xc0\x0c\0\1\0\1\0\0\0\0\0\5aaaaa", id="five octets for an address"),
        pytest.param(b"", id="announced and not there"),
    ],
)
def test_damaged_answers_end_at_once(tail: bytes) -> None:
    def script(_name: str, _rdtype: int, query: bytes, _over_tcp: bool) -> bytes:
        message = Records([address("192.0.2.1")]).message(query, False)
        return message[: query.index(b"\0", 12) + 5] + tail

    with NameServer(script) as server, pytest.raises(SmtpError) as caught:
        dns.query(NAME, dns.A, Deadline(5), at(server))

    assert caught.value.kind == Kind.RESOLVE and "no answer from the resolver" in str(caught.value)


def test_a_loop_of_aliases_has_an_end() -> None:
    loop = [(CNAME, encoded("b.example.net"), "a.example.net"), (CNAME, encoded("a.example.net"), "b.example.net")]
    with NameServer({("a.example.net", A): Records(loop)}) as server:
        assert dns.query("a.example.net", dns.A, Deadline(5), at(server)).records == ()


def test_the_next_name_server_is_asked() -> None:
    """One where nothing listens, one that fails, one that knows."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind((HOST, 0))
        nobody = dns.Server(HOST, closed.getsockname()[1])
    with NameServer({(NAME, A): Records(rcode=2)}) as failing, NameServer({(NAME, A): Records([address("192.0.2.1")])}) as good:
        resolver = dns.Resolver((nobody, *at(failing, good).servers), True)
        assert dns.query(NAME, dns.A, Deadline(5), resolver).records == ("192.0.2.1",)


def test_when_all_fail_the_answer_says_so() -> None:
    with NameServer({(NAME, A): Records(rcode=2)}) as server:
        answer = dns.query(NAME, dns.A, Deadline(5), at(server))
        assert answer.failed and answer.status == "SERVFAIL"


def test_a_failed_look_up_of_mail_exchangers_is_not_an_empty_one() -> None:
    with NameServer({(NAME, MX): Records(rcode=2)}) as server, pytest.raises(SmtpError, match="SERVFAIL"):
        dns.mx(NAME, Deadline(5), at(server))


def test_silence_ends_at_the_deadline() -> None:
    with NameServer(lambda *_query: None) as server:
        began = time.monotonic()
        with pytest.raises(SmtpError):
            dns.query(NAME, dns.A, Deadline(0.3), at(server))

        assert 0.25 < time.monotonic() - began < 1.0


def test_a_stream_of_wrong_answers_ends_at_the_deadline() -> None:
    with NameServer(lambda _name, _rdtype, query, _tcp: [b"no" + query[2:]] * 200) as server:
        began = time.monotonic()
        with pytest.raises(SmtpError):
            dns.query(NAME, dns.A, Deadline(0.3), at(server))

        assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("name", ["a" * 64 + ".net", "a..b", ".".join(["label"] * 60), "\ud800.net"])
def test_what_can_not_be_a_name_is_not_asked_for(name: str) -> None:
    with NameServer({}) as server:
        with pytest.raises(SmtpError, match="not a valid host name"):
            dns.query(name, dns.A, Deadline(5), at(server))

        assert server.asked == []


def test_international_names_go_as_a_labels() -> None:
    with NameServer({("xn--bcher-kva.example", A): Records([address("192.0.2.1")])}) as server:
        assert dns.query("b\u00fccher.example", dns.A, Deadline(5), at(server)).records == ("192.0.2.1",)


@pytest.mark.parametrize(
    ("text", "hosts", "trusted"),
    [
        ("nameserver 127.0.0.53\noptions edns0\n", ["127.0.0.53"], True),
        ("nameserver ::1\n", ["::1"], True),
        ("", ["127.0.0.1"], True),
        ("nameserver 192.0.2.53\n", ["192.0.2.53"], False),
        ("nameserver 127.0.0.1\nnameserver 192.0.2.53\n", ["127.0.0.1", "192.0.2.53"], False),
        ("nameserver 192.0.2.53\noptions edns0 trust-ad\n", ["192.0.2.53"], True),
        ("# nameserver 192.0.2.9\nnameserver\n;options trust-ad\nnameserver fe80::1%eth0\n", ["fe80::1%eth0"], False),
        ("nameserver 10.0.0.1\n" * 5, ["10.0.0.1"] * 3, False),
    ],
)
def test_resolv_conf(tmp_path: Path, text: str, hosts: t.List[str], trusted: bool) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(text)

    resolver = dns.system_resolver(str(path))

    assert ([server.host for server in resolver.servers], resolver.trusted) == (hosts, trusted)
    assert bool(resolver.why_not) is not trusted


def test_without_resolv_conf_the_own_host_is_asked(tmp_path: Path) -> None:
    assert dns.system_resolver(str(tmp_path / "none")).servers == (dns.Server("127.0.0.1", 53),)
