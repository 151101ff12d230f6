# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""A Postfix instance as the linter sees it: everything that its subjects look at is read here, once."""

from __future__ import annotations

import os
import re
import stat
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import settings
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import Document, logical, main_cf_key, parse, references
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.effective import Reader
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.effective_relay import EffectiveRelay
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.files import read_file
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Host, Result, Run, complaint
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.table_types import asks_a_server, parse_reference
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.literal_tables import shown
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.maps import Maps
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.packages import Platform
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.routing import Way
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.settings import Parameters, Service
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline

MAIN, MASTER = "main.cf", "master.cf"


class Assignment(t.NamedTuple):
    """A parameter as somebody wrote it: in main.cf (``service`` is None) or as ``-o`` in master.cf."""

    name: str
    value: str
    place: str
    service: t.Optional[Service]

    @property
    def file(self) -> str:
        return MASTER if self.service else MAIN

    def names(self) -> t.List[str]:
        """What the assignment is about: the parameter, the service, and the parameters that its value is made of."""
        service = [self.service.name] if self.service else []
        return [self.name, *service, *references(self.value)]


class _Asker:
    """Runs programs of Postfix, and remembers what postconf(1) warns about."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.warnings: t.Dict[str, None] = {}
        self.table_types: t.FrozenSet[str] = frozenset()
        self.not_asked: t.Set[str] = set()

    def __call__(self, argv: t.Sequence[str], stdin: str) -> Result:
        if argv[0] == "postmap":
            return self._look_up(argv, stdin)
        result = self._run(argv, stdin)
        if argv[0] == "postconf":
            self.warnings.update(dict.fromkeys(line for line in result.err.split("\n") if "warning: " in line))
        return result

    def _look_up(self, argv: t.Sequence[str], stdin: str) -> Result:
        """Ask a table; not by proxymap(8), which may not run, and not one that another server has, which may never answer."""
        *options, table = argv
        table = re.sub(r"\A(proxy:)+", "", table)
        if asks_a_server(table):
            self.not_asked.add(shown(table))
            return Result(1, "", "")
        refusal = self._refusal(table)
        return Result(1, "", f"postmap: fatal: {refusal}") if refusal else self._run([*options, table], stdin)

    def _refusal(self, table: str) -> str:
        """What postmap(1) would say, after a second of sleep, about a table that it can not open."""
        # What is of no known type may be a password in the wrong place, and nobody is to be told.
        if self.table_types and table.partition(":")[0] not in self.table_types:
            return "unsupported dictionary type"
        reference = parse_reference(table)
        if reference is None:
            return ""
        try:
            regular = stat.S_ISREG(os.stat(reference.file).st_mode)
        except OSError as error:
            return f"open database {reference.file}: {error.strerror}"
        if not regular:
            return f"{reference.file} is no regular file"
        return "" if os.access(reference.file, os.R_OK) else f"open database {reference.file}: Permission denied"


class Instance:
    """The configuration in ``config_directory``. Raises PostfixError where Postfix can not read it either."""

    def __init__(self, config_directory: str, deadline: Deadline, run: Run, platform: Platform) -> None:
        self.config_directory = config_directory
        self.deadline = deadline
        self.platform = platform
        self.run = run
        asker = _Asker(run)
        self.settings = settings.read(config_directory, asker)
        self.warnings: t.Iterable[str] = asker.warnings
        self.defaults = settings.built_in(config_directory, run)
        self.table_types = asker.table_types = frozenset(run(["postconf", "-c", config_directory, "-m"], "").out.split())
        self.maps = Maps(config_directory, asker)
        self.fatal = self._fatal()
        self.is_running = not self.fatal and self._is_running()
        #: Tables that were not asked, since another server has them.
        self.not_asked: t.AbstractSet[str] = asker.not_asked
        self.ways, self.relays = self._read_relays()
        self.main_text = _text(os.path.join(config_directory, MAIN))
        self._lines = _lines(self.main_text)
        self.in_main = {name: logical(raw).partition("=")[2].strip() for name, raw in Document(self.main_text, main_cf_key).entries().items()}

    def _fatal(self) -> str:
        """Why no program of Postfix starts, which reads more of main.cf than postconf(1) does; empty if they do."""
        result = self.run(["postmap", "-c", self.config_directory, "-q", "x", "static:x"], "")
        # What it complains of may be a value that is a password in the wrong place.
        return "" if result.rc == 0 else re.sub(r'"[^"]*"|= .*', "...", complaint(result))

    def _read_relays(self) -> t.Tuple[t.List[Way], t.List[EffectiveRelay]]:
        """The ways out of this host and their servers, by no more than the configuration; none if a table of it is broken."""
        if self.fatal:
            return [], []
        reader = Reader(self.settings, self.maps, self.platform, self.deadline, ask_dns=False, started=self.is_running)
        try:
            ways = reader.ways((), ())
        except PostfixError:
            return [], []
        return ways, [relay for way in ways for relay in reader.relays_of(way)]

    def clients(self) -> t.List[Service]:
        """The services of smtp(8) that mail leaves by."""
        found = {way.transport: self.settings.service(way.transport) for way in self.ways}
        return [service for service in found.values() if service is not None and service.command == "smtp"]

    def _is_running(self) -> bool:
        """Whether master(8) runs with this queue. It tells root only, and makes others wait for nothing."""
        host = Host(self.config_directory, self.run)
        return os.geteuid() == 0 and host.master_pid() is not None and host.running()

    @property
    def version(self) -> str:
        return self.parameters.get("mail_version")

    @property
    def parameters(self) -> Parameters:
        """Those of main.cf and the built-in ones, for no service in particular."""
        return self.settings.global_parameters

    def assignments(self) -> t.Iterator[Assignment]:
        """Every parameter that somebody set, in main.cf or for a service of master.cf, with its value as it is written."""
        for name, value in self.in_main.items():
            yield Assignment(name, value, self.place(name), None)
        for service in self.settings.services():
            for name, value in service.overrides.items():
                yield Assignment(name, value, self.place(name, service), service)

    def expanded(self, assignment: Assignment) -> t.Optional[str]:
        """The value of an assignment; None for one that refers to what only a process knows, or that has no meaning."""
        parameters = self.settings.of(assignment.service) if assignment.service else self.parameters
        try:
            return parameters.get(assignment.name)
        except PostfixError:
            return None

    def place(self, name: str, service: t.Optional[Service] = None) -> str:
        """Where a parameter of a service is set, for a message."""
        if service is not None and name in service.overrides:
            return f"{MASTER}: {service.name}: {name}"
        if name in self._lines:
            return f"{MAIN}:{self._lines[name]}: {name}"
        return f"{MAIN}: {name} (not set)"

    def names_of(self, name: str, service: t.Optional[Service] = None) -> t.List[str]:
        """What a parameter of a service is about, as Assignment.names."""
        overrides = service.overrides if service else {}
        return Assignment(name, overrides.get(name, self.in_main.get(name, "")), "", service).names()


def _text(path: str) -> str:
    """The content of a file, empty where there is none that may be read; postconf(1) has read the same before."""
    try:
        return (read_file(path) or b"").decode("utf-8", "replace")
    except OSError:
        return ""


def _lines(text: str) -> t.Dict[str, int]:
    """The number of the line that each parameter's entry begins at; of several the last, which is the one that counts."""
    found, number = {}, 1
    for chunk in parse(text, main_cf_key):
        if chunk.key is not None:
            found[chunk.key] = number
        number += chunk.raw.count("\n")
    return found
