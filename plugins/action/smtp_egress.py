# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module and, where a change waits for its confirmation, confirms it through a connection that is made after it.

Both are one task: in another task a host would have to wait for all others, with its time running out.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    _supports_async = False

    def run(self, tmp: t.Any = None, task_vars: t.Optional[t.Dict[str, t.Any]] = None) -> t.Dict[str, t.Any]:
        result: t.Dict[str, t.Any] = super().run(tmp, task_vars)
        result.update(self._execute_module(module_args=self._task.args, task_vars=task_vars))
        if not (result.get("rollback") or {}).get("armed"):
            return result
        # A connection that can not be reset, such as that to the controller itself, can not be shut out by the change either.
        with contextlib.suppress(AttributeError):
            self._connection.reset()
        confirmation: t.Dict[str, t.Any] = self._execute_module(module_args={"state": "confirmed"}, task_vars=task_vars)
        if confirmation.get("failed"):
            facts: t.Dict[str, t.Any] = {key: confirmation[key] for key in ("msg", "rolled_back") if key in confirmation}
            return {**result, **facts, "failed": True}
        return {**result, "confirmed": confirmation.get("confirmed", False), "rollback": {"armed": False, "seconds": 0}}
