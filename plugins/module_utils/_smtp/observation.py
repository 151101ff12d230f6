# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that was seen of one endpoint; what recognises causes reads it, what looks further adds to it."""

from __future__ import annotations

import datetime
import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.connect import Attempt
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.ehlo import Capabilities
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import SmtpError
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.surroundings.refusal import Refusal
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.chain import Explanation
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.session import Session
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.x509 import Certificate


class Alternative(t.NamedTuple):
    """Another way that was tried without credentials: port and TLS mode, how it went, whether a login is offered there."""

    port: int
    tls: str
    works: bool
    outcome: str
    """``works``, or what was seen instead, in a few words."""
    address: str = ""
    elapsed_ms: t.Optional[int] = None


class Interception(t.NamedTuple):
    """*verdict*: ``clean``, ``stripped``, ``terminated_by_proxy``, ``captive_portal``, ``tarpit``, ``filtered``, ``rejected`` or ``unknown``."""

    verdict: str
    evidence: t.Tuple[str, ...] = ()


class Observation:
    """What was seen of one endpoint, up to its failure if *error* is set.

    Not a dataclass: that would import inspect, ast and dis, which takes a tenth of the time of a whole login.
    """

    host: str
    port: int
    mode: str
    wanted: str
    server_name: str = ""
    """The name that the certificate has to be for, if it is not ``host``."""
    tls_wanted: str = "TLS 1.2 or later"
    """The versions of TLS that were offered to it (see Trust.wanted_tls)."""
    error: SmtpError | None = None
    attempts: t.Sequence[Attempt] = ()
    peer: str = ""
    """The address that the dialogue was held with; empty if there was none."""
    greeting: Reply | None = None
    before_tls: Capabilities | None = None
    after_tls: Capabilities | None = None
    mechanism: str | None = None
    logins: int = 0
    """How many AUTH commands were sent."""
    token: dict[str, t.Any] | None = None
    """What the access token says of itself, as oauth_token.inspect() returns it."""
    complaints: list[tuple[str, str]]
    """What is wrong with the access token, as oauth_token.complaints() returns it."""
    session: Session | None = None
    certificate: Certificate | None = None
    chain: t.Sequence[Certificate] = ()
    """The certificates that the server sent, its own first; *certificate* is that one."""
    explanation: Explanation | None = None
    """Why they lead to no trusted root; None where that is not what failed."""
    provider: str = ""
    """Identifier of the provider, by providers.recognise(); empty if it is none that is known."""
    elapsed_ms: dict[str, int]
    """Milliseconds by stage, as far as it came."""
    found: str = ""
    """What the endpoint speaks instead of what was configured, in words; empty if nothing else was found."""
    alternatives: list[Alternative]
    interception: Interception | None = None
    blocked_by: list[str]
    """Rules of this host's own firewall that stop the connection, each in words; empty if none was found."""
    refusals: list[Refusal]
    """Who answered a connection with an error; empty if none did, or the kernel does not tell."""
    web: str = ""
    """What came of a TCP connection to port 443 of the host (``connected``, ``refused``, ...); empty if none was tried."""
    notes: list[str]
    now: datetime.datetime

    def __init__(self, host: str, port: int, mode: str, wanted: str = "auto", **others: t.Any) -> None:
        """*others* are any of the attributes."""
        self.host, self.port, self.mode, self.wanted = host, port, mode, wanted
        self.complaints = []
        self.elapsed_ms = {}
        self.alternatives = []
        self.blocked_by = []
        self.refusals = []
        self.notes = []
        self.now = datetime.datetime.now(datetime.timezone.utc)
        for name, value in others.items():
            if name not in Observation.__annotations__:
                raise TypeError(f"an observation has no {name!r}")
            setattr(self, name, value)

    @property
    def failure(self) -> SmtpError:
        """The error, for those who are only asked when there is one."""
        if self.error is None:
            raise ValueError("nothing failed")
        return self.error
