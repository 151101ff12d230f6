# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Where smtp(8) connects to: the forms of a next hop, and names of services as ports (transport(5), "RESULT FORMAT")."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.files import read_file
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.settings import Parameters

_NUMBER = re.compile(r"[0-9]{1,9}")


class NextHopError(ValueError):
    """A next hop that ends the smtp(8) process, for all mail that it has."""


class Destination(t.NamedTuple):
    """A next hop taken apart. ``text`` is how it is written, which is also a key of Postfix's tables.

    ``direct`` means that it stands in brackets, so that there is no MX lookup.
    """

    text: str
    host: str
    service: str
    direct: bool


def parse(text: str, default_service: str) -> Destination:
    """Take ``host``, ``host:service``, ``[host]`` or ``[host]:service`` apart. Raises NextHopError."""
    match = re.fullmatch(r"\[([^\]]*)\](?::(.*))?|([^\[\]:]*)(?::([^:]*))?", text)
    if match is None:
        raise NextHopError(f"{text!r} is no host and port")
    direct = text.startswith("[")
    host, service = (match.group(1), match.group(2)) if direct else (match.group(3), match.group(4))
    if host.lower().startswith("ipv6:"):
        host = host[len("ipv6:") :]
    if not host or service == "":
        raise NextHopError(f"{text!r} has no {'host' if not host else 'port'}")
    return Destination(text, host, service or default_service, direct)


def port_number(service: str, parameters: Parameters, root: str) -> int:
    """The port of a service: a number, one of ``known_tcp_ports`` (Postfix 3.6), or a name in ``etc/services``.

    ``root`` is the directory that smtp(8) has as its root: the queue directory in a chroot. Raises NextHopError.
    """
    number = _known_ports(parameters).get(service, service)
    if not _NUMBER.fullmatch(number):
        number = str(_services(root).get(number, ""))
    if not number:
        raise NextHopError(f"{service!r} is no known TCP service")
    if not 1 <= int(number) <= 65535:
        raise NextHopError(f"{service!r} is no TCP port")
    return int(number)


def _known_ports(parameters: Parameters) -> t.Dict[str, str]:
    """``submissions=smtps=465`` names one port by all names before the last ``=``."""
    known = {}
    for entry in parameters.get("known_tcp_ports").split(","):
        *names, port = (part.strip() for part in entry.split("="))
        known.update({name: port for name in names})
    return known


def _services(root: str) -> t.Dict[str, int]:
    """The TCP services of services(5), by name and alias."""
    try:
        content = read_file(os.path.join(root, "etc/services")) or b""
    except OSError:
        return {}
    found: t.Dict[str, int] = {}
    for line in content.decode("utf-8", "replace").split("\n"):
        words = line.partition("#")[0].split()
        if len(words) >= 2 and words[1].endswith("/tcp") and _NUMBER.fullmatch(words[1][:-4]):
            for name in [words[0], *words[2:]]:
                found.setdefault(name, int(words[1][:-4]))
    return found
