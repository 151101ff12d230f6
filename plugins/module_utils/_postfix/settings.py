# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""What a Postfix instance is set to, as each of its services sees it: main.cf, built-in defaults, master.cf's ``-o``."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import split_list
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Run, complaint
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.macros import MacroError, expand, level

_COLUMNS = 8


class Unreadable(PostfixError):
    """A configuration that no program of Postfix can read."""


class Service(t.NamedTuple):
    """One entry of master.cf: ``chroot`` as it is written (``y``, ``n`` or ``-``), the program, its ``-o`` parameters."""

    name: str
    chroot: str
    command: str
    overrides: t.Mapping[str, str]


class Parameters:
    """The parameters of one service, expanded."""

    def __init__(self, main: t.Mapping[str, str], service: Service) -> None:
        self._main = main
        self._overrides = {"service_name": service.name, "process_name": service.command, **service.overrides}

    def get(self, name: str) -> str:
        """The value of a parameter; the empty text for one that this version of Postfix does not have."""
        try:
            return expand(self._raw(name), self._raw)
        except MacroError as error:
            raise PostfixError(f"Parameter {name} can not be used: {error}") from None

    def _raw(self, name: str) -> str:
        return self._overrides.get(name, self._main.get(name, ""))

    def names(self, name: str) -> t.List[str]:
        """The value of a list parameter."""
        return split_list(self.get(name))

    def flag(self, name: str) -> bool:
        return self.get(name).lower() == "yes"

    def overridden(self, name: str) -> bool:
        """Whether master.cf sets the parameter for this service."""
        return name in self._overrides


class Settings:
    """All of it, as two calls of postconf(1) tell it."""

    def __init__(self, main: t.Mapping[str, str], services: t.Mapping[str, Service]) -> None:
        self._main = main
        self._services = services
        self.global_parameters = self.of(Service("", "-", "", {}))
        self.version = level(self.global_parameters.get("mail_version"))

    def services(self) -> t.List[Service]:
        """All entries of master.cf, servers and clients."""
        return list(self._services.values())

    def service(self, name: str) -> t.Optional[Service]:
        """A service that the queue manager can deliver with, by its name in master.cf."""
        return self._services.get(f"{name}/unix")

    def server(self, host: str, port: int) -> t.Optional[Service]:
        """A service that listens on one address of this host alone."""
        return self._services.get(f"{host}:{port}/inet") or self._services.get(f"[{host}]:{port}/inet")

    def listening(self) -> t.List[str]:
        """The names of the services that listen on the network: a port, or an address and a port."""
        return [key.rpartition("/")[0] for key in self._services if key.endswith("/inet")]

    def of(self, service: Service) -> Parameters:
        return Parameters(self._main, service)

    def of_service(self, name: str) -> Parameters:
        """The parameters of a service by its name; those of main.cf where master.cf does not have it."""
        service = self.service(name)
        return self.of(service) if service else self.global_parameters

    def chrooted(self, service: Service) -> bool:
        """Whether the service runs in the queue directory. ``-`` means so up to Postfix 2.11 and compatibility level 0."""
        if service.chroot in ("y", "n"):
            return service.chroot == "y"
        return level(self.global_parameters.get("compatibility_level")) < (1, 0, 0)


def read(config_directory: str, run: Run) -> Settings:
    """Read the configuration in ``config_directory``. Raises PostfixError where Postfix could not read it either."""
    main = _postconf(config_directory, [], run)
    master = _postconf(config_directory, ["-M"], run)
    parameters = dict(_assignment(line) for line in main.split("\n") if "=" in line)
    return Settings(parameters, parse_services(master))


def built_in(config_directory: str, run: Run) -> t.Dict[str, str]:
    """The parameters that this Postfix has, with those for its services, and their defaults as they are built in."""
    defaults = _postconf(config_directory, ["-d"], run)
    return dict(_assignment(line) for line in defaults.split("\n") if "=" in line)


def _postconf(config_directory: str, options: t.Sequence[str], run: Run) -> str:
    result = run(["postconf", "-c", config_directory, *options], "")
    if result.rc != 0:
        # What postconf quotes of main.cf may be a password, as in a broken "static:user:password".
        said = re.sub(r'"[^"\n]*"?', "...", complaint(result))
        raise Unreadable(f"Postfix's configuration in {config_directory} can not be read: {said}")
    return result.out


def _assignment(line: str) -> t.Tuple[str, str]:
    name, _equals, value = line.partition("=")
    return name.strip(), value.strip()


def parse_services(text: str) -> t.Dict[str, Service]:
    """Read what ``postconf -M`` prints: one entry per logical line, long ones continued on lines that start with a blank."""
    services = {}
    for entry in re.sub(r"\n[ \t]+", " ", text).split("\n"):
        columns = entry.split(None, _COLUMNS - 1)
        if len(columns) < _COLUMNS or entry.startswith("#"):
            continue
        name, kind, _private, _unprivileged, chroot, _wakeup, _limit, command = columns
        words = _arguments(command)
        if any(words[:1]):
            services[f"{name}/{kind}"] = Service(name, chroot, words[0], _overrides(words[1:]))
    return services


def _arguments(command: str) -> t.List[str]:
    """Split at blanks, but not inside of ``{}``, whose outer pair is dropped (master(5))."""
    words: t.List[str] = []
    depth, current = 0, ""
    for char in command + " ":
        if char.isspace() and depth == 0:
            if current:
                words.append(current[1:-1].strip() if current.startswith("{") else current)
            current = ""
            continue
        depth += {"{": 1, "}": -1}.get(char, 0)
        current += char
    return words


def _overrides(arguments: t.Sequence[str]) -> t.Dict[str, str]:
    """The parameters that ``-o name=value`` (or ``-oname=value``) sets; of two for one name the last one counts."""
    found = {}
    words = iter(arguments)
    for word in words:
        if word.startswith("-o"):
            name, value = _assignment(word[2:] or next(words, ""))
            found[name] = value
    return found
