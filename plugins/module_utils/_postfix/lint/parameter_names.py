# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Parameters that this Postfix does not know, will not know for long, or that are set twice: what postconf(1) warns about."""

from __future__ import annotations

import difflib
import itertools
import os
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import references
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import Finding, finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.instance import Assignment, Instance
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.parameter_history import NEWER, OBSOLETE
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.macros import level

#: How much alike two names must be for one to be the other misspelt (difflib, 0 to 1).
_ALIKE = 0.86
#: Unknown names that a similar one is looked for; more is no misspelling, but another file.
_MAX_COMPARED = 50

_WARNING = re.compile(r"\S*postconf: warning: (\S+?)(?:, line (\d+))?: (.*)")
_UNUSED = re.compile(r"unused parameter: ([^=\s]+)\s*=")
_UNDEFINED = re.compile(r"undefined parameter: (\S+)")
_DEPRECATED = re.compile(r'support for parameter "([^"]+)" will be removed; instead, (.*)')
_OVERRIDING = re.compile(r"overriding earlier entry: ([^=\s]+)\s*=")


def check(instance: Instance) -> t.Iterator[Finding]:
    seen = _Seen(instance)
    for warning in instance.warnings:
        match = _WARNING.match(warning)
        if match is not None:
            yield from seen.about(os.path.basename(match[1]), match[2], match[3])
    yield from _obsolete(instance)


class _Seen:
    """The warnings of one run."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._compared = 0
        #: How parameters end that can be set for each service (postconf(5), "transport_...").
        self._endings = [default[len("default") :] for default in instance.defaults if default.startswith("default_")]
        self._set: t.Dict[t.Tuple[str, str], Assignment] = {}
        self._users: t.Dict[t.Tuple[str, str], t.List[Assignment]] = {}
        for assignment in instance.assignments():
            self._set.setdefault((assignment.file, assignment.name), assignment)
            for name in references(assignment.value):
                self._users.setdefault((assignment.file, name), []).append(assignment)

    def about(self, file: str, line: t.Optional[str], text: str) -> t.Iterator[Finding]:
        for pattern, describe in ((_UNUSED, self._unused), (_UNDEFINED, self._undefined), (_DEPRECATED, self._deprecated)):
            match = pattern.match(text)
            if match is not None:
                yield describe(file, *match.groups())
        match = _OVERRIDING.match(text)
        # postconf(1) sets config_directory itself, to where it reads from.
        if match is not None and match[1] in self._instance.in_main and match[1] != "config_directory":
            name = match[1]
            yield finding("lint_parameter_twice", self._instance.place(name), f"{name} is set before line {line} already", [name])

    def _near(self, name: str, among: t.Iterable[str]) -> str:
        self._compared += 1
        if self._compared > _MAX_COMPARED:
            return ""
        return next(iter(difflib.get_close_matches(name, [other for other in among if other != name], 1, _ALIKE)), "")

    def _unused(self, file: str, name: str) -> Finding:
        """A name that Postfix does not have and that no value refers to, so that its own value has no effect."""
        instance, place = self._instance, self._place(file, name)
        since = NEWER.get(name)
        if since is not None and level(since) > instance.settings.version:
            found = f"{name} came with Postfix {since}, and this is {instance.version}"
            names = [name, *self._services(file, name)]
            return finding("lint_parameter_too_new", place, found, names, remedy=f"Install Postfix {since} or later, or remove {name}.")
        service = self._service_of(name)
        if service:
            found = f"{name} is for a service {service}, which master.cf does not have"
            return finding("lint_parameter_unknown", place, found, [name, service])
        near = self._near(name, instance.defaults)
        if near:
            found = f"Postfix {instance.version} has no parameter {name}; {near} is one"
            return finding("lint_parameter_misspelt", place, found, [name, near], remedy=f"Write {near}, if that is what is meant.")
        return finding("lint_parameter_unknown", place, f"Postfix {instance.version} has no parameter {name}, and no value refers to it", [name])

    def _service_of(self, name: str) -> str:
        """The service that a parameter with such an ending would be for, if it has one."""
        return next((name[: -len(ending)] for ending in self._endings if name.endswith(ending) and len(name) > len(ending)), "")

    def _undefined(self, file: str, name: str) -> Finding:
        """A ``$name`` that stands for nothing."""
        users = self._users.get((file, name), [])
        near = self._near(name, itertools.chain(self._instance.in_main, self._instance.defaults))
        found = f"${name} is not set anywhere" + (f"; ${near} is" if near else "")
        place = users[0].place if users else file
        return finding("lint_parameter_undefined", place, found, [name, *(name for user in users for name in user.names())])

    def _deprecated(self, file: str, name: str, instead: str) -> Finding:
        found = f"Postfix {self._instance.version} still knows {name}, and a later one will not"
        remedy = f"Instead, {instead.replace(chr(34), '')}."
        return finding("lint_parameter_deprecated", self._place(file, name), found, [name, *self._services(file, name)], remedy=remedy)

    def _services(self, file: str, name: str) -> t.List[str]:
        """The services for which a parameter is set in that file."""
        return [one.service.name for one in self._instance.assignments() if one.service and (one.file, one.name) == (file, name)]

    def _place(self, file: str, name: str) -> str:
        """Where a parameter is set in that file."""
        assignment = self._set.get((file, name))
        return assignment.place if assignment else f"{file}: {name}"


def _obsolete(instance: Instance) -> t.Iterator[Finding]:
    """What later versions warn about, and this one does not yet."""
    for assignment in instance.assignments():
        instead, since = OBSOLETE.get(assignment.name, ("", "0"))
        if instance.settings.version < level(since):
            found = f"{assignment.name} is obsolete, and Postfix {since} warns that it will go"
            yield finding("lint_parameter_deprecated", assignment.place, found, [assignment.name], remedy=f"Set {instead} instead.")
