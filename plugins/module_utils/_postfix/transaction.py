# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Carrying out a planned change: stage, examine, switch by rename, tell Postfix, verify, tidy up; or put everything back.

The journal is written first and removed last. Whatever lies between, a run that is killed leaves either the old or the
new configuration complete, and the next run sees from the journal that there is something to finish. That includes a
run that is killed while it puts the old configuration back, which is the same exchange the other way round.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import Document, main_cf_key, master_cf_key
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.directory import Journal, OwnDirectory, State, TableFile
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.files import (
    read_file,
    remove_tree,
    replace_file,
    sync_directory,
    temporary_name,
    try_replacing,
)
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Host
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.ownership import merge
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.plan import (
    MAIN,
    MASTER,
    NOTHING,
    RELOAD,
    RESTART,
    STOP,
    Live,
    Plan,
    Writes,
    sequence,
)
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.request import Request
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.tables import REGEXP, parse_table

if t.TYPE_CHECKING:
    from ansible_collections.outpost.smtp.plugins.module_utils._postfix.witness import Witness


class Conduct(t.NamedTuple):
    """How a change is made, whatever it is."""

    preflight: str = "never"  #: whether to log in before the switch: never, auto, always (examination.py)
    preflight_timeout: float = 30.0  #: seconds
    keep_previous: bool = False  #: whether the configuration of before is kept to go back to


USUAL = Conduct()
_OWN_PLACE = re.compile(r"\$[({]?config_directory\b")


def recovered(state: State, journal: Journal, main: t.Optional[str], master: t.Optional[str]) -> State:
    """Return what is ours after a run that was killed on its way from ``state`` to the journal's."""
    new = journal.state
    if state == new:  # all but the end of the journal was done
        return state
    document = Document(main or "", main_cf_key)
    new_is_live = f"/{new.generation}/" in "".join(raw for name, raw in document.entries().items() if name in new.parameters)
    return new._replace(
        generation=new.generation if new_is_live else state.generation,
        parameters=merge(state.parameters, new.parameters, document),
        services=merge(state.services, new.services, Document(master or "", master_cf_key)),
        created=state.created or new.created,
        unterminated=tuple(sorted({*state.unterminated, *new.unterminated})),
        previous=new.previous if new.previous is not None else state.previous,
    )


def read_text(path: str) -> t.Optional[str]:
    """The text of a configuration file, with bytes that are no UTF-8 kept; None when there is none."""
    content = read_file(path)
    return None if content is None else content.decode("utf-8", "surrogateescape")


