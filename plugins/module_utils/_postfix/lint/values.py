# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Values that their parameter does not take: what is no number, no time, neither yes nor no, or none of the words it knows.

What a parameter takes is told by its built-in default, since Postfix itself does not tell it.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import Finding, finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.instance import Assignment, Instance
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.words import PROTOCOL_LISTS, WORDS, wrong_protocols
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.macros import MacroError, expand, level

_NUMBER = re.compile(r"\s*[+-]?[0-9]+\s*")
_TIME = re.compile(r"\s*[0-9]+[smhdw]?\s*")
_YES_NO = re.compile(r"yes|no", re.IGNORECASE)
#: By the form of the default: what it must be, and the code for what is not.
_KINDS = (
    (re.compile(r"yes|no"), _YES_NO, "neither yes nor no", "lint_value_not_boolean"),
    (re.compile(r"-?[0-9]+"), _NUMBER, "no number", "lint_value_not_number"),
    (re.compile(r"[0-9]+[smhdw]"), _TIME, "no time, which is a number with s, m, h, d or w", "lint_value_not_time"),
)
#: Parameters whose default looks like a number or like yes or no, and that take more than that.
_MORE = re.compile(
    r"compatibility_level|config_directory|mail_release_date|process_id|milter_protocol|maillog_file_permissions|\w+_tcp_port|\w+_loglevel"
    r"|\w+_concurrency_(negative|positive)_feedback|smtpd_forbid_bare_newline|\w+_dane_\w+"
)
#: A dotted level ends Postfix from before these (RELEASE_NOTES of 3.6).
_DOTTED_LEVEL_SINCE = (3, 5, 11)
#: A level that releases before it take as their own, so that one text is good for all.
_NEWEST_FOR_ALL = (3, 6, 0)
#: Values that are text for people or for other programs, in which a number sign is like any other character.
_FREE_TEXT = re.compile(r"\w*(banner|footer|reason|command|_reply|_name|filter|template|header|_maps?|_checks|_options)\b")


def check(instance: Instance) -> t.Iterator[Finding]:
    for assignment in instance.assignments():
        value = instance.expanded(assignment)
        if value is None:
            continue
        comment = _comment(assignment, value)
        if comment is not None:
            yield comment
        else:
            yield from _wrong_kind(instance, assignment, value)
            yield from _wrong_word(instance, assignment, value)
    yield from _compatibility_level(instance)


def _comment(assignment: Assignment, value: str) -> t.Optional[Finding]:
    """Text after a number sign, which is a comment only at the beginning of a line."""
    if not re.search(r"\s#", assignment.value) or "{" in assignment.value or _FREE_TEXT.fullmatch(assignment.name):
        return None
    found = f"the value of {assignment.name} goes on after '#'"
    return finding("lint_comment_in_value", assignment.place, found, assignment.names())


def _wrong_kind(instance: Instance, assignment: Assignment, value: str) -> t.Iterator[Finding]:
    name = assignment.name
    default = _default(instance, name)
    if default is None or _MORE.fullmatch(name):
        return
    for of_default, wanted, what, code in _KINDS:
        if of_default.fullmatch(default) and not wanted.fullmatch(value):
            yield finding(code, assignment.place, f"{name} = {_shown(value)} is {what}", assignment.names())


def _default(instance: Instance, name: str) -> t.Optional[str]:
    """The built-in default with everything filled in; None for a name that Postfix does not have."""
    if name not in instance.defaults:
        return None
    try:
        return expand(instance.defaults[name], lambda other: instance.defaults.get(other, ""))
    except MacroError:
        return None


def _wrong_word(instance: Instance, assignment: Assignment, value: str) -> t.Iterator[Finding]:
    name = re.sub(r"\Almtp_", "smtp_", assignment.name)
    if name in PROTOCOL_LISTS:
        wrong, code = wrong_protocols(value, instance.settings.version), "lint_value_no_protocol"
    elif name in WORDS and assignment.name in instance.defaults:
        words = WORDS[name]
        wrong, code = words.wrong(value), "lint_value_unknown_word" if words.fatal else "lint_value_word_ignored"
    else:
        return
    if wrong:
        found = f"{assignment.name} has {', '.join(_shown(word) for word in wrong)}, which it does not take"
        remedy = f"It takes {', '.join(WORDS[name].words)}." if name in WORDS else ""
        yield finding(code, assignment.place, found, assignment.names(), remedy=remedy)


def _shown(value: str) -> str:
    """A wrong value as a message may have it: it may be anything that got into the wrong line, such as a password."""
    return f"'{value}'" if re.fullmatch(r"[\w.,!<>= -]{0,30}", value) else "..."


def _compatibility_level(instance: Instance) -> t.Iterator[Finding]:
    name, version = "compatibility_level", instance.settings.version
    place, given = instance.place(name), instance.in_main.get(name, "")
    if not given:
        found = f"{name} is not set, so Postfix keeps the defaults of version 2.11 and warns at every start"
        yield finding("lint_compatibility_level", place, found, [name])
    elif "." in given and version < _DOTTED_LEVEL_SINCE:
        yield finding("lint_compatibility_level_dotted", place, f"{name} = {_shown(given)}, and this is Postfix {instance.version}", [name])
    elif "." in given and level("3.0") <= level(given) < level("3.6"):
        found = f"{name} = {_shown(given)} is no level that any version brought; 3.10 turns into that where it is read as a number"
        yield finding("lint_compatibility_level", place, found, [name])
    elif level(given) > max(version, _NEWEST_FOR_ALL):
        found = f"{name} = {_shown(given)} is of a later version than Postfix {instance.version}"
        yield finding("lint_compatibility_level", place, found, [name])
