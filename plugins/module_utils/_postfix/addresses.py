# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Mail addresses that users give for aliases and for the rewriting of senders: checked, and put into table entries."""

from __future__ import annotations

import re
import typing as t

#: The characters of RFC 5322 "atext" that mean nothing special to Postfix or to a lookup table.
_LOCAL = r"[A-Za-z0-9_&'*+=?^~][A-Za-z0-9_&'*+=?^~.-]*"
_DOMAIN = r"(?:(?!-)[A-Za-z0-9-]{1,63}(?<!-)\.)*(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_LOCAL_PART = re.compile(_LOCAL + r"\Z")
_ADDRESS = re.compile(f"{_LOCAL}@{_DOMAIN}\\Z")
_AT_DOMAIN = re.compile(f"@{_DOMAIN}\\Z")
_EVERYBODY = "*"


class AddressError(ValueError):
    """An address that can not be used; the text starts with its place, such as ``postfix_relay_aliases['root']``."""


def normalise_aliases(aliases: t.Any, variable: str) -> t.List[t.Dict[str, str]]:
    """Return the entries ``{name, targets}`` of a table for virtual(5) from ``{name: address or list of addresses}``.

    Raises AddressError naming the variable and the entry.
    """
    if not isinstance(aliases, dict):
        raise AddressError(f"{variable}: must be a dictionary of alias and address")
    entries = []
    seen: t.Set[str] = set()
    for name, given in aliases.items():
        place = f"{variable}[{name!r}]"
        if not isinstance(name, str) or not (_LOCAL_PART.match(name) or _ADDRESS.match(name)):
            raise AddressError(f"{place}: an alias is a local name such as root, or a full address")
        if name.lower() in seen:
            raise AddressError(f"{place}: the same alias is given twice; upper and lower case are one to Postfix")
        seen.add(name.lower())
        targets = [given] if isinstance(given, str) else given
        if not isinstance(targets, (list, tuple)) or not targets:
            raise AddressError(f"{place}: must be an address or a list of addresses")
        for target in targets:
            if not isinstance(target, str) or not (_LOCAL_PART.match(target) or _ADDRESS.match(target)):
                raise AddressError(f"{place}: {_shown(target)} is no mail address (commands, files and :include: are not possible here)")
        entries.append({"name": str(name), "targets": ", ".join(targets)})
    return entries


def normalise_sender_rewrite(rules: t.Any, variable: str) -> t.Dict[str, t.Any]:
    """Return ``{rules, everybody, others}`` from ``{from, to}``, where ``from`` is a local name, an address, ``@domain`` or ``*``.

    ``rules`` are all but that for ``*``; ``everybody`` is the address of that one, or None; ``others`` is a regular
    expression (POSIX extended) for the senders that it is not for. Raises AddressError naming the variable, the entry
    and the field.
    """
    if not isinstance(rules, (list, tuple)):
        raise AddressError(f"{variable}: must be a list of dictionaries with 'from' and 'to'")
    checked: t.List[t.Dict[str, str]] = []
    for index, rule in enumerate(rules):
        place = f"{variable}[{index}]"
        if not isinstance(rule, dict) or set(rule) != {"from", "to"}:
            raise AddressError(f"{place}: must have exactly 'from' and 'to'")
        sender, address = rule["from"], rule["to"]
        forms = (_LOCAL_PART, _ADDRESS, _AT_DOMAIN)
        if not isinstance(sender, str) or not (sender == _EVERYBODY or any(form.match(sender) for form in forms)):
            raise AddressError(f"{place}.from: must be a local name such as root, an address, @domain, or '*' for every sender")
        if any(earlier["from"].lower() == sender.lower() for earlier in checked):
            raise AddressError(f"{place}.from: {sender!r} has a rule already")
        if not isinstance(address, str) or not _ADDRESS.match(address):
            raise AddressError(f"{place}.to: {_shown(address)} is no complete mail address")
        checked.append({"from": str(sender), "to": str(address)})
    return {
        "rules": [rule for rule in checked if rule["from"] != _EVERYBODY],
        "everybody": next((rule["to"] for rule in checked if rule["from"] == _EVERYBODY), None),
        "others": _others([rule["from"] for rule in checked if rule["from"] != _EVERYBODY]),
    }


def _others(senders: t.Sequence[str]) -> str:
    """The senders that other rules are for.

    Postfix looks a whole address up in all tables before it tries its local part and its domain (canonical(5)), so a
    pattern for everybody would win over rules for these. ``double-bounce`` is always left alone: a notice that can not
    be delivered ends there, and would go round and round with another sender.
    """
    names = ["double-bounce", *(sender for sender in senders if "@" not in sender)]
    domains = [sender for sender in senders if sender.startswith("@")]
    return "|".join([f"^({'|'.join(_literal(name) for name in names)})@", *(f"{_literal(domain)}$" for domain in domains)])


def _literal(text: str) -> str:
    """Text as a POSIX extended regular expression; _LOCAL and _DOMAIN allow no other special characters than these."""
    return re.sub(r"([.*+?^])", r"\\\1", text)


def _shown(value: t.Any) -> str:
    return repr(value)[:80]
