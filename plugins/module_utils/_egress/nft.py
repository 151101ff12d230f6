# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""The nft command: what is loaded, what would be refused, and one atomic load. Only table inet outpost_smtp is written."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.ruleset import FAMILY, MARKER, TABLE

#: Searched before PATH, which differs between root's shell and sudo: the path found is written into the units.
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/usr/bin:/bin"

#: Names that nft takes without quotes; the kernel takes others, too, with which a command could be made to say anything.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")

Json = t.Dict[str, t.Any]
#: Runs a command in the C locale with a text as its input: exit status (negative: the signal), output and error output.
Run = t.Callable[[t.Sequence[str], str], t.Tuple[int, str, str]]


def find(name: str = "nft") -> t.Optional[str]:
    """The path of the nft command, or of another one that has to do with firewalls; None where it is not installed."""
    return shutil.which(name, path=f"{_SEARCH_PATH}:{os.environ.get('PATH', '')}".rstrip(":"))


class Nft:
    """Speaks to the nft of this host. Every method raises :class:`EgressError` when nft can not answer."""

    def __init__(self, command: str, run: Run) -> None:
        self.command = command
        self.run = run
        self._old: t.Optional[bool] = None
        self._whole: t.Optional[t.List[Json]] = None

    def own_table(self) -> t.Optional[t.List[Json]]:
        """What nft lists of table inet outpost_smtp, or None when there is no such table."""
        return self.table(FAMILY, TABLE)

    def table(self, family: str, name: str) -> t.Optional[t.List[Json]]:
        """What nft lists of one table, or None when there is no such table."""
        code, out, err = self._nft(["-j", "list", "table", family, name])
        if code == 1 and "No such file or directory" in err:
            return None
        return self._objects(code, out, err)

    def tables(self, names: t.Collection[t.Tuple[str, str]]) -> t.Dict[t.Tuple[str, str], t.List[Json]]:
        """The chains and rules of these tables (family and name), without the members of named sets, of which there may be very many.

        Told to leave them out, nft 1.0.6 reads them from the kernel all the same where it lists one table, but not where it lists all.
        Where the listing of all fails, such as by a table that makes nft crash, that of each may not.
        """
        listed, self._whole = self._whole, None
        if names and listed is None:
            with contextlib.suppress(EgressError):
                listed = self._ruleset()
        if listed is None:
            listed = [entry for name in names for entry in self.table(*name) or ()]
        found: t.Dict[t.Tuple[str, str], t.List[Json]] = {name: [] for name in names}
        for entry in listed:
            kind, inner = next(iter(entry.items()))
            if kind in ("chain", "rule") and (inner["family"], inner["table"]) in found:
                found[inner["family"], inner["table"]].append(entry)
        return found

    def holds(self, family: str, table: str, name: str, value: t.Union[str, int]) -> t.Optional[bool]:
        """Whether a named set holds an address or a port; None where that can not be told, such as for a set of something else."""
        if not all(_NAME.fullmatch(word) for word in (family, table, name)):
            return None
        code, _out, err = self._nft(["get", "element", family, table, name, f"{{ {value} }}"])
        if code == 0:
            return True
        return False if "Could not process rule: No such file or directory" in err else None

    def own_table_text(self) -> str:
        """The listing of our table for people; empty when there is none."""
        code, out, _err = self._nft(["--stateless", "list", "table", FAMILY, TABLE])
        return out if code == 0 else ""

    def rule_text(self, chain: str, handle: int) -> str:
        """One rule of a chain (``inet filter output``) for people, without its counts; empty when there is none."""
        code, out, _err = self._nft(["--stateless", "--handle", "list", "chain", *chain.split(" ")])
        texts = (line.partition(" # handle ") for line in out.splitlines() if code == 0)
        return next((text.strip() for text, _mark, number in texts if number.strip() == str(handle)), "")

    def chains(self) -> t.List[Json]:
        """All chains of the host, without their rules, so that the cost does not depend on other people's sets (but see :meth:`tables`).

        nft 0.9 reads all sets of the host, whatever it lists. So there the rules are listed along, for the :meth:`tables` that mostly comes next.
        """
        if self._old is None:
            self._old = " v0." in self._nft(["--version"])[1]
        if self._old:
            listed = self._whole = self._ruleset()
        else:
            listed = self._objects(*self._nft(["-j", "list", "chains"]))
        return [entry["chain"] for entry in listed if "chain" in entry]

    def _ruleset(self) -> t.List[Json]:
        return self._objects(*self._nft(["-j", "-t", "list", "ruleset"]))

    def check(self, text: str) -> None:
        """Let nft and the kernel check a file without loading it."""
        self._feed(["-c"], text, "nft refuses the rule set, nothing was changed")

    def load(self, text: str) -> None:
        """Load a file in one transaction: all of it or, on any error, nothing."""
        self._feed([], text, "nft could not load the rule set, the former one is still in force")

    def delete_own_table(self) -> None:
        self._feed([], f"delete table {FAMILY} {TABLE}\n", f"nft could not delete table {FAMILY} {TABLE}")

    def _feed(self, flags: t.List[str], text: str, complaint: str) -> None:
        code, _out, err = self._nft([*flags, "-f", "-"], text)
        if code != 0:
            raise EgressError(f"{complaint}: {_reason(code, err)}", stderr=err.strip())

    def _objects(self, code: int, out: str, err: str) -> t.List[Json]:
        if code != 0:
            raise EgressError(f"nft can not list the rules of this host: {_reason(code, err)}", stderr=err.strip())
        try:
            listed = json.loads(out)["nftables"] if out.strip() else []
        except (ValueError, KeyError, TypeError):
            raise EgressError("nft lists the rules in a form that is not understood (no JSON support?)") from None
        return [entry for entry in listed if isinstance(entry, dict)]

    def _nft(self, arguments: t.Sequence[str], text: str = "") -> t.Tuple[int, str, str]:
        return self.run([self.command, *arguments], text)


