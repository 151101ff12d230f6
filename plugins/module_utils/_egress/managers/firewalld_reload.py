# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""What a reload of firewalld changes besides what it is for, so that none of it happens unseen.

It loses what was set without --permanent, and takes over what was set with nothing but --permanent. And before 2.0 it
empties all tables of iptables, whoever filled them, when it starts and when it reloads (firewalld's fw.py, flush);
from 2.0 on only where there are direct rules.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import re
import time
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import files, nft
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Run

#: Whose tables are emptied: program, and how it saves and restores them, with the counters where it can.
_EMPTIED = {
    "iptables": (["iptables-save", "-c"], ["iptables-restore", "-c"]),
    "ip6tables": (["ip6tables-save", "-c"], ["ip6tables-restore", "-c"]),
    "ebtables": (["ebtables-save"], ["ebtables-restore"]),
}
#: What was in them before a reload, until all of it is there again. In /run, since a boot makes them anew.
SAVED = "/run/outpost-smtp/before-firewalld-reload.json"
#: Seconds between two looks at whether others are putting back their own.
_PAUSE = 0.3

_COUNTS = re.compile(r"^\[\d+:\d+\] ")

#: Returns what firewall-cmd prints when it is called with these arguments; "" where it has no answer.
Ask = t.Callable[..., str]
#: By name of a zone or policy: the values of each of its properties, sorted.
_Listed = t.Dict[str, t.Dict[str, t.List[str]]]


def differences(ask: Ask, own_policy: str, root: str = "") -> t.List[str]:
    """Where what runs is not what is configured, in words. Our own policy does not count."""
    # NetworkManager tells firewalld again which interface belongs to which zone.
    ignored = {"interfaces"} if os.path.isdir(root + "/run/NetworkManager") else set()
    found = []
    for kind, question in (("zone", "--list-all-zones"), ("policy", "--list-all-policies")):
        running, configured = listed(ask(question)), listed(ask("--permanent", question))
        for name in sorted({*running, *configured} - ({own_policy} if kind == "policy" else set())):
            found += _properties(f"{kind} {name}", running.get(name), configured.get(name), ignored)
    # Each question is a start of firewall-cmd, so nothing is asked of files that are not there.
    direct = os.path.exists(f"{root}/etc/firewalld/direct.xml")
    questions = [(("--direct", f"--get-all-{what}"), direct) for what in ("chains", "rules", "passthroughs")]
    questions += [((f"--ipset={name}", "--get-entries"), True) for name in ask("--get-ipsets").split()]
    for words, may_be_configured in questions:
        runs = sorted(ask(*words).splitlines())
        is_configured = sorted(ask("--permanent", *words).splitlines()) if may_be_configured else []
        if runs != is_configured:
            found.append(f"'firewall-cmd {' '.join(words)}' tells {runs or 'nothing'}, and with --permanent {is_configured or 'nothing'}")
    return found


def listed(text: str) -> _Listed:
    """What --list-all-zones, --list-all-policies and --info-policy print."""
    found: _Listed = {}
    properties: t.Dict[str, t.List[str]] = {}
    values: t.List[str] = []
    for line in text.splitlines():
        if line.startswith("\t"):
            values.append(line.strip())  # one rich rule, or one forwarded port
        elif line.startswith("  "):
            key, _colon, words = line.strip().partition(":")
            values = properties.setdefault(key, words.split())
        elif line:
            # Behind the name there may be "(active)" or "(default)", of what runs only.
            properties = found.setdefault(line.partition(" ")[0], {})
    return {name: {key: sorted(words) for key, words in inner.items()} for name, inner in found.items()}


def _properties(
    name: str, running: t.Optional[t.Mapping[str, t.List[str]]], configured: t.Optional[t.Mapping[str, t.List[str]]], ignored: t.Container[str]
) -> t.List[str]:
    if running is None or configured is None:
        return [f"{name} {'is configured but does not run' if running is None else 'runs but is not configured'}"]
    return [
        f"{name}: {key} run as '{' '.join(running.get(key, []))}' and are configured as '{' '.join(configured.get(key, []))}'"
        for key in sorted({*running, *configured})
        if key not in ignored and running.get(key, []) != configured.get(key, [])
    ]


class ForeignTables:
    """The tables of iptables and its like around a reload: saved before, put back after. ``root`` is where the host's files are."""

    def __init__(self, run: Run, root: str = "") -> None:
        self._run = run
        self._path = root + SAVED

    @property
    def pending(self) -> bool:
        """Whether a run that was killed had begun a reload."""
        return os.path.exists(self._path)

    def save(self) -> None:
        """Note what there is; after a reload that has failed, what there was before it."""
        if not self.pending:
            files.write(self._path, json.dumps({program: text for program, text in self._now().items() if _rules(text)}))

    def put_back(self) -> None:
        """Restore what has been emptied since :meth:`save`, of this run or of one that was killed. Raises EgressError where it can not."""
        before = _read(files.read(self._path))
        if before:
            for program in _lost(before, self._when_settled(before)):
                self._restore(program, before[program])
        self.forget()

    def forget(self) -> None:
        files.remove(self._path)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(self._path))

    def _when_settled(self, before: t.Mapping[str, str]) -> t.Dict[str, str]:
        """What is there now, when nobody changes it any more: others put back their own when firewalld says that it has reloaded."""
        now = self._now()
        while _lost(before, now):
            time.sleep(_PAUSE)
            seen, now = now, self._now()
            if not _lost(seen, now) and not _lost(now, seen):
                break
        return now

    def _now(self) -> t.Dict[str, str]:
        saved = {}
        for program, (save, _restore) in _EMPTIED.items():
            command = nft.find(save[0])
            code, out, _err = self._run([command, *save[1:]], "") if command else (1, "", "")
            if code == 0:
                saved[program] = out
        return saved

    def _restore(self, program: str, text: str) -> None:
        save, restore = _EMPTIED[program]
        code, _out, err = self._run([nft.find(restore[0]) or restore[0], *restore[1:]], text)
        if code != 0:
            raise EgressError(
                f"a reload of firewalld has emptied the tables of {program}, and {restore[0]} can not fill them again: {err.strip()}. "
                f"What {save[0]} told before is in {self._path}",
                changed=True,
            )


def _rules(saved: str) -> t.Counter[str]:
    """The rules and chains of what iptables-save and its like printed, each with its table and without its counts."""
    found: t.Counter[str] = collections.Counter()
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line
        elif line.startswith(("-A ", "[")):
            found[f"{table} {_COUNTS.sub('', line)}"] += 1
        elif line.startswith(":") and " - " in line:
            found[f"{table} {line.partition(' ')[0]}"] += 1  # a chain that somebody made
    return found


def _lost(before: t.Mapping[str, str], after: t.Mapping[str, str]) -> t.List[str]:
    """The programs of which something was there before and is not any more."""
    return [program for program, text in before.items() if _rules(text) - _rules(after.get(program, ""))]


def _read(text: t.Optional[str]) -> t.Dict[str, str]:
    """What was saved; nothing where it can not be understood."""
    try:
        saved = json.loads(text or "{}")
    except ValueError:
        return {}
    if not isinstance(saved, dict):
        return {}
    return {program: value for program, value in saved.items() if program in _EMPTIED and isinstance(value, str)}
