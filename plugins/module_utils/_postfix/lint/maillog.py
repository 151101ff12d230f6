# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Postfix's own log file, which needs a service of its own (MAILLOG_README)."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import Finding, finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.instance import Instance

_FILE, _PREFIXES = "maillog_file", "maillog_file_prefixes"


def check(instance: Instance) -> t.Iterator[Finding]:
    path = instance.parameters.get(_FILE)
    if not path:
        return
    place, names = instance.place(_FILE), instance.names_of(_FILE)
    if not any(service.name == "postlog" for service in instance.settings.services()):
        yield finding("lint_postlog_missing", place, f"{_FILE} = {path}, and master.cf has no service postlog", [*names, "postlog"])
    prefixes = instance.parameters.names(_PREFIXES)
    if not any(path.startswith(prefix) for prefix in prefixes):
        yield finding("lint_maillog_prefix", place, f"{_FILE} = {path} begins with none of {', '.join(prefixes)}", [*names, _PREFIXES])
