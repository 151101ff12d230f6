# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what was seen to a code of the catalogue. Nothing is guessed: what no rule fits is ``unknown``.

The rules are data, and docs/diagnoses.md is made from them: the docstring of a condition says there what it asks.
"""

from __future__ import annotations

import errno
import re
import socket
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis import recognise_reply, recognise_tls
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings import alternatives


class SeenRule(t.NamedTuple):
    """Fits a failure of this *kind* (any if empty), at one of *stages* (any if empty), where *condition* holds."""

    diagnosis: str
    kind: str = ""
    stages: t.Tuple[str, ...] = ()
    condition: t.Optional[t.Callable[[Observation], bool]] = None

    def fits(self, seen: Observation) -> bool:
        error = seen.failure
        return (
            (not self.kind or error.kind == self.kind)
            and (not self.stages or error.stage in self.stages)
            and (self.condition is None or self.condition(seen))
        )


RESOLVE_CODES = {
    socket.EAI_NONAME: "dns_nxdomain",
    socket.EAI_NODATA: "dns_no_address",
    socket.EAI_AGAIN: "dns_temporary",
    None: "dns_timeout",
}
"""By the error of getaddrinfo(3); None is no answer in time. Any other is ``dns_failed``."""

# In the order in which they say most about the cause where addresses differ: what this server itself forbids comes
# first, and no route last, since it is what every IPv6 address gives on a host without IPv6.
CONNECT_CODES = {
    "not_permitted": "tcp_eperm",
    "access_denied": "tcp_eacces",
    "refused": "tcp_refused",
    "reset": "tcp_reset_after_accept",  # a reset that answers the SYN is "refused", so the connection had been accepted
    "host_unreachable": "tcp_host_unreachable",
    "timeout": "tcp_timeout",
    "no_source_address": "tcp_eaddrnotavail",
    "net_unreachable": "tcp_net_unreachable",
}
"""By the outcome of any address. With none of these it is ``tcp_failed``."""

KIND_CODES = {
    Kind.CA_FILE: "cfg_ca_file",
    Kind.CLIENT_CERTIFICATE: "cfg_client_certificate",
    Kind.CREDENTIALS: "cfg_credentials",
    Kind.INJECTION: "starttls_injection",
    Kind.LINE_TOO_LONG: "line_too_long",
    Kind.REPLY_TOO_LARGE: "reply_too_large",
    Kind.NOT_TLS: "tls_not_tls",
    Kind.FINGERPRINT: "tls_fingerprint_mismatch",
    Kind.NO_MECHANISM: "cap_no_common_mech",
    Kind.CHALLENGE: "auth_unexpected_challenge",
    Kind.SERVER_SIGNATURE: "auth_server_signature",
    Kind.UNPROTECTED: "auth_unprotected",
    Kind.INTERNAL: "internal_error",
}
"""Kinds that are a diagnosis by themselves."""

REASON_CODES = {
    (Kind.RESOLVE, "family"): "dns_no_address_of_family",
    (Kind.NO_MECHANISM, "unusable"): "auth_mech_unusable",
    (Kind.PROXY, "unreachable"): "proxy_unreachable",
    (Kind.PROXY, "auth"): "proxy_auth",
    (Kind.PROXY, "refused"): "proxy_refused",
    (Kind.PROXY, "protocol"): "proxy_protocol",
    (Kind.DANE, "mismatch"): "tls_dane_mismatch",
    (Kind.DANE, "unusable"): "tls_dane_unusable",
    (Kind.TOKEN, "expired"): "oauth_token_expired",
    (Kind.TOKEN, "not_yet_valid"): "oauth_token_not_yet_valid",
}
"""Kinds whose reason tells."""


def recognise(seen: Observation) -> str:
    """The code of the diagnosis that fits what was seen."""
    error = seen.failure
    code = next((rule.diagnosis for rule in SEEN_RULES if rule.fits(seen)), None)
    code = code or REASON_CODES.get((error.kind, error.reason)) or KIND_CODES.get(error.kind)
    if code is None and error.kind in _LOOK_UP:
        code = _LOOK_UP[error.kind](seen)
    return code or "unknown"


def _resolve(seen: Observation) -> str:
    return RESOLVE_CODES.get(seen.failure.errno, "dns_failed")


def _connect(seen: Observation) -> str:
    outcomes = {attempt.outcome for attempt in seen.attempts}
    return next((code for outcome, code in CONNECT_CODES.items() if outcome in outcomes), "tcp_failed")


_LOOK_UP: dict[str, t.Callable[[Observation], str]] = {
    Kind.RESOLVE: _resolve,
    Kind.CONNECT: _connect,
    Kind.TLS: recognise_tls.recognise,
    Kind.REPLY: recognise_reply.recognise,
}

# -- conditions ------------------------------------------------------------------------------------------------------------

_MASKED = re.compile(r"\*{4,}|X{8,}")
_HTTP = re.compile(r"HTTP/|<(!doctype|html|\?xml)", re.IGNORECASE)
_RESET = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.ECONNABORTED)


def _verdict(seen: Observation) -> str:
    return seen.interception.verdict if seen.interception else ""


def _speaks_the_other_mode(seen: Observation) -> bool:
    """a second look found that the port speaks the other TLS mode"""
    return bool(seen.found)


def _portal_answers(seen: Observation) -> bool:
    """the verdict is captive_portal: HTTP is the answer on a port of mail"""
    return _verdict(seen) == "captive_portal"


def _own_firewall_blocks(seen: Observation) -> bool:
    """a rule of this server's own firewall counted or answered the attempt"""
    return bool(seen.blocked_by)


