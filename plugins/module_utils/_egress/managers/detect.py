# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Who keeps this host's firewall: the one whose rules are in force, and through whom a way is therefore opened.

First asked is who has a say for good: a daemon that runs, ufw that is enabled, a service that has restored rules. Each of
these takes the others' rules away when it starts or reloads, which is nobody's business here as long as only one of them
stops mail. Where there is none, what is loaded tells.

Cheap: one process (systemctl), none where no such service is installed; another one (nft) unless the chains are given.
"""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import files, foreign, iptables_save, nft
from ansible_collections.outpost.smtp.plugins.module_utils._egress.blocking import Blocked
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Json, Run

NFTABLES, FIREWALLD, UFW, IPTABLES = "nftables", "firewalld", "ufw", "iptables"

#: The services that have a say for good. Debian's netfilter-persistent also runs with nothing to restore.
_UNITS = {
    "firewalld.service": FIREWALLD,
    "nftables.service": NFTABLES,
    "netfilter-persistent.service": IPTABLES,
    "iptables.service": IPTABLES,
    "ip6tables.service": IPTABLES,
}
_UNIT_DIRECTORIES = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_RESTORED_BY_DEBIAN = ("/etc/iptables/rules.v4", "/etc/iptables/rules.v6")
_UFW_PROGRAMS = ("/usr/sbin/ufw", "/sbin/ufw", "/usr/bin/ufw")
_UFW_ENABLED = re.compile(r"^\s*ENABLED\s*=\s*['\"]?yes['\"]?\s*$", re.IGNORECASE | re.MULTILINE)


class Detected(t.NamedTuple):
    """``active`` are those that have a say for good, ``evidence`` is what shows it, by manager; ``manager`` is the first of them.

    On a host without any rules the manager is nftables, and nothing is active.
    """

    manager: str
    active: t.Tuple[str, ...]
    evidence: t.Dict[str, str]


def look(run: Run, root: str = "", chains: t.Optional[t.Sequence[Json]] = None) -> Detected:
    """Who keeps the firewall. Raises EgressError where nft can not list what is loaded.

    `chains` are the host's, where they have been listed already; `root` is where the host's files are.
    """
    evidence = _services(run, root)
    if not evidence:
        evidence = _loaded(run, root, _chains(run) if chains is None else chains)
        if not evidence:
            return Detected(NFTABLES, (), {})
    order = sorted(evidence, key=(FIREWALLD, UFW, IPTABLES, NFTABLES).index)
    return Detected(order[0], tuple(order), evidence)


def choose(found: Detected, blocked: t.Collection[Blocked], former: str) -> str:
    """The manager to open through: of several that are active, the one whose rules stop mail, by the chains that are `blocked`.

    `former` is one of them through which ways are open already, or empty. Raises EgressError where more than one must be opened.
    """
    stopping = {name for name in found.active for entry in blocked if _stops(name, entry, found.active)}
    rivals = [name for name in found.active if name in stopping or name == former]
    if len(rivals) > 1:
        named = " and ".join(f"{name} ({found.evidence[name]})" for name in rivals)
        raise EgressError(
            f"the rules of more than one manager keep mail in on this host: {named}. Each takes the other's rules away when it starts or "
            "reloads, so no way stays open for certain. Keep one of them and disable the others, or let mail out by hand in the rules of all "
            f"but one, and name that one (option manager, variable smtp_egress_manager: {', '.join(rivals)} or none)",
            active_managers=list(found.active),
            evidence=found.evidence,
        )
    return rivals[0] if rivals else found.manager


def _stops(name: str, entry: Blocked, active: t.Container[str]) -> bool:
    """Whether a chain that stops mail is one of a manager's, or one that it fills when it starts."""
    if name == NFTABLES and IPTABLES in active:
        return entry.manager == NFTABLES
    return entry.opened_by(name) or (name == IPTABLES and entry.manager == UFW)


def _chains(run: Run) -> t.List[Json]:
    command = nft.find()
    return nft.Nft(command, run).chains() if command else []


