# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Name resolution that ends at a deadline: getaddrinfo(3) itself can not be interrupted."""

from __future__ import annotations

import ipaddress
import socket
import threading
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import printable

MAX_ADDRESSES = 200
"""Addresses of one name that are kept, the first ones; more are made up."""

_METADATA = tuple(ipaddress.ip_address(address) for address in ("169.254.169.254", "fd00:ec2::254"))
"""Where clouds serve credentials to the machines in them."""


class Address(t.NamedTuple):
    """One address of a host, as connect(2) takes it."""

    family: int
    sockaddr: tuple[t.Any, ...]

    @property
    def host(self) -> str:
        return str(self.sockaddr[0])

    @property
    def family_name(self) -> str:
        return _FAMILY_NAMES[self.family]

    def at_port(self, port: int) -> Address:
        """The same address with another port."""
        return Address(self.family, (self.sockaddr[0], port, *self.sockaddr[2:]))


_FAMILY_NAMES: dict[int, str] = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}
_FAMILY_LABELS: dict[int, str] = {socket.AF_INET: "IPv4 address", socket.AF_INET6: "IPv6 address"}

_Answer = t.Union[t.List[t.Any], Exception]


def resolve(host: str, port: int, deadline: Deadline, family: int = socket.AF_UNSPEC) -> list[Address]:
    """All addresses of *host* in the order the system prefers (RFC 6724), or those of one *family*.

    Raises :class:`SmtpError` (``resolve``), which says so if there are addresses of another family only.

    The look-up runs in a daemon thread, so a resolver that hangs delays neither this call nor the end of the process.
    """
    answers: list[_Answer] = []
    thread = threading.Thread(target=_look_up, args=(host, port, answers), daemon=True)
    thread.start()
    thread.join(deadline.remaining())
    if not answers:
        raise SmtpError(Kind.RESOLVE, f"no answer from the resolver about {host}", stage="resolve")
    answer = answers[0]
    if isinstance(answer, socket.gaierror):
        raise SmtpError(Kind.RESOLVE, f"{host}: {printable(str(answer.strerror))}", stage="resolve", errno=answer.errno) from answer
    if isinstance(answer, UnicodeError):
        # It is not ASCII; names of other scripts are used in their xn-- form.
        raise SmtpError(Kind.RESOLVE, f"{host} is not a valid host name", stage="resolve", errno=socket.EAI_NONAME) from answer
    if isinstance(answer, Exception):
        raise answer
    addresses = [Address(entry[0], entry[4]) for entry in answer if entry[0] in _FAMILY_NAMES][:MAX_ADDRESSES]
    usable = [address for address in addresses if family in (address.family, socket.AF_UNSPEC)]
    if not usable:
        what, reason = (f"{_FAMILY_LABELS[family]}, only {addresses[0].host}", "family") if addresses else ("IP address", "")
        raise SmtpError(Kind.RESOLVE, f"{host} has no {what}", stage="resolve", errno=socket.EAI_NODATA, reason=reason)
    return usable


def warnings(host: str, addresses: t.Iterable[Address]) -> list[str]:
    """What is odd about the addresses that the name *host* resolves to. Nothing is, if *host* is an address itself.

    A name that leads to this host or to its cloud's metadata service is a mistake in /etc/hosts or somebody's attempt to
    have the password sent there.
    """
    if is_address(host):
        return []
    kinds = ((address.host, _oddity(address.host)) for address in addresses)
    return [f"{host} resolves to {address}, which is {kind}" for address, kind in kinds if kind]


def is_address(host: str) -> bool:
    """Whether *host* is an IP address, bracketed or with a scope too, and no name."""
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True


def _oddity(host: str) -> str:
    address = ipaddress.ip_address(host.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    if address in _METADATA:
        return "the metadata service of a cloud"
    if address.is_loopback:
        return "this host itself (loopback)"
    if address.is_unspecified:
        return "no address of any host (unspecified)"
    return "link-local, so of no host beyond this network" if address.is_link_local else ""


def _look_up(host: str, port: int, answers: list[_Answer]) -> None:
    try:
        # As bytes, since host names are ASCII here: for text, Python imports what it needs for IDN, which takes a millisecond.
        answers.append(socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM))
    except Exception as exc:  # handed over whole: it is raised again in the thread that asked
        answers.append(exc)
