# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""ufw, 0.36 and newer: rules of its own kind, before all others of its user, each with our comment.

ufw is asked for one rule at a time (ufw(8), "prepend"). It writes /etc/ufw/user.rules and loads its user's chains again,
each address family in one transaction. It is never told to reload: that takes all its rules away for a moment, and where
before.rules is broken, which "ufw status" does not show, it leaves the host without any way in or out.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import files, foreign, iptables_save, nft
from ansible_collections.outpost.smtp.plugins.module_utils._egress.change import Change
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Manager, Way

#: The comment that makes a rule ours. ufw keeps comments as hexadecimal digits.
_COMMENT = "outpost_smtp"
_IN_HEX = _COMMENT.encode().hex()

_DEFAULTS = "/etc/default/ufw"
_IPV6 = re.compile(r"^\s*IPV6\s*=\s*['\"]?yes['\"]?\s*$", re.IGNORECASE | re.MULTILINE)

#: How ufw keeps a rule on TCP to one port, from anywhere, out through any interface (backend_iptables.py, _write_rules):
#: action, protocol, port and address to, port and address from, direction, and maybe a comment.
_TUPLE = re.compile(r"^### tuple ### (\S+) tcp (\d+) (\S+) any (?:0\.0\.0\.0/0|::/0) out(?: comment=([0-9a-fA-F]+))?\s*$", re.MULTILINE)


class _Rule(t.NamedTuple):
    """A rule in ufw's file: ``action`` is allow, deny, reject or limit, maybe with a way of logging."""

    action: str
    way: Way
    ours: bool


