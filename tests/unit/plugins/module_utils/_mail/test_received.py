# SPDX-License-Identifier: GPL-3.0-or-later
"""Received fields as real servers write them. Addresses and names are replaced by those of RFC 5737 and RFC 2606."""

from __future__ import annotations

import time
import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._mail.message import MAX_HEADER_BYTES
from ansible_collections.outpost.smtp.plugins.module_utils._mail.received import MAX_HOPS, parse_hops

POSTFIX_SUBMISSION = """from web1.example.net (web1.example.net [192.0.2.5])
\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)
\t key-exchange X25519 server-signature RSA-PSS (2048 bits) server-digest SHA256)
\t(No client certificate requested)
\t(Authenticated sender: alerts@example.net)
\tby smtp.example.net (Postfix) with ESMTPSA id 4bXyZ12345z1abc
\tfor <inbox@example.net>; Mon, 23 Nov 2026 12:00:02 +0000 (UTC)"""

# fmt: off
# field -> by, from_host, protocol, queue_id, tls version, cipher, authenticated, authenticated_as, time
FIELDS: t.Dict[str, t.Tuple[str, t.Tuple[t.Any, ...]]] = {
    "postfix, submission": (
        POSTFIX_SUBMISSION,
        (
            "smtp.example.net", "web1.example.net", "ESMTPSA", "4bXyZ12345z1abc",
            "TLSv1.3", "TLS_AES_256_GCM_SHA384", True, "alerts@example.net", "2026-11-23T12:00:02Z",
        ),
    ),
    "postfix, from loopback": (
        "from web1.example.net (localhost [127.0.0.1])\r\n\tby web1.example.net (Postfix) with ESMTP id 1A2B3C4D5E\r\n"
        "\tfor <inbox@example.net>; Mon, 23 Nov 2026 13:00:00 +0100 (CET)",
        ("web1.example.net", "web1.example.net", "ESMTP", "1A2B3C4D5E", None, None, False, None, "2026-11-23T12:00:00Z"),
    ),
    "postfix, pickup": (
        "by web1.example.net (Postfix, from userid 0)\n\tid 1A2B3C4D5E; Mon, 23 Nov 2026 12:00:00 +0000 (UTC)",
        ("web1.example.net", None, None, "1A2B3C4D5E", None, None, False, None, "2026-11-23T12:00:00Z"),
    ),
    "dovecot, LMTP": (
        "from smtp.example.net\n\tby imap.example.net with LMTP\n\tid qKL3BN9VqGkdAQAAu7hJxQ\n\t(envelope-from <a@example.net>)\n"
        "\tfor <inbox@example.net>; Mon, 23 Nov 2026 12:00:02 +0000",
        ("imap.example.net", "smtp.example.net", "LMTP", "qKL3BN9VqGkdAQAAu7hJxQ", None, None, False, None, "2026-11-23T12:00:02Z"),
    ),
    "exim 4.9x": (
        "from [192.0.2.5] (helo=web1.example.net)\n\tby mx.example.org with esmtpsa  (TLS1.3) tls TLS_AES_256_GCM_SHA384\n"
        "\t(Exim 4.96)\n\t(envelope-from <a@example.net>)\n\tid 1qABCD-0003Xy-1Z\n\tfor inbox@example.org;\n"
        "\tMon, 23 Nov 2026 12:00:02 +0000",
        (
            "mx.example.org", "[192.0.2.5]", "esmtpsa", "1qABCD-0003Xy-1Z",
            "TLSv1.3", "TLS_AES_256_GCM_SHA384", True, None, "2026-11-23T12:00:02Z",
        ),
    ),
    "exim, cipher beside the version": (
        "from web1.example.net ([192.0.2.5])\n\tby mx.example.org with esmtps (TLS1.2:ECDHE_X25519__RSA_SHA256__AES_256_GCM:256)\n"
        "\t(Exim 4.94.2) id 1qABCD-0003Xy-1Z for inbox@example.org; Mon, 23 Nov 2026 12:00:02 +0000",
        (
            "mx.example.org", "web1.example.net", "esmtps", "1qABCD-0003Xy-1Z",
            "TLSv1.2", "ECDHE_X25519__RSA_SHA256__AES_256_GCM", False, None, "2026-11-23T12:00:02Z",
        ),
    ),
    "opensmtpd": (
        "from web1.example.net (web1.example.net [192.0.2.5])\n\tby mx.example.org (OpenSMTPD) with ESMTPSA id 6f1e2d3c\n"
        "\t(TLSv1.3:TLS_AES_256_GCM_SHA384:256:NO) auth=yes user=alerts\n\tfor <inbox@example.org>;\n"
        "\tMon, 23 Nov 2026 12:00:02 +0000 (UTC)",
        (
            "mx.example.org", "web1.example.net", "ESMTPSA", "6f1e2d3c",
            "TLSv1.3", "TLS_AES_256_GCM_SHA384", True, "alerts", "2026-11-23T12:00:02Z",
        ),
    ),
    "gmail": (
        "from web1.example.net (web1.example.net. [192.0.2.5])\n        by smtp.gmail.com with ESMTPSA id "
        "d9443c01a7336-2f0a1b2c3d4sm1234567ad.12.2026.11.23.04.00.02\n        for <inbox@example.org>\n"
        "        (version=TLS1_3 cipher=TLS_AES_256_GCM_SHA384 bits=256/256);\n        Mon, 23 Nov 2026 04:00:02 -0800 (PST)",
        (
            "smtp.gmail.com", "web1.example.net", "ESMTPSA", "d9443c01a7336-2f0a1b2c3d4sm1234567ad.12.2026.11.23.04.00.02",
            "TLSv1.3", "TLS_AES_256_GCM_SHA384", True, None, "2026-11-23T12:00:02Z",
        ),
    ),
    "exchange": (
        "from AM0PR01MB1234.example.com (2001:db8:208::5) by\n DB9PR01MB5678.example.com (2001:db8:10::7) with Microsoft SMTP\n"
        " Server (version=TLS1_2, cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) id\n 15.20.8158.24; Mon, 23 Nov 2026 12:00:02 +0000",
        (
            "DB9PR01MB5678.example.com", "AM0PR01MB1234.example.com", "Microsoft SMTP Server", "15.20.8158.24",
            "TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", False, None, "2026-11-23T12:00:02Z",
        ),
    ),
    "sendmail": (
        "from web1.example.net (web1.example.net [192.0.2.5])\n\t(authenticated bits=0)\n"
        "\tby mx.example.org (8.17.1.9/8.17.1.9) with ESMTPSA id 4ANC02ab012345\n"
        "\t(version=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384 bits=256 verify=NOT)\n\tfor <inbox@example.org>;"
        " Mon, 23 Nov 2026 12:00:02 GMT",
        (
            "mx.example.org", "web1.example.net", "ESMTPSA", "4ANC02ab012345",
            "TLSv1.3", "TLS_AES_256_GCM_SHA384", True, None, "2026-11-23T12:00:02Z",
        ),
    ),
    "protocol alone tells of TLS": (
        "from a.example by b.example with ESMTPS id X1; Mon, 23 Nov 2026 12:00:02 -0000",
        ("b.example", "a.example", "ESMTPS", "X1", None, None, False, None, "2026-11-23T12:00:02Z"),
    ),
}
# fmt: on


