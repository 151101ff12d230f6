# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Reading and editing the text of main.cf and master.cf without disturbing what an administrator wrote.

Both files share one line format (postconf(5), master(5)): a line that starts with a blank continues the logical line
above it; empty lines and lines whose first non-blank character is ``#`` are ignored, even inside a logical line.
An entry replaced by us stays in its place; entries that are new stand in one marked block at the end of the file.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError

BEGIN = "# BEGIN outpost.smtp: Ansible rewrites this block; own settings belong outside of it\n"
END = "# END outpost.smtp\n"

#: What Postfix takes for a blank, in any locale; str.strip and str.split would also take characters that it does not.
_BLANKS = " \t\n\v\f\r"
_NAME = re.compile(r"[A-Za-z0-9_]+\Z")
#: Columns of a master.cf entry before the command's arguments: service, type, private, unprivileged, chroot, wakeup,
#: process limit, command (master(5)).
_SERVICE_COLUMNS = 8
_SERVICE_TYPES = ("inet", "unix", "fifo", "pass", "unix-dgram")


class Chunk(t.NamedTuple):
    """A stretch of a file: one logical line (``key`` set) or lines that Postfix ignores (``key`` None)."""

    key: t.Optional[str]
    raw: str


def main_cf_key(line: str) -> str:
    """Return the parameter's name of a logical line of main.cf; what is no assignment has no valid name."""
    return line.split("=", 1)[0].strip(_BLANKS)


def master_cf_key(line: str) -> str:
    """Return ``name/type`` of a logical line of master.cf."""
    return "/".join(_columns(line)[:2])


def _columns(line: str) -> t.List[str]:
    return re.findall(f"[^{_BLANKS}]+", line)


def split_lines(text: str) -> t.List[str]:
    """Split at newlines only, keeping them; str.splitlines would also split at characters that Postfix does not."""
    return re.findall(r"[^\n]*\n|[^\n]+\Z", text)


def _ignored(line: str) -> bool:
    stripped = line.strip(_BLANKS)
    return not stripped or stripped.startswith("#")


def parse(text: str, key_of: t.Callable[[str], str]) -> t.List[Chunk]:
    """Cut a file into chunks; joined they are the very same text."""
    chunks: t.List[Chunk] = []
    key: t.Optional[str] = None
    entry: t.List[str] = []  # lines of the logical line being read
    pending: t.List[str] = []  # ignored lines that may or may not be inside of it

    def close() -> None:
        if entry:
            chunks.append(Chunk(key, "".join(entry)))
            entry.clear()
        chunks.extend(Chunk(None, line) for line in pending)
        pending.clear()

    for line in split_lines(text):
        if _ignored(line):
            pending.append(line)
        elif line[0] in _BLANKS and entry:
            entry.extend(pending)
            pending.clear()
            entry.append(line)
        else:
            close()
            key = key_of(line)
            entry.append(line)
    close()
    return chunks


def logical(raw: str) -> str:
    """Return what Postfix reads in an entry: comments left out, lines joined, runs of blanks between lines as one."""
    return " ".join(line.strip(_BLANKS) for line in raw.split("\n") if not _ignored(line))


def parameter_value(raw: str) -> str:
    """Return the value of a main.cf entry."""
    return logical(raw).partition("=")[2].strip(_BLANKS)


def same_entry(first: t.Optional[str], second: t.Optional[str]) -> bool:
    """Whether two entries, either of which may be missing, mean the same to Postfix."""
    if first is None or second is None:
        return first is second
    return _normal(first) == _normal(second)


def _normal(raw: str) -> str:
    """An entry without what Postfix does not care about: comments, line ends, and blanks around the first ``=``."""
    return re.sub(r"[ \t]*=[ \t]*", "=", logical(raw), count=1)


def _terminated(raw: str) -> str:
    return raw if raw.endswith("\n") else raw + "\n"


class Document:
    """The text of one file, seen as entries by key. Never changes: each edit returns a new document."""

    def __init__(self, text: str, key_of: t.Callable[[str], str]) -> None:
        self.text = text
        self._key_of = key_of
        begin, end = text.find(BEGIN), text.find(END)
        if 0 <= begin < end:
            before, block, after = text[:begin], text[begin + len(BEGIN) : end], text[end + len(END) :]
        else:
            before, block, after = text, "", ""
        self._marked = text[len(before) : len(text) - len(after)]
        self._before = parse(before, key_of)
        self._block = parse(block, key_of)
        self._after = parse(after, key_of)

    def in_block(self) -> t.Dict[str, str]:
        """The entries of our block, raw by key."""
        return {chunk.key: chunk.raw for chunk in self._block if chunk.key is not None}

    def ends_with_block(self) -> bool:
        """Whether nothing stands below our block."""
        return bool(self._marked) and self.text.endswith(self._marked)

    def outside(self) -> t.Dict[str, str]:
        """The entries that are not in our block; of several with one key the last, which is the one Postfix uses."""
        return {chunk.key: chunk.raw for chunk in [*self._before, *self._after] if chunk.key is not None}

    def entries(self) -> t.Dict[str, str]:
        """All entries as Postfix sees them."""
        merged: t.Dict[str, str] = {}
        for chunk in [*self._before, *self._block, *self._after]:
            if chunk.key is not None:
                merged[chunk.key] = chunk.raw
        return merged

    def edited(self, in_place: t.Mapping[str, t.Optional[str]], block: t.Mapping[str, str], final_newline: bool = True) -> Document:
        """Return the document with entries outside of our block replaced (None: removed) and with ``block`` as our block.

        An entry of the block that means the same already keeps its very text. ``final_newline=False`` gives back a
        file whose last line had none before our block came.
        """
        before = "".join(_replaced(self._before, in_place, {chunk.key for chunk in self._after}))
        after = "".join(_replaced(self._after, in_place, set()))
        block_text = ""
        if block:
            current = self.in_block()
            lines = [current[key] if same_entry(current.get(key), raw) else _terminated(raw) for key, raw in block.items()]
            block_text = BEGIN + "".join(lines) + END
        if (block or after) and before:
            before = _terminated(before)
        elif not final_newline and not after and before.endswith("\n"):
            before = before[:-1]
        return Document(before + block_text + after, self._key_of)

    def rewritten(self, rewrite: t.Callable[[str, str, bool], str]) -> Document:
        """Return the document with each entry outside of our block as ``rewrite(key, raw, last)`` has it.

        ``last``: no later entry outside of the block has this key.
        """
        last = {chunk.key: chunk for chunk in [*self._before, *self._after]}

        def text(chunks: t.Sequence[Chunk]) -> str:
            return "".join(chunk.raw if chunk.key is None else rewrite(chunk.key, chunk.raw, last[chunk.key] is chunk) for chunk in chunks)

        return Document(text(self._before) + self._marked + text(self._after), self._key_of)


