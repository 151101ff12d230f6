# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""The rules of iptables, as iptables-save(8) prints them: of the legacy variant, which nft can not see at all, and of the nft variant,
of which nft does not tell all.

A rule is also told in the words of nft's JSON listing, so that one judgement (foreign.py) is enough for all rules.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
import shutil
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Json, Run

LEGACY, NFT = "legacy", "nft"
#: Lists the tables that the legacy variant has in this network namespace. Asking iptables-legacy itself would make them.
LEGACY_TABLES = {4: "/proc/net/ip_tables_names", 6: "/proc/net/ip6_tables_names"}
FAMILIES = {4: "ip", 6: "ip6"}

_SEARCH_PATH = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin"


def program(variant: str, version: int, action: str = "") -> t.Optional[str]:
    """The path of ``iptables-legacy-save`` and the like; `action` is "", "save" or "restore". None where it is not installed.

    Before iptables 1.8 the legacy variant was the only one and had no other name than iptables.
    """
    family = "iptables" if version == 4 else "ip6tables"
    names = ["-".join(part for part in (family, variant, action) if part)]
    if variant == LEGACY and not shutil.which("xtables-nft-multi", path=_SEARCH_PATH):
        names.append("-".join(part for part in (family, action) if part))
    return next((path for path in (shutil.which(name, path=_SEARCH_PATH) for name in names) if path), None)


def legacy_tables(path: str) -> t.List[str]:
    """The tables that the legacy variant has, perhaps without rules; `path` is one of :data:`LEGACY_TABLES`."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().split()
    except OSError:
        return []


class Table(t.NamedTuple):
    """One table: the policies of its base chains, and each chain's rules as arguments of ``iptables -A CHAIN``."""

    policies: t.Dict[str, str]
    rules: t.Dict[str, t.List[t.List[str]]]

    @property
    def drops(self) -> bool:
        """Whether what no rule lets out is dropped."""
        return self.policies.get("OUTPUT") == "DROP"

    @property
    def filters(self) -> bool:
        """Whether packets from this host may be stopped at all."""
        return self.drops or bool(self.rules.get("OUTPUT"))


def read(run: Run, variant: str, version: int) -> t.Optional[t.Dict[str, Table]]:
    """The tables of a variant by name; None where they can not be read, be it for want of the program or of a privilege."""
    command = program(variant, version, "save")
    if command is None:
        return None
    code, out, _err = run([command], "")
    return parse(out) if code == 0 else None


def parse(text: str) -> t.Dict[str, Table]:
    """The tables of what iptables-save printed, or of a file for iptables-restore. A line that makes no sense is left out."""
    tables: t.Dict[str, Table] = {}
    table = Table({}, {})
    for line in text.splitlines():
        if line.startswith("*"):
            table = tables.setdefault(line[1:].strip(), Table({}, {}))
        elif line.startswith(":"):
            chain, policy = (line[1:].split() + ["", ""])[:2]
            table.rules.setdefault(chain, [])
            if policy != "-":
                table.policies[chain] = policy
        elif line.startswith(("-A ", "[")):
            words = _words(re.sub(r"^\[\d+:\d+\] ", "", line))
            if len(words) > 1 and words[0] == "-A":
                table.rules.setdefault(words[1], []).append(words[2:])
    return tables


def as_text(chain: str, rule: t.Sequence[str]) -> str:
    """A rule as iptables-save prints it, for people."""
    return " ".join(["-A", chain, *(_quoted(word) for word in rule)])


def in_words_of_nft(version: int, name: str, table: Table) -> t.List[Json]:
    """The chains and rules of a table as nft would list them; a rule without a verdict has none here, either."""
    family = FAMILIES[version]
    entries: t.List[Json] = [{"chain": _chain(family, name, chain, table.policies.get(chain))} for chain in table.rules]
    for chain, rules in table.rules.items():
        for rule in rules:
            text = as_text(chain, rule)
            entries.append({"rule": {"family": family, "table": name, "chain": chain, "text": text, "expr": expressions(version, rule)}})
    return entries


#: The chains that a packet from this host passes, by table: hook and priority, in the order of the kernel (netfilter_ipv4.h).
_ON_THE_WAY_OUT = {
    ("raw", "OUTPUT"): ("output", -300),
    ("mangle", "OUTPUT"): ("output", -150),
    ("filter", "OUTPUT"): ("output", 0),
    ("security", "OUTPUT"): ("output", 50),
    ("mangle", "POSTROUTING"): ("postrouting", -150),
}


def _chain(family: str, table: str, chain: str, policy: t.Optional[str]) -> Json:
    entry: Json = {"family": family, "table": table, "name": chain}
    if (table, chain) in _ON_THE_WAY_OUT:
        hook, priority = _ON_THE_WAY_OUT[table, chain]
        entry.update(type="filter", hook=hook, prio=priority, policy=(policy or "accept").lower())
    return entry


def _words(line: str) -> t.List[str]:
    """iptables-save quotes with double quotes and escapes with backslashes."""
    try:
        return shlex.split(line)
    except ValueError:
        return []


def _quoted(word: str) -> str:
    return word if re.fullmatch(r"[^\s\"'\\]+", word) else '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'


