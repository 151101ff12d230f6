# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""What smtp(8) would do with mail for a relay: its settings, step by step, against what a test has seen of the server.

The test is stricter than Postfix. It sends no password without TLS or to a server whose certificate does not verify, so
what Postfix would be answered there is not known; that it would send the password is.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import tls_policy
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.effective_relay import EffectiveRelay
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.sasl_lookup import IN_CLEAR
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.certnames import names_that_match

SENDS, DEFERS, BOUNCES, CRASHES, UNKNOWN = "sends", "defers", "bounces", "crashes", "unknown"
SENDS_UNAUTHENTICATED, SENDS_PASSWORD_IN_CLEAR = "sends_unauthenticated", "sends_password_in_clear"

Result = t.Mapping[str, t.Any]
"""The result of the test of ``relay.endpoint()``, as module smtp_auth_info returns it."""

_NO_ADDRESS = "5.4.4"
_LACKS_ADDRESS = ("dns_nxdomain", "dns_no_address", "dns_no_address_of_family")
#: Diagnoses of a certificate that the test refuses. The handshake itself went well, and so it would for Postfix.
_CERTIFICATE = re.compile(r"tls_(cert_|ca_store|name_mismatch|purpose|fingerprint|dane|intercepted)|cfg_ca_file")
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")


class Verdict(t.NamedTuple):
    """The end of a delivery. ``dsn`` is the status that Postfix logs; None where the server's answer decides, and where
    mail stays in the active queue without one, because smtp(8) does not live long enough."""

    action: str
    dsn: t.Optional[str]
    text: str


class _End(Exception):
    """The delivery ends here."""

    def __init__(self, action: str, dsn: t.Optional[str], text: str) -> None:
        super().__init__(text)
        self.verdict = Verdict(action, dsn, text.rstrip(".") + ".")


def predict(relay: EffectiveRelay, result: t.Optional[Result]) -> t.Dict[str, t.Any]:
    """Return ``action``, ``dsn``, ``text`` (a sentence) and ``because`` (what it follows from).

    ``result`` is None where nothing could be tested.
    """
    delivery = _Delivery(relay, result)
    try:
        delivery.run()
    except _End as end:
        return {**end.verdict._asdict(), "because": delivery.because}
    raise AssertionError("a delivery has an end")


def of_message(predictions: t.Sequence[t.Dict[str, t.Any]]) -> t.Dict[str, t.Any]:
    """The prediction that counts for a message that several servers can take, in Postfix's order.

    It goes on to the next one after what may pass, and after a name without an address.
    """
    for prediction in predictions[:-1]:
        passes = prediction["action"] == DEFERS or (prediction["action"] == BOUNCES and prediction["dsn"] == _NO_ADDRESS)
        if not passes:
            return prediction
    return predictions[-1]


