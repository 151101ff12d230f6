# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The login to the relays of a configuration that is not in force yet, from this host and as the user that Postfix runs as."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import who_blocks
from ansible_collections.outpost.smtp.plugins.module_utils._postfix import as_postfix, effective
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.effective_relay import EffectiveRelay
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.files import read_file
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result as HostResult
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Run, complaint
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.as_user import probe_all_as
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.run_as import RunAsError

Result = t.Dict[str, t.Any]


def log_in(directory: str, transports: t.Collection[str], timeout: float, run: Run, unless_as_in: t.Optional[str] = None) -> t.List[Result]:
    """Return what came of the login to each relay of the configuration in ``directory`` that is reached by ``transports``.

    A result is as module smtp_auth_info returns it. Relays that are used in the very same way by the configuration in
    ``unless_as_in`` are left out. Each password is tried once. Raises PostfixError.
    """
    deadline = Deadline(timeout)
    relays = _relays(directory, transports, deadline.within(timeout / 2), run)
    if unless_as_in is not None and relays:
        known = _ways_in_force(unless_as_in, transports, deadline.within(timeout / 2), run)
        relays = [relay for relay in relays if _way_to(relay) not in known]
    if not relays:
        return []
    owner = run(["postconf", "-c", directory, "-h", "mail_owner"], "")
    if owner.rc != 0:
        raise PostfixError(f"postconf does not tell mail_owner: {complaint(owner)}")
    try:
        return as_postfix.examine(
            relays, lambda targets: probe_all_as(owner.out.strip(), targets, deadline.remaining(), explain=who_blocks.explain)
        )
    except RunAsError as error:
        raise PostfixError(f"The login to the new relays can not be tested: {error.reason}") from None


def _relays(directory: str, transports: t.Collection[str], deadline: Deadline, run: Run) -> t.List[EffectiveRelay]:
    def run_until_deadline(argv: t.Sequence[str], stdin: str) -> HostResult:
        if deadline.expired:
            raise PostfixError(f"preflight_timeout: {argv[0]} was not started, as there is no time left")
        return run(argv, stdin)

    return [relay for relay in effective.relays(directory, deadline, run=run_until_deadline) if relay.way.transport in transports]


def _ways_in_force(directory: str, transports: t.Collection[str], deadline: Deadline, run: Run) -> t.List[Result]:
    try:
        return [_way_to(relay) for relay in _relays(directory, transports, deadline, run)]
    except PostfixError:
        return []  # what can not be read now is different afterwards


def _way_to(relay: EffectiveRelay) -> Result:
    """All that a login depends on. A CA file counts by its content, as its path changes with each new set of tables."""
    endpoint = relay.endpoint()
    if endpoint is None:
        return {"problems": relay.problems}
    return {**endpoint, "name": relay.way.transport, "ca_file": _content(endpoint["ca_file"]), "problems": [one.code for one in relay.problems]}


def _content(path: t.Optional[str]) -> t.Optional[bytes]:
    try:
        return read_file(path) if path else None
    except OSError:
        return None


def refusal(results: t.Sequence[Result]) -> str:
    """Why the new configuration must not be switched to: the first diagnosis, and what to do. Empty if all is well."""
    failed = [result["diagnosis"] for result in results if not result["ok"]]
    if not failed:
        return ""
    count = f"{len(failed)} of {len(results)} logins failed, first: " if len(results) > 1 else ""
    return f"{count}{failed[0]['summary']} {failed[0]['remedy']} [{failed[0]['code']}]"
