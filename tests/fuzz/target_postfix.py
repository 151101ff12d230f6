# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's Postfix may be set to: macros, next hops, entries of master.cf, tables."""

from __future__ import annotations

import typing as t

from source import Source

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import literal_tables, macros, maps, nexthop, settings
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result

_SECRET = "user:Kettle77"
_MACRO_WORDS = ("$", "$$", "$a", "${", "$(", "{", "}", ")", "a", "b", "c", "?", ":", "==", "!=", "<=", "level", ">", "3.6", "12", "²", " ", "x")
_COMPARISONS = ("${{²} < {12}}", "${{$a} >= {²} ? {x} : {y}}", "${{$a} <level {3.6}}")
_SERVICE = "smtp unix - - n - - smtp"
_SERVICE_WORDS = (*_SERVICE.split(), "-o", "-oname=value", "name = value", "{", "}", "{ name = a b }", "\n", "\n  ", "#", "\t", "=")
_TABLES = ("hash:/a", "proxy:regexp:/b", f"static:{_SECRET}", f"proxy:inline:{{a={_SECRET}}}", f"inline:{{{_SECRET}}}")
_PORT_WORDS = ("submissions=smtps=465", "=", ",", "smtps", "465", "0", "65536", "²", "-1", " ", "9" * 5000)


def _words(source: Source, words: t.Sequence[str], limit: int, between: str = "") -> str:
    return between.join(source.some(lambda: source.choice(words) if source.number(8) else source.text(), limit))


def macro_texts(data: bytes) -> None:
    """A value is expanded or MacroError; without a '$' it stays as it is."""
    source = Source(data)
    parameters = {name: _words(source, _MACRO_WORDS, 8) for name in "abc"}
    value = _words(source, (*_MACRO_WORDS, *_COMPARISONS), 20)
    try:
        found = macros.expand(value, lambda name: parameters.get(name, ""))
    except macros.MacroError:
        return
    assert "$" in value or found == value
    assert macros.expand(value.replace("$", "$$"), lambda _name: "") == value
    assert len(macros.level(value)) == 3


def next_hops(data: bytes) -> None:
    """A next hop has host and service or is none; a service has a port or none."""
    source = Source(data)
    text = _words(source, ("[", "]", ":", "ipv6:", "IPv6:", "mx.provider.test", "smtps", "2001:db8::1", "25"), 6)
    parameters = settings.Parameters({"known_tcp_ports": _words(source, _PORT_WORDS, 4)}, settings.Service("", "-", "", {}))
    try:
        found = nexthop.parse(text, "smtp")
        assert found.text == text and found.host and found.service and found.direct == text.startswith("[")
        assert 1 <= nexthop.port_number(source.choice((found.service, *_PORT_WORDS)), parameters, "/nonexistent") <= 65535
    except (nexthop.NextHopError, PostfixError) as exc:
        assert str(exc)


def services(data: bytes) -> None:
    """What postconf -M prints is read, or PostfixError."""
    source = Source(data)
    text = "\n".join(source.some(lambda: (_SERVICE if source.boolean() else "") + _words(source, _SERVICE_WORDS, 12, " "), 3))
    try:
        found = settings.parse_services(text)
    except PostfixError as exc:
        assert str(exc)
        return
    for name, service in found.items():
        assert name.startswith(f"{service.name}/") and service.command
        assert all("=" not in parameter for parameter in service.overrides)
    try:
        read = settings.Settings({"mail_version": source.text(), "compatibility_level": source.text()}, found)
        assert all(isinstance(read.chrooted(service), bool) for service in found.values())
    except PostfixError as exc:
        assert str(exc)


def lookups(data: bytes) -> None:
    """Tables are asked by standard input alone, and answer or are MapError, whatever postmap prints."""
    source = Source(data)
    keys = [source.choice(("mx.provider.test", "[mx.provider.test]:587", "alerts@provider.test", source.text())) for _count in range(3)]
    if source.boolean():
        tables = source.choice((" ", ", ")).join(source.some(lambda: source.choice(_TABLES), 4))
    else:
        tables = _words(source, ("hash:/a", "proxy:", "regexp:/b", "static:", "inline:", "{", "}", ",", " "), 6)

    def postmap(argv: t.Sequence[str], stdin: str) -> Result:
        assert argv[:3] == ["postmap", "-c", "/etc/postfix"] and not any(key in argv[3:] for key in keys if len(key) > 15)
        assert _SECRET not in "".join(argv), "each user of the host can read the arguments of a process"
        out = "".join(source.choice((*keys, source.text())) + "\t" + source.text() + "\n" for _line in range(source.number(4)))
        return Result(source.number(2), out, source.choice(("", "postmap: fatal: x", source.text())))

    asked = maps.Maps("/etc/postfix", postmap)
    for _count in range(1 + source.number(3)):
        some = keys[source.number(3) :]
        try:
            found = asked.find(tables, some, keys[2:])
        except maps.MapError as exc:
            assert _SECRET not in str(exc)
            assert exc.table in literal_tables.shown(tables)
            continue
        assert found is None or (found.key in some and found.table in literal_tables.shown(tables))
    assert all(key in keys for key in asked.known_keys(tables, keys))
    address = source.text() + "@" + source.text()
    looked_up = maps.address_keys(address, source.text(2), lambda _domain: source.boolean())
    assert looked_up[0] == address and len(looked_up) <= 5
