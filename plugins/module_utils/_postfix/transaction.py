# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Carrying out a planned change: stage, check, switch by rename, tell Postfix, tidy up.

The journal is written first and removed last. Whatever lies between, a run that is killed leaves either the old or the
new configuration complete, and the next run sees from the journal that there is something to finish.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import Document, main_cf_key, master_cf_key
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.directory import OwnDirectory, State, TableFile
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.files import remove_tree, replace_file, sync_directory, temporary_name
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Host
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.ownership import merge
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.plan import MAIN, MASTER, NOTHING, RESTART, STOP, Plan
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.request import Request
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.tables import TEXTHASH, parse_table


def recovered(state: State, journal: State, main: t.Optional[str], master: t.Optional[str]) -> State:
    """Return what is ours after a run that was killed on its way from ``state`` to ``journal``."""
    document = Document(main or "", main_cf_key)
    new_is_live = f"/{journal.generation}/" in "".join(raw for name, raw in document.entries().items() if name in journal.parameters)
    return journal._replace(
        generation=journal.generation if new_is_live else state.generation,
        parameters=merge(state.parameters, journal.parameters, document),
        services=merge(state.services, journal.services, Document(master or "", master_cf_key)),
        created=state.created or journal.created,
        unterminated=tuple(sorted({*state.unterminated, *journal.unterminated})),
    )


class Transaction:
    """One change of the configuration in ``config_directory``, whose own directory is locked by the caller."""

    def __init__(self, config_directory: str, own: OwnDirectory, host: Host, plan: Plan) -> None:
        self._config_directory = config_directory
        self._own = own
        self._host = host
        self._plan = plan

    def run(self, files: t.Mapping[str, TableFile], request: Request, unfinished: bool, check: bool) -> bool:
        """Carry the change out and return whether Postfix was told. ``unfinished``: an earlier one was killed.
        ``check``: let Postfix check what is staged; when it has been removed from the host there is nothing to check with.

        Raises PostfixError; its text says whether the old or the new configuration is in place.
        """
        try:
            if unfinished:  # the journal of the killed run, which is about to be replaced, knows what it did
                self._own.write_state(self._plan.live.state)
            self._own.write_journal(self._plan.state)
            self._prepare(files, request, check)
        except (PostfixError, OSError) as error:
            self._withdraw(unfinished)
            raise error if isinstance(error, PostfixError) else _io_error(error, "nothing was changed") from None
        try:
            self._write(self._plan.before_action)
            told = self._tell_postfix()
            self._write(self._plan.after_action)
            self._finish()
        except OSError as error:
            raise _io_error(error, "the change is not complete, the next run completes it") from None
        return told

    def _prepare(self, files: t.Mapping[str, TableFile], request: Request, check: bool) -> None:
        """Write the new tables and let Postfix read everything from the stage."""
        plan, own = self._plan, self._own
        generation = plan.state.generation
        if generation and generation != plan.live.state.generation:
            own.write_generation(generation, files)
        if not check:
            return
        own.write_stage(plan.main or "", plan.master)
        self._host.check(own.stage, set(plan.state.parameters))
        for name, content in request.tables.items():
            path = own.table_path(generation, name)
            if request.type_of(name) == TEXTHASH:
                self._host.check_entries(own.stage, path, parse_table(name, content))
            else:
                self._host.check_patterns(own.stage, path)
        remove_tree(own.stage)

    def _withdraw(self, unfinished: bool) -> None:
        """Remove what was prepared. What an earlier, killed run left to be finished stays to be finished."""
        try:
            if self._plan.live.state == State():
                self._own.remove()
                return
            self._own.clean(self._plan.live.state.generation)
            if unfinished:
                self._own.write_journal(self._plan.live.state)
            else:
                self._own.end_journal()
        except OSError:
            pass  # the disk that refused the change may refuse this too; the journal lets the next run do it

    def _write(self, steps: t.Iterable[t.Tuple[str, t.Optional[str]]]) -> None:
        for name, text in steps:
            path = os.path.join(self._config_directory, name)
            if text is None:
                remove_tree(path)
                sync_directory(self._config_directory)
            else:
                replace_file(path, text.encode("utf-8", "surrogateescape"), 0o644)

    def _tell_postfix(self) -> bool:
        if self._plan.action == NOTHING or not self._host.running():
            return False
        {RESTART: self._host.restart, STOP: self._host.stop}.get(self._plan.action, self._host.reload)()
        if self._plan.action != STOP and not self._host.running():
            raise PostfixError("The new configuration is in place, but Postfix does not run with it; its log says why")
        return True

    def _finish(self) -> None:
        for name in (MAIN, MASTER):
            remove_tree(temporary_name(os.path.realpath(os.path.join(self._config_directory, name))))
        if self._plan.state == State():
            self._own.remove()
            return
        self._own.write_state(self._plan.state)
        self._own.clean(self._plan.state.generation)
        self._own.end_journal()


def _io_error(error: OSError, consequence: str) -> PostfixError:
    return PostfixError(f"{error.filename or 'A file'} can not be written: {error.strerror}; {consequence}")
