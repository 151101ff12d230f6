# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""From the text of the template to the text that nft loads: placeholders filled in, and nothing but our table in it.

A placeholder stands between at signs and is filled in from validated data only (addresses through ``ipaddress``, user
ids as integers), so no value can end a rule and start another:

* ``@ipv4:HOST@`` and ``@ipv6:HOST@``: the host's addresses of that family, as an anonymous set,
* ``@networks:ipv4@`` and ``@networks:ipv6@``: the destinations that are networks, as an anonymous set,
* ``@uid:user@``: the user id of the mail server's user,
* ``@uid:exempt_users@``: the user ids of the exempt users, as an anonymous set.

A line whose set is empty is left out, since nft knows no empty anonymous set. Anonymous sets only: a named set written
by nft 1.1.2 or newer makes nft before 1.0.9 crash for everybody on the host.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import Addresses
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError

FAMILY, TABLE = "inet", "outpost_smtp"
#: An empty chain that says who made the table; a table without it is not ours.
MARKER = "managed_by_outpost_smtp"
#: Stands for the id of a user who does not exist yet, in the diff of check mode.
UID_TO_COME = "UID_OF_A_USER_TO_COME"

_PLACEHOLDER = re.compile(r"@(ipv4|ipv6|uid|networks):([A-Za-z0-9_.:-]+)@")
_COMMENT = re.compile(r'("[^"\n]*")|#[^\n]*')
#: Matches what somebody else has translated; the word alone would be a statement that translates.
_HARMLESS = re.compile(r"\bct status dnat\b")
_TOKEN = re.compile(r'"[^"\n]*"|[{};]|[^\s{};"]+')
#: How the file begins: add, delete, add again is atomic in one transaction, works on every nft and leaves the rest of
#: the rule set alone ("destroy table" would need nft 1.0.7 and Linux 6.3).
_FIRST_LINES = f"table {FAMILY} {TABLE}\ndelete table {FAMILY} {TABLE}\n"
_OPENING = f"table {FAMILY} {TABLE} ; delete table {FAMILY} {TABLE} ; table {FAMILY} {TABLE} {{".split()
_FORBIDDEN = {
    "include",
    "define",
    "redefine",
    "undefine",
    "flush",
    "destroy",
    "drop",
    "queue",
    "dnat",
    "snat",
    "masquerade",
    "redirect",
}


class Users(t.NamedTuple):
    """User ids. ``user`` is None where the user does not exist yet, which only check mode accepts."""

    user: t.Optional[int]
    exempt_users: t.List[int]


Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


def render(text: str, addresses: t.Mapping[str, Addresses], users: Users, networks: t.Sequence[Network] = ()) -> str:
    """Return `text` with its placeholders filled in. Raises :class:`EgressError` for what is not understood."""
    filled = (_fill(line, addresses, users, networks) for line in text.splitlines())
    return "".join(f"{line}\n" for line in filled if line is not None)


def _fill(line: str, addresses: t.Mapping[str, Addresses], users: Users, networks: t.Sequence[Network]) -> t.Optional[str]:
    """One line with its placeholders filled in; None where a set in it would be empty."""
    values = [_value(kind, name, addresses, users, networks) for kind, name in _PLACEHOLDER.findall(line)]
    if None in values:
        return None
    remaining = iter(values)
    filled = _PLACEHOLDER.sub(lambda _match: next(remaining) or "", line).rstrip()
    if "@" in _without_comments(filled):
        raise EgressError(f"the rule set holds an unknown placeholder or a named set: {line.strip()!r}")
    return filled


