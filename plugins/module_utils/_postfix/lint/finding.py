# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""One thing that is wrong with a configuration."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.catalogue import CATALOGUE

ERROR, WARNING = "error", "warning"


class Finding(t.NamedTuple):
    """``place`` is a file's base name and what in it (a line, a parameter, a service), ``found`` what is there in words.

    ``names`` are the parameters, services and table files that it is about, to tell whose it is. No field holds a secret.
    """

    code: str
    severity: str
    place: str
    found: str
    why: str
    remedy: str
    names: t.FrozenSet[str]

    def as_dict(self) -> t.Dict[str, t.Any]:
        """What the modules return."""
        return {**self._asdict(), "names": sorted(self.names)}


def finding(code: str, place: str, found: str, names: t.Iterable[str], remedy: str = "", why: str = "") -> Finding:
    """A finding with the texts of the catalogue, except for those that this case knows better."""
    rule = CATALOGUE[code]
    return Finding(code, rule.severity, place, found, why or rule.why, remedy or rule.remedy, frozenset(names))
