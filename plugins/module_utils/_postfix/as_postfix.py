# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The relays of a Postfix, tested, with what Postfix would do as part of each result."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.effective_relay import EffectiveRelay
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.predict import (
    DEFERS,
    SENDS,
    SENDS_PASSWORD_IN_CLEAR,
    SENDS_UNAUTHENTICATED,
    UNKNOWN,
    of_message,
    predict,
)
from ansible_collections.outpost.smtp.plugins.module_utils._smtp import result
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.diagnose import describe
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.diagnoses import BY_CODE
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.endpoint import Endpoint
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.transcript import Transcript

Result = t.Dict[str, t.Any]
Prediction = t.Dict[str, t.Any]
Test = t.Callable[[t.List[Endpoint]], t.List[Result]]
"""Tests endpoints, as probe_all() does."""


def examine(relays: t.Sequence[EffectiveRelay], test: Test) -> t.List[Result]:
    """The result of each relay as module smtp_auth_info returns it, with ``postfix`` in it.

    It is only ``ok`` if the test passed, Postfix would send as it should, and nothing is wrong with its settings.
    """
    endpoints = [relay.endpoint() for relay in relays]
    tested = iter(test([one for one in endpoints if one is not None]))
    found = [next(tested) if one is not None else None for one in endpoints]
    predictions = [predict(relay, seen) for relay, seen in zip(relays, found)]
    judged = []
    for relay, seen, prediction in zip(relays, found, predictions):
        same_way = [other for candidate, other in zip(relays, predictions) if _message(candidate) == _message(relay)]
        facts = {**relay.facts(), "prediction": prediction, "mail": of_message(same_way)}
        judged.append({**_judge(relay, seen, prediction), "postfix": facts})
    return judged


def _message(relay: EffectiveRelay) -> t.Tuple[str, str]:
    """The message whose way it is that the relay is on, be it behind another transport."""
    return relay.way.sender, relay.way.recipient


def _judge(relay: EffectiveRelay, tested: t.Optional[Result], prediction: Prediction) -> Result:
    found = dict(tested or _untested(relay))
    code, text = _complaint(relay, found, prediction)
    if code:
        found["diagnosis"] = _describe(relay, code, text)
    elif found["diagnosis"] is not None:
        found["diagnosis"] = {**found["diagnosis"], "remedy": f"{found['diagnosis']['remedy']}{_in_words_of_postfix(found)}"}
    found["ok"] = found["diagnosis"] is None
    return found


def _complaint(relay: EffectiveRelay, found: Result, prediction: Prediction) -> t.Tuple[str, str]:
    """The code and the words of what is wrong with Postfix, where this is what should be told; else two empty texts.

    What must never happen in silence counts for more than what the test itself complains about.
    """
    if prediction["action"] == SENDS_PASSWORD_IN_CLEAR:
        return "postfix_would_send_password_in_clear", prediction["text"]
    if prediction["action"] == SENDS_UNAUTHENTICATED and relay.login_wanted:
        missing = [problem for problem in relay.problems if problem.code == "postfix_no_credential"]
        return (missing[0].code, missing[0].text) if missing else ("postfix_would_send_unauthenticated", prediction["text"])
    if found["diagnosis"] is not None:
        return _setting_behind(found["diagnosis"]["code"], relay, prediction)
    if relay.problems:
        return relay.problems[0].code, relay.problems[0].text
    if prediction["action"] not in (SENDS, SENDS_UNAUTHENTICATED, UNKNOWN):
        return "postfix_would_not_send", prediction["text"]
    if relay.login_enabled and not found["auth"]["tried"]:
        return "postfix_login_not_tested", prediction["text"]
    return "", ""


_SETTINGS_BEHIND = {
    "tls_wrong_mode": "postfix_tls_contradiction",
    "tls_cert_untrusted_issuer": "postfix_ca_unreadable",
    "tls_cert_self_signed_in_chain": "postfix_ca_unreadable",
    "cap_no_common_mech": "postfix_mechanism_missing",
}
"""Failures of the test that a setting of Postfix explains, if it is as these diagnoses say."""


def _setting_behind(failure: str, relay: EffectiveRelay, prediction: Prediction) -> t.Tuple[str, str]:
    """As :func:`_complaint`: the setting to change where it explains the failure of the test; else the failure says it best."""
    code = _SETTINGS_BEHIND.get(failure, "")
    text = next((problem.text for problem in relay.problems if problem.code == code), "")
    if not text and failure == "cap_no_common_mech" and prediction["action"] == DEFERS:
        text = prediction["text"]
    return (code, text) if text else ("", "")


def _in_words_of_postfix(found: Result) -> str:
    """The combination that works, which the diagnosis tells in options of the module, as settings of Postfix."""
    for way in found["alternatives"]:
        if way["works"] and (way["port"], way["tls"]) != (found["port"], found["tls_mode"]):
            wrappermode = "yes" if way["tls"] == "implicit" else "no"
            return f" For Postfix that is the next hop [{found['host']}]:{way['port']} with smtp_tls_wrappermode = {wrappermode}."
    return ""


def _untested(relay: EffectiveRelay) -> Result:
    """The result of a relay that there is no way to connect to."""
    problem = relay.problems[0] if relay.problems else None
    code, text = (problem.code, problem.text) if problem else ("postfix_no_relay", predict(relay, None)["text"])
    seen = Observation(relay.host, relay.port, relay.tls_mode)
    return {**result.assemble(relay.name, seen, Transcript().show), "diagnosis": _describe(relay, code, text)}


def _describe(relay: EffectiveRelay, code: str, text: str) -> t.Dict[str, t.Any]:
    error = SmtpError("postfix", text.rstrip("."), stage=BY_CODE[code].stages[0])
    seen = Observation(relay.host or "Postfix", relay.port, relay.tls_mode, error=error)
    return describe(code, seen, Transcript().show)
