# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator may write: the entries of a list of relays, and arguments of the command line."""

from __future__ import annotations

import contextlib
import io
import os
import typing as t
from unittest import mock

from source import Source

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import as_user, endpoint, run_as
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.cli import cli
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import RelayError

_KEYS = frozenset((*endpoint.FIELDS, *endpoint.ONLY_POSTFIX))
_SECRET = "Kettle.and+Kin/77=="
_SIMPLE = {"host": "mx.provider.test"}
_LIKELY: t.Mapping[str, t.Sequence[t.Any]] = {
    "host": ("mx.provider.test", "192.0.2.1", "2001:db8::1", "MX.provider.test."),
    "port": (25, 465, 587, 2525, "465", 0, 65536, True, 1.5),
    "tls": endpoint.relay.TLS_MODES,
    "username": ("alerts@provider.test", "a:b"),
    "password": (_SECRET, ""),
    "access_token": (_SECRET,),
    "mechanism": (*endpoint.MECHANISMS, "PLAIN"),
    "ca_file": ("/etc/ssl/ca.pem", "ca.pem", "/a/../b"),
    "family": ("any", "ipv4", "ipv6"),
    "source_address": ("192.0.2.7", "2001:db8::7"),
    "proxy": ({"host": "proxy.test"}, {"type": "http", "host": "p", "username": "u", "password": _SECRET}, {"host": "p", "password": _SECRET}),
    "minimum_tls": ("1.2", "1.3", 1.2),
    "client_certificate": ("/c.pem",),
    "client_key": ("/k.pem",),
    "fingerprints": (["ab" * 32], ["sha256:" + ":".join(["AB"] * 32)], ["ab"]),
    "sender": ("alerts@provider.test", "a b@c"),
    "recipient": ("ops@provider.test",),
}


def endpoints(data: bytes) -> None:
    """Whatever the list is, it is refused by a field and without a secret, or completed so that all else can be made of it."""
    source = Source(data)
    entries = source.some(lambda: _entry(source), 3) if source.number(8) else _anything(source)
    try:
        found = endpoint.normalise_endpoints(entries)
    except RelayError as exc:
        assert exc.field.startswith("relays") and exc.reason and _SECRET not in str(exc)
        return
    assert len(found) == len(entries) and len({one["name"] for one in found}) == len(found)
    for one in found:
        assert one.keys() == _KEYS and 1 <= one["port"] <= 65535
        assert not (one["password"] or one["access_token"]) or one["tls"] != "none" or one["allow_unencrypted"]
        assert endpoint.trust(one).minimum_version and endpoint.route(one).family
        login = endpoint.credentials(one)
        assert (login is None) == (one["mechanism"] != "external" and not (one["password"] or one["access_token"]))
    given = [{name: value for name, value in one.items() if name in endpoint.FIELDS} for one in found]
    assert endpoint.normalise_endpoints(given) == found, "what it makes it does not take"


def _entry(source: Source) -> t.Any:
    if not source.number(16):
        return _anything(source)
    entry: t.Dict[t.Any, t.Any] = dict(_SIMPLE)
    for _count in range(source.number(6)):
        name = source.choice(endpoint.FIELDS) if source.number(16) else source.text()
        entry[name] = source.choice(_LIKELY.get(name, (True, False, None))) if source.number(4) else _anything(source)
    return entry


def _anything(source: Source, depth: int = 2) -> t.Any:
    """As JSON or YAML may have it."""
    kind = source.number(9 if depth else 7)
    if kind == 7:
        return source.some(lambda: _anything(source, depth - 1), 3)
    if kind == 8:
        return {source.choice((source.text(), 5, None, "host", "type")): _anything(source, depth - 1) for _count in range(source.number(4))}
    return (None, True, source.number(70000), -1.5, float("nan"), source.text(), source.text(80))[kind]


# -- the command line --------------------------------------------------------------------------------------------------

_VARIABLES = ("OUTPOST_SMTP_PASSWORD", "OUTPOST_SMTP_ACCESS_TOKEN", "OUTPOST_SMTP_PROXY_PASSWORD")
_BEGINNINGS = ("", "mx.provider.test", "mx.provider.test --username alerts@provider.test", "mx.provider.test --username a --mechanism xoauth2")
_PHRASES = (
    *("mx.provider.test", "mx.provider.test:465", "[2001:db8::1]:587", "[]:", ":", "--", "-", "--help", "--port 25", "--port 0", "--tls starttls"),
    *("--username alerts@provider.test", "--password-file /dev/null", "--password-file -", "--access-token-file /nonexistent", "--tls none"),
    *("--mechanism scram-sha-256", "--family ipv6", "--proxy socks5://u@proxy.test:1080", "--proxy http://[::1]", "--proxy-password-file /dev/null"),
    *("--fingerprint " + "ab" * 32, "--fingerprint ab", "--timeout 1e9", "--timeout nan", "--ehlo-name", "--run-as root", "--dane", "--json"),
    *("--transcript", "--no-investigate", "--every-address", "--sender a@provider.test", "--recipient b@provider.test", "--ca-file /c d"),
    *("--client-key k.pem", "--minimum-tls 1.3", "--allow-unencrypted", "--server-name x..y", "--source-address ::1"),
)


class _Reached(Exception):
    """The arguments were taken, and a test would begin."""


def arguments(data: bytes) -> None:
    """Arguments lead to a test of complete endpoints, or to exit status 2 (0 for --help) and a message without a secret."""
    source = Source(data)
    given = source.choice(_BEGINNINGS).split()
    for phrase in source.some(lambda: source.choice(_PHRASES) if source.number(8) else source.text(), 8):
        given += phrase.split()
    said = io.StringIO()
    try:
        with _nothing_else_happens(), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            cli.main(given)
        raise AssertionError("it ended without a test")
    except _Reached as reached:
        (tested,) = reached.args
        assert tested and all(one.keys() == _KEYS for one in tested)
    except SystemExit as exit_status:
        assert exit_status.code == (0 if "usage" in said.getvalue() and "exit status:" in said.getvalue() else 2)
        assert exit_status.code == 0 or ": error: " in said.getvalue()
        assert _SECRET not in said.getvalue()


@contextlib.contextmanager
def _nothing_else_happens() -> t.Iterator[None]:
    """Secrets are in the environment, so nobody is asked; standard input is at its end; instead of a test _Reached is raised."""

    def reached(endpoints: t.Any, *_options: t.Any, **_more: t.Any) -> t.NoReturn:
        raise _Reached(endpoints)

    def at_once(_user: str, action: t.Callable[[], t.Any], _seconds: float) -> t.Any:
        return action()

    environment = mock.patch.dict(os.environ, {name: _SECRET for name in _VARIABLES})
    stdin = mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    by_program, by_user = (mock.patch.object(place, "probe_all", reached) for place in (cli, as_user))
    with environment, stdin, by_program, by_user, mock.patch.object(run_as, "call", at_once):
        yield