def _silent_on_this_port_only(seen: Observation) -> bool:
    """no address answers on this port, while another port of the host does (443 is tried, too)"""
    return alternatives.dropped(seen) and bool(alternatives.answering_ports(seen))


def _is_tarpit(seen: Observation) -> bool:
    """the verdict is tarpit: all ports that connect are silent, or the greeting drips without end"""
    return _verdict(seen) == "tarpit"


def _nothing_came(seen: Observation) -> bool:
    """not one byte came"""
    return not seen.failure.sample


def _was_reset(seen: Observation) -> bool:
    """the error is ECONNRESET or its like"""
    return seen.failure.errno in _RESET


def _begins_like_http(seen: Observation) -> bool:
    """what came begins like HTTP or HTML"""
    return _HTTP.match(seen.failure.sample) is not None


def _says_421(seen: Observation) -> bool:
    """it is a 421"""
    return seen.failure.reply is not None and seen.failure.reply.code == 421


def _starttls_is_overwritten(seen: Observation) -> bool:
    """the offer has XXXXXXXA, asterisks or the like in its place"""
    return seen.before_tls is not None and bool(seen.before_tls.starttls_masked)


def _greeting_is_overwritten(seen: Observation) -> bool:
    """the greeting consists of asterisks or XXXX"""
    return seen.greeting is not None and _MASKED.search(seen.greeting.text) is not None


def _crippled(seen: Observation) -> bool:
    """the greeting consists of asterisks or XXXX, and the command is refused by a 5xx"""
    reply = seen.failure.reply
    return _greeting_is_overwritten(seen) and reply is not None and reply.code >= 500


def _starttls_was_removed(seen: Observation) -> bool:
    """the verdict is stripped: the same host, or this provider anywhere, offers it"""
    return _verdict(seen) == "stripped"


def _without_tls(seen: Observation) -> bool:
    """the connection has no TLS"""
    return seen.after_tls is None


def _auth_was_offered_before(seen: Observation) -> bool:
    """AUTH was offered before TLS"""
    return seen.before_tls is not None and "AUTH" in seen.before_tls


# Particular before general.
SEEN_RULES: tuple[SeenRule, ...] = (
    SeenRule("tls_wrong_mode", condition=_speaks_the_other_mode),
    SeenRule("greet_captive", condition=_portal_answers),
    SeenRule("egress_blocked_local", Kind.CONNECT, condition=_own_firewall_blocks),
    SeenRule("egress_blocked_upstream", Kind.CONNECT, condition=_silent_on_this_port_only),
    SeenRule("greet_tarpit", Kind.TIMEOUT, ("greeting",), _is_tarpit),
    SeenRule("greet_timeout", Kind.TIMEOUT, ("greeting",), _nothing_came),
    SeenRule("tls_handshake_timeout", Kind.TIMEOUT, ("tls",)),
    SeenRule("deadline_exceeded", Kind.TIMEOUT),
    SeenRule("greet_closed", Kind.CLOSED, ("greeting",)),
    SeenRule("tls_eof", Kind.CLOSED, ("tls",)),
    SeenRule("auth_dropped", Kind.CLOSED, ("auth",)),
    SeenRule("connection_closed", Kind.CLOSED),
    SeenRule("tcp_reset_after_accept", Kind.OS_ERROR, ("greeting",), _was_reset),
    SeenRule("tls_reset", Kind.OS_ERROR, ("tls",), _was_reset),
    SeenRule("auth_dropped", Kind.OS_ERROR, ("auth",), _was_reset),
    SeenRule("connection_reset", Kind.OS_ERROR, (), _was_reset),
    SeenRule("greet_not_smtp_http", Kind.MALFORMED, ("greeting",), _begins_like_http),
    SeenRule("greet_not_smtp_other", Kind.MALFORMED, ("greeting",)),
    SeenRule("reply_malformed", Kind.MALFORMED),
    SeenRule("service_closing", Kind.UNSOLICITED, (), _says_421),
    SeenRule("reply_unsolicited", Kind.UNSOLICITED),
    SeenRule("cap_starttls_stripped", Kind.NO_STARTTLS, (), _starttls_is_overwritten),
    SeenRule("greet_masked", Kind.NO_STARTTLS, (), _greeting_is_overwritten),
    SeenRule("greet_masked", Kind.REPLY, ("ehlo", "starttls"), _crippled),
    SeenRule("cap_starttls_stripped", Kind.NO_STARTTLS, (), _starttls_was_removed),
    SeenRule("cap_starttls_absent", Kind.NO_STARTTLS),
    SeenRule("cap_auth_absent_plain", Kind.NO_AUTH, (), _without_tls),
    SeenRule("cap_auth_only_in_clear", Kind.NO_AUTH, (), _auth_was_offered_before),
    SeenRule("cap_auth_absent_after_tls", Kind.NO_AUTH),
)