def _replaced(chunks: t.Sequence[Chunk], new: t.Mapping[str, t.Optional[str]], overridden: t.Set[t.Optional[str]]) -> t.Iterator[str]:
    """The texts of ``chunks`` with the last entry of each key in ``new`` exchanged, unless a later part overrides it."""
    last = {chunk.key: index for index, chunk in enumerate(chunks)}
    for index, (key, raw) in enumerate(chunks):
        if key is None or key not in new or key in overridden or last[key] != index:
            yield raw
            continue
        text = new[key]
        if text is None:
            continue
        if index < len(chunks) - 1:
            yield _terminated(text)
        else:
            yield text if raw.endswith("\n") else text.rstrip("\n")  # the end of the file stays as it is


def parse_parameters(text: str, option: str) -> t.Tuple[t.Dict[str, str], t.Dict[str, str]]:
    """Read lines of main.cf that a caller wants: ``name = value`` (first result) and ``name += value`` (second).

    Returns the raw entries by name, comments left out; of the second kind only the value. Raises PostfixError for
    what is no assignment, a name Postfix would not accept, a name given twice, or a control character.
    """
    assigned: t.Dict[str, str] = {}
    appended: t.Dict[str, str] = {}
    for raw in _wanted_entries(text, main_cf_key, option):
        name, separator, _value = raw.partition("=")
        append = separator == "=" and name.rstrip().endswith("+")
        name = name.rstrip()[:-1].rstrip() if append else name.rstrip()
        if not separator or not _NAME.match(name):
            raise PostfixError(f"{option}: {logical(raw)[:60]!r} is not 'name = value' or 'name += value'")
        if name in assigned or name in appended:
            raise PostfixError(f"{option}: {name} is given twice")
        if append:
            appended[name] = parameter_value(raw)
        else:
            assigned[name] = raw
    return assigned, appended


def parse_services(text: str, option: str = "services") -> t.Dict[str, str]:
    """Read entries of master.cf that a caller wants; raw by ``name/type``. Raises PostfixError for a malformed one."""
    services: t.Dict[str, str] = {}
    for raw in _wanted_entries(text, master_cf_key, option):
        columns = _columns(logical(raw))
        if len(columns) < _SERVICE_COLUMNS or columns[1] not in _SERVICE_TYPES:
            raise PostfixError(f"{option}: {logical(raw)[:60]!r} is not a complete entry of master.cf (master(5))")
        key = master_cf_key(raw)
        if key in services:
            raise PostfixError(f"{option}: {key} is given twice")
        services[key] = raw
    return services


def _wanted_entries(text: str, key_of: t.Callable[[str], str], option: str) -> t.Iterator[str]:
    check_characters(text, option)
    for chunk in parse(text, key_of):
        if chunk.key is None:
            continue
        if chunk.raw[0] in _BLANKS:
            raise PostfixError(f"{option}: the first line starts with a blank, so it continues nothing")
        yield "".join(_terminated(line) for line in split_lines(chunk.raw) if not _ignored(line))


def check_characters(text: str, place: str) -> None:
    """Refuse characters that could end a line or a string early, or that no file in UTF-8 can hold."""
    for number, line in enumerate(text.split("\n"), 1):
        for char in line:
            if (ord(char) < 0x20 and char != "\t") or ord(char) == 0x7F or char in "\x85\u2028\u2029\ufeff" or 0xD800 <= ord(char) <= 0xDFFF:
                raise PostfixError(f"{place}: line {number} holds the character U+{ord(char):04X}, which can not be written")


def split_list(value: str) -> t.List[str]:
    """Split the value of a list parameter at commas and blanks, but not inside ``{}`` (postconf(5))."""
    elements: t.List[str] = []
    depth, current = 0, ""
    for char in value:
        if depth == 0 and char in "," + _BLANKS:
            if current:
                elements.append(current)
            current = ""
            continue
        depth += {"{": 1, "}": -1}.get(char, 0)
        current += char
    return [*elements, current] if current else elements


def references(raw: str) -> t.List[str]:
    """Return the names of the parameters that an entry refers to as ``$name``, ``${name...}`` or ``$(name)``."""
    return re.findall(r"(?<!\$)\$[{(]?([A-Za-z0-9_]+)", raw)
