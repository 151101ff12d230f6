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

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import Document, logical, master_cf_key
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.diffs import make_diff
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.directory import OwnDirectory, State
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.files import read_file
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Host
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.packages import CA, POSTFIX, SASL, Platform
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.plan import MAIN, MASTER, NOTHING, STOP, Live, Plan, make_plan
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.request import (
    BUNDLE_FILE,
    CA_BUNDLE,
    COMPATIBILITY_LEVEL,
    SMTP_CHROOT,
    Request,
)
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transaction import Transaction, recovered


def compatibility_level(version: str) -> str:
    """Return the compatibility_level for a new main.cf (COMPATIBILITY_README).

    3.6, which 3.5.11 and later take as well; releases before that die of a dotted level. An empty *version* is a Postfix
    that is not installed yet, so that check mode can say what will be written.
    """
    release = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    return "2" if release and release < (3, 5, 11) else "3.6"


class Configurator:
    """One call: a request, the instance it is for, and the host as it was found."""

    def __init__(self, config_directory: str, request: Request, host: Host, platform: Platform, sasl_mechanisms: t.Sequence[str] = ()) -> None:
        self._directory = config_directory
        self._request = request
        self._host = host
        self._platform = platform
        self._own = OwnDirectory(config_directory)
        self._installed = platform.has_program("postconf")
        self._bundle = platform.ca_bundle() or platform.expected_ca_bundle()
        self._files = request.files(self._bundle)  # before anything is locked or installed: a CA file may be missing
        self.missing_packages = platform.package_names(self._missing_needs(sasl_mechanisms)) if request.wants_anything() else []

    def _missing_needs(self, sasl_mechanisms: t.Sequence[str]) -> t.List[str]:
        needs = []
        if not self._installed:
            needs.append(POSTFIX)
        if not all(self._platform.has_sasl_mechanism(mechanism) for mechanism in sasl_mechanisms):
            needs.append(SASL)
        if self._request.uses(CA_BUNDLE) and self._platform.ca_bundle() is None:
            needs.append(CA)
        return needs

    def nothing_done(self) -> t.Dict[str, t.Any]:
        """What module postfix_config returns when packages are missing and it was not to fail for that."""
        return {
            "changed": False,
            "diff": [],
            "parameters": [],
            "reloaded": False,
            "running": False,
            "enabled": None,
            "version": None,
            "missing_packages": self.missing_packages,
        }

    def configure(self, change: bool) -> t.Dict[str, t.Any]:
        """Make the configuration as requested, or with ``change=False`` only tell what that would do.

        Returns what module postfix_config returns. Raises PostfixError.
        """
        version = ""
        defaults: t.Dict[str, str] = {}
        if self._installed:
            version, defaults = self._host.version_and_defaults(self._request.list_parameters())
        lock = self._own.locked() if change and (self._request.wants_anything() or self._own.exists()) else contextlib.nullcontext()
        with lock:
            live, unfinished = self._read_live()
            plan = self._plan(live, version, defaults)
            changed = plan.changes() or unfinished
            told = changed and plan.action != NOTHING and self._installed
            diff = make_diff(plan, self._own, self._files, self._request.secret_tables)
            if changed and change:
                told = Transaction(self._directory, self._own, self._host, plan).run(self._files, self._request, unfinished, check=self._installed)
        running = self._installed and self._host.running()
        told = told and (change or running)
        return {
            "changed": changed,
            "diff": diff,
            "parameters": plan.changed_parameters(),
            "reloaded": told,
            "running": running and not (told and plan.action == STOP),
            "enabled": self._host.enabled() if self._installed else None,
            "version": version or None,
            "missing_packages": self.missing_packages,
        }

    def _read_live(self) -> t.Tuple[Live, bool]:
        """Return the configuration in place, and whether a change of it was killed before its end."""
        main, master = (_text(os.path.join(self._directory, name)) for name in (MAIN, MASTER))
        if master is None and self._installed and self._request.services:
            raise PostfixError(f"There is no {MASTER} in {self._directory}; the postfix package brings it, install that again")
        state, journal = self._own.state(), self._own.journal()
        if journal is not None:
            state = recovered(state, journal, main, master)
        remains = state == State() and self._own.exists() and not self._request.wants_anything()
        return Live(main, master, state), journal is not None or remains

    def _plan(self, live: Live, version: str, defaults: t.Mapping[str, str]) -> Plan:
        generation = live.state.generation
        if not self._own.holds(generation, self._files):
            generation = max([generation, *self._own.generations()]) + 1 if self._files else 0
        values = {name: f"{self._request.type_of(name)}:{self._own.table_path(generation, name)}" for name in self._request.tables}
        values[CA_BUNDLE] = self._own.table_path(generation, BUNDLE_FILE) if BUNDLE_FILE in self._files else self._bundle
        values[SMTP_CHROOT] = _smtp_chroot(live.master) or self._platform.default_chroot()
        values[COMPATIBILITY_LEVEL] = compatibility_level(version)
        initial = bool(self._request.initial_parameters) and self._is_unconfigured(live)
        return make_plan(live, self._request.resolved(values, initial), generation, initial, defaults)

    def _is_unconfigured(self, live: Live) -> bool:
        """Whether main.cf is nobody's work: absent, as an RPM brought it, or made so by an earlier run."""
        if live.main is None or live.state.initial:
            return True
        return live.state == State() and self._host.is_as_packaged(os.path.join(self._directory, MAIN))


def _text(path: str) -> t.Optional[str]:
    content = read_file(path)
    return None if content is None else content.decode("utf-8", "surrogateescape")


def _smtp_chroot(master: t.Optional[str]) -> t.Optional[str]:
    """The chroot column of the host's own smtp client, so that ours runs in the same surroundings."""
    entry = Document(master or "", master_cf_key).entries().get("smtp/unix")
    return logical(entry).split()[4] if entry is not None else None
