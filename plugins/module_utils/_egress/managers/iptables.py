# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""iptables and ip6tables, of the nft variant and of the legacy one: a chain of ours, and a jump to it at the head of OUTPUT.

Each of the four is opened where it is in use and its own rules stop mail, by one iptables-restore, which the kernel takes as a
whole. Nothing is saved: ``netfilter-persistent save`` would freeze the rules of others into a boot file. What a restart
takes away, :meth:`Iptables.reopen` puts back: by our units, and by a plugin of netfilter-persistent, since people call that
program without its service.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import files, foreign, iptables_save
from ansible_collections.outpost.smtp.plugins.module_utils._egress.change import Change
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.helper import Helper
from ansible_collections.outpost.smtp.plugins.module_utils._egress.iptables_save import Table, as_text
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Manager, Way
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Run

CHAIN = "OUTPOST-SMTP"
_JUMP = ["-j", CHAIN]
#: Seconds to wait for another iptables to end; the legacy variant has a lock (xtables.lock).
_PATIENCE = "5"

#: Debian's netfilter-persistent runs what is in this directory, in the order of the names, each time that it loads or saves rules.
PLUGIN = "/usr/share/netfilter-persistent/plugins.d/90-outpost-smtp"
_PLUGIN_TEXT = """\
#!/bin/sh
# Managed by Ansible, module outpost.smtp.smtp_egress: opens the ways out for mail again where rules were loaded, and keeps them out of
# the file where rules are saved, since they follow the addresses of the relays.
case "$1" in
    start | restart | reload | force-reload)
        {program} reopen || :
        ;;
    save)
        for file in /etc/iptables/rules.v4 /etc/iptables/rules.v6; do
            [ ! -f "$file" ] || sed -i '/{chain}/d' "$file"
        done
        ;;
esac
"""


class Iptables(Manager):
    """The filter tables of iptables. Written ``by_hand``, there are only those that nft sees, and nft's service loads them."""

    name = "iptables"
    services = ("iptables.service", "ip6tables.service")

    def __init__(self, run: Run, root: str = "", by_hand: bool = False) -> None:
        super().__init__(run, root)
        self._by_hand = by_hand
        self._seen: t.Optional[t.List[_Family]] = None

    def opened(self) -> t.Set[Way]:
        # What is asked next is mostly a plan, for which it need not be read again.
        self._seen = self._families()
        return {way for family in self._seen for way in family.opened}

    def plan(self, ways: t.Collection[Way]) -> t.List[Change]:
        families, self._seen = self._families() if self._seen is None else self._seen, None
        return [
            Change(f"{family} filter", "".join(family.lines), "".join(after))
            for family, after in ((family, family.wanted(ways)) for family in families)
            if after != family.lines
        ] + self._plan_plugin(ways)

    def apply(self, ways: t.Collection[Way]) -> None:
        scripts = self._scripts(ways)
        for family, script in scripts:
            self._restore(family, ["--test"], script)
        for change in self._plan_plugin(ways):
            self._write_plugin(change.after)
        for family, script in scripts:
            self._restore(family, [], script)

    def reopen(self, ways: t.Collection[Way]) -> None:
        for family, script in self._scripts(ways):
            self._restore(family, [], script)

    def _scripts(self, ways: t.Collection[Way]) -> t.List[t.Tuple[_Family, str]]:
        """What has to be restored where something differs."""
        self._seen = None
        return [(family, family.script(ways)) for family in self._families() if family.wanted(ways) != family.lines]

    def _plan_plugin(self, ways: t.Collection[Way]) -> t.List[Change]:
        """The plugin is there while there are ways, even if nothing stops them just now."""
        path = self.root + PLUGIN
        before = files.read(path)
        if self._by_hand:
            return []
        wanted = ways and os.path.isdir(os.path.dirname(path))
        after = _PLUGIN_TEXT.format(program=" ".join(Helper.command()), chain=CHAIN) if wanted else None
        if before == after and (after is None or os.access(path, os.X_OK)):
            return []
        return [Change(PLUGIN, before or "", after or "")]

    def _write_plugin(self, text: str) -> None:
        path = self.root + PLUGIN
        if not text:
            files.remove(path)
            return
        files.write(path, text)
        try:
            os.chmod(path, 0o755)
        except OSError as error:
            raise EgressError(f"{path} can not be made executable: {error.strerror}") from None

    def _restore(self, family: _Family, flags: t.Sequence[str], script: str) -> None:
        command = iptables_save.program(family.variant, family.version, "restore")
        if command is None:
            raise EgressError(f"iptables: {family}-restore is not installed, so nothing can be opened in the rules of {family}")
        code, out, err = self._run([command, "--noflush", "-w", _PATIENCE, *flags], script)
        if code != 0:
            raise EgressError(f"iptables: {family}-restore refuses the way out, its rules stay as they were: {(err or out).strip()}")

    def _families(self) -> t.List[_Family]:
        """The filter tables that there are. One that can not be read is left to :mod:`blocking`, which tells of it."""
        found = []
        for version, path in iptables_save.LEGACY_TABLES.items():
            variants = [iptables_save.NFT]
            if not self._by_hand and "filter" in iptables_save.legacy_tables(self.root + path):
                variants.append(iptables_save.LEGACY)
            for variant in variants:
                tables = iptables_save.read(self._run, variant, version) or {}
                if "filter" in tables:
                    found.append(_Family(variant, version, tables["filter"]))
        return found