class Ufw(Manager):
    """Opens by rules of ufw's own."""

    name = "ufw"

    def opened(self) -> t.Set[Way]:
        opened: t.Set[Way] = set()
        for version in (4, 6):
            kept = {way for way in self._kept() if way.version == version}
            opened |= self._in_force(version, kept) if kept else set()
        return opened

    def plan(self, ways: t.Collection[Way]) -> t.List[Change]:
        wanted, opened, kept = set(ways), self.opened(), self._kept()
        self._require_possible(wanted - opened)
        before = opened | (kept - wanted)
        return [Change("rules of ufw", _lines(before), _lines(wanted))] if before != wanted else []

    def apply(self, ways: t.Collection[Way]) -> None:
        wanted = set(ways)
        if not self.plan(wanted):
            return
        kept, missing = self._kept(), wanted - self.opened()
        if missing:
            self._require_sound_files()
        said = ""
        # Each comes before those that were added earlier, so the last is the first of all.
        for way in sorted(missing, reverse=True):
            if way in kept:  # and not in force: it was taken out of the kernel, or somebody put a rule before it
                said = self._ufw("delete", *_rule(way))
            said = self._ufw("prepend", *_rule(way))
        for way in sorted(kept - wanted):
            said = self._ufw("delete", *_rule(way))
        # What counts is what there is: ufw also fails, with the rule in its file, where somebody has emptied the chains it would load it into.
        if self.opened() != wanted:
            raise EgressError(f"ufw did not do what it was told, and said: {said}", changed=True)

    def reopen(self, ways: t.Collection[Way]) -> None:
        """Nothing to do: ufw itself loads its user's rules whenever it starts or reloads."""

    def _kept(self) -> t.Set[Way]:
        """Our ways in ufw's own files, which it loads when it starts."""
        return {rule.way for rule in self._rules() if rule.ours}

    def _rules(self) -> t.Iterator[_Rule]:
        """The rules of ufw's user that are of the kind of ours. Those on an application or an interface are of another kind."""
        for version in (4, 6):
            for action, port, address, comment in _TUPLE.findall(files.read(self.root + _user_rules(version)) or ""):
                way = Way.read(version, address, port)
                if way is not None:
                    yield _Rule(action, way, action == "allow" and comment.lower() == _IN_HEX)

    def _in_force(self, version: int, kept: t.Set[Way]) -> t.Set[Way]:
        """Those that the chain of ufw's user lets out, which a rule before ours may prevent. Without that chain ufw stops nothing."""
        command = nft.find("iptables" if version == 4 else "ip6tables")
        if command is None:
            return kept
        chain = _chain(version)
        code, out, err = self._run([command, "-w", "-S", chain], "")
        if code == 1:  # what each version of iptables says differs; ufw goes by this too (backend_iptables.py, get_status)
            return kept
        if code != 0:
            raise EgressError(f"the rules that ufw has loaded can not be listed: {err.strip() or f'exit status {code}'}")
        rules = iptables_save.in_words_of_nft(version, "filter", iptables_save.parse(f"*filter\n{out}")["filter"])
        base = {"family": iptables_save.FAMILIES[version], "name": chain, "policy": "drop"}
        return {way for way in kept if all(foreign.verdict(base, rules, packet).outcome == foreign.PASS for packet in foreign.samples(*way))}

    def _require_possible(self, missing: t.Collection[Way]) -> None:
        """Raise EgressError for what ufw would refuse, or would not do and not say so."""
        by_ipv6 = [way for way in missing if way.version == 6]
        if by_ipv6 and not _IPV6.search(files.read(self.root + _DEFAULTS) or ""):
            raise EgressError(
                f"ufw drops all IPv6 because {_DEFAULTS} does not say IPV6=yes, so no way to {_named(by_ipv6)} can be opened; nothing was "
                "changed. Set it and run 'ufw disable' and 'ufw enable', or have the relay reached by IPv4 only (its field family: ipv4)"
            )
        # ufw keeps one rule for a connection, whatever the rule does with it, and skips a second one with exit status 0.
        rivals = [rule for rule in self._rules() if rule.way in missing and not rule.ours]
        if rivals:
            commands = "; ".join(f"ufw delete {rule.action.replace('_', ' ')} {' '.join(_rule(rule.way)[1:-2])}" for rule in rivals)
            raise EgressError(
                f"ufw has a rule of somebody else's for {_named(rule.way for rule in rivals)}, which denies it or comes after one that does, "
                f"and takes no second one; nothing was changed. If nobody needs it, remove it and run this again: {commands}"
            )

    def _require_sound_files(self) -> None:
        """Raise EgressError where ufw's files can not be loaded: its next start would leave the host without any way in or out."""
        for version, suffix in ((4, ""), (6, "6")):
            command = nft.find("iptables-restore" if version == 4 else "ip6tables-restore")
            for kind in ("before", "after", "user"):
                path = f"/etc/ufw/{kind}{suffix}.rules"
                text = files.read(self.root + path)
                if command is None or text is None:
                    continue
                code, _out, err = self._run([command, "--test", "--noflush"], text)
                if code != 0:
                    raise EgressError(
                        f"{path} is broken, so ufw would close the whole host at its next start or reload; nothing was changed. Mend it, "
                        f"and do not run 'ufw reload' before: {err.strip() or f'exit status {code}'}"
                    )

    def _ufw(self, *arguments: str) -> str:
        """Run ufw. Returns what it said."""
        _code, out, err = self._run([nft.find("ufw") or "ufw", *arguments], "")
        return (err or out).strip()


def _rule(way: Way) -> t.List[str]:
    """A way as arguments of ufw, behind what is to be done with it."""
    return ["allow", "out", "proto", "tcp", "to", way.destination, "port", str(way.port), "comment", _COMMENT]


def _lines(ways: t.Iterable[Way]) -> str:
    return "".join(f"{' '.join(_rule(way))}\n" for way in sorted(ways))


def _named(ways: t.Iterable[Way]) -> str:
    return ", ".join(str(way) for way in sorted(ways))


def _user_rules(version: int) -> str:
    return "/etc/ufw/user.rules" if version == 4 else "/etc/ufw/user6.rules"


def _chain(version: int) -> str:
    return "ufw-user-output" if version == 4 else "ufw6-user-output"
