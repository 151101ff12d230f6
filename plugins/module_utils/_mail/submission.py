# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is private to the collection and may change at any time.

"""Hands the marked message over, to the local mail server or to a relay, and learns the queue id from the reply."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import srv
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.client import Client
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay_login import EXTERNAL
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.route import FAMILIES
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.trust import Trust

# What follows the enhanced code in the final reply, and where the queue id stands in it.
_QUEUE_ID = (
    re.compile(r"queued as (?P<id>[\w.-]+)", re.IGNORECASE),  # Postfix
    re.compile(r"\bid=(?P<id>[\w-]+)"),  # Exim
    re.compile(r"(?P<id>\w+) Message accepted for delivery", re.IGNORECASE),  # OpenSMTPD, sendmail
    re.compile(r"OK +[0-9]+ (?P<id>[\w.-]+) - gsmtp", re.IGNORECASE),  # Gmail
)


class Route(t.NamedTuple):
    """Where the message is handed over, and how. With *srv*, the name of a service, SRV records of *host* tell server and port."""

    host: str
    port: int
    tls: str
    username: t.Optional[str] = None
    password: t.Optional[str] = None
    mechanism: str = "auto"
    trust: Trust = Trust()
    family: str = FAMILIES[0]
    srv: str = ""
    access_token: t.Optional[str] = None


class Submitted(t.NamedTuple):
    """The server took the message. `server` is the name it gave itself, `queue_id` None where its reply tells none."""

    reply: str
    queue_id: t.Optional[str]
    server: str


def submit(client: Client, route: Route, sender: str, recipient: str, content: bytes) -> Submitted:
    """Bring the message to the server that `client` was made for; raise SmtpError where it is not taken.

    A relay gets nothing before TLS is verified and, where the route has credentials, the login has succeeded.
    """
    if route.srv:
        srv.lead(client, route.srv)
    client.connect()
    greeting = client.greeting()
    client.ehlo()
    if route.tls == "starttls":
        client.starttls()
        client.ehlo()
    if route.username is not None or route.mechanism == EXTERNAL:
        client.authenticate(Credentials(route.username, route.password, route.access_token), route.mechanism)
    _expect(client, client.command(f"MAIL FROM:<{sender}>"), "MAIL FROM")
    _expect(client, client.command(f"RCPT TO:<{recipient}>"), "RCPT TO")
    reply = client.data(content)
    _expect(client, reply, "DATA")
    client.quit()
    return Submitted(str(reply), queue_id(reply.text), (greeting.text.split() or [""])[0])


def queue_id(text: str) -> t.Optional[str]:
    """The queue id in the text of a reply to the end of DATA."""
    for pattern in _QUEUE_ID:
        match = pattern.search(text)
        if match:
            return match.group("id")
    return None


def _expect(client: Client, reply: Reply, command: str) -> None:
    if reply.code // 100 != 2:
        raise SmtpError(Kind.REPLY, f"the server answered {command} with {reply}", stage=client.stage, reply=reply, command=command)
