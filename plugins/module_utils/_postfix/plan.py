# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""What a change will do, worked out in full before anything is touched. A pure computation: texts in, texts out."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import (
    Document,
    main_cf_key,
    master_cf_key,
    parameter_value,
    references,
    same_entry,
    split_list,
)
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.directory import NAME, State
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.ownership import Owned, Ownership, own, without
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.request import Resolved
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.set_aside import restored, set_aside

MAIN, MASTER = "main.cf", "master.cf"
NOTHING, RELOAD, RESTART, STOP = "nothing", "reload", "restart", "stop"

#: Parameters that master(8) reads only when it starts: their sections in postconf(5) say to stop and start Postfix.
#: Every other one is read again at a reload, by master(8) itself or by the processes that replace the old ones (postfix(1)).
NEED_RESTART = ("inet_interfaces", "inet_protocols")

#: Files by name with their new text; None: the file goes.
Writes = t.List[t.Tuple[str, t.Optional[str]]]


class Live(t.NamedTuple):
    """The configuration in place."""

    main: t.Optional[str]  #: text of main.cf; None: there is none
    master: t.Optional[str]
    state: State
    good: State = State()  #: the last state known to work; another than ``state`` only after a run that was killed
    owed: str = NOTHING  #: what a killed run may have left to tell Postfix


class Plan(t.NamedTuple):
    """A change. Equal texts and states mean that there is none."""

    live: Live
    main: t.Optional[str]  #: the new text; None: main.cf goes, for it was ours
    master: str
    state: State
    before_action: Writes  #: files to write, in this order; the first main.cf is the commit point
    action: str  #: what Postfix then needs: NOTHING, RELOAD, RESTART or STOP
    after_action: Writes

    def changes(self) -> bool:
        return (self.main, self.master, self.state) != (self.live.main, self.live.master or "", self.live.state)

    def changed_parameters(self) -> t.List[str]:
        """The names of the parameters whose value in main.cf is different afterwards, sorted."""
        before, after = _values(self.live.main), _values(self.main)
        return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def as_wanted(state: State) -> Resolved:
    """What an earlier run wanted, to want it again."""
    assigned = {name: entry.raw for name, entry in state.parameters.items() if entry.appended is None}
    appended = {name: entry.appended for name, entry in state.parameters.items() if entry.appended is not None}
    return Resolved(assigned, appended, {key: entry.raw for key, entry in state.services.items()}, state.exclusive)


def make_plan(live: Live, wanted: Resolved, generation: int, initial: bool, defaults: t.Mapping[str, str]) -> Plan:
    """Return the change that makes exactly ``wanted`` ours.

    ``defaults`` are the built-in values of the parameters that get something appended.
    """
    state = live.state
    main, master = Document(restored(live.main or ""), main_cf_key), Document(live.master or "", master_cf_key)
    unterminated = {
        name: name in state.unterminated if document.ends_with_block() else bool(document.text) and not document.text.endswith("\n")
        for name, document in ((MAIN, main), (MASTER, master))
    }
    new_main, parameters = own(main, state.parameters, _wanted_parameters(main, state.parameters, wanted, defaults), not unterminated[MAIN])
    new_master, services = own(master, state.services, {key: Owned(raw) for key, raw in wanted.services.items()}, not unterminated[MASTER])
    if wanted.exclusive:
        new_main = set_aside(new_main, parameters, new_master.entries().values())
    created = state.created or live.main is None
    new_state = State(
        generation=generation,
        parameters=parameters,
        services=services,
        initial=initial,
        created=created and bool(parameters),
        unterminated=tuple(name for name in (MAIN, MASTER) if unterminated[name] and (parameters if name == MAIN else services)),
        exclusive=wanted.exclusive,
    )
    main_text: t.Optional[str] = new_main.text
    if created and not new_main.text:
        main_text = None
    before, after = sequence(live, Live(main_text, new_master.text, new_state))
    return Plan(live, main_text, new_master.text, new_state, before, _action(live, main_text, new_master.text, defaults), after)


