# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""What stops mail, for a login that was tested: the blame for the result of a relay, as module smtp_auth_info returns it."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import blame, clouds, nft, probe
from ansible_collections.outpost.smtp.plugins.module_utils._egress.blame import BlockedBy, Evidence
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.alternatives import answered

Result = t.Dict[str, t.Any]

#: How the evidence of a diagnosis names a rule of this host (diagnose.py).
_RULE = "firewall of this server: "
_TLS_STAGES = ("starttls", "tls")
_LOGIN_STAGES = ("auth",)
#: Where the relay speaks, and the login is no matter.
_RELAYS_STAGES = ("greeting", "ehlo", "ehlo_tls", "sender", "recipient", "data")
#: Somebody on the way speaks in the relay's place.
_INTERFERED = ("greet_captive", "greet_tarpit", "greet_masked")
#: Diagnoses of silence, for which a cloud may be the cause.
_SILENCE = ("tcp_timeout", "egress_blocked_upstream")
_WEB = 443


def with_blame(results: t.Sequence[Result], investigated: bool = True, root: str = "") -> t.List[Result]:
    """The results with ``blocked_by`` in each. `investigated`: the rules of this host were looked at, as far as this process may.

    Where nothing answers, the diagnosis mentions what the cloud is said to block; where our own rules refuse, it says what these are for.
    """
    cloud = clouds.recognise(root) if any(not result["ok"] for result in results) else None
    rules_known = investigated and os.geteuid() == 0 and nft.find() is not None
    return [_with_blame(result, cloud.hint(result["port"]) if cloud else "", rules_known) for result in results]


def _with_blame(result: Result, hint: str, rules_known: bool) -> Result:
    diagnosis = result["diagnosis"]
    if diagnosis is None:
        return {**result, "blocked_by": None}
    found = _blocked_by(result, hint, rules_known)
    if hint and diagnosis["code"] in _SILENCE:
        diagnosis = {**diagnosis, "evidence": [*diagnosis["evidence"], hint], "remedy": f"{diagnosis['remedy']} {_sentence(hint)}"}
    if found is not None and found.cause == blame.OWN_TABLE:
        diagnosis = {**diagnosis, "remedy": _sentence(found.remedy)}
    return {**result, "diagnosis": diagnosis, "blocked_by": found.facts() if found else None}


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _blocked_by(result: Result, hint: str, rules_known: bool) -> t.Optional[BlockedBy]:
    """None for what is no block: a name that does not resolve, a proxy, an option that is wrong."""
    diagnosis = result["diagnosis"]
    code, stage = diagnosis["code"], diagnosis["stage"]
    if code == "postfix_unit_may_not_connect":
        return BlockedBy(blame.UNIT_SANDBOX, diagnosis["summary"], diagnosis["remedy"])
    if code == "egress_blocked_local":
        rules = [line[len(_RULE) :] for line in diagnosis["evidence"] if line.startswith(_RULE)]
        return blame.of_rules(rules or [diagnosis["summary"]], result["port"])
    if code == "egress_blocked_upstream" or code.startswith("tcp_") and stage == "connect":
        return blame.judge(_evidence(result, hint, rules_known))
    if code in _INTERFERED:
        return BlockedBy(blame.PROVIDER_SUSPECTED, diagnosis["summary"], diagnosis["remedy"])
    if stage in _TLS_STAGES or code.startswith(("cap_starttls", "tls_")):
        return BlockedBy(blame.TLS, diagnosis["summary"], diagnosis["remedy"])
    if stage in _LOGIN_STAGES or code.startswith("cap_"):
        return BlockedBy(blame.AUTHENTICATION, diagnosis["summary"], diagnosis["remedy"])
    if stage in _RELAYS_STAGES:
        return BlockedBy(blame.RELAY_REFUSED, diagnosis["summary"], diagnosis["remedy"])
    return None


def _evidence(result: Result, hint: str, rules_known: bool) -> Evidence:
    tried = {entry["address"]: entry for entry in result["addresses"] if entry["elapsed_ms"] is not None}
    routes = {address: found for address, found in ((address, probe.route(address)) for address in tried) if found}
    outcomes = {address: probe.Outcome(entry["outcome"], 0, entry["elapsed_ms"]) for address, entry in tried.items() if address not in routes}
    siblings: t.Dict[int, bool] = {}
    for entry in result["alternatives"]:
        if entry["port"] != result["port"] and answered(entry["outcome"]):
            siblings[entry["port"]] = siblings.get(entry["port"], False) or entry["works"]
    if result["diagnosis"]["code"] == "egress_blocked_upstream" and not siblings:
        siblings[_WEB] = False  # that diagnosis says that something else answered
    # Where the rules were looked at for this diagnosis, none was found.
    return Evidence(result["port"], outcomes, () if rules_known else None, (), routes, siblings, hint)