class Transaction:
    """One change of the configuration in ``config_directory``, whose own directory is locked by the caller.

    ``facts`` are what is returned with success and failure alike.
    """

    def __init__(self, config_directory: str, own: OwnDirectory, host: Host, plan: Plan, conduct: Conduct) -> None:
        self._config_directory = config_directory
        self._own = own
        self._host = host
        self._plan = plan
        self._conduct = conduct
        self._witness: t.Optional[Witness] = None  # None: Postfix does not run, or need not be told
        self._written = {MAIN: plan.live.main, MASTER: plan.live.master}  # what is in the files as far as we know
        self._unit: t.Optional[str] = None
        self.facts: t.Dict[str, t.Any] = {"findings": [], "preflight": [], "rolled_back": False}

    def run(self, files: t.Mapping[str, TableFile], request: Request, unfinished: bool, check: bool) -> bool:
        """Carry the change out and return whether Postfix was told. ``unfinished``: an earlier one was killed.
        ``check``: let Postfix check what is staged; when it has been removed from the host there is nothing to check with.

        Raises PostfixError; its text says whether the old or the new configuration is in place.
        """
        try:
            self._begin(unfinished)
            self._prepare(files, request, check)
            self._look_on()
            self._refuse_interference()
        except Exception as error:
            self._withdraw(unfinished)
            if isinstance(error, (OSError, PostfixError)):
                raise self._failure(f"{_text_of(error)}; nothing was changed", error) from None
            raise
        try:
            self._switch(check)
        except (OSError, PostfixError) as error:
            raise self._rolled_back(error, unfinished) from None
        try:
            self._finish()
        except OSError as error:
            raise self._failure(f"{_text_of(error)}; the new configuration is in place and works, the next run completes the rest", error) from None
        return self._witness is not None

    def _failure(self, message: str, error: Exception) -> PostfixError:
        return PostfixError(message, **{**self.facts, **(error.facts if isinstance(error, PostfixError) else {})})

    # -- before the switch ------------------------------------------------------------------------------------------------

    def _begin(self, unfinished: bool) -> None:
        """Write down what is going to happen, and make sure that the files can be exchanged."""
        plan = self._plan
        if unfinished:  # the journal of the killed run, which is about to be replaced, knows what it did
            self._own.write_state(plan.live.state)
        self._own.write_journal(Journal(plan.state, plan.live.good, plan.action))
        for name, text in {**dict(plan.before_action), **dict(plan.after_action)}.items():
            try_replacing(self._path(name), _encoded(text or ""))

    def _prepare(self, files: t.Mapping[str, TableFile], request: Request, check: bool) -> None:
        """Write the new tables, and examine everything from the stage."""
        # Imported here, as below: a run that changes nothing does not need it.
        from ansible_collections.outpost.smtp.plugins.module_utils._postfix import examination

        plan, own = self._plan, self._own
        generation = plan.state.generation
        if check:
            own.write_stage(self._staged(plan.main or "", plan.master), plan.master)
            examination.read(own.stage, plan, self._host)
        if generation and generation not in own.generations():
            own.write_generation(generation, files, functools.partial(self._host.build_map, own.stage))
        if not check:
            return
        for name, content in request.tables.items():
            path = own.table_path(generation, name)
            if request.type_of(name) == REGEXP:
                self._host.check_patterns(own.stage, path)
            else:
                self._host.check_entries(own.stage, f"{request.type_of(name)}:{path}", parse_table(name, content))
        if plan.state.alone() != State():  # what only takes back is not refused
            self.facts["findings"] = examination.lint(own.stage, plan, self._host, files)
            self.facts["preflight"] = examination.log_in(own.stage, plan, self._host, self._conduct.preflight, self._conduct.preflight_timeout)
        remove_tree(own.stage)

    def _staged(self, main: str, master: str) -> str:
        """The new main.cf as it has to be to mean the same in another directory, where ``$config_directory`` is another one.

        Only where something refers to that: postmap(1) warns of the parameter in the host's log.
        """
        if not _OWN_PLACE.search(main + master) or "config_directory" in Document(main, main_cf_key).entries():
            return main
        separator = "" if not main or main.endswith("\n") else "\n"
        return f"{main}{separator}config_directory = {self._config_directory}\n"

    def _look_on(self) -> None:
        """See how a running Postfix is before it is told anything. Raises PostfixError where the change would end it for good."""
        if self._plan.action == NOTHING or not self._host.running():
            return
        if self._plan.action == RESTART:
            try:
                self._host.check_start()
            except PostfixError as error:
                text = "This change needs a restart, and Postfix would not start again with its configuration as it is now, before any change"
                raise PostfixError(f"{text}: {error}. Mend that first") from None
        self._unit = self._host.active_unit()
        self._witness = self._new_witness()

    def _new_witness(self) -> Witness:
        from ansible_collections.outpost.smtp.plugins.module_utils._postfix.witness import Witness

        return Witness(self._host)

    def _refuse_interference(self) -> None:
        for name, text in ((MAIN, self._plan.live.main), (MASTER, self._plan.live.master)):
            if self._read(name) != text:
                raise PostfixError(f"{name} was changed by somebody else while this change was prepared. Run it again")

    def _withdraw(self, unfinished: bool) -> None:
        """Remove what was prepared. What an earlier, killed run left to be finished stays to be finished."""
        live = self._plan.live
        with contextlib.suppress(OSError):  # what refused the change may refuse this, too; the journal lets the next run do it
            if unfinished:
                self._own.clean(live.state.generations() | live.good.generations())
                self._own.write_journal(Journal(live.state, live.good, live.owed))
            elif live.state == State():
                self._own.remove()
            else:
                self._own.clean(live.state.generations())
                self._own.end_journal()

    # -- the switch -------------------------------------------------------------------------------------------------------

    def _switch(self, check: bool) -> None:
        self._exchange(self._plan.before_action, self._announce)
        self._tell(self._plan.action)
        self._exchange(self._plan.after_action, self._announce)
        for name, text in ((MAIN, self._plan.main), (MASTER, self._plan.master)):
            if (self._read(name) or "") != (text or ""):
                raise PostfixError(f"{name} is not what was written: somebody else changes it, too")
        if check and self._plan.main is not None:
            self._host.check(self._config_directory)

    def _exchange(self, steps: Writes, announce: t.Callable[[], None]) -> None:
        """Write files, and let a running master(8) read a master.cf before a main.cf that goes with it is written.

        Every new process of Postfix reads main.cf, but what is in master.cf only counts when master(8) was told to read it.
        If this run were killed between the two, mail for a new service would wait until somebody tells it. A service that goes
        is left alone by then.
        """
        for number, (name, text) in enumerate(steps):
            if name == MASTER:
                self._vacate(text or "", announce)
            self._write(name, text)
            if name == MASTER and MAIN in [later for later, _text in steps[number + 1 :]]:
                announce()

    def _vacate(self, master: str, announce: t.Callable[[], None]) -> None:
        going = {*Document(self._written[MASTER] or "", master_cf_key).entries()} - {*Document(master, master_cf_key).entries()}
        if going and self._witness is not None and self._plan.action != STOP:
            announce()
            self._witness.drain(going)

    def _announce(self) -> None:
        if self._witness is not None:
            self._tell(RELOAD)
            self._witness = self._new_witness()

    def _announce_again(self) -> None:
        """What goes wrong with this does not keep the old configuration from being put back; after that it is told once more."""
        if self._witness is not None and self._host.running():
            witness = self._new_witness()
            with contextlib.suppress(PostfixError):
                self._host.reload()
                self._await_uptake(witness)

    def _write(self, name: str, text: t.Optional[str]) -> None:
        if self._read(name) != self._written[name]:
            raise PostfixError(f"somebody else has changed {name} in the meantime")
        path = self._path(name)
        if text is None:
            remove_tree(os.path.realpath(path))
            sync_directory(os.path.dirname(os.path.realpath(path)))
        else:
            replace_file(path, _encoded(text), 0o644)
        self._written[name] = text

    def _tell(self, action: str) -> None:
        """Let a running Postfix take up the new configuration. Raises PostfixError if it does not, or does not run with it."""
        if self._witness is None:
            return
        try:
            if action == STOP:
                self._host.stop(self._unit)
                return
            if action == RESTART:
                self._host.restart(self._unit)
            else:
                self._host.reload()
            self._await_uptake(self._witness)
        except PostfixError as error:
            raise PostfixError(f"With the new configuration, {error}{self._witness.reason()}") from None
        said = "; ".join(self._witness.complaints())
        if said:
            raise PostfixError(f"With the new configuration, Postfix fails: {said}")

    def _await_uptake(self, witness: Witness) -> None:
        witness.await_processes()
        if not self._host.running():
            raise PostfixError("Postfix does not run")

    def _finish(self) -> None:
        for name in (MAIN, MASTER):
            remove_tree(temporary_name(os.path.realpath(self._path(name))))
        if self._plan.state == State():
            self._own.remove()
            return
        self._own.write_state(self._plan.state)
        self._own.clean(self._plan.state.generations())
        self._own.end_journal()

    # -- back again -------------------------------------------------------------------------------------------------------

    def _rolled_back(self, error: Exception, unfinished: bool) -> PostfixError:
        """Put the old configuration back, whose tables are still there, and return what to raise."""
        failed, live = _text_of(error), self._plan.live
        try:
            now = Live(self._read(MAIN), self._read(MASTER), self._plan.state)
            self._refuse_foreign(now)
            before, after = sequence(now, live)
            self._written = {MAIN: now.main, MASTER: now.master}
            self._exchange(before, self._announce_again)
            problem = self._tell_again()
            if not problem:
                self._exchange(after, self._announce_again)
        except (OSError, PostfixError) as second:
            return self._failure(f"{failed}; the old configuration can not be put back: {_text_of(second)}. {self._standing()}", error)
        self.facts["rolled_back"] = True
        if problem:
            self._leave_to_the_next_run()
            return self._failure(f"{failed}; the old configuration is in place again, but with that one, too, {problem}", error)
        self._withdraw(unfinished)
        return self._failure(f"{failed}; the old configuration is in place again", error)

    def _refuse_foreign(self, now: Live) -> None:
        """What somebody else has written since is not ours to overwrite."""
        plan = self._plan
        steps = plan.before_action + plan.after_action
        for name, text, old in ((MAIN, now.main, plan.live.main), (MASTER, now.master, plan.live.master)):
            if text not in [old, *(written for step, written in steps if step == name)]:
                raise PostfixError(f"somebody else has changed {name} in the meantime")

    def _tell_again(self) -> str:
        """Let Postfix go back to the old configuration if it ran before. Returns what is wrong now, empty if nothing is."""
        if self._witness is None:
            return ""
        other = self._witness.restarted()
        witness = self._new_witness()
        try:
            if not self._host.running():
                self._host.start(self._unit)
            elif self._plan.action == RESTART and other:
                self._host.restart(self._unit)
            else:
                self._host.reload()
            self._await_uptake(witness)
        except PostfixError as error:
            return f"{error}{witness.reason()}. Postfix {'still runs' if self._host.running() else 'does not run now'}"
        return ""

    def _leave_to_the_next_run(self) -> None:
        live = self._plan.live
        with contextlib.suppress(OSError):  # then the journal of this change is still there
            self._own.write_journal(Journal(live.state, live.good, self._plan.action))

    def _standing(self) -> str:
        """What is in the files after all, in words."""
        plan = self._plan
        words = []
        for name, old, new in ((MAIN, plan.live.main, plan.main), (MASTER, plan.live.master, plan.master)):
            try:
                text = self._read(name)
            except OSError as error:
                return f"{name} can not be read: {error.strerror}"
            which = "the old one" if text == old else "the new one" if text == new else "one between the old and the new one"
            words.append(f"{name} is {which}")
        return f"{', '.join(words)}; the next run heals that"

    def _path(self, name: str) -> str:
        return os.path.join(self._config_directory, name)

    def _read(self, name: str) -> t.Optional[str]:
        return read_text(self._path(name))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text_of(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'A file'} can not be written: {error.strerror}"
    return str(error)
