# SPDX-License-Identifier: GPL-3.0-or-later
"""The targets with octets that hypothesis finds: always the same ones, so that a run says what the one before it said."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import targets
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

REPRODUCIBLE = settings(derandomize=True, max_examples=1000, deadline=None, database=None, suppress_health_check=list(HealthCheck))

OCTETS = st.binary(max_size=600)

# -- octets that look like what is parsed, since random ones end at the first check ------------------------------------

_CODE = st.sampled_from([b"220", b"250", b"334", b"421", b"535", b"999", b"25O", b"2", b""])
_SEPARATOR = st.sampled_from([b" ", b"-", b"", b"\t", b"\r"])
_TEXT = st.one_of(st.sampled_from([b"AUTH PLAIN LOGIN", b"AUTH=LOGIN", b"STARTTLS", b"XXXXXXXA", b"5.7.8 no", b"x" * 990]), st.binary(max_size=40))
_END = st.sampled_from([b"\r\n", b"\n", b"\r", b"\r\r\n", b""])
_LINES = st.lists(st.tuples(_CODE, _SEPARATOR, _TEXT, _END).map(b"".join), max_size=12).map(b"".join)

_WORD = st.sampled_from([b"r=", b"s=", b"i=4096", b"v=", b"e=", b"m=", b",", b'nonce="', b'"', b"realm=", b"qop=auth", b"algorithm=md5-sess"])
_CHALLENGE = st.lists(st.one_of(_WORD, st.binary(max_size=20)), max_size=8).map(b"".join)
_SIZED = _CHALLENGE.map(lambda raw: len(raw).to_bytes(2, "big") + raw)
_DIALOGUE = st.tuples(st.binary(min_size=1, max_size=2), st.lists(_SIZED, max_size=6).map(b"".join))

_TAG = st.sampled_from([b"\x30", b"\x31", b"\x02", b"\x03", b"\x04", b"\x05", b"\x06", b"\x0c", b"\x13", b"\x17", b"\x18", b"\xa0", b"\xa3", b"\x82"])


def _element(content: bytes, tag: bytes) -> bytes:
    size = len(content)
    return tag + (bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")) + content


_DER = st.recursive(
    st.builds(_element, st.binary(max_size=30), _TAG),
    lambda inner: st.builds(lambda parts, tag: _element(b"".join(parts), tag), st.lists(inner, max_size=6), _TAG),
    max_leaves=20,
)

_NAME = st.sampled_from([b"\xc0\x0c", b"\x02mx\x08provider\x04test\0", b"\x05other\xc0\x0c", b"\0", b"\xc0\xff", b"\x3f"])
_RECORD = st.builds(
    lambda name, rdtype, data: name + rdtype.to_bytes(2, "big") + b"\0\1\0\0\0\0" + len(data).to_bytes(2, "big") + data,
    _NAME,
    st.sampled_from([1, 5, 15, 16, 28, 33, 52]),
    st.one_of(_NAME, st.binary(max_size=40), st.just(b"\xc0\0\2\1")),
)
_ANSWER = st.builds(
    lambda kind, count, records: kind.to_bytes(2, "big") + b"\0\0\x81\xa0\0\1" + count.to_bytes(2, "big") + b"\0\0\0\0" + b"".join(records),
    st.integers(0, 6),
    st.integers(0, 300),
    st.lists(_RECORD, max_size=8),
)

_CLAIMS = st.dictionaries(
    st.sampled_from(["exp", "nbf", "aud", "scp", "scope", "roles", "iss", "upn", "email", "appid"]),
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.lists(st.text(max_size=5), max_size=3)),
    max_size=6,
)


def _token(claims: t.Dict[str, t.Any]) -> bytes:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "RS256"}, claims)]
    raw = b".".join([*parts, b"c2lnbmF0dXJl"])[:300]
    return len(raw).to_bytes(2, "big") + raw


# Kind and login of the proxy by number, then how it begins: SOCKS 5 without and with a login, HTTP.
_PROXY = [b"", b"\0\0\5\0\5\0\0\1", b"\0\1\5\2\1\0\5\0\0\1", b"\1\0HTTP/1.1 200 ok\r\n", b"\1\0HTTP/1.0 407 no\r\n"]

# -- the targets -------------------------------------------------------------------------------------------------------


@REPRODUCIBLE
@given(st.one_of(OCTETS, _LINES))
@example(b"220-a\n554 b\n")
@example(b"250-" + b"x" * 2000)
def test_replies(data: bytes) -> None:
    targets.replies(data)


@REPRODUCIBLE
@given(st.one_of(OCTETS, _DIALOGUE.map(b"".join)))
def test_logins(data: bytes) -> None:
    targets.logins(data)


@REPRODUCIBLE
@given(st.one_of(OCTETS, _DIALOGUE.map(b"".join)))
def test_mechanisms(data: bytes) -> None:
    targets.mechanisms(data)


@REPRODUCIBLE
@given(st.one_of(OCTETS, _CLAIMS.map(_token)))
def test_tokens(data: bytes) -> None:
    targets.tokens(data)


@REPRODUCIBLE
@given(st.one_of(OCTETS, _DER))
def test_certificates(data: bytes) -> None:
    targets.certificates(data)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real one, which has everything that is read."""
    directory = tmp_path_factory.mktemp("certificate")
    extensions = ("subjectAltName=DNS:mx.provider.test,IP:192.0.2.1,email:a@b.test", "authorityInfoAccess=caIssuers;URI:http://ca.test/ca.der")
    options = [option for extension in extensions for option in ("-addext", extension)]
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem")
    command = ["openssl", "req", "-x509", *key, "-outform", "DER", "-out", "certificate.der", "-subj", "/C=XX/O=Provider/CN=mx", *options]
    subprocess.run(command, cwd=str(directory), check=True, capture_output=True, timeout=60)
    return (directory / "certificate.der").read_bytes()


