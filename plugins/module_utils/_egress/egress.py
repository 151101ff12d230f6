# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Brings a host to the wanted outbound rules, or back to none of ours. Plans first, changes last, repeats for free.

The order of a change: resolve, render, compare, check; then put the helper and its units in place, arm the rollback,
open ways through the manager, load our table in one transaction, prove it by packets, remember. What fails after the
rollback was armed is taken back at once. A run that is killed leaves the old rules or the new ones; the rollback or the
next run completes it.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import (
    addresses,
    blocking,
    files,
    lock,
    nft,
    proof,
    rollback_file,
    ruleset,
    selinux,
    selinux_ports,
    state,
    units,
    users,
    ways,
)
from ansible_collections.outpost.smtp.plugins.module_utils._egress.change import Change
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.helper import PATH as HELPER_PATH
from ansible_collections.outpost.smtp.plugins.module_utils._egress.helper import Helper
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers import backends
from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import Manager
from ansible_collections.outpost.smtp.plugins.module_utils._egress.opening import Opener, Opening
from ansible_collections.outpost.smtp.plugins.module_utils._egress.own_table import RULES_PATH, Listing, OwnTable
from ansible_collections.outpost.smtp.plugins.module_utils._egress.proving import Prove, Prover
from ansible_collections.outpost.smtp.plugins.module_utils._egress.request import NONE, RELAYS, Request, Terms
from ansible_collections.outpost.smtp.plugins.module_utils._egress.rollback import Rollback, Spawn, spawn
from ansible_collections.outpost.smtp.plugins.module_utils._egress.rollback_file import Former
from ansible_collections.outpost.smtp.plugins.module_utils._egress.systemd import Systemd
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import is_address

PACKAGE = "nftables"
_OWN_DIRECTORIES = [os.path.dirname(path) for path in (state.PATH, RULES_PATH, HELPER_PATH)]
#: Seconds that the making of a change may take besides its proof, before it is taken back as one of a run that was killed.
MARGIN = 120
#: For those who neither refresh, nor prove, nor wait for a confirmation.
LIGHTLY = Terms()


class Goal(t.NamedTuple):
    """What a request comes to on this host at this moment, and what must change for it."""

    request: Request
    resolved: ways.Resolved
    text: str
    live: Listing
    opening: Opening
    table: t.List[Change]

    @property
    def changes(self) -> t.List[Change]:
        """What must change in force; what must, so that it lasts, is the units' business."""
        return self.opening.changes + self.table


