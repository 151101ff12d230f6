# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Which rule of this host's own firewall stops a connection that failed, for those who ask why it did.

Two kinds of evidence are brought together: what the rules say about the packet (foreign.py), and which counters move
when one more packet is sent to each address. Nothing is changed, and nothing is raised: without nft or the privilege to read the rules,
or when it takes too long, the answer is empty.
"""

from __future__ import annotations

import os
import pwd
import re
import threading
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import blocking, foreign, nft, probe
from ansible_collections.outpost.smtp.plugins.module_utils._egress.command import run as run_command
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.ruleset import FAMILY, TABLE

#: Seconds for one question; a host with tens of thousands of rules is not waited for.
DEADLINE = 3.0
#: Addresses that are asked about. The rules of others are hardly ever different.
MAX_ADDRESSES = 4

#: How a rule of ours is called.
OWN = f"table '{FAMILY} {TABLE}' of smtp_egress"

#: Packets by rule: table family, table, chain, handle. Named counters have their name in place of the handle.
_Counts = t.Dict[t.Tuple[str, str, str, t.Union[int, str]], int]

#: How foreign.py names the rule that decides.
_RULE = re.compile(r"rule with handle (\d+) in chain (\S+)")

#: Several endpoints may fail at once, and the packets of one question must not be counted for another.
_ONE_AT_A_TIME = threading.Lock()


class Rule(t.NamedTuple):
    """A rule that stops the connection, in words. ``own``: it is in our own table."""

    text: str
    own: bool = False


def explain(addresses: t.Sequence[str], port: int, uid: t.Optional[int] = None, run: t.Optional[nft.Run] = None) -> t.List[str]:
    """The rules that stop a TCP connection of user `uid` (default: this process) to `port` of `addresses`, each in words."""
    return [rule.text for rule in find(addresses, port, uid, run) or ()]


def find(addresses: t.Sequence[str], port: int, uid: t.Optional[int] = None, run: t.Optional[nft.Run] = None) -> t.Optional[t.List[Rule]]:
    """As explain(), with our own rules told from those of others; None where they can not be read, or do not tell."""
    limit = time.monotonic() + DEADLINE
    command = nft.find()
    if command is None or not _ONE_AT_A_TIME.acquire(timeout=DEADLINE):
        return None
    try:
        return _find(nft.Nft(command, run or _runner(limit)), list(addresses)[:MAX_ADDRESSES], port, os.geteuid() if uid is None else uid)
    except (EgressError, OSError, KeyError):
        return None
    finally:
        _ONE_AT_A_TIME.release()


def _find(command: nft.Nft, addresses: t.Sequence[str], port: int, uid: int) -> t.Optional[t.List[Rule]]:
    chains = command.chains()
    own = command.own_table()
    packets = [foreign.Syn(address, port, _names(uid)) for address in addresses if probe.outside(address)]
    if not packets or (own is None and not blocking.possible(chains)):
        return []
    tables = _tables(command, chains)
    before = _counts(tables)
    for packet in packets:
        probe.send_syn(packet.address, port, uid)
    moved = {rule for rule, packets_now in _counts(_tables(command, chains)).items() if packets_now > before.get(rule, packets_now)}
    blocked = sorted(blocking.find(command, chains, packets), key=lambda entry: entry.priority)
    # That the legacy iptables is in use says nothing about this packet, and nft can not see its rules.
    sentences = [_sentence(command, entry, tables, moved) if " " in entry.chain else "" for entry in blocked]
    found = _own_refusal(own, moved) + [Rule(sentence) for sentence in sentences if sentence]
    # What our own chain has counted has passed all those before it.
    in_doubt = "" in sentences and (FAMILY, TABLE, "", "accepted") not in moved
    return None if in_doubt and not found else found


def _tables(command: nft.Nft, chains: t.Sequence[nft.Json]) -> t.List[nft.Json]:
    """What nft lists of every table that sees outgoing packets, ours included."""
    others = command.tables({(chain["family"], chain["table"]) for chain in foreign.output_chains(chains)})
    return [entry for listed in others.values() for entry in listed] + (command.own_table() or [])


def _counts(listed: t.Sequence[nft.Json]) -> _Counts:
    counts: _Counts = {}
    for entry in listed:
        rule, counter = entry.get("rule"), entry.get("counter")
        if counter is not None:
            counts[counter["family"], counter["table"], "", counter["name"]] = int(counter["packets"])
        for expression in rule.get("expr", ()) if rule is not None else ():
            inner = expression.get("counter")
            if rule is not None and isinstance(inner, dict):
                counts[rule["family"], rule["table"], rule["chain"], rule["handle"]] = int(inner["packets"])
    return counts


def _own_refusal(own: t.Optional[t.Sequence[nft.Json]], moved: t.Container[t.Any]) -> t.List[Rule]:
    if own is None or not nft.is_ours(own) or (FAMILY, TABLE, "", "refused") not in moved:
        return []
    return [Rule(f"{OWN}, which refuses this user; its counter 'refused' counted the packet", own=True)]


def _sentence(command: nft.Nft, entry: blocking.Blocked, tables: t.Sequence[nft.Json], moved: t.Container[t.Any]) -> str:
    """One chain that stops the packet, and what shows it; empty for a chain that only might, with nothing to show."""
    by_counter = next((rule for rule in _rules_of(entry.chain, tables) if _key(rule) in moved and _stops(rule)), None)
    by_text = _RULE.fullmatch(entry.why)
    family, table, _base = entry.chain.split(" ")
    if by_counter is not None:
        chain, handle = f"{family} {table} {by_counter['chain']}", int(by_counter["handle"])
        shown = "; its counter counted the packet"
    elif entry.outcome == foreign.STOP and by_text is not None:
        chain, handle, shown = f"{family} {table} {by_text.group(2)}", int(by_text.group(1)), ""
    else:
        return f"chain '{entry.chain}' of {entry.manager}: {entry.why}" if entry.outcome == foreign.STOP else ""
    text = command.rule_text(chain, handle)
    return f"rule '{text}' (handle {handle}) in chain '{chain}' of {entry.manager}{shown}"


def _rules_of(chain: str, tables: t.Sequence[nft.Json]) -> t.List[nft.Json]:
    """The rules of a base chain (``inet filter output``) and of all chains that it leads to."""
    family, table, base = chain.split(" ")
    rules = [entry["rule"] for entry in tables if "rule" in entry and (entry["rule"]["family"], entry["rule"]["table"]) == (family, table)]
    reached: t.Set[str] = set()
    coming = {base}
    while coming:
        reached |= coming
        coming = {target for rule in rules if rule["chain"] in coming for target in _targets(rule["expr"])} - reached
    return [rule for rule in rules if rule["chain"] in reached]


def _targets(expression: t.Any) -> t.Iterator[str]:
    """Names of the chains that a rule jumps to, wherever in it they are (a verdict map holds several)."""
    inner = expression.values() if isinstance(expression, dict) else expression if isinstance(expression, list) else ()
    if isinstance(expression, dict) and isinstance(expression.get("target"), str):
        yield expression["target"]
    for value in inner:
        yield from _targets(value)


def _key(rule: nft.Json) -> t.Tuple[str, str, str, int]:
    return rule["family"], rule["table"], rule["chain"], rule["handle"]


def _stops(rule: nft.Json) -> bool:
    """Whether the rule's verdict is drop or reject, iptables' own REJECT included."""
    return any(set(expression) & {"drop", "reject"} or (expression.get("xt") or {}).get("name") == "REJECT" for expression in rule["expr"])


def _names(uid: int) -> t.Tuple[t.Union[int, str], ...]:
    """A user as nft may list it."""
    try:
        return uid, pwd.getpwuid(uid).pw_name
    except KeyError:
        return (uid,)


def _runner(limit: float) -> nft.Run:
    """Runs commands until `limit` on the monotonic clock."""
    return lambda arguments, text: run_command(arguments, text, max(0.01, limit - time.monotonic()))