@REPRODUCIBLE
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 2000))
def test_certificates_that_are_damaged(certificate: bytes, changes: t.List[t.Tuple[int, int]], cut: int) -> None:
    damaged = bytearray(certificate)
    for at, octet in changes:
        damaged[at % len(damaged)] = octet
    targets.certificates(bytes(damaged))
    targets.certificates(bytes(damaged[: cut % len(damaged)]))


@REPRODUCIBLE
@given(st.one_of(OCTETS, _ANSWER))
def test_names(data: bytes) -> None:
    targets.names(data)


@REPRODUCIBLE
@given(OCTETS, st.sampled_from(_PROXY))
def test_proxies(data: bytes, beginning: bytes) -> None:
    targets.proxies(beginning + data)


@REPRODUCIBLE
@given(st.binary(min_size=100, max_size=400))
def test_diagnoses(data: bytes) -> None:
    targets.diagnoses(data)


@REPRODUCIBLE
@given(st.text(min_size=6, max_size=24).map(lambda text: text.encode("utf-8", "ignore")[:64]), st.binary(max_size=300))
def test_secrets(password: bytes, data: bytes) -> None:
    targets.secrets(bytes([len(password)]) + password + data)


# -- the fuzzer that runs for longer -----------------------------------------------------------------------------------


def test_every_target_is_tested() -> None:
    assert set(targets.TARGETS) == {name[5:] for name in globals() if name.startswith("test_") and name[5:] in targets.TARGETS}


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_targets_take_nothing_and_much(name: str) -> None:
    for data in (b"", b"\0" * 10000, bytes(range(256)) * 40, b"\xff" * 10000):
        targets.TARGETS[name](data)


def test_the_fuzzer_runs_where_atheris_is_installed() -> None:
    pytest.importorskip("atheris", reason="atheris is not installed (tests/requirements/fuzz.txt)")
    program = Path(__file__).with_name("fuzz.py")
    done = subprocess.run([sys.executable, str(program), "--seconds", "2", "replies"], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_target_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that lets a control through is found."""
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp import reply

    monkeypatch.setattr(reply, "printable", lambda raw: raw.decode("latin-1"))
    with pytest.raises(AssertionError):
        targets.replies(b"220 \x1b[31m\r\n")
