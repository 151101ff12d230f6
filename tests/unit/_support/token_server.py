# SPDX-License-Identifier: GPL-3.0-or-later
"""A token endpoint of OAuth 2.0 on loopback, which answers as a test wants."""

from __future__ import annotations

import json
import ssl
import typing as t
import urllib.parse

from smtp_server import Peer, Server

TOKEN = "eyJhbGciOi." + "A-b_c~+/" * 200 + "=="


class TokenServer(Server):
    """An HTTPS server: keeps the forms that it gets and answers with ``status`` and ``body``, or does what ``handler`` does."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(self._answer)
        self._context = context
        self.forms: t.List[t.Dict[str, str]] = []
        self.status = "200 OK"
        self.headers = ""
        self.body: t.Any = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}
        self.handler: t.Optional[t.Callable[[Peer], None]] = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/token?tenant=x"

    def _answer(self, peer: Peer) -> None:
        peer.start_tls(self._context)
        head = [peer.response()]
        while head[-1]:
            head.append(peer.response())
        length = next(int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length:"))
        self.forms.append(dict(urllib.parse.parse_qsl(peer.exactly(length).decode())))
        if self.handler:
            self.handler(peer)
            return
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        peer.send_raw(f"HTTP/1.1 {self.status}\r\nContent-Length: {len(body)}\r\n{self.headers}\r\n".encode() + body)
