# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Bringing one Postfix instance to a wanted configuration, or telling what that would change."""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._oauth.settings import DATA as OAUTH_PROXY
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import Document, logical, master_cf_key
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.diffs import make_diff
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.directory import OwnDirectory, State
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Host
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.packages import CA, POSTFIX, Platform
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.plan import (
    MAIN,
    MASTER,
    NEED_RESTART,
    NOTHING,
    STOP,
    Live,
    Plan,
    as_wanted,
    make_plan,
)
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.request import (
    CA_BUNDLE,
    COMPATIBILITY_LEVEL,
    SMTP_CHROOT,
    Request,
)
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.set_aside import PREFIX
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.tables import TABLE_TYPES, TEXTHASH
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transaction import USUAL, Conduct, Transaction, read_text, recovered

#: What is built in of list parameters as long as there is no Postfix to ask, so that check mode can say what will be
#: written (postconf(5); Postfix 3.5 to 3.10). Others are empty or point to another parameter.
_BUILT_IN = {"proxy_write_maps": "$smtp_sasl_auth_cache_name $lmtp_sasl_auth_cache_name $address_verify_map $postscreen_cache_map"}

#: What is returned of a change that did not take place.
NO_EXAMINATION: t.Dict[str, t.Any] = {"findings": [], "preflight": [], "rolled_back": False}


def compatibility_level(version: str) -> str:
    """Return the compatibility_level for a new main.cf (COMPATIBILITY_README).

    3.6, which 3.5.11 and later take as well; releases before that die of a dotted level. An empty *version* is a Postfix
    that is not installed yet, so that check mode can say what will be written.
    """
    release = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    return "2" if release and release < (3, 5, 11) else "3.6"


