# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Brings a host to the wanted outbound rules, or back to none of ours. Plans first, changes last, repeats for free.

The order of a change: resolve, render, compare, check with nft, write the file beside its place, load it in one
transaction, move the file, see to the units, remember the result. A run that is killed leaves the old rules or the new
ones; the next run finds the difference and completes it.
"""

from __future__ import annotations

import os
import pwd
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import (
    addresses,
    blocking,
    files,
    foreign,
    nft,
    probe,
    ruleset,
    state,
)
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.systemd import DROP_IN_PATH, UNIT, UNIT_PATH, Systemd

#: In /etc, where nft may read it under SELinux (nft runs as iptables_t, which may not read var_lib_t).
RULES_PATH = "/etc/outpost-smtp/egress.nft"
PACKAGE = "nftables"
_LIVE = f"table {ruleset.FAMILY} {ruleset.TABLE}"


class Request(t.NamedTuple):
    """What is wanted. ``text`` is the rendered template, with its placeholders."""

    relays: t.List[addresses.Relay]
    user: str
    exempt_users: t.List[str]
    text: str


class Change(t.NamedTuple):
    """One difference, for people: `what` is a path, or our table as it is loaded."""

    what: str
    before: str
    after: str

    def diff(self) -> t.Dict[str, str]:
        return {"before_header": self.what, "after_header": self.what, "before": self.before, "after": self.after}


class Egress:
    """The outbound rules of one host. ``nft`` is None where the command is missing; ``root`` is where the host's files are."""

    def __init__(
        self,
        nft: t.Optional[nft.Nft],
        systemd: Systemd,
        *,
        check_mode: bool,
        root: str = "",
        lookup: addresses.Lookup = addresses.lookup,
    ) -> None:
        self.nft = nft
        self.systemd = systemd
        self.check_mode = check_mode
        self.root = root
        self.lookup = lookup

    def present(self, request: Request, *, report_missing: bool = False) -> t.Dict[str, t.Any]:
        """Load the wanted rules and make them last. Returns the module's result; raises :class:`EgressError`."""
        if self.nft is None and report_missing:
            return {"changed": False, "missing_packages": [PACKAGE]}
        if self.nft is None and not self.check_mode:
            raise EgressError(
                f"the nft command is not installed on this host; install the package {PACKAGE}",
                missing_packages=[PACKAGE],
            )
        remembered = state.load(self.root)
        resolved = addresses.resolve(request.relays, remembered.addresses, self.lookup)
        users = self._users(request)
        text = ruleset.render(request.text, resolved, users)
        ruleset.require_own_table_only(text)

        live = self._own_table()
        chains = self.nft.chains() if self.nft else []
        blocked = self._blocked(request, resolved, chains)
        blocking.require_open(blocked, changed=False)
        changes = self._plan_rules(text, live, remembered)
        if changes and self.nft and ruleset.UID_TO_COME not in text:
            self.nft.check(text)
        units = self._plan_units(self.systemd.units(self.nft.command if self.nft else None, RULES_PATH))
        listing = self._load(self.nft, text) if changes and self.nft and not self.check_mode else remembered.loaded
        changes += units
        if self.nft and not self.check_mode:
            if units or remembered.loaded is None:
                # Forgotten until systemd has read its files, so that the next run repeats all of one that was killed.
                state.save(state.State(_known(resolved), None), self.root)
                self._write_units(units)
            state.save(state.State(_known(resolved), listing), self.root)
        changes += self._enable()
        if self.nft and not self.check_mode and (changes or blocked):
            blocked = self._prove(self.nft, request.user, blocked, bool(changes))
            live = self.nft.own_table()
        return {
            "changed": bool(changes),
            "diff": [change.diff() for change in changes],
            "manager": foreign.manager(chains),
            "rules": ruleset.rules(text),
            "addresses": [
                {"name": relay.name, "host": relay.host, "port": relay.port, **resolved[relay.host]._asdict()}
                for relay in request.relays
            ],
            "counters": nft.counters(live),
            "blocking_chains": [entry.facts() for entry in blocked],
            "persistent": self.systemd.installed,
            "missing_packages": [] if self.nft else [PACKAGE],
        }

    def absent(self) -> t.Dict[str, t.Any]:
        """Remove what is ours: the table if it bears our mark, the file, the units, the memory."""
        changes = []
        listed = self.nft.own_table() if self.nft else None
        if self.nft and listed is not None and nft.is_ours(listed):
            changes.append(Change(_LIVE, self.nft.own_table_text(), ""))
            if not self.check_mode:
                self.nft.delete_own_table()
        changes += self._disable()
        units = self._plan_units({UNIT_PATH: None, DROP_IN_PATH: None})
        changes += units
        for path in (RULES_PATH, state.PATH):
            before = files.read(self.root + path)
            if before is not None:
                changes.append(Change(path, before, ""))
        if not self.check_mode:
            if changes:
                self._write_units(units)
            for path in (UNIT_PATH, DROP_IN_PATH, RULES_PATH, state.PATH):
                files.remove(self.root + path)
            for path in (RULES_PATH, state.PATH):
                files.remove_directory(self.root + os.path.dirname(path))
        return {"changed": bool(changes), "diff": [change.diff() for change in changes]}

    def _own_table(self) -> t.Optional[t.List[nft.Json]]:
        """Our table as nft lists it. Raises :class:`EgressError` for somebody else's table of that name."""
        listed = self.nft.own_table() if self.nft else None
        if listed is not None and not nft.is_ours(listed):
            raise EgressError(
                f"this host has a {_LIVE} that was not made by this module (it has no chain {ruleset.MARKER}); it was left alone. "
                f"If nobody needs it, remove it with: nft delete {_LIVE}"
            )
        return listed

    def _users(self, request: Request) -> ruleset.Users:
        """The user ids that the rules speak of; a rule set without users needs none to exist."""
        user = self._user_id(request.user) if "@uid:user@" in request.text else None
        exempt = [self._user_id(name) for name in request.exempt_users] if "@uid:exempt_users@" in request.text else []
        return ruleset.Users(user, [uid for uid in exempt if uid is not None])

    def _user_id(self, name: str) -> t.Optional[int]:
        """The id of a user; None for a user yet to come, which only check mode accepts."""
        try:
            return pwd.getpwnam(name).pw_uid
        except (KeyError, ValueError):
            if self.check_mode:
                return None
            raise EgressError(
                f"user {name!r} does not exist on this host; install the mail server first, or name another user"
            ) from None

    def _blocked(
        self, request: Request, resolved: t.Mapping[str, addresses.Addresses], chains: t.Sequence[nft.Json]
    ) -> t.List[blocking.Blocked]:
        """The foreign chains that stop the mail server, or may. An address without a route out is not missed by anybody."""
        if self.nft is None or not blocking.possible(chains):
            return []
        packets = [
            foreign.Syn(address, relay.port, _spellings(request.user))
            for relay in request.relays
            for address in resolved[relay.host].ipv4 + resolved[relay.host].ipv6
            if probe.outside(address)
        ]
        return blocking.find(self.nft, chains, packets)

    def _prove(
        self, command: nft.Nft, user: str, blocked: t.Sequence[blocking.Blocked], changed: bool
    ) -> t.List[blocking.Blocked]:
        """Send what could not be judged from the rules. Returns the chains that this can not judge either.

        Raises :class:`EgressError` when a packet does not get out.
        """
        uid = next((name for name in _spellings(user) if isinstance(name, int)), 0)
        suspects = blocking.settle(
            blocked,
            uid,
            lambda: nft.counters(command.own_table())["accepted"],
            nft.output_priority(command.own_table()),
        )
        blocking.require_open(suspects, changed=changed)
        return suspects

    def _plan_rules(self, text: str, live: t.Optional[t.List[nft.Json]], remembered: state.State) -> t.List[Change]:
        """Why the rules must be loaded; empty when file and kernel hold them already.

        The kernel's rules are compared with what nft listed right after they were loaded from this very text, so no
        translation between nft's input and output stands between the two.
        """
        stored = files.read(self.root + RULES_PATH)
        if stored != text:
            return [Change(RULES_PATH, stored or "", text)]
        if live is None or nft.normalised(live) != remembered.loaded:
            return [Change(_LIVE, self.nft.own_table_text() if self.nft else "", text)]
        return []

    def _load(self, command: nft.Nft, text: str) -> t.List[t.Any]:
        """Load the rules, keep them for the next boot, and return how nft lists them."""
        with files.Staged(self.root + RULES_PATH, text) as staged:
            command.load(text)
            staged.commit()
        listed = self._own_table()
        if listed is None:
            raise EgressError(f"{_LIVE} is not there although nft loaded it; another program removes it")
        return nft.normalised(listed)

    def _plan_units(self, wanted: t.Mapping[str, t.Optional[str]]) -> t.List[Change]:
        """Where the unit files differ from the wanted texts (None: not there)."""
        found = {path: files.read(self.root + path) for path in wanted}
        return [Change(path, found[path] or "", text or "") for path, text in wanted.items() if found[path] != text]

    def _write_units(self, changes: t.Sequence[Change]) -> None:
        """Write or remove the unit files that differ, and have systemd read what there is now."""
        for change in changes:
            if change.after:
                files.write(self.root + change.what, change.after)
            else:
                files.remove(self.root + change.what)
        files.remove_directory(self.root + os.path.dirname(DROP_IN_PATH))
        self.systemd.reload()

    def _enable(self) -> t.List[Change]:
        """Have the unit started at boot. Returns what differed."""
        if not self.systemd.installed or self.systemd.enabled:
            return []
        if not self.check_mode:
            self.systemd.enable()
        return [Change(UNIT, "disabled\n", "enabled\n")]

    def _disable(self) -> t.List[Change]:
        if not self.systemd.enabled:
            return []
        if not self.check_mode:
            self.systemd.disable()
        return [Change(UNIT, "enabled\n", "disabled\n")]


def _spellings(user: str) -> t.Tuple[t.Union[int, str], ...]:
    """A user as nft may list it: by name and, where the user exists, by id."""
    try:
        return user, pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError):
        return (user,)


def _known(resolved: t.Mapping[str, addresses.Addresses]) -> t.Dict[str, t.Dict[str, t.List[str]]]:
    return {host: {"ipv4": found.ipv4, "ipv6": found.ipv6} for host, found in resolved.items()}