def summary(field: str) -> t.Tuple[t.Any, ...]:
    hop = parse_hops([field])[0].as_dict()
    tls = hop["tls"] or {"version": None, "cipher": None}
    return (
        hop["by"],
        hop["from_host"],
        hop["protocol"],
        hop["queue_id"],
        tls["version"],
        tls["cipher"],
        hop["authenticated"],
        hop["authenticated_as"],
        hop["time"],
    )


@pytest.mark.parametrize("name", FIELDS)
def test_fields_of_real_servers(name: str) -> None:
    field, expected = FIELDS[name]
    assert summary(field) == expected


def test_whether_a_hop_was_encrypted_is_told_apart_from_how() -> None:
    encrypted, plain = (
        parse_hops([f"from a.example by b.example with {protocol} id X; Mon, 23 Nov 2026 12:00:02 +0000"])[0] for protocol in ("ESMTPS", "ESMTP")
    )
    assert encrypted.tls == (None, None)
    assert plain.tls is None


def test_a_host_name_that_looks_like_a_protocol_does_not_prove_tls() -> None:
    hop = parse_hops(["from esmtpsa.example (ESMTPSA [192.0.2.1]) by b.example with SMTP id X; Mon, 23 Nov 2026 12:00:02 +0000"])[0]
    assert (hop.tls, hop.authenticated) == (None, False)


def test_hops_are_oldest_first_and_a_clock_that_went_back_is_reported() -> None:
    newest_first = [
        f"from x by {by} with ESMTP id {by}; Mon, 23 Nov 2026 12:00:{second:02d} +0000" for by, second in (("third", 4), ("second", 9), ("first", 7))
    ]
    hops = parse_hops(newest_first)
    assert [(hop.by, hop.delay_s) for hop in hops] == [("first", None), ("second", 2.0), ("third", -5.0)]


def test_the_delay_after_an_unreadable_time_is_unknown() -> None:
    hops = parse_hops(["by c; Mon, 23 Nov 2026 12:00:04 +0000", "by b; yesterday", "by a; Mon, 23 Nov 2026 12:00:00 +0000"])
    assert [hop.delay_s for hop in hops] == [None, None, None]


@pytest.mark.parametrize(
    "field",
    [
        "",
        ";",
        "(((((",
        ")))) by",
        "by",
        "from by with id for tls ;",
        "\x00\xff\udcff by \x1b[31m; Mon, 99 Foo 99999 99:99:99 +9999",
        "by a; Mon, 23 Nov 99999999999999999999 12:00:00 +0000",
        "by a; Mon, 01 Jan 0001 00:00:00 +2359",
        "by a (\\",
    ],
)
def test_garbage_is_read_without_failing(field: str) -> None:
    parse_hops([field])[0].as_dict()


def test_hostile_fields_are_read_in_bounded_time() -> None:
    # a mailbox never reads more than this of a header
    words = ["(", "cipher=", "cipher" + "=" * 100, "Authenticated sender ", "TLS", "TLS1", "by ", "\\", ");("]
    begin = time.monotonic()
    for word in words:
        parse_hops([word * (MAX_HEADER_BYTES // len(word))])
    assert time.monotonic() - begin < 5


def test_a_loop_is_cut() -> None:
    assert len(parse_hops(["by a"] * 1000)) == MAX_HOPS
