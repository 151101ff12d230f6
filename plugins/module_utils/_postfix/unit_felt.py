# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""What the unit that runs Postfix keeps it from. The test gets through, since it runs in another unit."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import command, unit_limits
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.diagnose import describe
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.transcript import Transcript

Result = t.Dict[str, t.Any]
Find = t.Callable[[t.Sequence[str]], t.List[unit_limits.Limit]]
_CODE = "postfix_unit_may_not_connect"


def find(addresses: t.Sequence[str]) -> t.List[unit_limits.Limit]:
    return unit_limits.find(addresses, command.run)


def felt(results: t.Sequence[Result], find: Find = find) -> t.List[Result]:
    """The results, as they would be for a test that feels the limits of Postfix's unit."""
    addresses = sorted({address for result in results for address in _connected(result)})
    limits = find(addresses) if addresses else []
    return [_felt(result, limits) for result in results] if limits else list(results)


def _felt(result: Result, limits: t.Sequence[unit_limits.Limit]) -> Result:
    """Postfix tries one address after the other, so only a limit on all of them keeps the mail."""
    connected = _connected(result)
    keeping = [limit for limit in limits if limit.address in ("", *connected)]
    kept = {limit.address for limit in keeping}
    if not connected or not ("" in kept or kept.issuperset(connected)):
        return result
    text = "; ".join(dict.fromkeys(str(limit) for limit in keeping))
    seen = Observation(result["host"], result["port"], result["tls_mode"], error=SmtpError("postfix", text, stage="connect"))
    diagnosis = describe(_CODE, seen, Transcript().show)
    return {**result, "ok": False, "diagnosis": {**diagnosis, "remedy": f"{diagnosis['remedy']} Here: {keeping[0].remedy()}."}}


def _connected(result: Result) -> t.List[str]:
    return [entry["address"] for entry in result["addresses"] if entry["outcome"] == "connected"]
