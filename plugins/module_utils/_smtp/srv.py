# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The submission server of a domain, by its SRV records (RFC 6186, RFC 8314 section 5.1)."""

from __future__ import annotations

import socket
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import dns
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust

if t.TYPE_CHECKING:
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client


def lead(client: Client, service: str) -> None:
    """Give *client*, whose host is a domain, the best server of *service* in it. Raises :class:`SmtpError` (``resolve``)."""
    client.stage = "resolve"
    domain = client.host
    client.host, client.port = servers(domain, service, client.deadline)[0]
    client.trust = trust_of(client.trust, domain, client.host)


def servers(domain: str, service: str, deadline: Deadline) -> t.List[t.Tuple[str, int]]:
    """The servers of *service* in a domain as host and port, best first. Raises :class:`SmtpError` (``resolve``) where there are none."""
    # RFC 2782: a target that is the root alone says that the domain has no such service.
    found = [(host, port) for _priority, _weight, port, host in dns.srv(service, domain, deadline) if host not in ("", ".")]
    if not found:
        text = f"there is no SRV record _{service}._tcp.{domain} that names a server"
        raise SmtpError(Kind.RESOLVE, text, stage="resolve", errno=socket.EAI_NONAME)
    return found


def trust_of(trust: Trust, domain: str, host: str) -> Trust:
    """What makes *host* trusted if SRV records of *domain* named it.

    Whoever forges the records names a host that they have a certificate for. So the certificate must be for
    the domain, unless the host is in it (RFC 6186 section 6).
    """
    if trust.server_name is not None or host == domain or host.endswith(f".{domain}"):
        return trust
    return trust._replace(server_name=domain)