def _value(
    kind: str, name: str, addresses: t.Mapping[str, Addresses], users: Users, networks: t.Sequence[Network]
) -> t.Optional[str]:
    """The text for one placeholder; None where its set is empty."""
    if kind == "networks":
        if name in ("ipv4", "ipv6"):
            return _anonymous_set(str(network) for network in networks if f"ipv{network.version}" == name)
        raise EgressError(f"the rule set asks for @networks:{name}@, which is neither ipv4 nor ipv6")
    if kind == "uid":
        if name == "user":
            return UID_TO_COME if users.user is None else str(int(users.user))
        if name == "exempt_users":
            return _anonymous_set(str(int(uid)) for uid in sorted(set(users.exempt_users)))
    elif name.lower() in addresses:
        found: t.List[str] = getattr(addresses[name.lower()], kind)
        return _anonymous_set(str(ipaddress.ip_address(address)) for address in found)
    raise EgressError(f"the rule set asks for @{kind}:{name}@, which is not among the given relays and users")


def _anonymous_set(members: t.Iterable[str]) -> t.Optional[str]:
    text = ", ".join(members)
    return f"{{ {text} }}" if text else None


def require_own_table_only(text: str) -> None:
    """Refuse a file that could touch anything but our table, or close more than a rule of it says.

    So whatever a template holds, the worst it can do is refuse or count connections; a lock-out by a policy, or the
    loss of somebody else's rules, is not among its means. Raises :class:`EgressError`.
    """
    code = _without_comments(text).strip()
    if "\\" in code or any(line.count('"') % 2 for line in code.splitlines()):
        # nft reads on over the end of such a line, so what looks like a comment here would be a statement there.
        raise EgressError("the rule set must not hold a backslash or a string that goes over the end of a line")
    # nft ends a statement at a line break as it does at a semicolon; only the three opening lines depend on it.
    code = _HARMLESS.sub("ct status", code)
    tokens = _TOKEN.findall(re.sub(r"(?<![{;])\s*\n\s*", " ; ", code))
    if tokens[: len(_OPENING)] != _OPENING:
        raise EgressError(
            f"the rule set must begin with 'table {FAMILY} {TABLE}', 'delete table {FAMILY} {TABLE}', 'table {FAMILY} {TABLE} {{'"
        )
    depth = 1
    body = tokens[len(_OPENING) :]
    for position, token in enumerate(body):
        if token in _FORBIDDEN or token.startswith("$"):
            raise EgressError(f"the rule set must not use {token!r}: this table only accepts, counts, logs and rejects")
        depth += {"{": 1, "}": -1}.get(token, 0)
        if depth == 0 and position != len(body) - 1:
            raise EgressError(f"the rule set must hold table {FAMILY} {TABLE} and nothing after it")
    if depth != 0:
        raise EgressError(f"the rule set does not close the braces of table {FAMILY} {TABLE}")
    if not re.search(rf"\bchain {MARKER}\b", code):
        raise EgressError(f"the rule set must hold the empty chain {MARKER}, which marks the table as ours")


def keeping_counters(text: str) -> str:
    """The same file for a table that is loaded and :func:`alike`: its rules are replaced, its counters go on."""
    code = _without_comments(text)
    return "".join(f"{line}\n" for line in code.splitlines() if line.strip()).replace(
        _FIRST_LINES, f"table {FAMILY} {TABLE}\nflush table {FAMILY} {TABLE}\n", 1
    )


def alike(text: str, other: str) -> bool:
    """Whether two files have the same chains, hooks and counters, so that only rules differ."""
    return _structure(text) == _structure(other)


def _structure(text: str) -> t.List[str]:
    lines = (line.strip() for line in _without_comments(text).splitlines())
    return sorted(line for line in lines if re.match(r"(chain|counter|quota|set|map|type) [^;]*[{;]|type ", line))


def rules(text: str) -> t.List[str]:
    """The rules of a resolved text, one string each, as ``CHAIN: RULE``: a summary for people."""
    summary, chain = [], ""
    for line in _without_comments(text).splitlines():
        stripped = line.strip()
        opened = re.match(r"(chain|counter) (\w+) ?{$", stripped)
        if opened:
            chain = opened.group(2) if opened.group(1) == "chain" else ""
        elif stripped == "}":
            chain = ""
        elif chain and stripped and not stripped.startswith("type "):
            summary.append(f"{chain}: {stripped}")
    return summary


def _without_comments(text: str) -> str:
    return _COMMENT.sub(lambda match: match.group(1) or "", text)