class Egress:
    """The outbound rules of one host. ``command`` is None where nft is missing; ``root`` is where the host's files are.

    ``entry`` is the module of the helper program, to be given where :meth:`present` is called.
    """

    def __init__(
        self,
        command: t.Optional[nft.Nft],
        run: nft.Run,
        *,
        check_mode: bool,
        root: str = "",
        entry: str = "",
        systemd: t.Optional[Systemd] = None,
        make: t.Optional[t.Callable[[str], Manager]] = None,
        lookup: addresses.Lookup = addresses.lookup,
        prove: Prove = proof.prove,
        spawn: Spawn = spawn,
    ) -> None:
        self.nft = command
        self.check_mode = check_mode
        self.root = root
        self.make = make or (lambda name: backends.make(name, run, root))
        self.systemd = systemd or Systemd(run, root)
        self.table = OwnTable(command, root)
        self.opener = Opener(command, run, self.make, root)
        self.helper = Helper(entry, root)
        self.rollback = Rollback(self.table, self.systemd, self.make, self.helper.command(), root, spawn)
        self.prover = Prover(self.table, run, root, prove)
        self._run = run
        self._lookup = lookup

    def present(self, request: Request, terms: Terms = LIGHTLY, *, report_missing: bool = False) -> t.Dict[str, t.Any]:
        """Open and load what is wanted and make it last. Returns the module's result; raises :class:`EgressError`."""
        if self.nft is None and report_missing:
            return {"changed": False, "missing_packages": [PACKAGE]}
        if self.nft is None and not self.check_mode:
            raise EgressError(
                f"the nft command is not installed on this host; install the package {PACKAGE}",
                missing_packages=[PACKAGE],
            )
        with self._alone():
            return self._present(request, terms)

    def confirmed(self) -> t.Dict[str, t.Any]:
        """Let the change stand that waits for this. Raises :class:`EgressError` where it has been taken back meanwhile."""
        with self._alone():
            note = rollback_file.note(self.root)
            pending = rollback_file.load(self.root)
            if pending is None and note is not None:
                raise EgressError(f"the change was taken back at {note['at']}: {note['why']}; the former rules are in force", rolled_back=note)
            if pending is not None and not self.check_mode:
                self.rollback.disarm()
            return {"changed": False, "confirmed": pending is not None}

    def refresh(self) -> None:
        """Let the rules follow the relays' addresses, as the last run was told to. Raises :class:`EgressError`."""
        remembered = state.load(self.root)
        if remembered.request is None or self.nft is None or rollback_file.load(self.root) is not None:
            return
        goal = self._goal(remembered.request, remembered)
        self._save(goal, self._put_in_force(goal, remembered))

    def absent(self) -> t.Dict[str, t.Any]:
        """Remove what is ours: the table if it bears our mark, the ways, the units, the helper, the memory."""
        with self._alone():
            managers = [manager for manager in map(self.make, backends.NAMES) if manager.plan([])]
            # Two managers may see the same: tables like those of iptables are also nft's.
            changes = self.table.removal() + list(dict.fromkeys(change for manager in managers for change in manager.plan([])))
            unit_changes = self.systemd.plan(units.unwanted())
            changes += unit_changes + self.helper.removal() + selinux_ports.changes(selinux_ports.labelled(self.root), gone=True)
            memory = (state.PATH, rollback_file.PATH, rollback_file.NOTE_PATH)
            for path in memory:
                before = files.read(self.root + path)
                if before is not None:
                    changes.append(Change(path, before, ""))
            if not self.check_mode:
                self.rollback.disarm()
                self.table.remove()
                for manager in managers:
                    manager.apply([])
                for path in memory:
                    files.remove(self.root + path)
                selinux_ports.unlabel(self._run, self.root)
                self._remove_helper(unit_changes, unread=bool(changes))
            return {"changed": bool(changes), "diff": [change.diff() for change in changes]}

    def _present(self, request: Request, terms: Terms) -> t.Dict[str, t.Any]:
        remembered = state.load(self.root)
        pending, note = rollback_file.load(self.root), rollback_file.note(self.root)
        goal = self._goal(request, remembered)
        helper, unit_changes = self.helper.plan(), self.systemd.plan(self._units(goal, terms))
        unlabelled = selinux_ports.missing((relay.port for relay in request.relays), self._run, self.root)
        changes = goal.changes + helper + unit_changes + selinux_ports.changes(unlabelled)
        proofs: t.List[proof.Proof] = []
        blocked, armed = goal.opening.blocked, False
        if self.nft and not self.check_mode:
            former = pending or self._former(goal)
            selinux_ports.label(unlabelled, self._run, self.root)
            if helper:
                self.helper.install()
            if unit_changes or remembered.loaded is None:
                # Forgotten until systemd has read its files, so that the next run repeats all of one that was killed.
                state.save(remembered._replace(loaded=None), self.root)
                self.systemd.apply(unit_changes, unread=True)
            if goal.changes or pending:
                proofs, blocked = self._change(goal, remembered, former, terms)
                armed = terms.rollback_timeout > 0
            else:
                self._save(goal, remembered.loaded)
                blocked = self.prover.settle(request, blocked)
            files.remove(self.root + rollback_file.NOTE_PATH)
            if changes:
                selinux.restore([*_OWN_DIRECTORIES, *units.unwanted()], self._run, self.root)
        return {
            "changed": bool(changes),
            "diff": [change.diff() for change in changes],
            "manager": goal.opening.manager,
            "evidence": goal.opening.evidence,
            "opened": [str(way) for way in goal.opening.ways],
            "rules": ruleset.rules(goal.text),
            "addresses": [
                {"name": relay.name, "host": relay.host, "port": relay.port, **goal.resolved[relay.host].facts()} for relay in request.relays
            ],
            "counters": self.table.counters(),
            "blocking_chains": [entry.facts() for entry in blocked],
            "proof": [one.facts() for one in proofs],
            "rollback": {"armed": armed, "seconds": terms.rollback_timeout if armed else 0},
            "rolled_back": note,
            "persistent": self.systemd.installed,
            "missing_packages": [] if self.nft else [PACKAGE],
        }

    def _alone(self) -> t.ContextManager[None]:
        return contextlib.nullcontext() if self.check_mode else lock.held(self.root)

    def _goal(self, request: Request, remembered: state.State) -> Goal:
        """Work out what is to be. Nothing is changed; raises :class:`EgressError` for what can not be."""
        resolved = addresses.resolve(
            request.relays, remembered.addresses, self._lookup, required=request.destinations == (RELAYS,)
        )
        text = ruleset.render(request.text, resolved, users.of(request, check_mode=self.check_mode), request.networks)
        ruleset.require_own_table_only(text)
        live = self.table.listed()
        chains = self.nft.chains() if self.nft else []
        opening = self.opener.plan(request, resolved, remembered.manager, chains, remembered.ways)
        table = self.table.plan(text, live, remembered.loaded)
        if table:
            self.table.check(text)
        return Goal(request, resolved, text, live, opening, table)

    def _units(self, goal: Goal, terms: Terms) -> t.Dict[str, t.Optional[str]]:
        if not self.systemd.installed:
            return {}
        named = any(not is_address(relay.host) for relay in goal.request.relays)
        return units.wanted(
            self.root,
            " ".join(self.helper.command()),
            nft=self.nft.command if self.nft else None,
            reopened=goal.opening.services,
            refresh=terms.refresh if named and goal.request.destinations == (RELAYS,) else 0,
        )

    def _former(self, goal: Goal) -> Former:
        """What to go back to if the change does not turn out well."""
        opening = goal.opening
        manager, open_ways = opening.manager if opening.manager != NONE else "", opening.former
        if opening.leaving:
            manager, open_ways = opening.leaving, tuple(sorted(self.make(opening.leaving).opened()))
        opened_by = (opening.manager,) if opening.manager != NONE and opening.ways else ()
        return Former("", files.read(self.table.path), files.read(self.root + state.PATH), manager, open_ways, opened_by)

    def _change(
        self, goal: Goal, remembered: state.State, former: Former, terms: Terms
    ) -> t.Tuple[t.List[proof.Proof], t.List[blocking.Blocked]]:
        """Make the change and prove it. Where that fails the host is as before; raises :class:`EgressError`."""
        added = (goal.opening.manager,) if goal.opening.ways and goal.opening.manager not in former.opened_by else ()
        former = former._replace(opened_by=former.opened_by + added)
        self.rollback.arm(former, MARGIN + terms.proof_timeout + terms.rollback_timeout)
        try:
            loaded = self._put_in_force(goal, remembered)
            blocked = self.prover.settle(goal.request, self._blocked_now(goal))
            proofs = self.prover.prove(goal.request, goal.resolved, terms.proof_timeout)
            self._save(goal, loaded)
            if terms.rollback_timeout > 0:
                self.rollback.arm(former, terms.rollback_timeout)
            else:
                self.rollback.disarm()
        except EgressError as error:
            raise self._taken_back(former, error) from None
        except Exception as error:  # what nobody has thought of must not stay either
            raise self._taken_back(former, EgressError(f"unexpected {type(error).__name__}: {error}; please report this as a bug")) from error
        return proofs, blocked

    def _put_in_force(self, goal: Goal, remembered: state.State) -> t.Optional[t.List[t.Any]]:
        """Open first, restrict second. Returns how nft lists our table now."""
        self.opener.apply(goal.opening)
        return self.table.load(goal.text, goal.live, remembered.loaded) if goal.table else remembered.loaded

    def _save(self, goal: Goal, loaded: t.Optional[t.List[t.Any]]) -> None:
        known = {host: found.remembered() for host, found in goal.resolved.items()}
        opened = goal.opening.ways
        state.save(state.State(known, loaded, goal.request, goal.opening.manager if opened else "", opened), self.root)

    def _taken_back(self, former: Former, error: EgressError) -> EgressError:
        """Go back at once, and say so in the error."""
        try:
            self.rollback.perform(former)
            self.rollback.disarm()
            if former.rules is None:
                self._remove_helper(self.systemd.plan(units.unwanted()))
        except EgressError as failure:
            # Its timer stays armed, and tries it again.
            return EgressError(f"{error}. Going back failed, too: {failure}", **{**error.facts, "changed": True, "rolled_back": None})
        note = {"at": rollback_file.now(), "why": str(error)}
        return EgressError(f"{error}. The former rules are back in force", **{**error.facts, "changed": False, "rolled_back": note})

    def _remove_helper(self, unit_changes: t.Sequence[Change], *, unread: bool = False) -> None:
        self.systemd.apply(unit_changes, unread=unread)
        for path in units.unwanted():
            files.remove(self.root + path)
        self.helper.remove()
        files.remove_directory(self.root + os.path.dirname(state.PATH))

    def _blocked_now(self, goal: Goal) -> t.List[blocking.Blocked]:
        """The foreign chains as they are after the change. Raises :class:`EgressError` where one still stops mail for certain."""
        chains = self.nft.chains() if self.nft else []
        if not blocking.possible(chains):
            return []
        single = goal.request._replace(destinations=(RELAYS,))
        blocked = self.opener.blocked(ways.packets(single, goal.resolved), chains)
        blocking.require_open(blocked, changed=True)
        return blocked
