# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""What is ours in main.cf or master.cf: setting it, remembering what stood there before, and taking it back."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import Document, parameter_value, same_entry, split_list


class Owned(t.NamedTuple):
    """An entry that we set."""

    raw: str  #: what we wrote
    previous: t.Optional[str] = None  #: the administrator's entry in whose place it stands; None: it stands in our block
    appended: t.Optional[str] = None  #: for ``name += value``: the part of the value that is ours


Ownership = t.Dict[str, Owned]


def own(document: Document, owned: Ownership, desired: t.Mapping[str, Owned], final_newline: bool) -> t.Tuple[Document, Ownership]:
    """Return the document in which exactly ``desired`` is ours, and what to remember of it.

    What was ours and is no longer wanted is taken back: the administrator's entry returns. If somebody has changed
    our entry since, the change stays.
    """
    outside = document.outside()
    in_place: t.Dict[str, t.Optional[str]] = {}
    block: t.Dict[str, str] = {}
    remembered: Ownership = {}
    for key, wanted in desired.items():
        live, before = outside.get(key), owned.get(key)
        if live is not None and before is not None and before.previous is None and same_entry(live, before.raw):
            in_place[key] = live = None  # ours, though the marks of our block are gone
        if live is None:
            block[key] = wanted.raw
            remembered[key] = wanted
            continue
        if not same_entry(live, wanted.raw):
            in_place[key] = wanted.raw
        previous = live if before is None else _previous(key, wanted, before, live)
        remembered[key] = wanted._replace(previous=_administrators(key, wanted, previous))
    for key, before in owned.items():
        if key not in desired and key in outside:
            in_place.update(_taken_back(key, before, outside[key]))
    return document.edited(in_place, block, final_newline), remembered


def _previous(key: str, wanted: Owned, before: Owned, live: str) -> str:
    """The administrator's entry in whose place ours stands, or comes to stand."""
    if before.previous is None:
        return live
    if before.appended is not None and wanted.appended is None:  # all of it becomes ours, so this is the last look at their part
        return _taken_back(key, before, live).get(key) or before.previous
    return before.previous


def _administrators(key: str, wanted: Owned, previous: str) -> str:
    """The entry to give back one day: the one that stood there, unless its owner has changed their part of the list since."""
    if wanted.appended is None:
        return previous
    part = without(parameter_value(wanted.raw), split_list(wanted.appended))
    return previous if split_list(part) == split_list(parameter_value(previous)) else f"{key} = {part}".rstrip() + "\n"


def _taken_back(key: str, before: Owned, live: str) -> t.Dict[str, t.Optional[str]]:
    if same_entry(live, before.raw):
        return {key: before.previous}
    if before.appended is None:
        return {}
    value = without(parameter_value(live), split_list(before.appended))
    if value == parameter_value(live):
        return {}
    return {key: f"{key} = {value}\n" if value else None}


def without(value: str, elements: t.Collection[str]) -> str:
    """Return a list value without some of its elements; one that has none of them keeps its very text."""
    parts = split_list(value)
    kept = [part for part in parts if part not in elements]
    return value if len(kept) == len(parts) else ", ".join(kept)


def merge(old: Ownership, new: Ownership, document: Document) -> Ownership:
    """Return what is ours after a run that was to lead from ``old`` to ``new`` and was killed somewhere between."""
    live = document.entries()
    merged = {**new, **old}
    merged.update({key: entry for key, entry in new.items() if key not in old or same_entry(live.get(key), entry.raw)})
    return merged
