# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The program that a host runs: ``serve`` is the service, ``fetch`` tries settings out before they are put in place."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
import threading
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._oauth import settings, stored_token, token_endpoint
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.proxy import Proxy
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.settings import OAuthError, RelaySettings
from ansible_collections.outpost.smtp.plugins.module_utils._oauth.token_keeper import TokenKeeper

STOP_WITHIN = 30.0
"""Seconds for messages that are under way when the service is stopped."""
#: Before a line on standard error, this is its priority in systemd's journal (sd-daemon(3)).
_ERROR = "<3>"


def main(arguments: t.Sequence[str]) -> int:
    """Return the exit status: 0, or 1 with the reason on standard error, which holds no secret."""
    parser = argparse.ArgumentParser(prog="outpost-smtp-oauth")
    parser.add_argument("action", choices=["serve", "fetch"])
    parser.add_argument("settings", help="the file with the settings; its owner is who the program runs as")
    parser.add_argument("directory", help="where tokens are kept")
    parser.add_argument("in_use", nargs="?", help="fetch only for relays that are not the same in this file")
    given = parser.parse_args(arguments)
    try:
        _become_owner(given.settings)
        relays = settings.read(given.settings)
        if given.action == "fetch":
            fetch([relay for relay in relays if relay not in _in_use(given.in_use)], given.directory)
        else:
            serve(relays, given.directory)
    except OAuthError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _in_use(path: t.Optional[str]) -> t.List[RelaySettings]:
    """The settings in place; none that can be relied on where their file is absent, damaged or readable by others."""
    try:
        return settings.read(path) if path else []
    except OAuthError:
        return []


def fetch(relays: t.Sequence[RelaySettings], directory: str) -> None:
    """Get a token for every relay. Raises OAuthError."""
    for relay in relays:
        try:
            TokenKeeper(relay, directory, _log).renew()
        except OAuthError as error:
            raise OAuthError(f"{relay.name}: {error}") from None


def serve(relays: t.Sequence[RelaySettings], directory: str) -> None:
    """Keep tokens and serve connections until SIGTERM. Raises OAuthError where it can not begin."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    stored_token.remove_others(directory, relays)
    keepers = [TokenKeeper(relay, directory, _log) for relay in relays]
    allowed = (0, os.geteuid())
    proxies = [Proxy(relay, keeper, allowed, _log) for relay, keeper in zip(relays, keepers)]
    renewing = [threading.Thread(target=keeper.run, args=(stop,), daemon=True) for keeper in keepers]
    for thread in [*renewing, *(threading.Thread(target=proxy.run, daemon=True) for proxy in proxies)]:
        thread.start()
    _notify("READY=1")
    stop.wait()
    for keeper in keepers:
        keeper.wake()
    for proxy in proxies:
        proxy.close(STOP_WITHIN / len(proxies))
    for thread in renewing:  # an endpoint that has exchanged the refresh token must be heard out
        thread.join(token_endpoint.DEADLINE)


def _become_owner(path: str) -> None:
    """Run as who owns a file. Raises OAuthError."""
    try:
        owner = os.stat(path)
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.setgroups([])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)
    except OSError as error:
        raise OAuthError(f"{path} can not be used: {error.strerror}") from None


def _log(text: str) -> None:
    sys.stderr.write(f"{_ERROR}{text}\n")
    sys.stderr.flush()


def _notify(state: str) -> None:
    """Tell systemd (sd_notify(3)); does nothing where it did not start us."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
