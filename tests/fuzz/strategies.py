# SPDX-License-Identifier: GPL-3.0-or-later
"""Octets for each target that look like what it parses, since random ones end at the first check."""

from __future__ import annotations

import json
import typing as t

from hypothesis import strategies as st
from target_tls import samples

# -- replies: three sizes of chunks, two octets each, and lines ---------------------------------------------------------

_CODE = st.sampled_from([b"220", b"250", b"334", b"421", b"535", b"999", b"25O", b"2", b""])
_SEPARATOR = st.sampled_from([b" ", b"-", b"", b"\t", b"\r", b"x"])
_WORDS = st.sampled_from([b"AUTH PLAIN LOGIN", b"AUTH=LOGIN", b"STARTTLS", b"XXXXXXXA", b"5.7.8 no", b"x" * 990, b"x" * 1100])
_END = st.sampled_from([b"\r\n", b"\n", b"\r", b"\r\r\n", b""])
_LINE = st.tuples(_CODE, _SEPARATOR, st.one_of(_WORDS, st.binary(max_size=40)), _END).map(b"".join)
_SAME = st.lists(st.tuples(st.just(b"250-"), _WORDS, st.just(b"\n")).map(b"".join), max_size=110).map(b"".join)
_OFFER = st.lists(st.sampled_from([b"AUTH PLAIN LOGIN", b"AUTH=LOGIN", b"STARTTLS", b"X-STARTTLS", b"XXXXXXXA", b"SIZE 1"]), max_size=6).map(
    lambda offers: b"".join(b"250-" + offer + b"\r\n" for offer in [b"mx", *offers]) + b"250 HELP\r\n"
)
_LINES = st.one_of(st.lists(_LINE, max_size=12).map(b"".join), _SAME, _OFFER)

# -- a text that a Source takes whole -----------------------------------------------------------------------------------


def _sized(text: bytes, limit: int) -> bytes:
    """What Source.octets(*limit*) takes as *text*."""
    text = text[:limit]
    return len(text).to_bytes(1 if limit < 256 else 2, "big") + text


_CLAIMS = st.dictionaries(
    st.sampled_from(["exp", "nbf", "aud", "scp", "scope", "roles", "iss", "upn", "email", "appid"]),
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.lists(st.text(max_size=5), max_size=3)),
    max_size=6,
)
_TOKEN = st.tuples(_CLAIMS, st.binary(max_size=4)).map(
    lambda given: _sized(b'{"alg":"RS256"}', 300) + _sized(json.dumps(given[0]).encode(), 300) + b"\0\1" + given[1]
)
_SECRET = st.tuples(st.text(max_size=24), st.binary(max_size=300)).map(lambda given: _sized(given[0].encode("utf-8", "ignore"), 64) + given[1])

# -- certificates and messages ------------------------------------------------------------------------------------------

_TAG = st.sampled_from([b"\x30", b"\x31", b"\x02", b"\x03", b"\x04", b"\x05", b"\x06", b"\x0c", b"\x13", b"\x17", b"\x18", b"\xa0", b"\xa3", b"\x82"])


def _element(content: bytes, tag: bytes) -> bytes:
    size = len(content)
    return tag + (bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")) + content


_DER = st.recursive(
    st.builds(_element, st.binary(max_size=30), _TAG),
    lambda inner: st.builds(lambda parts, tag: _element(b"".join(parts), tag), st.lists(inner, max_size=6), _TAG),
    max_leaves=20,
)


def _damage(der: bytes, changes: t.List[t.Tuple[int, int]]) -> bytes:
    damaged = bytearray(der)
    for at, octet in changes:
        damaged[at % len(damaged)] = octet
    return bytes(damaged)


_CHANGES = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4)
_REAL = st.builds(_damage, st.deferred(lambda: st.sampled_from(samples())), _CHANGES)

_NAME = st.sampled_from([b"\xc0\x0c", b"\x02mx\x08provider\x04test\0", b"\x05other\xc0\x0c", b"\0", b"\x02\x1b[\0", b"\xc0\xff", b"\x3f"])
_RECORD = st.builds(
    lambda name, rdtype, data: name + rdtype.to_bytes(2, "big") + b"\0\1\0\0\0\0" + len(data).to_bytes(2, "big") + data,
    _NAME,
    st.sampled_from([1, 5, 15, 16, 28, 33, 52]),
    st.one_of(_NAME, st.binary(max_size=40), st.just(b"\xc0\0\2\1"), st.builds(bytes.__add__, st.binary(min_size=2, max_size=2), _NAME)),
)
_ALIAS = b"\xc0\x0c\0\5\0\1\0\0\0\0\0\4\x02\x1b[\0"
"""A CNAME whose target is not printable."""
_ANSWER = st.builds(
    lambda kind, trusted, count, records: bytes([kind, trusted]) + b"\0\0\x81\xa0\0\1" + count.to_bytes(2, "big") + b"\0\0\0\0" + b"".join(records),
    st.integers(0, 6),
    st.integers(0, 1),
    st.integers(0, 300),
    st.lists(st.one_of(_RECORD, st.just(_ALIAS)), max_size=8),
)
_PROXY = st.tuples(
    # Kind and login of the proxy by number, then how it begins: SOCKS 5 without and with a login, HTTP.
    st.sampled_from(
        [
            *(b"", b"\0\0\5\0\5\0\0\1", b"\0\1\5\2\1\0\5\0\0\3"),
            *(b"\1\0HTTP/1.1 200 ok\r\n", b"\1\0HTTP/1.0 407 no\r\n", b"\1\1HTTP/1.1 200\n\n"),
        ]
    ),
    st.one_of(st.binary(max_size=300), st.binary(max_size=20).map(lambda rest: b"X: y\r\n\r\n" + rest)),
).map(b"".join)

# -- by target ---------------------------------------------------------------------------------------------------------

_ANY = st.binary(max_size=600)
_MANY = st.binary(min_size=20, max_size=400)
BY_TARGET: t.Dict[str, st.SearchStrategy[bytes]] = {
    "replies": st.tuples(st.binary(min_size=6, max_size=6), st.one_of(_LINES, _ANY)).map(b"".join),
    "dialogues": _MANY,
    "mechanisms": _MANY,
    "preparations": st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass")),
    "tokens": st.one_of(_ANY, _TOKEN),
    "secrets": st.one_of(_ANY, _SECRET),
    "certificates": st.one_of(_ANY, _DER, _REAL),
    "chains": _MANY,
    "messages": _MANY,
    "names": st.one_of(_ANY, _ANSWER),
    "proxies": _PROXY,
    "diagnoses": st.binary(min_size=60, max_size=400),
    "endpoints": _MANY,
    "arguments": _MANY,
    "macro_texts": _MANY,
    "next_hops": _MANY,
    "services": _MANY,
    "lookups": _MANY,
    "ownership": _MANY,
    "relay_configs": _MANY,
}
