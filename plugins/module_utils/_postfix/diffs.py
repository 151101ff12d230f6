# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""What a change does to each file, for people to read: before and after, and never a secret."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import built_maps
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import main_cf_key, parse, split_lines
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.directory import OwnDirectory, TableFile, map_types
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.files import read_file
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.plan import MAIN, MASTER, Plan
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.request import BUNDLE_SUFFIX
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.set_aside import PREFIX, commented, restored
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.tables import MASK, masked_table

#: Where an administrator's password can stand in main.cf or master.cf itself: static: and inline: credentials, which any
#: parameter may hold for another that refers to it, and the parameters of database clients (ldap_table(5) bind_pw,
#: mysql_table(5) password).
_SECRET = re.compile(r"((?:static|inline):(?=\s*\{|[^\s,]*[:=])|(?:_bind_pw|_password|_passwd|_secret)[ \t]*=\s*)(.*)", re.DOTALL)


def masked_config(text: str) -> str:
    """Return the text of main.cf or master.cf with an administrator's passwords masked. Commented out they still are passwords."""
    masked: t.List[str] = []
    for aside, lines in itertools.groupby(split_lines(text), key=lambda line: line.startswith(PREFIX)):
        part = "".join(lines)
        masked += [commented(_masked(chunk.raw)) for chunk in parse(restored(part), main_cf_key)] if aside else map(_masked, _stretches(part))
    return "".join(masked)


def _stretches(text: str) -> t.Iterator[str]:
    """Entries, and comment lines together with those that would continue them if all were none."""
    comment = ""
    for chunk in parse(text, main_cf_key):
        if comment and not re.match(r"#[ \t]", chunk.raw):
            yield comment
            comment = ""
        if chunk.raw.startswith("#"):
            comment += chunk.raw
        else:
            yield chunk.raw
    yield comment


def _masked(raw: str) -> str:
    match = _SECRET.search(raw)
    if match is None or not match.group(2).strip():
        return raw
    return raw[: match.end(1)] + MASK + ("\n" if raw.endswith("\n") else "")


def make_diff(plan: Plan, own: OwnDirectory, files: t.Mapping[str, TableFile], secret: t.Collection[str]) -> t.List[t.Dict[str, str]]:
    """Return Ansible's diff of a change: the files that differ, with their whole text."""
    directory = os.path.dirname(own.path)
    diff = []
    for name, before, after in ((MAIN, plan.live.main, plan.main), (MASTER, plan.live.master, plan.master)):
        if (before or "") != (after or ""):
            path = os.path.join(directory, name)
            diff.append(_entry(path, path, masked_config(before or ""), masked_config(after or "")))
    if plan.state.generation == plan.live.state.generation:
        return diff
    old = _files_of(own, plan.live.state.generation)
    for name in sorted({*old, *files}):
        before_text, after_text = old.get(name), files[name].content if name in files else None
        if before_text == after_text:
            continue
        shown = _shown(name, before_text, after_text, name in secret or name not in files)
        after_path = own.table_path(plan.state.generation, name)
        before_path = own.table_path(plan.live.state.generation, name) if name in old else after_path
        diff.append(_entry(before_path, after_path if name in files else before_path, *shown))
    return diff + _diff_of_maps(plan, own, files)


def _diff_of_maps(plan: Plan, own: OwnDirectory, files: t.Mapping[str, TableFile]) -> t.List[t.Dict[str, str]]:
    """The maps that come, go, or were not as they had been built. What is in a map stands in the diff of its text."""
    before = built_maps.described(os.path.join(own.path, str(plan.live.state.generation)))
    after = {built_maps.file_name(table, map_type): built_maps.as_built(table) for table, map_type in map_types(files).items()}
    diff = []
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            old, new = (own.table_path(state.generation, name) for state in (plan.live.state, plan.state))
            headers = (old if name in before else new, new if name in after else old)
            diff.append(_entry(*headers, before.get(name, ""), after.get(name, "")))
    return diff


def _files_of(own: OwnDirectory, generation: int) -> t.Dict[str, bytes]:
    """The texts of a generation."""
    directory = os.path.join(own.path, str(generation))
    names = os.listdir(directory) if generation and os.path.isdir(directory) else []
    texts = [name for name in names if "." not in name or name.endswith(BUNDLE_SUFFIX)]
    return {name: read_file(os.path.join(directory, name)) or b"" for name in texts}


def _shown(name: str, before: t.Optional[bytes], after: t.Optional[bytes], secret: bool) -> t.Tuple[str, str]:
    first, second = ((content or b"").decode("utf-8", "replace") for content in (before, after))
    if name.endswith(BUNDLE_SUFFIX):
        return _bundle(first), _bundle(second)
    return (masked_table(first, None), masked_table(second, first)) if secret else (first, second)


def _bundle(text: str) -> str:
    """A CA bundle for a diff; its whole text would be some 3000 lines of base64."""
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    return f"{text.count('-----BEGIN CERTIFICATE-----')} certificates, sha256:{digest}\n" if text else ""


def _entry(before_header: str, after_header: str, before: str, after: str) -> t.Dict[str, str]:
    return {"before_header": before_header, "after_header": after_header, "before": _printable(before), "after": _printable(after)}


def _printable(text: str) -> str:
    """Bytes that are no UTF-8 (an old comment in Latin-1, say) can not go into JSON."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
