# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""What ``$name`` and its kin stand for in the value of a parameter (postconf(5), "MAIN.CF FILE FORMAT")."""

from __future__ import annotations

import operator
import re
import typing as t

Lookup = t.Callable[[str], str]
"""The unexpanded value of a parameter; the empty text for one that does not exist."""

#: Postfix gives up on a value that refers to itself; this many references inside of each other are one of those.
_MAX_DEPTH = 50

_NAME = re.compile(r"[A-Za-z0-9_]+")
_NUMBER = re.compile(r"[0-9]{1,18}")
_COMPARISON = re.compile(r"(==|!=|<=|>=|<|>)(level)?")
_OPERATORS: t.Dict[str, t.Callable[[t.Any, t.Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class MacroError(ValueError):
    """A value that Postfix would refuse, too."""


def expand(value: str, lookup: Lookup, depth: int = 0) -> str:
    """Return ``value`` with everything filled in. Raises MacroError for one that has no meaning."""
    if depth > _MAX_DEPTH:
        raise MacroError("a parameter refers to itself")
    parts: t.List[str] = []
    position = 0
    while True:
        dollar = value.find("$", position)
        if dollar < 0:
            return "".join([*parts, value[position:]])
        parts.append(value[position:dollar])
        text, position = _reference(value, dollar + 1, lookup, depth)
        parts.append(text)


def _reference(value: str, start: int, lookup: Lookup, depth: int) -> t.Tuple[str, int]:
    """What the reference that begins after the ``$`` before ``start`` stands for, and where it ends."""
    opening = value[start : start + 1]
    if opening == "$":
        return "$", start + 1
    if opening in ("{", "("):
        end = _closing(value, start)
        return _braced(value[start + 1 : end].strip(), lookup, depth), end + 1
    name = _NAME.match(value, start)
    if name is None:
        raise MacroError("a '$' is not followed by a name")
    return expand(lookup(name.group()), lookup, depth + 1), name.end()


def _closing(value: str, start: int) -> int:
    """Where the bracket at ``start`` is closed."""
    opening = value[start]
    closing = {"{": "}", "(": ")"}[opening]
    depth = 0
    for index in range(start, len(value)):
        depth += {opening: 1, closing: -1}.get(value[index], 0)
        if depth == 0:
            return index
    raise MacroError("a bracket is not closed")


def _braced(inner: str, lookup: Lookup, depth: int) -> str:
    """``name``, ``name?text``, ``name:text``, ``name?{text}:{text}``, or the same with a comparison instead of the name."""
    if inner.startswith("{"):
        true, rest = _compare(inner, lookup, depth)
        value = "true" if true else ""
    else:
        name = _NAME.match(inner)
        if name is None:
            raise MacroError("a reference has no name")
        value, rest = expand(lookup(name.group()), lookup, depth + 1), inner[name.end() :].strip()
        true = bool(value)
    if not rest:
        return value
    if rest[0] not in "?:":
        raise MacroError(f"{rest[:20]!r} is neither '?' nor ':'")
    if rest[0] == ":":
        return "" if true else _branch(rest[1:], lookup, depth)[0]
    chosen, rest = _branch(rest[1:], lookup, depth, take=true)
    if true or not rest.startswith(":"):
        return chosen
    return _branch(rest[1:], lookup, depth)[0]


def _branch(text: str, lookup: Lookup, depth: int, take: bool = True) -> t.Tuple[str, str]:
    """The text of one branch, expanded if it is taken, and what follows it. Without braces nothing can follow."""
    stripped = text.strip()
    if not stripped.startswith("{"):
        return (expand(text, lookup, depth + 1) if take else ""), ""
    end = _closing(stripped, 0)
    return (expand(stripped[1:end].strip(), lookup, depth + 1) if take else ""), stripped[end + 1 :].strip()


def _compare(inner: str, lookup: Lookup, depth: int) -> t.Tuple[bool, str]:
    """Whether ``{left} == {right}`` (and the like) holds, and what follows."""
    left, rest = _branch(inner, lookup, depth)
    sign = _COMPARISON.match(rest)
    if sign is None:
        raise MacroError(f"{rest[:20]!r} is no comparison")
    right, rest = _branch(rest[sign.end() :], lookup, depth)
    if sign.group(2):
        pair: t.Tuple[t.Any, t.Any] = (level(left), level(right))
    elif _NUMBER.fullmatch(left) and _NUMBER.fullmatch(right):
        pair = (int(left), int(right))
    else:
        pair = (left, right)
    return _OPERATORS[sign.group(1)](*pair), rest


def level(text: str) -> t.Tuple[int, int, int]:
    """A compatibility level or a version of Postfix, such as ``3.6``, as numbers; missing parts are 0."""
    numbers = [int(number) for number in re.findall(r"[0-9]{1,18}", text)[:3]]
    return (numbers + [0, 0, 0])[0], (numbers + [0, 0, 0])[1], (numbers + [0, 0, 0])[2]
