# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Everything that is asked of a new configuration before it is switched to: can Postfix read it, is it sound, does the login work.

Each step raises PostfixError for what must keep the configuration out of use.
"""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.directory import State
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Host
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint import lint as linter
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import ERROR
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.plan import Plan
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline

#: When to log in: never, where an earlier run has set up the host and the change makes a login different, before each change.
NEVER, AUTO, ALWAYS = "never", "auto", "always"
#: Seconds that the linter may take; it reads files and asks postconf(1) and postmap(1).
_LINT_TIMEOUT = 30.0


def read(stage: str, plan: Plan, host: Host) -> None:
    """Let Postfix read the staged main.cf and master.cf."""
    try:
        host.check(stage, set(plan.state.parameters))
    except PostfixError as error:
        broken = _broken_before(host) if plan.live.main is not None else ""
        if broken:
            raise PostfixError(f"Postfix can not read its configuration as it is now, before any change: {broken}. Mend that first") from None
        raise PostfixError(f"Postfix does not accept the new configuration: {error}") from None


def _broken_before(host: Host) -> str:
    try:
        host.check(host.config_directory)
    except PostfixError as error:
        return error.message
    return ""


def lint(stage: str, plan: Plan, host: Host, tables: t.Collection[str]) -> t.List[t.Dict[str, t.Any]]:
    """Return what the linter finds. An error in what is ours refuses the configuration; the administrator's do not."""
    found = linter.lint(stage, Deadline(_LINT_TIMEOUT), run=host.run)
    facts = [finding.as_dict() for finding in found]
    services = plan.state.services
    ours = {*plan.state.parameters, *services, *(key.partition("/")[0] for key in services), *tables}
    fault = next((finding for finding in found if finding.severity == ERROR and finding.names & ours), None)
    if fault is not None:
        text = f"The new configuration has a fault in {fault.place}: {fault.found}. {fault.why} {fault.remedy} [{fault.code}]"
        raise PostfixError(text, findings=facts)
    return facts


def log_in(stage: str, plan: Plan, host: Host, when: str, timeout: float) -> t.List[t.Dict[str, t.Any]]:
    """Return what came of the logins to the relays. One that fails refuses the configuration."""
    if when == NEVER or (when == AUTO and plan.live.good == State()):
        return []
    # Imported here: the SMTP client is not small.
    from ansible_collections.outpost.smtp.plugins.module_utils._postfix import preflight

    transports = {key.partition("/")[0] for key in plan.state.services if key.endswith("/unix")}
    results = preflight.log_in(stage, transports, timeout, host.run, host.config_directory if when == AUTO else None)
    refusal = preflight.refusal(results)
    if refusal:
        raise PostfixError(f"The login with the new configuration fails: {refusal}", preflight=results)
    return results