def _reason(code: int, stderr: str) -> str:
    """Why nft failed, in a sentence."""
    if code in (-11, 139):
        return (
            "nft crashed (segmentation fault). Rules written by nft 1.1.2 or newer, often from a container with its own nft, make an older nft "
            "crash when it reads them: find the table with a named set and load it with this host's nft"
        )
    if "Operation not permitted" in stderr:
        return "it may not (no CAP_NET_ADMIN in this container?)"
    return stderr.strip().splitlines()[0] if stderr.strip() else f"exit status {code}"


def is_ours(table: t.Sequence[Json]) -> bool:
    """Whether a listed table bears our mark."""
    return any(entry.get("chain", {}).get("name") == MARKER for entry in table)


def counters(table: t.Optional[t.Sequence[Json]]) -> t.Dict[str, int]:
    """Packets of the named counters of a listed table. The rules count connection attempts (SYN), retries included."""
    found = {entry["counter"]["name"]: int(entry["counter"]["packets"]) for entry in table or () if "counter" in entry}
    return {name: found.get(name, 0) for name in ("accepted", "refused", "refused_forwarded")}


def output_priority(table: t.Optional[t.Sequence[Json]]) -> float:
    """The priority of the last output chain of a listed table; below all others where it has none."""
    chains = [entry["chain"] for entry in table or () if "chain" in entry]
    return max((float(chain["prio"]) for chain in chains if chain.get("hook") == "output"), default=-math.inf)


def normalised(table: t.Sequence[Json]) -> t.List[t.Any]:
    """A listed table without what changes by itself: handles, counts, and the forms that differ between nft versions.

    Two listings are equal exactly when they filter alike: chains and rules in order, everything that was added included.
    """
    # Versions list chains, counters and rules in different orders; only that within each kind means something.
    return sorted((_plain(entry) for entry in table if "metainfo" not in entry), key=lambda entry: next(iter(entry)))


#: Left out wherever they occur: numbers of the kernel's own choice, and what only counts.
_VOLATILE = {"handle", "index", "packets", "bytes"}


def _plain(value: t.Any) -> t.Any:
    if isinstance(value, dict):
        kept = {key: _plain(inner) for key, inner in value.items() if key not in _VOLATILE}
        if set(kept) == {"set"} and isinstance(kept["set"], list):
            return _plain_set(kept["set"])
        if set(kept) == {"|"}:
            return _flags(kept["|"])
        if "rate" in kept:
            kept.setdefault("burst", 5)  # nft 0.9 leaves its default out
        return kept
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


def _plain_set(members: t.List[t.Any]) -> t.Any:
    """An anonymous set has no order, and newer versions list a set of one as its member."""
    if len(members) == 1:
        return members[0]
    return {"set": sorted(members, key=lambda member: json.dumps(member, sort_keys=True))}


def _flags(members: t.Any) -> t.List[t.Any]:
    """``fin | syn`` as nft 0.9 nests it, as the flat list that newer versions print."""
    flat: t.List[t.Any] = []
    for member in members:
        flat.extend(member if isinstance(member, list) else [member])
    return flat
