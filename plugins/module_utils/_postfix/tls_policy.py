# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""How much TLS smtp(8) demands of a destination (TLS_README, "Client TLS security levels"; postconf(5))."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import split_list
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.maps import MapError, Maps
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.settings import Parameters

NONE, MAY, ENCRYPT, DANE, DANE_ONLY = "none", "may", "encrypt", "dane", "dane-only"
FINGERPRINT, VERIFY, SECURE = "fingerprint", "verify", "secure"
LEVELS = (NONE, MAY, ENCRYPT, DANE, DANE_ONLY, FINGERPRINT, VERIFY, SECURE)
OPPORTUNISTIC = (NONE, MAY)
#: The levels at which the certificate's issuer and name count.
BY_ISSUER = (VERIFY, SECURE)

#: A name as smtp(8) takes it for a domain: anything else in ``smtp_tls_policy_maps`` is looked up as it is, and alone.
_HOSTNAME = re.compile(r"(?=.{1,255}\Z)(?!-)[\w-]{1,63}(?<!-)(\.(?!-)[\w-]{1,63}(?<!-))*\Z")
_KNOWN_ATTRIBUTES = (
    "ciphers",
    "protocols",
    "servername",
    "match",
    "exclude",
    "tafile",
    "connection_reuse",
    "enable_rpk",
    "policy_ttl",
    "policy_type",
    "policy_domain",
    "policy_string",
    "mx_host_pattern",
    "policy_failure",
)


class PolicyError(Exception):
    """A policy that smtp(8) can not use: it defers the mail with 4.7.5."""


class Policy(t.NamedTuple):
    """``decided_by`` is the parameter that set the level. ``match`` are the names (or fingerprints) to accept, with the
    placeholders ``hostname``, ``nexthop`` and ``dot-nexthop``."""

    level: str
    decided_by: str
    match: t.Tuple[str, ...]
    server_name: str
    protocols: str
    trust_anchors: t.Tuple[str, ...]


def global_level(parameters: Parameters) -> t.Tuple[str, str]:
    """The level where no table says otherwise, and the parameter it comes from. Raises PolicyError.

    An invalid one ends every smtp(8) process.
    """
    level = parameters.get("smtp_tls_security_level").lower()
    if level:
        if level not in LEVELS:
            raise PolicyError(f"smtp_tls_security_level = {level} is no security level")
        return level, "smtp_tls_security_level"
    if parameters.flag("smtp_enforce_tls"):
        return (VERIFY if parameters.flag("smtp_tls_enforce_peername") else ENCRYPT), "smtp_enforce_tls"
    if parameters.flag("smtp_use_tls"):
        return MAY, "smtp_use_tls"
    return NONE, "smtp_tls_security_level"


def engine_is_wanted(parameters: Parameters) -> bool:
    """Whether smtp(8) sets up TLS at all when it starts. Raises PolicyError."""
    return global_level(parameters)[0] != NONE or bool(parameters.get("smtp_tls_policy_maps") or parameters.get("smtp_tls_per_site"))


def policy_for(destination: str, parameters: Parameters, maps: Maps) -> Policy:
    """The policy for a next hop as it is written. Raises PolicyError."""
    level, decided_by = global_level(parameters)
    attributes: t.Dict[str, t.List[str]] = {}
    entry = _table_entry(destination, parameters, maps)
    if entry is not None:
        level, attributes = _parse(entry)
        decided_by = "smtp_tls_policy_maps"
    server_name = attributes.get("servername", [parameters.get("smtp_tls_servername")])[0]
    if server_name and not _HOSTNAME.match(server_name):
        raise PolicyError(f"{server_name!r} is no host name to send as TLS server name")
    mandatory = "smtp_tls_protocols" if level in OPPORTUNISTIC else "smtp_tls_mandatory_protocols"
    protocols = attributes.get("protocols", [parameters.get(mandatory)])[0]
    anchors = attributes.get("tafile") or (parameters.names("smtp_tls_trust_anchor_file") if level in BY_ISSUER else [])
    match = _match(level, attributes.get("match"), parameters)
    return _after_dane(Policy(level, decided_by, tuple(match), server_name, protocols, tuple(anchors)), parameters)


