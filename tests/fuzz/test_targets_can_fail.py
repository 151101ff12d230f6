# SPDX-License-Identifier: GPL-3.0-or-later
"""What a target demands can be missed: the code is broken in one place, and hypothesis finds that."""

from __future__ import annotations

import re
import typing as t

import pytest
import strategies
import targets
from hypothesis import Phase, given, settings

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import configtext, literal_tables, macros, nexthop, plan, transports
from ansible_collections.outpost.smtp.plugins.module_utils._postfix import settings as postfix_settings
from ansible_collections.outpost.smtp.plugins.module_utils._smtp import dns, ehlo, fields, proxy, redact, relay_trust, reply
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.cli import cli
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis import diagnose
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl import login, oauth_token, sasl_md5, sasl_plain, sasl_scram, saslprep
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import chain, sent_chain, x509

_log_in, _inspect, _trust = login.log_in, oauth_token.inspect, relay_trust.read
_http_head, _read, _vector = proxy._http_head, proxy._Line.read, sent_chain._vector


def _as_it_came(raw: t.Union[bytes, str]) -> str:
    return raw if isinstance(raw, str) else raw.decode("latin-1")


def _one_octet_too_much(line: t.Any) -> str:
    head = _http_head(line)
    line.read(1)
    return head


def _quotes_values(self: t.Any, field: str, reason: str) -> fields.RelayError:
    return fields.RelayError(f"{self.place}.{field}", f"{reason}: {self._given}")


BROKEN: t.Tuple[t.Tuple[str, t.Any, str, t.Any], ...] = (
    ("replies", reply, "printable", _as_it_came),
    ("replies", reply.ReplyParser, "_check_unfinished_line", lambda self: reply.ReplyParser()._add(bytes(self._buffer))),
    ("replies", ehlo.Capabilities, "auth", property(lambda self: self._extensions.get("AUTH", []) * 2)),
    ("replies", ehlo.Capabilities, "starttls", property(lambda self: "STARTTLS" in "".join(self.lines))),
    ("dialogues", redact.Redactor, "clean_lines", lambda _self, lines: list(lines)),
    ("dialogues", login, "log_in", lambda *given, **options: _log_in(*given, **{**options, "allow_unencrypted": True})),
    ("dialogues", login, "log_in", lambda *given, **options: _log_in(*given, **{**options, "try_all": True})),
    ("mechanisms", sasl_scram._Scram, "_bearable", lambda _self, _rounds: 1),
    ("mechanisms", sasl_scram._Scram, "finish", lambda _self: None),
    ("mechanisms", sasl_md5.DigestMd5, "finish", lambda _self: None),
    ("mechanisms", sasl_md5.CramMd5, "respond", lambda self, _challenge: self._password),
    ("mechanisms", sasl_plain.Plain, "respond", lambda self, _challenge: self.initial()),
    ("mechanisms", sasl_plain, "_USERNAME_PROMPT", re.compile(rb"(?!)")),
    ("preparations", saslprep, "_prepare", lambda text, _stored: text),
    ("tokens", oauth_token, "_text", lambda value: value),
    ("tokens", oauth_token, "inspect", lambda token, now: {**_inspect(token, now), "token": token}),
    ("secrets", redact.Redactor, "_encoded_spans", lambda _self, _text: []),
    ("secrets", redact.Redactor, "clean", lambda _self, _text: redact.MASK),
    ("secrets", redact, "_within", lambda _spans, _window, _shift: []),
    ("certificates", x509, "printable", _as_it_came),
    ("certificates", x509, "_time", lambda _element: dict[str, int]()["a time"]),
    ("chains", chain, "ordered", lambda sent: list(sent) * 2),
    ("chains", chain, "_shown", lambda name: name + "\n"),
    ("messages", sent_chain, "_vector", lambda data, at, size: (_vector(data, at, size)[0][:20], _vector(data, at, size)[1])),
    ("names", dns, "_part", lambda message, at, size: message[at : at + size]),
    ("names", dns, "printable", _as_it_came),
    ("proxies", proxy, "_http_head", _one_octet_too_much),
    ("proxies", proxy._Line, "read", lambda line, size: _read(line, size if size < 5 else size - 1)),
    ("diagnoses", diagnose, "recognise", lambda _seen: "no_such_code"),
    ("diagnoses", diagnose, "_filled", lambda template, _facts: template),
    ("endpoints", relay_trust, "read", lambda *given, **options: {**_trust(*given, **options), "more": 1}),
    ("endpoints", fields.Fields, "refuse", _quotes_values),
    ("arguments", cli, "_target", lambda target, port: {"host": target.split(":")[1], "port": port}),
    ("arguments", fields.Fields, "refuse", _quotes_values),
    ("macro_texts", macros, "_NUMBER", re.compile(r"\w+")),
    ("macro_texts", macros, "_MAX_DEPTH", 100_000),
    ("next_hops", nexthop, "_NUMBER", re.compile(r"\w+")),
    ("services", postfix_settings, "_overrides", dict.fromkeys),
    ("lookups", literal_tables, "is_literal", lambda _table: False),
    ("ownership", plan, "restored", lambda text: text),
    ("ownership", plan, "set_aside", lambda main, _ours, _services: main.rewritten(lambda _key, _raw, _last: "")),
    ("ownership", configtext, "_terminated", lambda raw: raw),
    ("ownership", configtext, "_BLANKS", " \t"),
    ("ownership", configtext.Document, "ends_with_block", lambda _self: True),
    ("relay_configs", fields, "credential_fault", lambda _value: ""),
    ("relay_configs", fields, "_LABEL", re.compile(r"(?s).+")),
    ("relay_configs", transports, "_table", lambda relays: "".join(f"{one['host']} {one['username']}:{one['password']!r}\n" for one in relays)),
)


@pytest.mark.parametrize(("target", "place", "name", "broken"), BROKEN, ids=[f"{target}-{name}" for target, _place, name, _broken in BROKEN])
def test_it_is_found(monkeypatch: pytest.MonkeyPatch, target: str, place: t.Any, name: str, broken: t.Any) -> None:
    @settings(max_examples=2000, phases=[Phase.generate], report_multiple_bugs=False)
    @given(strategies.BY_TARGET[target])
    def holds(data: bytes) -> None:
        targets.TARGETS[target](data)

    monkeypatch.setattr(place, name, broken)
    with pytest.raises(Exception):  # noqa: B017  # that it ends in one is all
        holds()
