# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""One relay as smtp(8) would use it, what of it can be told, and what of it can be tested."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import tls_policy
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import split_list
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.local_files import TlsFiles
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.routing import Way
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.sasl_lookup import Credential, Lookup, Mechanisms
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.settings import Parameters, Service
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.tls_policy import Policy
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.endpoint import UNSET, Endpoint
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay_login import PASSWORD_MECHANISMS
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.run_options import EHLO_NAME

_FINGERPRINT = re.compile(r"[0-9a-f]{2}(:?[0-9a-f]{2}){31}\Z", re.IGNORECASE)
_DIGEST = "sha256"


class Problem(t.NamedTuple):
    """Something that is wrong whatever the server does: a code of the catalogue of diagnoses, what was found, and the more
    particular code that the linter has for it."""

    code: str
    text: str
    lint: str


@dataclass
class EffectiveRelay:
    """A relay that a Postfix instance uses for some message.

    Without a ``host`` there is nothing to connect to: see ``problems``. ``unresolvable`` says
    why Postfix finds no address though this host does, ``discarded`` are EHLO keywords (in lower case) that it overlooks,
    ``logged_in_by`` is what logs in where Postfix itself does not, in words,
    and ``crash`` why every smtp(8) process of the
    service would end before it delivers anything. ``notes`` are remarkable, but no reason to fail. ``unclear`` are
    settings that were not followed, so that nothing can be said about what depends on them.
    """

    name: str
    way: Way
    service: t.Optional[Service]
    parameters: Parameters
    version: t.Tuple[int, int, int]
    chroot: bool = False
    destination: str = ""
    fallback: bool = False
    host: str = ""
    nexthop_host: str = ""
    port: int = 0
    policy: t.Optional[Policy] = None
    policy_error: str = ""
    tls_files: TlsFiles = TlsFiles()
    lookup: Lookup = Lookup(())
    mechanisms: Mechanisms = Mechanisms((), frozenset(), frozenset(), frozenset(), ())
    family: str = "any"
    source_address: t.Optional[str] = None
    unresolvable: str = ""
    discarded: t.FrozenSet[str] = frozenset()
    logged_in_by: str = ""
    crash: str = ""
    problems: t.List[Problem] = field(default_factory=list)
    notes: t.List[str] = field(default_factory=list)
    unclear: t.List[str] = field(default_factory=list)

    @property
    def wrappermode(self) -> bool:
        """Whether TLS begins with the first byte, without STARTTLS."""
        return self.parameters.flag("smtp_tls_wrappermode")

    @property
    def level(self) -> str:
        """The TLS security level, ``none`` where it is not known because of an error."""
        return self.policy.level if self.policy else tls_policy.NONE

    @property
    def login_enabled(self) -> bool:
        return self.parameters.flag("smtp_sasl_auth_enable")

    @property
    def login_wanted(self) -> bool:
        """Whether somebody meant Postfix to log in here; without it the relay may know this host by its address."""
        return self.login_enabled or self.credential is not None

    @property
    def kept_without_address(self) -> bool:
        """Whether Postfix keeps mail for a relay whose name has no address (4.3.5); it returns all other mail at once (5.4.4)."""
        return self.fallback or split_list(self.way.nexthop)[:1] == [self.parameters.get("relayhost")]

    @property
    def credential(self) -> t.Optional[Credential]:
        return self.lookup.credential

    @property
    def tls_mode(self) -> str:
        """How the test sets up TLS."""
        if self.wrappermode:
            return "implicit"
        return "none" if self.level == tls_policy.NONE else "starttls"

    def accepted_names(self) -> t.List[str]:
        """The names that the certificate may have; empty at levels that look at none."""
        return tls_policy.accepted_names(self.policy, self.host, self.nexthop_host) if self.policy else []

    def endpoint(self) -> t.Optional[Endpoint]:
        """What to test, with the password in it; None where there is nothing to connect to.

        The test stays stricter than Postfix: it always demands a certificate that verifies, and without TLS it gets no
        password at all.
        """
        if not self.host:
            return None
        wanted = self.login_enabled and self.tls_mode != "none" and self.vouched_for
        credential = self.credential if wanted and self._testable() else None
        return {
            **UNSET,
            "name": self.name,
            "host": self.host,
            "port": self.port,
            "tls": self.tls_mode,
            "username": credential.username if credential else None,
            "password": credential.password if credential else None,
            "mechanism": self._mechanism(),
            "family": self.family,
            "source_address": self.source_address,
            "ehlo_name": self._ehlo_name(),
            **(self._trust() if self.tls_mode != "none" else {"ca_file": None}),
        }

    def _ehlo_name(self) -> t.Optional[str]:
        name = self.parameters.get("smtp_helo_name")
        return name if EHLO_NAME.fullmatch(name) else None

    def _testable(self) -> bool:
        """Whether the credential is a user name and a password that can be sent unchanged."""
        credential = self.credential
        return bool(credential and credential.username and credential.password and "\ufffd" not in credential.username + credential.password)

    def _mechanism(self) -> str:
        """The one that a filter with a single name leaves; else the test takes the strongest, as Cyrus SASL does."""
        names = self.mechanisms.filter
        return names[0].lower() if len(names) == 1 and names[0].lower() in PASSWORD_MECHANISMS else "auto"

    def _trust(self) -> t.Dict[str, t.Any]:
        policy, files = self.policy, self.tls_files
        found: t.Dict[str, t.Any] = {
            "ca_file": files.ca_file if not files.error else None,
            "client_certificate": files.client_certificate if not files.error else None,
            "client_key": files.client_key if not files.error else None,
        }
        if policy is None:
            return found
        found["minimum_tls"] = tls_policy.minimum_version(policy.protocols)
        found["server_name"] = self._name_to_send() or self._name_to_check()
        found["dane"] = policy.level in (tls_policy.DANE, tls_policy.DANE_ONLY)
        if policy.level == tls_policy.FINGERPRINT:
            found["fingerprints"] = tuple(self.fingerprints())
        if policy.level in tls_policy.BY_ISSUER and not files.error:
            # Postfix trusts what it is told to trust, and nothing else.
            found["system_roots"] = files.system_roots
            found["ca_path"] = files.ca_path
        return found

    @property
    def vouched_for(self) -> bool:
        """Whether the settings say which server gets the password, and not only an MX or SRV record, which can be forged.

        At a level that looks at no names, whoever forges it has a certificate for the host that he named.
        """
        below = self.host == self.nexthop_host or self.host.endswith(f".{self.nexthop_host}")
        named = self._name_to_send() is not None or self._name_to_check() is not None
        return below or named or self.level == tls_policy.FINGERPRINT

    def _name_to_send(self) -> t.Optional[str]:
        """The name for TLS, None for the host itself: of smtp_tls_servername, which knows two placeholders (TLS_README)."""
        name = self.policy.server_name if self.policy else ""
        return {"": None, "hostname": None, "nexthop": self.nexthop_host}.get(name, name)

    def _name_to_check(self) -> t.Optional[str]:
        """None for the host itself, which is what the test looks for if nothing else is said."""
        names = self.accepted_names()
        if not names or any(name == self.host or (name.startswith(".") and self.host.endswith(name)) for name in names):
            return None
        return next((name for name in names if not name.startswith(".")), None)

    def fingerprints(self) -> t.Iterator[str]:
        """Those of the fingerprints that the test can compare, as it wants them."""
        if self.policy and self.parameters.get("smtp_tls_fingerprint_digest").lower() == _DIGEST:
            for text in self.policy.match:
                if _FINGERPRINT.match(text):
                    yield f"{_DIGEST}:{text.replace(':', '').lower()}"

    def facts(self) -> t.Dict[str, t.Any]:
        """What the modules return: everything but the password."""
        credential = self.credential
        return {
            "sender": self.way.sender,
            "recipient": self.way.recipient,
            "chosen_by": list(self.way.chosen_by),
            "transport": self.way.transport,
            "nexthop": self.destination or self.way.nexthop,
            "fallback": self.fallback,
            "host": self.host or None,
            "port": self.port or None,
            "chroot": self.chroot,
            "tls_level": self.policy.level if self.policy else None,
            "tls_level_from": self.policy.decided_by if self.policy else None,
            "tls_names": self.accepted_names(),
            "wrappermode": self.wrappermode,
            "ca_file": self.tls_files.ca_file,
            "ca_path": self.tls_files.ca_path,
            "login": self.login_enabled,
            "credential": {
                "found": credential is not None,
                "key": credential.key if credential else None,
                "by": credential.by if credential else None,
                "table": credential.table if credential else None,
                "username": credential.shown_username if credential else None,
                "keys_tried": list(self.lookup.keys),
                "similar_keys": list(self.lookup.near),
            },
            "mechanism_filter": list(self.mechanisms.filter),
            "security_options": sorted(self.mechanisms.options_with_tls),
            "helo_name": self.parameters.get("smtp_helo_name") or None,
            "family": self.family,
            "source_address": self.source_address,
            "problems": [{"code": problem.code, "text": problem.text} for problem in self.problems],
            "notes": list(self.notes),
            "not_followed": list(self.unclear),
        }
