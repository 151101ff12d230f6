# SPDX-License-Identifier: GPL-3.0-or-later
"""A device in the way of mail, for the system tests; runs on the provider, which redirects its ports of mail here.

    middlebox.py PORT BEHAVIOUR TARGET_PORT

*behaviour*: ``mask`` overwrites greeting and STARTTLS of the real server, as SMTP inspection does; ``terminate`` ends TLS with a
certificate of its own (in /run/middlebox) and passes the rest on; ``portal`` answers whatever it is asked with HTTP; ``tarpit`` says nothing.
Everything that clients say is kept in /run/middlebox/heard.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import sys
import threading

DIRECTORY = "/run/middlebox"
PORTAL = b"HTTP/1.1 302 Found\r\nLocation: https://portal.example.net/login\r\nConnection: close\r\n\r\n"


def mask(data: bytes) -> bytes:
    if data.startswith(b"220 ") and b"ESMTP" in data:
        return b"220 " + b"*" * (len(data) - 6) + b"\r\n"
    return re.sub(rb"(250[ -])STARTTLS", rb"\1XXXXXXXA", data)


def pump(source: socket.socket, sink: socket.socket, change, heard=None) -> None:
    try:
        while data := source.recv(65536):
            if heard is not None:
                heard.write(data)
                heard.flush()
            sink.sendall(change(data))
    except OSError:
        pass
    finally:
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def serve(client: socket.socket, behaviour: str, target: int, context: ssl.SSLContext | None, heard) -> None:
    try:
        if behaviour == "portal":
            client.recv(1)
            client.sendall(PORTAL)
            client.close()
        elif behaviour == "tarpit":
            pump(client, client, lambda _data: b"", heard)
        else:
            forward(client, behaviour, target, context, heard)
    except OSError:
        client.close()


def forward(client: socket.socket, behaviour: str, target: int, context: ssl.SSLContext | None, heard) -> None:
    if context is not None:
        client = context.wrap_socket(client, server_side=True)
    server = socket.create_connection(("127.0.0.1", target), 5)
    server.settimeout(None)
    if context is not None:
        server = ssl._create_unverified_context().wrap_socket(server)
    threading.Thread(target=pump, args=(server, client, mask if behaviour == "mask" else bytes), daemon=True).start()
    pump(client, server, bytes, heard)


def main() -> None:
    port, behaviour, target = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    context = None
    if behaviour == "terminate":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{DIRECTORY}/certificate.pem", f"{DIRECTORY}/key.pem")
    listener = socket.create_server(("", port))
    with open(f"{DIRECTORY}/heard", "ab") as heard:
        while True:
            client, _address = listener.accept()
            threading.Thread(target=serve, args=(client, behaviour, target, context, heard), daemon=True).start()


if __name__ == "__main__":
    main()