class Configurator:
    """One call: a request, the instance it is for, and the host as it was found."""

    def __init__(
        self,
        config_directory: str,
        request: Request,
        host: Host,
        platform: Platform,
        sasl_mechanisms: t.Sequence[str] = (),
        conduct: Conduct = USUAL,
        revert: bool = False,
    ) -> None:
        """``revert``: the request, which is empty, gives way to the configuration that an earlier run kept."""
        self._directory = config_directory
        self._request = request
        self._host = host
        self._platform = platform
        self._conduct = conduct
        self._revert = revert
        self._own = OwnDirectory(config_directory)
        self._installed = platform.has_program("postconf")
        self._bundle = platform.ca_bundle() or platform.expected_ca_bundle()
        self._files = request.files(self._bundle)  # before anything is locked or installed: a CA file may be missing
        self.missing_packages = platform.package_names(self._missing_needs(sasl_mechanisms)) if request.wants_anything() else []

    def _missing_needs(self, sasl_mechanisms: t.Sequence[str]) -> t.List[str]:
        needs = []
        if not self._installed:
            needs.append(POSTFIX)
        needs += self._platform.missing_plugins(sasl_mechanisms)
        if self._request.uses_certificates() and self._platform.ca_bundle() is None:
            needs.append(CA)
        return needs + self._missing_map_types()

    def _missing_map_types(self) -> t.List[str]:
        """The types of maps that packages bring and that are not there. Raises PostfixError for one that none brings."""
        wanted = self._request.built_types()
        available = self._host.map_types() if wanted and self._installed else set()
        missing = []
        for map_type in wanted:
            packages = self._platform.map_packages(map_type)
            if map_type not in available and (packages is None or self._installed and not packages):
                there = sorted(available & set(TABLE_TYPES)) if self._installed else [TEXTHASH]
                raise PostfixError(f"table_types: there is no {map_type} for Postfix on this operating system; it has {', '.join(there)}")
            if map_type not in available and packages:
                self._refuse_lost_map_type(map_type, packages)
                missing.append(map_type)
        return missing

    def _refuse_lost_map_type(self, map_type: str, packages: t.Sequence[str]) -> None:
        """Installing a package that is installed changes nothing, so nobody must be told to."""
        if self._installed and self._platform.has_map_library(map_type):
            raise PostfixError(
                f"table_types: {packages[0]} is installed, but Postfix has no {map_type}: dynamicmaps.cf has lost the line for it. "
                "Install the package once more (apt-get install --reinstall, dnf reinstall), which writes that line"
            )

    def nothing_done(self) -> t.Dict[str, t.Any]:
        """What module postfix_config returns when packages are missing and it was not to fail for that."""
        return {
            "changed": False,
            "diff": [],
            "parameters": [],
            "reloaded": False,
            "running": False,
            "enabled": None,
            "previous_kept": False,
            "oauth_proxy": os.path.isdir(OAUTH_PROXY),
            "version": None,
            "missing_packages": self.missing_packages,
            **NO_EXAMINATION,
        }

    def configure(self, change: bool) -> t.Dict[str, t.Any]:
        """Make the configuration as requested, or with ``change=False`` only tell what that would do.

        Returns what module postfix_config returns. Raises PostfixError.
        """
        version = ""
        defaults: t.Mapping[str, str] = _BUILT_IN
        if self._installed:
            if self._request.wants_anything():
                self._host.check_is_instance()
            version, defaults = self._host.version_and_defaults([*self._list_parameters(), *NEED_RESTART])
        lock = self._own.locked() if change and self._may_change() else contextlib.nullcontext()
        with lock:
            live, unfinished = self._read_live()
            if self._revert:
                self._files = self._own.files(self._kept(live).generation)
            plan = self._plan(live, version, defaults)
            changed = plan.changes() or unfinished
            told = changed and plan.action != NOTHING and self._installed
            diff = make_diff(plan, self._own, self._files, self._files if self._revert else self._request.secret_tables)
            facts = NO_EXAMINATION
            if changed and change:
                transaction = Transaction(self._directory, self._own, self._host, plan, self._conduct)
                told = transaction.run(self._files, self._request, unfinished, check=self._installed)
                facts = transaction.facts
        running = self._installed and self._host.running()
        told = told and (change or running)
        return {
            "changed": changed,
            "diff": diff,
            "parameters": plan.changed_parameters(),
            "reloaded": told,
            "running": running and not (told and plan.action == STOP),
            "enabled": self._host.enabled() if self._installed else None,
            "previous_kept": plan.state.previous is not None,
            "oauth_proxy": os.path.isdir(OAUTH_PROXY),
            "version": version or None,
            "missing_packages": self.missing_packages,
            **facts,
        }

    def _list_parameters(self) -> t.List[str]:
        """The parameters that something is appended to, whose built-in values may be what it is appended to."""
        if not self._revert:
            return self._request.list_parameters()
        state = self._own.state()
        kept = state.previous if state.previous is not None else state
        return [name for name, entry in kept.parameters.items() if entry.appended is not None]

    def _may_change(self) -> bool:
        return self._request.wants_anything() or self._own.exists() or PREFIX in (read_text(os.path.join(self._directory, MAIN)) or "")

    def _read_live(self) -> t.Tuple[Live, bool]:
        """Return the configuration in place, and whether a change of it was killed before its end."""
        main, master = (read_text(os.path.join(self._directory, name)) for name in (MAIN, MASTER))
        if master is None and self._installed and self._request.services:
            raise PostfixError(f"There is no {MASTER} in {self._directory}; the postfix package brings it, install that again")
        state, journal = self._own.state(), self._own.journal()
        good, owed = state.alone(), NOTHING
        if journal is not None:
            state, owed = recovered(state, journal, main, master), journal.action
            good = journal.before if self._own.has(journal.before) else state.alone()
        remains = state == State() and self._own.exists() and not self._request.wants_anything()
        return Live(main, master, state, good, owed), journal is not None or remains or self._own.has_begun()

    def _plan(self, live: Live, version: str, defaults: t.Mapping[str, str]) -> Plan:
        if self._revert:
            kept = self._kept(live)
            return make_plan(live, as_wanted(kept), kept.generation, kept.initial, defaults)
        plan = self._plan_of_request(live, version, defaults)
        return plan._replace(state=plan.state._replace(previous=self._previous(live, plan.state)))

    def _kept(self, live: Live) -> State:
        """The configuration to go back to; the one that is set where none is kept. Raises PostfixError where it is not complete."""
        kept = live.state.previous if live.state.previous is not None else live.state
        if not self._own.has(kept):
            raise PostfixError(f"The tables of the configuration to go back to are no longer in {self._own.path}; set it with state=present")
        return kept

    def _previous(self, live: Live, new: State) -> t.Optional[State]:
        """The configuration to keep. One that is kept already stays, for what came after it has not been made final."""
        if not self._conduct.keep_previous or new == State():
            return None
        kept = live.state.previous if live.state.previous is not None else live.good
        return None if kept == new else kept

    def _plan_of_request(self, live: Live, version: str, defaults: t.Mapping[str, str]) -> Plan:
        generation = live.state.generation
        if not self._own.holds(generation, self._files):
            generation = max([generation, *self._own.generations()]) + 1 if self._files else 0
        values = {name: f"{self._request.type_of(name)}:{self._own.table_path(generation, name)}" for name in self._request.tables}
        values[CA_BUNDLE] = self._bundle
        values.update({placeholder: self._own.table_path(generation, name) for placeholder, name in self._request.bundles().items()})
        values[SMTP_CHROOT] = _smtp_chroot(live.master) or self._platform.default_chroot()
        values[COMPATIBILITY_LEVEL] = compatibility_level(version)
        initial = bool(self._request.initial_parameters) and self._is_unconfigured(live)
        wanted = self._request.resolved(values, initial or self._request.exclusive)
        return make_plan(live, wanted, generation, initial, defaults)

    def _is_unconfigured(self, live: Live) -> bool:
        """Whether main.cf is nobody's work: absent, as an RPM brought it, or made so by an earlier run."""
        if live.main is None or live.state.initial:
            return True
        return live.state == State() and self._host.is_as_packaged(os.path.join(self._directory, MAIN))


def _smtp_chroot(master: t.Optional[str]) -> t.Optional[str]:
    """The chroot column of the host's own smtp client, so that ours runs in the same surroundings."""
    entry = Document(master or "", master_cf_key).entries().get("smtp/unix")
    return logical(entry).split()[4] if entry is not None else None