def _wanted_parameters(main: Document, owned: Ownership, wanted: Resolved, defaults: t.Mapping[str, str]) -> t.Dict[str, Owned]:
    parameters = {name: Owned(raw) for name, raw in wanted.assigned.items()}
    for name, addition in wanted.appended.items():
        if wanted.exclusive:
            base = _administrators_part(name, Document("", main_cf_key), None, defaults.get(name, ""))
        else:
            base = _administrators_part(name, main, owned.get(name), defaults.get(name, ""))
        ours = [part for part in split_list(addition) if part not in split_list(base)]
        raw = f"{name} = {', '.join([base, *ours] if base else ours)}\n"
        parameters[name] = Owned(raw, appended=None if wanted.exclusive else ", ".join(ours))
    return parameters


def _administrators_part(name: str, main: Document, before: t.Optional[Owned], default: str) -> str:
    """The value of a list parameter without what is ours.

    A default that only points to another parameter, as virtual_alias_maps does to the deprecated virtual_maps, counts
    as empty where main.cf does not set that one: naming it would only bring a warning.
    """
    live = main.outside().get(name)
    if live is not None and before is not None and same_entry(live, before.raw):
        live = before.previous
    if live is not None:
        ours = split_list(before.appended or "" if before is not None else "")
        value = parameter_value(live)
        return without(value, [part for part in split_list(value) if part in ours or f"/{NAME}/" in part])
    pointed_to = references(default)
    return "" if default.lstrip("$") in pointed_to and pointed_to[0] not in main.entries() else default


def sequence(live: Live, new: Live) -> t.Tuple[Writes, Writes]:
    """Return the files to write before and after Postfix is told, so that between any two writes all fits together.

    First master.cf gains the new services, while those in use stay as they are. Then main.cf switches to them, still
    with the parameters that services in use refer to. Then services change and go, Postfix is told, and such
    parameters go. When no service changes, all of that is one write of main.cf.
    """
    if (live.main, live.master or "") == (new.main, new.master or ""):
        return [], []
    main, master = Document(live.main or "", main_cf_key), Document(live.master or "", master_cf_key)
    new_main, new_master = Document(new.main or "", main_cf_key), Document(new.master or "", master_cf_key)
    joined = {key: raw for key, raw in new_master.entries().items() if key not in master.entries()}
    union = master.edited({}, {**master.in_block(), **joined})
    changing = new_master.text != union.text
    needed = {name for key in live.state.services for name in references(master.entries().get(key, ""))} if changing else set()
    kept = {name: raw for name, raw in main.entries().items() if name in needed and name not in new_main.entries()}
    bridge = new_main.edited({}, {**new_main.in_block(), **kept}) if kept else new_main

    before: Writes = []
    if joined:
        before.append((MASTER, union.text))
    if bridge.text != main.text and (bridge.text or new.main is not None):
        before.append((MAIN, bridge.text))
    if new_master.text != (union.text if joined else master.text):
        before.append((MASTER, new_master.text))
    after: Writes = []
    last_main = next((text for name, text in reversed(before) if name == MAIN), live.main)
    if new.main != last_main:
        after.append((MAIN, new.main))
    return before, after


def _action(live: Live, main: t.Optional[str], master: str, defaults: t.Mapping[str, str]) -> str:
    if main is None:
        return STOP if live.main is not None else NOTHING
    if live.main is not None and (live.owed == RESTART or _read_at_start(live.main, defaults) != _read_at_start(main, defaults)):
        return RESTART
    return NOTHING if (main, master) == (live.main, live.master or "") and live.owed == NOTHING else RELOAD


def _read_at_start(main: str, defaults: t.Mapping[str, str]) -> t.Dict[str, str]:
    """The values of NEED_RESTART and of all parameters that these refer to."""
    values = _values(main)
    found: t.Dict[str, str] = {}
    names = list(NEED_RESTART)
    while names:
        name = names.pop()
        if name not in found:
            found[name] = values.get(name, defaults.get(name, ""))
            names += references(found[name])
    return found


def _values(main: t.Optional[str]) -> t.Dict[str, str]:
    return {name: parameter_value(raw) for name, raw in Document(main or "", main_cf_key).entries().items()}