class _Family:
    """The filter table of one variant and address family: what of it is ours, and what should be."""

    def __init__(self, variant: str, version: int, table: Table) -> None:
        self.variant = variant
        self.version = version
        self._table = table
        self._ours = table.rules.get(CHAIN, [])
        self._jumps = [rule for rule in table.rules.get("OUTPUT", []) if rule == _JUMP]
        self._strange = bool(self._ours) and not any(_way(rule, version) for rule in self._ours)

    def __str__(self) -> str:
        return f"{'iptables' if self.version == 4 else 'ip6tables'}-{self.variant}"

    @property
    def opened(self) -> t.Set[Way]:
        """The ways that our chain opens, if it is asked."""
        return {way for way in (_way(rule, self.version) for rule in self._ours) if way is not None} if self._jumps else set()

    @property
    def lines(self) -> t.List[str]:
        """What is ours, for people; a jump that comes too late is told as such."""
        jumps = [f"{as_text('OUTPUT', rule)}{'' if self._suffices() else ' (behind what stops mail)'}\n" for rule in self._jumps]
        head = [f":{CHAIN}\n"] if CHAIN in self._table.rules else []
        return head + sorted(f"{as_text(CHAIN, rule)}\n" for rule in self._ours) + jumps

    def wanted(self, ways: t.Collection[Way]) -> t.List[str]:
        """What :attr:`lines` would be if these ways, and no others, were opened where something stops them."""
        stops = self._stops(ways)
        if self._strange:
            if stops:
                raise EgressError(
                    f"iptables: chain {CHAIN} of {self} was not made by this module, and was left alone; rename it, or open the way by hand"
                )
            return self.lines
        if not stops:
            return []
        return [f":{CHAIN}\n"] + sorted(f"{as_text(CHAIN, _rule(way))}\n" for way in self._mine(ways)) + [f"{as_text('OUTPUT', _JUMP)}\n"]

    def script(self, ways: t.Collection[Way]) -> str:
        """For iptables-restore --noflush: to open these ways and no others. Declaring a chain makes or empties it."""
        lines = [f":{CHAIN} - [0:0]"] + [f"-D OUTPUT -j {CHAIN}" for _jump in self._jumps]
        if self._stops(ways):
            lines += [as_text(CHAIN, _rule(way)) for way in sorted(self._mine(ways))] + [f"-I OUTPUT 1 -j {CHAIN}"]
        else:
            lines += [f"-X {CHAIN}"]
        return "".join(f"{line}\n" for line in ("*filter", *lines, "COMMIT"))

    def _mine(self, ways: t.Collection[Way]) -> t.Set[Way]:
        return {way for way in ways if way.version == self.version}

    def _stops(self, ways: t.Collection[Way]) -> bool:
        """Whether its own rules stop any of the ways, or may."""
        theirs = {name: [rule for rule in rules if rule != _JUMP] for name, rules in self._table.rules.items() if name != CHAIN}
        return not self._passes(self._table._replace(rules=theirs), self._mine(ways))

    def _suffices(self) -> bool:
        """Whether our jump comes before all that stops what our chain opens."""
        return self._passes(self._table, self.opened)

    def _passes(self, table: Table, ways: t.Iterable[Way]) -> bool:
        listed = iptables_save.in_words_of_nft(self.version, "filter", table)
        bases = foreign.output_chains(entry["chain"] for entry in listed if "chain" in entry)
        packets = [packet for way in ways for packet in foreign.samples(*way)]
        return all(foreign.verdict(base, listed, packet).outcome == foreign.PASS for base in bases for packet in packets)


def _rule(way: Way) -> t.List[str]:
    """The rule of a way as iptables-save prints it. Everything in it has been through ipaddress and int()."""
    length = "" if "/" in way.network else "/32" if way.version == 4 else "/128"
    to = ["-d", f"{way.network}{length}"] if way.network else []
    return [*to, "-p", "tcp", "-m", "tcp", "--dport", str(int(way.port)), "-j", "ACCEPT"]


def _way(rule: t.Sequence[str], version: int) -> t.Optional[Way]:
    """The way of a rule of ours; None for a rule that is not as we make them."""
    words = list(rule)
    try:
        port = int(words[words.index("--dport") + 1])
        way = Way.to(words[1], port) if words[0] == "-d" else Way(version, "", port)
    except (ValueError, IndexError):
        return None
    return way if _rule(way) == words else None