def _table_entry(destination: str, parameters: Parameters, maps: Maps) -> t.Optional[str]:
    """What ``smtp_tls_policy_maps`` says: for a plain domain also with the domains above it, which are written ``.domain``."""
    tables = parameters.get("smtp_tls_policy_maps")
    if not tables:
        return None
    keys = [destination]
    if _HOSTNAME.match(destination):
        labels = destination.split(".")
        keys += ["." + ".".join(labels[index:]) for index in range(1, len(labels))]
    try:
        found = maps.find(tables, keys)
    except MapError as error:
        raise PolicyError(f"the table of smtp_tls_policy_maps can not be read: {error}") from None
    return found.value if found else None


def _parse(entry: str) -> t.Tuple[str, t.Dict[str, t.List[str]]]:
    words = split_list(entry)
    if not words or words[0].lower() not in LEVELS:
        raise PolicyError(f"smtp_tls_policy_maps has {words[0] if words else 'nothing'!r} where the security level belongs")
    attributes: t.Dict[str, t.List[str]] = {}
    level = words[0].lower()
    for word in words[1:] if level != NONE else []:
        name, equals, value = word.strip("{}").partition("=")
        name = name.strip().lower()
        if not equals or name not in _KNOWN_ATTRIBUTES:
            raise PolicyError(f"smtp_tls_policy_maps has {word!r}, which is no attribute of a policy")
        attributes.setdefault(name, []).append(value.strip())
    if "match" in attributes and level not in (FINGERPRINT, *BY_ISSUER):
        raise PolicyError(f"smtp_tls_policy_maps has 'match', which has no meaning at level {level}")
    return level, attributes


def _match(level: str, given: t.Optional[t.Sequence[str]], parameters: Parameters) -> t.List[str]:
    if level == FINGERPRINT:
        found = [one for text in given for one in text.split("|")] if given else parameters.names("smtp_tls_fingerprint_cert_match")
        if not found:
            raise PolicyError("level fingerprint is set without a fingerprint")
        return found
    if level not in BY_ISSUER:
        return []
    name = "smtp_tls_verify_cert_match" if level == VERIFY else "smtp_tls_secure_cert_match"
    texts = given or [parameters.get(name)]
    return [one for text in texts for one in re.split(r"[:,\s]+", text) if one]


def _after_dane(policy: Policy, parameters: Parameters) -> Policy:
    """DANE needs DNSSEC; without it ``dane`` is no more than ``may``, and ``dane-only`` defers."""
    if policy.level not in (DANE, DANE_ONLY):
        return policy
    if parameters.get("smtp_dns_support_level").lower() == "dnssec" and "dns" in parameters.names("smtp_host_lookup"):
        return policy
    if policy.level == DANE_ONLY:
        raise PolicyError("level dane-only is set without smtp_dns_support_level = dnssec")
    return policy._replace(level=MAY)


def accepted_names(policy: Policy, host: str, nexthop: str) -> t.List[str]:
    """The names that a certificate may have at this policy; one that starts with a dot stands for all names below it."""
    placeholders = {"hostname": host, "nexthop": nexthop, "dot-nexthop": f".{nexthop}"}
    return [placeholders.get(name, name) for name in policy.match]


def minimum_version(protocols: str) -> str:
    """The lowest of TLS 1.2 and 1.3 that is left by a list such as ``!TLSv1, !TLSv1.2`` or ``>=TLSv1.3``."""
    words = [word.lower() for word in re.split(r"[,:\s]+", protocols) if word]
    only = [word for word in words if not word.startswith(("!", ">=", "<="))]
    if "!tlsv1.2" in words or ">=tlsv1.3" in words or (only and "tlsv1.2" not in only and "tlsv1.3" in only):
        return "1.3"
    return "1.2"