#: Stands for a match that is not understood: nobody can tell whether the rule applies.
_DOUBT: Json = {"not understood": None}
_NEVER: Json = {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "none at all"}}
_VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "reject", "RETURN": "return"}
#: Targets of iptables-extensions(8) after which the packet goes on with the next rule.
_GOING_ON = {
    *("AUDIT", "CHECKSUM", "CLASSIFY", "CONNMARK", "CONNSECMARK", "CT", "DSCP", "ECN", "HL", "HMARK", "IDLETIMER", "LED", "LOG"),
    *("MARK", "NFLOG", "NOTRACK", "RATEEST", "SECMARK", "SET", "TCPMSS", "TCPOPTSTRIP", "TEE", "TOS", "TRACE", "TTL", "ULOG"),
}
#: Targets of the kernel's own that end the way of the packet, or take it elsewhere.
_ENDING = {"NFQUEUE", "QUEUE", "TARPIT", "SYNPROXY", "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP", "TPROXY"}


def expressions(version: int, rule: t.Sequence[str]) -> t.List[Json]:
    """A rule (arguments of ``iptables -A CHAIN``, as iptables-save writes them) in the words of nft's JSON listing."""
    found: t.List[Json] = []
    negated = False
    options = _Options(rule)
    for option in options:
        if option == "!":
            negated = True
            continue
        if option in ("-j", "-g"):
            found.append({"counter": {}})
            return found + _target(option, options.value())
        if option == "-m":
            options.value()  # its options tell
        elif option == "--comment":
            options.value()
        elif option in _MATCHES:
            found += _MATCHES[option](version, options, "!=" if negated else "==")
        else:
            found.append(_DOUBT)
        negated = False
    return found


class _Options:
    """The words of a rule, one after the other."""

    def __init__(self, words: t.Sequence[str]) -> None:
        self._words = list(words)

    def __iter__(self) -> t.Iterator[str]:
        while self._words:
            word = self._words.pop(0)
            if word.startswith("-") or word == "!":
                yield word

    def value(self) -> str:
        return self._words.pop(0) if self._words else ""


def _target(option: str, name: str) -> t.List[Json]:
    if option == "-g":
        return [{"goto": {"target": name}}]
    if name in _VERDICTS:
        return [{_VERDICTS[name]: None}]
    if name in _GOING_ON:
        return []
    return [{"queue": None}] if name in _ENDING else [{"jump": {"target": name}}]


def _match(left: Json, op: str, right: t.Any) -> Json:
    return {"match": {"op": op, "left": left, "right": right}}


def _protocol(_version: int, options: _Options, op: str) -> t.List[Json]:
    name = options.value()
    return [] if name in ("all", "0") else [_match({"meta": {"key": "l4proto"}}, op, int(name) if name.isdigit() else name)]


def _destination(version: int, options: _Options, op: str) -> t.List[Json]:
    try:
        network = ipaddress.ip_network(options.value())
    except ValueError:
        return [_DOUBT]  # such as a mask with holes
    right: t.Any = {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}
    return [_match({"payload": {"protocol": FAMILIES[version], "field": "daddr"}}, op, right)]


def _interface(_version: int, options: _Options, op: str) -> t.List[Json]:
    return [_match({"meta": {"key": "oifname"}}, op, options.value())]


def _port(_version: int, options: _Options, op: str) -> t.List[Json]:
    return _ports_match([options.value()], op)


def _ports(_version: int, options: _Options, op: str) -> t.List[Json]:
    return _ports_match(options.value().split(","), op)


def _ports_match(texts: t.Sequence[str], op: str) -> t.List[Json]:
    try:
        members = [_range(text, ":") for text in texts]
    except ValueError:
        return [_DOUBT]
    return [_match({"payload": {"protocol": "th", "field": "dport"}}, op, {"set": members})]


def _range(text: str, between: str) -> t.Any:
    bounds = [int(bound) for bound in text.split(between)]
    return {"range": bounds} if len(bounds) == 2 else bounds[0]


def _state(_version: int, options: _Options, op: str) -> t.List[Json]:
    return [_match({"ct": {"key": "state"}}, op, {"set": options.value().lower().split(",")})]


def _user(_version: int, options: _Options, op: str) -> t.List[Json]:
    try:
        right = _range(options.value(), "-")
    except ValueError:
        return [_DOUBT]
    return [_match({"meta": {"key": "skuid"}}, op, right)]


def _tcp_flags(_version: int, options: _Options, op: str) -> t.List[Json]:
    """What a SYN, with no other flag of those that matter, is to such a match."""
    looked_at, wanted = options.value().split(","), options.value().split(",")
    if {"ALL", "ECE", "CWR"}.intersection(looked_at):
        return [_DOUBT]  # the kernel may ask for ECN
    found = [flag for flag in looked_at if flag == "SYN"] or ["NONE"]
    return [] if (found == wanted) is (op == "==") else [_NEVER]


_MATCHES: t.Dict[str, t.Callable[[int, _Options, str], t.List[Json]]] = {
    "-p": _protocol,
    "-d": _destination,
    "-o": _interface,
    "--dport": _port,
    "--dports": _ports,
    "--ctstate": _state,
    "--state": _state,
    "--uid-owner": _user,
    "--tcp-flags": _tcp_flags,
}