class _Delivery:
    """One delivery in thought."""

    def __init__(self, relay: EffectiveRelay, result: t.Optional[Result]) -> None:
        self._relay = relay
        self._result: Result = result or {}
        diagnosis = self._result.get("diagnosis") or {}
        self._code: str = diagnosis.get("code", "")
        self._stage: str = diagnosis.get("stage", "")
        self._encrypted = False
        self._matched = False
        self.because: t.List[str] = []

    def run(self) -> None:
        """Go through the steps of smtp(8) until one of them ends it."""
        self._start()
        self._reach()
        if self._relay.wrappermode:
            self._handshake()
            self._greeting()
        else:
            self._greeting()
            self._starttls()
        self._log_in()
        self._envelope()

    # -- before anything is sent ------------------------------------------------------------------------------------

    def _start(self) -> None:
        relay = self._relay
        if relay.crash:
            text = f"Every smtp(8) process would end with a fatal error, and all mail of this transport would wait: {relay.crash}."
            raise _End(CRASHES, None, text)
        if relay.way.transport in relay.parameters.names("defer_transports"):
            self._defer("4.3.2", f"transport {relay.way.transport} is in defer_transports")
        if not relay.host:
            self._end_without_relay()
        if relay.unclear:
            self.because += [f"not followed: {one}" for one in relay.unclear]
            raise _End(UNKNOWN, None, f"What Postfix would do is not known, because of {relay.unclear[0]}.")
        if not self._result:
            raise _End(UNKNOWN, None, "What Postfix would do is not known: the relay was not tested.")
        self.because.append(f"security level {relay.level}" + (f" from {relay.policy.decided_by}" if relay.policy else ""))

    def _end_without_relay(self) -> None:
        relay = self._relay
        command = relay.service.command if relay.service else ""
        self.because += [problem.text for problem in relay.problems]
        if command == "error":
            dsn = _ENHANCED.match(relay.way.nexthop)
            raise _End(BOUNCES, dsn.group() if dsn else "5.0.0", "Postfix would return the mail to its sender: its transport is error(8).")
        if command in ("retry", ""):
            raise _End(DEFERS, "4.3.0", "Postfix would keep the mail: it has no transport for it.")
        if command == "smtp":
            raise _End(UNKNOWN, None, "Postfix would deliver to the recipients' own servers; there is no relay to test.")
        raise _End(UNKNOWN, None, f"What Postfix would do is not known: {command}(8) uses no SMTP relay.")

    def _reach(self) -> None:
        relay = self._relay
        if relay.unresolvable or self._stage == "resolve":
            self._unresolved()
        if relay.policy is None:
            self._defer("4.7.5", f"its TLS settings can not be used: {relay.policy_error}")
        if relay.wrappermode and relay.level in tls_policy.OPPORTUNISTIC:
            self._defer("4.3.0", f"smtp_tls_wrappermode = yes at security level {relay.level} makes it skip every address of the relay")
        if self._stage == "connect":
            self._defer("4.4.1", f"it can not connect either: {self._summary()}")

    def _unresolved(self) -> None:
        relay = self._relay
        if not relay.unresolvable and self._code not in _LACKS_ADDRESS:
            self._defer("4.4.3", f"the name of the relay can not be looked up now: {self._summary()}")
        why = relay.unresolvable or self._summary()
        if relay.kept_without_address:
            self._defer("4.3.5", f"the relay has no address: {why}")
        raise _End(BOUNCES, _NO_ADDRESS, f"Postfix would return all mail to its senders at once, since the next hop is not in relayhost: {why}.")

    # -- TLS --------------------------------------------------------------------------------------------------------

    def _handshake(self) -> None:
        """The handshake of both modes, and what the certificate is good for."""
        relay = self._relay
        if relay.tls_files.error:
            raise _End(CRASHES, None, f"smtp(8) would crash with signal 11 for every mail: {relay.tls_files.error}.")
        if self._stage == "tls" and not _CERTIFICATE.match(self._code):
            if relay.level == tls_policy.MAY and not self._has_credential():
                self.because.append(f"the TLS handshake fails ({self._code}), and without a credential Postfix tries again in clear text")
                return
            self._defer("4.7.5", f"the TLS handshake fails: {self._summary()}")
        self._encrypted = True
        self._matched = self._is_matched()
        level = relay.level
        if level in (*tls_policy.BY_ISSUER, tls_policy.FINGERPRINT) and not self._matched:
            self._defer("4.7.5", f"the server's certificate is not verified: {self._summary()}")
        if self._code == "tls_dane_mismatch" or (level == tls_policy.DANE_ONLY and self._code.startswith("tls_dane")):
            self._defer("4.7.5", f"the server's certificate does not match its TLSA records: {self._summary()}")
        if self._stage == "tls":
            self.because.append(f"the certificate does not verify ({self._code}), which level {level} does not ask for")

    def _is_matched(self) -> bool:
        """Whether the certificate is from somebody who is trusted, valid, and for one of the names that Postfix accepts."""
        tls = self._result.get("tls") or {}
        if self._relay.level not in tls_policy.BY_ISSUER:
            return bool(tls.get("verified")) and self._relay.level not in tls_policy.OPPORTUNISTIC + (tls_policy.ENCRYPT,)
        trusted = tls.get("verified") or (self._code == "tls_name_mismatch" and (tls.get("days_left") or 0) >= 0)
        names = tls.get("names") or []
        return bool(trusted) and (not names or any(_is_for(name, names) for name in self._relay.accepted_names()))

    def _starttls(self) -> None:
        relay = self._relay
        offered = self._offers("before_tls", "STARTTLS")
        if relay.level == tls_policy.NONE:
            return
        if relay.level == tls_policy.MAY and relay.tls_files.error:
            self.because.append(f"its TLS engine is off, which level may puts up with: {relay.tls_files.error}")
            return
        if relay.level == tls_policy.MAY and (not offered or self._stage == "starttls"):
            what = f"STARTTLS fails ({self._summary()})" if offered else "the server does not offer STARTTLS"
            self.because.append(f"{what}, and level may goes on without")
            return
        if not offered and relay.level == tls_policy.DANE:
            raise _End(UNKNOWN, None, "What Postfix would do is not known: it demands TLS only if there are TLSA records.")
        if not offered:
            self._defer("4.7.4", "it demands TLS, and the server does not offer STARTTLS")
        if relay.tls_files.error:
            self._defer("4.7.5", f"it demands TLS, and its TLS engine is off: {relay.tls_files.error}")
        if self._stage == "starttls":
            self._refused(f"the server refuses STARTTLS: {self._summary()}")
        self._handshake()

    # -- the dialogue -----------------------------------------------------------------------------------------------

    def _greeting(self) -> None:
        if self._stage not in ("greeting", "ehlo"):
            return
        reply = self._last_reply()
        if reply is None:
            self._defer("4.4.2", f"the dialogue does not begin: {self._summary()}")
        code, dsn = reply
        if self._stage == "greeting" and code >= 500 and self._relay.parameters.get("smtp_skip_5xx_greeting") != "no":
            dsn = "4" + dsn[1:]
        raise _End(BOUNCES if dsn.startswith("5") else DEFERS, dsn, f"The server refuses to talk to Postfix: {self._summary()}")

    def _log_in(self) -> None:
        relay = self._relay
        capabilities = self._capabilities()
        if not relay.login_enabled and relay.logged_in_by:
            self.because.append(f"{relay.logged_in_by}, before it answers")
            raise _End(SENDS, None, f"Postfix would send by {relay.logged_in_by}.")
        if not relay.login_enabled:
            raise _End(SENDS_UNAUTHENTICATED, None, "Postfix would send WITHOUT logging in: smtp_sasl_auth_enable is no.")
        if capabilities is not None and not self._offers("after_tls" if self._encrypted else "before_tls", "AUTH"):
            text = "the server does not offer AUTH" if "auth" not in relay.discarded else "smtp_discard_ehlo_keywords makes it overlook AUTH"
            raise _End(SENDS_UNAUTHENTICATED, None, f"Postfix would send WITHOUT logging in, and without a warning: {text}.")
        if relay.lookup.error:
            self._defer("4.3.0", f"it can not read its credentials: {relay.lookup.error}")
        if relay.credential is None:
            text = f"no credential matches this next hop; {' and '.join(relay.lookup.keys)} were looked up"
            raise _End(SENDS_UNAUTHENTICATED, None, f"Postfix would send WITHOUT logging in: {text}.")
        self.because.append(f"credential of {relay.credential.table} for {relay.credential.key}")
        self._end_of_login(None if capabilities is None else self._mechanism(_mechanisms(capabilities)))

    def _mechanism(self, offered: t.Sequence[str]) -> str:
        """The mechanism that is used, of those that are offered."""
        found = self._relay.mechanisms
        if not found.after_filter(offered):
            self._defer("4.7.0", f"smtp_sasl_mechanism_filter leaves none of {', '.join(offered) or 'an empty list'}")
        others = found.without_password(offered)
        if others:
            text = f"the plug-in for {others[0]} is installed, is preferred to all others, and makes something else of the password"
            raise _End(UNKNOWN, None, f"What Postfix would do is not known: {text}.")
        options, name = found.options_with_tls, "smtp_sasl_tls_security_options"
        if not self._encrypted:
            options, name = found.options_in_clear, "smtp_sasl_security_options"
        elif self._matched:
            options, name = found.options_verified, "smtp_sasl_tls_verified_security_options"
        usable = found.usable(offered, options)
        if not usable:
            words = ", ".join(sorted(options)) or "empty"
            self._defer("4.7.0", f"no mechanism is left of {', '.join(offered)} with {name} = {words} and the plug-ins on this host")
        return usable[0]

    def _end_of_login(self, mechanism: t.Optional[str]) -> None:
        """What becomes of a login; returns where the relay accepts it."""
        auth = self._result.get("auth") or {}
        if not self._encrypted and mechanism in IN_CLEAR:
            raise _End(SENDS_PASSWORD_IN_CLEAR, None, f"Postfix would send the password in clear text, by AUTH {mechanism} without TLS.")
        if self._relay.credential and not self._relay.credential.password:
            soft = self._relay.parameters.get("smtp_sasl_auth_soft_bounce") != "no"
            text = f"the entry of {self._relay.credential.table} for {self._relay.credential.key} has no colon and no password"
            raise _End(DEFERS if soft else BOUNCES, None, f"Postfix would log in with an empty password, which no relay accepts: {text}.")
        if not auth.get("tried") and auth.get("code") is None:
            self.because.append("the login was not tried, because this test is stricter than Postfix")
            raise _End(SENDS, None, f"Postfix would log in{f' by {mechanism}' if mechanism else ''} and send, if the relay accepts the login.")
        code = auth.get("code")
        if code is None:
            self._defer("4.4.2", f"the connection ends during the login: {self._summary()}")
        if code == 235:
            return
        dsn = auth.get("enhanced_code") or f"{code // 100}.0.0"
        soft = code < 500 or self._relay.parameters.get("smtp_sasl_auth_soft_bounce") != "no"
        text = f"The relay refuses the login ({code} {auth.get('text') or ''})".rstrip()
        if soft:
            raise _End(DEFERS, "4" + dsn[1:], f"{text}, and Postfix would keep the mail and try again.")
        raise _End(BOUNCES, dsn, f"{text}, and Postfix would return the mail to its sender.")

    def _envelope(self) -> None:
        for name in ("sender", "recipient"):
            reply = self._result.get(name) or {}
            code = reply.get("code")
            if code is not None and code >= 400:
                dsn = reply.get("enhanced_code") or f"{code // 100}.0.0"
                what = "return the mail to its sender" if code >= 500 else "keep the mail and try again"
                raise _End(BOUNCES if code >= 500 else DEFERS, dsn, f"The relay accepts the login but not the {name}: Postfix would {what}.")
        if not self._result.get("ok"):
            raise _End(UNKNOWN, None, f"What Postfix would do is not known: {self._summary()}")
        raise _End(SENDS, None, "Postfix would log in and send.")

    # -- what was seen ----------------------------------------------------------------------------------------------

    def _defer(self, dsn: str, why: str) -> t.NoReturn:
        raise _End(DEFERS, dsn, f"Postfix would keep the mail ({dsn}): {why.rstrip('.')}.")

    def _refused(self, text: str) -> t.NoReturn:
        reply = self._last_reply()
        if reply is None:
            self._defer("4.4.2", text)
        raise _End(BOUNCES if reply[0] >= 500 else DEFERS, reply[1], f"Postfix would {'return' if reply[0] >= 500 else 'keep'} the mail: {text}")

    def _summary(self) -> str:
        return str((self._result.get("diagnosis") or {}).get("summary", "")).rstrip(".") or "the cause is not known"

    def _has_credential(self) -> bool:
        return self._relay.login_enabled and self._relay.credential is not None

    def _capabilities(self) -> t.Optional[t.List[str]]:
        """The lines of the last EHLO that Postfix would read; None where the test did not come that far."""
        lines = (self._result.get("capabilities") or {}).get("after_tls" if self._encrypted else "before_tls")
        return None if lines is None else [str(line) for line in lines]

    def _offers(self, when: str, keyword: str) -> bool:
        lines = (self._result.get("capabilities") or {}).get(when) or []
        return keyword.lower() not in self._relay.discarded and any(re.split(r"[ =]", line)[0].upper() == keyword for line in lines)

    def _last_reply(self) -> t.Optional[t.Tuple[int, str]]:
        """Code and status of the last reply in the dialogue; None if the server said nothing to refuse."""
        lines = [line[3:] for line in self._result.get("transcript") or [] if line.startswith("S: ")]
        match = re.match(r"([45]\d\d)[ -]([245]\.\d{1,3}\.\d{1,3})?", lines[-1]) if lines else None
        return (int(match.group(1)), match.group(2) or f"{match.group(1)[0]}.0.0") if match else None


def _mechanisms(lines: t.Sequence[str]) -> t.List[str]:
    """All that is offered; some servers write ``AUTH=`` as well."""
    found = [re.split(r"[ =]+", line) for line in lines]
    return list(dict.fromkeys(name.upper() for words in found if words[0].upper() == "AUTH" for name in words[1:]))


def _is_for(accepted: str, names: t.Sequence[str]) -> bool:
    """Whether a certificate with ``names`` is for a name, or for any name below one that starts with a dot."""
    if accepted.startswith("."):
        return any(name.lower().endswith(accepted.lower()) for name in names)
    return bool(names_that_match(accepted, names))