def _services(run: Run, root: str) -> t.Dict[str, str]:
    """The managers that put their rules into force by themselves."""
    evidence = {}
    for unit in _active_units(run, root):
        manager = _UNITS[unit]
        if unit == "netfilter-persistent.service":
            restored = [path for path in _RESTORED_BY_DEBIAN if _restores(files.read(root + path))]
            if restored:
                evidence[manager] = f"{unit} is active and restores {' and '.join(restored)}"
        else:
            evidence.setdefault(manager, f"{unit} is active")
    if _UFW_ENABLED.search(files.read(root + "/etc/ufw/ufw.conf") or "") and _exists(root, _UFW_PROGRAMS):
        evidence[UFW] = "/etc/ufw/ufw.conf says ENABLED=yes"
    return evidence


def _active_units(run: Run, root: str) -> t.List[str]:
    """Those of the services that are active; systemd is only asked where one is installed."""
    installed = [unit for unit in _UNITS if any(_is_unit(f"{root}{directory}/{unit}") for directory in _UNIT_DIRECTORIES)]
    if not installed or not os.path.isdir(root + "/run/systemd/system"):
        return []
    # Neither its exit status nor an error matters: it tells the state of each, and is not 0 if one is not active.
    _code, out, _err = run(["systemctl", "is-active", *installed], "")
    return [unit for unit, state in zip(installed, out.split()) if state in ("active", "reloading")]


def _is_unit(path: str) -> bool:
    """Whether it is a unit of that name; Debian's netfilter-persistent is also called iptables and ip6tables, by links."""
    return os.path.exists(path) and os.path.basename(os.path.realpath(path)) == os.path.basename(path)


def _exists(root: str, paths: t.Iterable[str]) -> bool:
    return any(os.path.exists(root + path) for path in paths)


def _restores(text: t.Optional[str]) -> bool:
    """Whether a file for iptables-restore holds any rule, or a policy that drops."""
    return bool(re.search(r"^(-A |\[\d+:\d+\] -A |:\S+ DROP\b)", text or "", re.MULTILINE))


def _loaded(run: Run, root: str, chains: t.Sequence[Json]) -> t.Dict[str, str]:
    """Whose rules are in force on a host where no service keeps them: who drops by default, else who has rules at all.

    Two that drop by default must both be opened, and are told as two. Of several that do not, one is named.
    """
    if any(chain["table"] in foreign.FIREWALLD_TABLES for chain in chains):
        return {FIREWALLD: "its table is loaded"}
    drops: t.Dict[str, str] = {}
    filters: t.Dict[str, str] = {}
    for chain in foreign.output_chains(chains):
        beside = [other for other in chains if (other["family"], other["table"]) == (chain["family"], chain["table"])]
        keeper = foreign.manager(beside)
        found = f"chain '{foreign.name(chain)}' is loaded"
        if chain.get("policy") == "drop":
            drops.setdefault(keeper, f"{found} and drops by default")
        elif keeper == NFTABLES:
            filters.setdefault(keeper, found)
        elif (chain["table"], chain["name"]) == ("filter", "OUTPUT") and _nft_variant_filters(run, chain):
            filters.setdefault(keeper, f"{found} and holds rules")
    for version, path in iptables_save.LEGACY_TABLES.items():
        if "filter" in iptables_save.legacy_tables(root + path):
            table = (iptables_save.read(run, iptables_save.LEGACY, version) or {}).get("filter")
            if table is not None and table.filters:
                keeper = UFW if any(name.startswith(foreign.UFW_CHAINS) for name in table.rules) else IPTABLES
                found = f"the legacy {'iptables' if version == 4 else 'ip6tables'} has rules for what leaves the host"
                (drops if table.drops else filters).setdefault(keeper, found + (" and drops by default" if table.drops else ""))
    return drops or dict(list(filters.items())[:1])


def _nft_variant_filters(run: Run, chain: Json) -> bool:
    """Whether the nft variant's chain OUTPUT, which may have been made along with others, holds any rule."""
    tables = iptables_save.read(run, iptables_save.NFT, 4 if chain["family"] == "ip" else 6)
    return tables is None or "filter" not in tables or tables["filter"].filters
