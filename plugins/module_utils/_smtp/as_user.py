# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The test as another user, with what only root can add: the rules of the firewall that stop that user."""

from __future__ import annotations

import pwd
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import run_as
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.endpoint import Endpoint
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.probe import probe_all
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import client_certificate

GRACE = 5.0
"""Seconds that a test in another process may take longer; also what is spent on trying again where a rule is in the way."""

_OF_ROOT = ("ca_file", "client_certificate", "client_key")

Result = t.Dict[str, t.Any]
ExplainFor = t.Callable[[t.Sequence[str], int, int], t.List[str]]
"""As local_block.Explain, for the user of the id that is its third argument."""


def probe_all_as(
    user: str,
    targets: t.Sequence[Endpoint],
    timeout: float,
    ehlo_name: str | None = None,
    investigate: bool = True,
    explain: ExplainFor | None = None,
) -> list[Result]:
    """As probe_all(), by *user*. *explain* is asked by this process. Raises :class:`run_as.RunAsError`.

    The CA file and the client's certificate and key are read by this process, as smtp(8) does it before it gives up root's rights.
    """
    results = _call(user, timeout + GRACE, targets, timeout, ehlo_name, investigate)
    return _with_rules(user, targets, results, min(timeout, GRACE), ehlo_name, explain) if explain else results


def _call(user: str, limit: float, targets: t.Sequence[Endpoint], *arguments: t.Any) -> list[Result]:
    files = client_certificate.read_now(target[field] for target in targets for field in _OF_ROOT if target[field])

    def probe() -> list[Result]:
        client_certificate.keep(files)  # in the process that ends with the test
        return probe_all(targets, *arguments)

    return t.cast("list[Result]", run_as.call(user, probe, limit))


def _with_rules(
    user: str, targets: t.Sequence[Endpoint], results: list[Result], briefly: float, ehlo_name: str | None, explain: ExplainFor
) -> list[Result]:
    """The firewall is read by root. Where rules stop connections of the user, these are tried once more, and told the rules."""
    uid, limit = pwd.getpwnam(user).pw_uid, Deadline(GRACE)
    rules: dict[tuple[str, int], list[str]] = {}
    stopped: list[int] = []
    for index, result in enumerate(results):
        if limit.expired or not _unconnected(targets[index], result):
            continue
        addresses = [entry["address"] for entry in result["addresses"]]
        found = explain(addresses, result["port"], uid)
        if found:
            stopped.append(index)
            rules.update({(address, result["port"]): found for address in addresses})
    if not stopped:
        return results

    def told_rules(addresses: t.Sequence[str], port: int) -> list[str]:
        return next((rules[address, port] for address in addresses if (address, port) in rules), [])

    again = [targets[index] for index in stopped]
    told = dict(zip(stopped, _call(user, 2 * GRACE, again, briefly, ehlo_name, False, told_rules)))
    return [told.get(index, result) for index, result in enumerate(results)]


def _unconnected(target: Endpoint, result: Result) -> bool:
    """Whether no address of the relay could be connected to. What a proxy did is no matter of this host's rules."""
    failed_at = result["diagnosis"]["stage"] if result["diagnosis"] else ""
    return failed_at == "connect" and target["proxy"] is None
