# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The lookup tables of relays that hold no secret: by which relay a sender's mail goes, aliases, senders that are rewritten."""

from __future__ import annotations

import typing as t

Entries = t.Sequence[t.Mapping[str, str]]


def relay_tables(routes: t.Mapping[str, t.Any], aliases: Entries, senders: t.Mapping[str, t.Any]) -> t.Dict[str, str]:
    """Return the text of each table by its name; one that nothing is in has none.

    ``routes`` come from transports(), ``aliases`` from normalise_aliases() and ``senders`` from normalise_sender_rewrite().
    """
    return {
        "virtual_alias": _lines(aliases, "name", "targets"),
        "sender_canonical": _lines(senders["rules"], "from", "to"),
        "sender_default": _default(senders["everybody"], senders["others"]) if senders["everybody"] else "",
        "sender_transport": _lines(routes["senders"], "sender", "transport"),
        "tls_policy": _lines(routes["failovers"], "nexthop", "policy"),
    }


def _lines(entries: Entries, key: str, value: str) -> str:
    return "".join(f"{entry[key]} {entry[value]}\n" for entry in entries)


def _default(everybody: str, others: str) -> str:
    """A regexp table (regexp_table(5)) for every sender but ``others``."""
    return f"""if !/{others}/
# An address: the empty sender of a bounce has no "@" and stays empty, or undeliverable bounces would go round and round.
/@/ {everybody}
endif
"""
