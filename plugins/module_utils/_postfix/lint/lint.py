# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The linter that "postfix check" is not: what of a configuration is wrong although Postfix starts with it.

Reads files, and asks postconf(1) and postmap(1) as Postfix itself would; writes nothing and asks no server. Each subject is
a file of its own in this package, and what it can find is in the catalogue (docs/lint.md).
"""

from __future__ import annotations

import collections
import os
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import settings
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result, Run, run_program
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint import (
    chroot,
    credentials,
    interfaces,
    maillog,
    parameter_names,
    relays,
    sasl,
    table_text,
    tables,
    tls_level,
    values,
)
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import ERROR, Finding, finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.instance import MAIN, Instance
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.packages import Platform
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline

_SUBJECTS: t.Tuple[t.Callable[[Instance], t.Iterable[Finding]], ...] = (
    interfaces.check,
    parameter_names.check,
    values.check,
    tables.check,
    table_text.check,
    relays.check,
    tls_level.check,
    sasl.check,
    credentials.check,
    chroot.check,
    maillog.check,
)
#: Findings with one code; a file of another program may have a fault in each of its lines.
MAX_OF_A_CODE = 50


def lint(
    config_directory: str,
    deadline: Deadline,
    run: t.Optional[Run] = None,
    platform: t.Optional[Platform] = None,
) -> t.List[Finding]:
    """Return what is wrong with the main.cf and master.cf in ``config_directory`` and with what they refer to, errors first.

    What can not be read by who runs this is a finding, too. Raises PostfixError where Postfix is not on this host, and
    where the deadline passes.
    """

    def run_until_deadline(argv: t.Sequence[str], stdin: str) -> Result:
        if deadline.expired:
            raise PostfixError(f"{argv[0]} was not started: there is no time left")
        return run_program(argv, stdin, timeout=deadline.remaining())

    run = run or run_until_deadline
    try:
        instance = Instance(config_directory, deadline, run, platform or Platform())
    except settings.Unreadable as error:
        return [_unreadable(config_directory, error.message)]
    found: t.Dict[Finding, None] = dict.fromkeys(_not_looked_into(instance))
    found.update((one, None) for subject in _SUBJECTS for one in subject(instance))
    return sorted(_bounded(found), key=lambda one: (one.severity != ERROR, _in_order(one.place)))


def _unreadable(config_directory: str, complaint: str) -> Finding:
    if "Permission denied" in complaint and os.geteuid() != 0:  # which tells nothing about Postfix, who begins as root
        return tables.not_read(os.path.join(config_directory, MAIN), [])
    return interfaces.of_complaint(complaint) or finding("lint_configuration_unreadable", MAIN, complaint, [])


def _not_looked_into(instance: Instance) -> t.Iterator[Finding]:
    """What nobody could look into."""
    if instance.fatal:
        names = [name for name in re.findall(r"\w+", instance.fatal) if name in instance.in_main]
        yield finding("lint_start_fails", MAIN, instance.fatal, names)
    for table in sorted(instance.not_asked):
        yield finding("lint_not_read", MAIN, f"{table} was not asked: another server has it", [])


def _bounded(found: t.Iterable[Finding]) -> t.Iterator[Finding]:
    count: t.Counter[str] = collections.Counter()
    for one in found:
        count[one.code] += 1
        if count[one.code] <= MAX_OF_A_CODE:
            yield one


def _in_order(place: str) -> t.List[t.Tuple[int, str]]:
    """A place so that line 9 comes before line 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", place)]
