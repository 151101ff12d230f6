# SPDX-License-Identifier: GPL-3.0-or-later
"""From what an operator writes to what a host gets: relays, the filters, the role's own templates, the module's request.

The templates are rendered by Jinja alone, with the settings that Ansible's template lookup has.
"""

from __future__ import annotations

import pathlib
import typing as t

import jinja2
from source import Source

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import addresses, request, tables
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.relay_tables import relay_tables
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transports import transports
from ansible_collections.outpost.smtp.plugins.module_utils._smtp import relay
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import RelayError

_TEMPLATES = pathlib.Path(__file__).resolve().parents[2] / "roles" / "postfix_relay" / "templates"
_JINJA = jinja2.Environment(loader=jinja2.FileSystemLoader(_TEMPLATES), trim_blocks=True, keep_trailing_newline=True)
#: What a credential may hold, but for a blank at its ends, and a colon in a user name.
_FINE = (
    *("a", "Kettle", "a b", "a\u3000b", "é", "日", "#", "!", ":", "=", ",", "$", "$$", "${x}", "{", "}", "{{ x }}", "{% x %}", "\\"),
    *('"', "'", "`", "%s", "@ca_bundle@", "@sasl_a@", "[evil.test]:587 a:b"),
)
_EVIL = (
    *(" ", "\t", "\n", "\r", "\0", "\x7f", "\x85", "\u2028", "\ufeff", "\ud800", "$", "{", ",", "]:25"),
    *("\n[evil.test]:587 a:b", "\n  -o x=y", "\nrelayhost = evil"),
)
_HOSTS = (
    *("mx.provider.test", "MX.provider.test.", "mx.provider.test.", "other.test", "mx_1", "xn--mx", "a" * 63),
    *("192.0.2.1", "[mx]:587", "lmtp:unix:/x"),
)
_SENDERS = ("alerts@provider.test", "@provider.test", "root", "ROOT", "a.b+c@provider.test", "*", "@", "<x@y>")


def relay_configs(data: bytes) -> None:
    """Each credential is in its table just as it was given, and nothing else differs from what plain values lead to; or the field is named."""
    source = Source(data)
    given = [_relay(source, number) for number in range(1 + source.number(3))]
    aliases = {_word(source, _SENDERS): [_word(source, _SENDERS)] for _count in range(source.number(3))}
    try:
        relays = relay.normalise_relays(given)
        rules = addresses.normalise_sender_rewrite([{"from": _word(source, _SENDERS), "to": "a@provider.test"}], "rewrite")
        wanted, routes = _request(relays, addresses.normalise_aliases(aliases, "aliases"), rules)
    except RelayError as exc:
        assert exc.field.startswith("outpost_smtp_relays") and exc.reason
        return
    except addresses.AddressError as exc:
        assert str(exc).startswith(("rewrite", "aliases"))
        return
    _check_credentials(relays, routes, wanted)
    plain = relay.normalise_relays(_plain(relays))
    assert _outline(wanted) == _outline(_request(plain, [], rules)[0], {"virtual_alias_maps"} if aliases else set())


def _relay(source: Source, number: int) -> t.Dict[str, t.Any]:
    entry: t.Dict[str, t.Any] = {"name": f"r{number}", "host": _word(source, _HOSTS), "port": source.choice((465, 587, 2525))}
    if source.number(4):
        password = "p" + "".join(source.some(lambda: _word(source, _FINE), 5))
        entry.update(username=_word(source, ("alerts@provider.test", "a b", "#a", "$a")), password=password)
    if number and source.boolean():
        entry["senders"] = [_word(source, _SENDERS)]
    return entry


def _word(source: Source, words: t.Sequence[str]) -> str:
    """One of *words*, seldom some other text, or one with something added that hardly any field should take."""
    kind = source.number(64)
    return source.text() if kind == 63 else source.choice(words) + (source.choice(_EVIL) if kind == 62 else "")


def _plain(relays: t.Sequence[t.Mapping[str, t.Any]]) -> t.List[t.Dict[str, t.Any]]:
    """Relays of the same kind with values that nothing can go wrong with; what was the same is the same."""
    seen: t.List[t.Any] = []

    def number(value: t.Any) -> int:
        if value not in seen:
            seen.append(value)
        return seen.index(value)

    made = []
    for one in relays:
        entry = {"name": one["name"], "port": one["port"], "host": f"mx{number(one['host'])}.provider.test"}
        if one["username"] is not None:
            entry.update(username=f"u{number(one['username'])}", password="p")
        if one["senders"]:
            entry["senders"] = [f"s{number(sender.lower())}" for sender in one["senders"]]
        made.append(entry)
    return made


def _request(
    relays: t.Sequence[t.Mapping[str, t.Any]], aliases: t.Sequence[t.Any], rules: t.Mapping[str, t.Any]
) -> t.Tuple[request.Request, t.Dict[str, t.Any]]:
    routes = transports(relays, "outpost_smtp_relays")
    values = {
        "__postfix_relay_routes": routes,
        "__postfix_relay_transports": routes["transports"],
        "__postfix_relay_alias_entries": aliases,
        "__postfix_relay_senders": rules,
    }

    def rendered(name: str) -> str:
        return _JINJA.get_template(name).render(values)

    wanted = request.Request(
        parameters=rendered("main.cf.j2"),
        services=rendered("master.cf.j2"),
        tables=relay_tables(routes, aliases, rules),
        table_types={"sender_default": tables.REGEXP},
        secret_tables=routes["secret_tables"],
        ca_files=routes["ca_files"],
    )
    return wanted, routes


def _check_credentials(relays: t.Sequence[t.Mapping[str, t.Any]], routes: t.Mapping[str, t.Any], wanted: request.Request) -> None:
    by_name = {one["name"]: one for one in relays}
    for transport in routes["transports"]:
        group = [by_name[name] for name in transport["relays"]]
        expected = {one["host"]: f"{one['username']}:{one['password']}" for one in group if one["password"] is not None}
        found = tables.parse_table("x", wanted.tables[transport["table"]]) if transport["table"] else {}
        assert found == expected, "a credential is not in its table as it was given"


def _outline(wanted: request.Request, without: t.AbstractSet[str] = frozenset()) -> t.Any:
    """Which parameters, services and tables there are, and how many entries each table has."""
    resolved = wanted.resolved({name: "x" for name in wanted._allowed()}, initial=False)
    sizes = {name: len(tables.parse_table("x", text)) for name, text in wanted.tables.items() if wanted.type_of(name) != tables.REGEXP}
    sizes.pop("virtual_alias")
    return sorted(resolved.assigned), sorted({*resolved.appended, *without}), sorted(resolved.services), sizes
