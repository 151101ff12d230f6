# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: recorder
type: notification
short_description: Write one JSON line for each task and host
description: Lets a test compare what every task reported in check mode and for real.
"""

import json
import os

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "recorder"
    CALLBACK_NEEDS_ENABLED = True

    def _record(self, result, status):
        returned = getattr(result, "result", None) or result._result
        line = {
            # Not result.task_name, which ansible-core 2.19 gives without the role.
            "task": (getattr(result, "task", None) or result._task).get_name(),
            "host": (getattr(result, "host", None) or result._host).get_name(),
            "status": status,
            "changed": bool(returned.get("changed")),
            "diff": returned.get("diff"),
            "result": returned,
        }
        with open(os.environ["RECORDER_FILE"], "a", encoding="utf-8") as record:
            record.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result):
        self._record(result, "ok")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._record(result, "failed")

    def v2_runner_on_unreachable(self, result):
        self._record(result, "unreachable")
