# SPDX-License-Identifier: GPL-3.0-or-later
"""What is the administrator's in main.cf and master.cf stays theirs, whatever it is and whatever we set beside it."""

from __future__ import annotations

import typing as t

from source import Source

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import plan, set_aside
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import (
    Document,
    logical,
    main_cf_key,
    parameter_value,
    same_entry,
    split_list,
)
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.directory import State
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.request import Resolved

_MAIN_LINES = (
    *("relayhost = [a]", "relayhost=", "  relayhost = [b]", "biff = yes", "virtual_alias_maps = hash:/v", "virtual_alias_maps ="),
    *("virtual_alias_maps=hash:/v regexp:/r,\thash:/ours", "  more,", "\tmore = x", "# a comment", "  # another", "", " ", "no assignment"),
    *("queue_directory = $base/x", "base = ${other}", "other = /srv", "a = b = c", "=", "\v", "caf\udce9 = \udce9", "x\x85 = y", "\xa0 x", "\r"),
)
_MASTER_LINES = (
    *("smtp inet n - y - - smtpd", "smtp unix - - y - - smtp", "smtp unix - - n - - smtp", "ours unix - - n - - smtp"),
    *("  -o a=$base", "\t-o b=c", "# a comment", "  # another", "", " ", "smtp", "\xa0"),
)
_ASSIGNED = ("relayhost = [ours]\n", "biff = no\n", "default_transport = ours:\n", "base =\n", "a =\n  b\n", "virtual_alias_maps = hash:/ours\n")
_APPENDED = (("virtual_alias_maps", "hash:/ours"), ("virtual_alias_maps", "hash:/ours, hash:/2"), ("alias_maps", "hash:/ours"))
_SERVICES = {"ours/unix": "ours unix - - n - - smtp\n  -o a=$biff\n", "smtp/unix": "smtp unix - - n - - smtp\n  -o ours=1\n"}
_DEFAULTS = {"virtual_alias_maps": "$virtual_maps", "alias_maps": "hash:/etc/aliases"}
_ADDED = "# added by hand\nadded_by_hand = yes\n"


def _text(source: Source, lines: t.Sequence[str]) -> str:
    text = "\n".join(source.some(lambda: source.choice(lines) if source.number(16) else source.text().replace("\n", ""), 12))
    return text + source.choice(("\n", "", "\n\n"))


def _wanted(source: Source) -> Resolved:
    assigned = {main_cf_key(raw): raw for raw in source.some(lambda: source.choice(_ASSIGNED), 4)}
    appended = {name: value for name, value in source.some(lambda: source.choice(_APPENDED), 2) if name not in assigned}
    services = {key: _SERVICES[key] for key in source.some(lambda: source.choice(tuple(_SERVICES)), 2)}
    return Resolved(assigned, appended, services, source.boolean())


def _done(live: plan.Live, wanted: Resolved) -> plan.Live:
    """The configuration after a run, which a second run would not change."""
    made = plan.make_plan(live, wanted, 0, False, _DEFAULTS)
    done = plan.Live(made.main, made.master, made.state)
    assert not plan.make_plan(done, wanted, 0, False, _DEFAULTS).changes()
    return done


def _in_force(live: plan.Live) -> t.Dict[str, str]:
    return Document(live.main or "", main_cf_key).entries()


def _check(before: plan.Live, wanted: Resolved, after: plan.Live) -> None:
    """Ours is in force, and so is what was the administrator's, unless it is set aside."""
    entries = _in_force(after)
    assert all(same_entry(entries[name], raw) for name, raw in wanted.assigned.items())
    for name, value in wanted.appended.items():
        assert set(split_list(value)) <= set(split_list(parameter_value(entries[name])))
    ours = {*wanted.assigned, *wanted.appended}
    theirs = {name: logical(raw) for name, raw in _in_force(before).items() if name not in ours}
    kept = {name: logical(raw) for name, raw in entries.items() if name not in ours}
    assert kept.items() <= theirs.items() and (wanted.exclusive or kept == theirs)


def ownership(data: bytes) -> None:
    """Set anything, then something else, then take it back: the very bytes; a line added meanwhile is still there."""
    source = Source(data)
    main, master = _text(source, _MAIN_LINES), _text(source, _MASTER_LINES)
    first = plan.Live(main, master, State())
    live = first
    for _count in range(1 + source.number(3)):
        wanted = _wanted(source)
        live = _done(live, wanted)
        _check(first, wanted, live)
    added = source.boolean() and (live.main or "").endswith("\n")
    if added:
        live = live._replace(main=f"{live.main}{_ADDED}")
        live = _done(live, _wanted(source))
    live = _done(live, Resolved({}, {}, {}))
    terminated = main if not added or main.endswith("\n") or not main else main + "\n"
    assert (live.main or "", live.master) == (terminated + _ADDED if added else main, master)
    assert live.state == State() and set_aside.PREFIX not in (live.main or "")
