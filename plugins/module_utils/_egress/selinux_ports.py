# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""SELinux: a relay's port that the policy of the host keeps Postfix from gets the label of a mail port.

As distributions ship it, the policy lets postfix_smtp_t connect to every port, and then nothing is labelled: a label would
let others out as well. So the kernel is asked first; it answers for the policy that is loaded, booleans included.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import files, nft
from ansible_collections.outpost.smtp.plugins.module_utils._egress.change import Change
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError

#: The ports that have got their label from us.
PATH = "/var/lib/outpost-smtp/selinux-ports"

_SELINUX = "/sys/fs/selinux"
_DOMAIN, _MAIL_PORT = "postfix_smtp_t", "smtp_port_t"
#: Ports that every policy has as mail ports.
_STANDARD = frozenset({25, 465, 587})
#: What ports are called that nobody claims, in the reference policy (corenetwork.te).
_UNCLAIMED = {"reserved_port_t": range(1, 512), "hi_reserved_port_t": range(512, 1024), "ephemeral_port_t": range(32768, 61001)}
_OTHERS = "unreserved_port_t"
UNCLAIMED = frozenset({*_UNCLAIMED, _OTHERS})
#: A flag of the kernel's answer: this domain is only logged, and let do all.
_PERMISSIVE = 1

#: Whether Postfix may connect to ports of a type; None where the policy knows no such type, or no Postfix.
Allowed = t.Callable[[str], t.Optional[bool]]


def missing(ports: t.Iterable[int], run: nft.Run, root: str = "", allowed: t.Optional[Allowed] = None) -> t.List[int]:
    """The ports that need the label. Raises :class:`EgressError` for one that Postfix is kept from and that can not be given it."""
    allowed = allowed or (lambda kind: _allowed(kind, root))
    if (files.read(f"{root}{_SELINUX}/enforce") or "0").strip() != "1":
        return []
    kept = [port for port in sorted(set(ports) - _STANDARD) if allowed(_unclaimed(port)) is False]
    claimed = _claimed(run, kept) if kept else {}
    return [port for port in kept if _lacks(port, claimed.get(port), allowed)]


def label(ports: t.Sequence[int], run: nft.Run, root: str = "") -> None:
    """Give the ports their label, and remember it."""
    if ports:
        files.write(root + PATH, "".join(f"{port}\n" for port in sorted({*labelled(root), *ports})))
    for port in ports:
        _semanage(run, port, "-a", "-t", _MAIL_PORT, "-p", "tcp", str(port))


def unlabel(run: nft.Run, root: str = "") -> None:
    """Take the label from the ports that have it from us. One that has lost it already needs nothing."""
    ports = labelled(root)
    claimed = _claimed(run, ports) if ports else {}
    for port in ports:
        if claimed.get(port) == _MAIL_PORT:
            _semanage(run, port, "-d", "-p", "tcp", str(port))
    files.remove(root + PATH)


def labelled(root: str = "") -> t.List[int]:
    return [int(line) for line in (files.read(root + PATH) or "").split() if line.isdigit()]


def changes(ports: t.Iterable[int], *, gone: bool = False) -> t.List[Change]:
    """For people: that these ports get the label, or lose it."""
    shown = ("", f"{_MAIL_PORT}\n")
    return [Change(f"SELinux label of TCP port {port}", *(shown[::-1] if gone else shown)) for port in ports]


def _lacks(port: int, owner: t.Optional[str], allowed: Allowed) -> bool:
    if owner is None and allowed(_MAIL_PORT):
        return True
    if owner is not None and allowed(owner) is not False:
        return False
    whose = f", which is a port of type {owner}" if owner else ", and not to mail ports either"
    raise EgressError(
        f"SELinux does not let Postfix ({_DOMAIN}) connect to TCP port {port}{whose}; use another port of the relay, or allow it in a module of "
        "the policy (audit2allow -M)"
    )


def _unclaimed(port: int) -> str:
    return next((kind for kind, ports in _UNCLAIMED.items() if port in ports), _OTHERS)


def _claimed(run: nft.Run, ports: t.Sequence[int]) -> t.Dict[int, str]:
    """Those of the ports that somebody claims, with their type: lines like ``smtp_port_t   tcp   25, 465, 587``."""
    found: t.Dict[int, str] = {}
    for line in _semanage(run, ports[0], "-l", "-n").splitlines():
        kind, protocol, numbers = (line.split(None, 2) + ["", "", ""])[:3]
        if protocol == "tcp" and kind not in UNCLAIMED:
            ranges = [[int(number) for number in part.split("-")] for part in numbers.split(",")]
            found.update({port: kind for port in ports if any(ends[0] <= port <= ends[-1] for ends in ranges)})
    return found


def _semanage(run: nft.Run, port: int, *arguments: str) -> str:
    command = nft.find("semanage")
    if command is None:
        raise EgressError(
            f"SELinux does not let Postfix ({_DOMAIN}) connect to TCP port {port} as long as that is no mail port, and semanage is not installed: "
            f"install it (package policycoreutils-python-utils), or run 'semanage port -a -t {_MAIL_PORT} -p tcp {port}' by other means"
        )
    code, out, err = run([command, "port", *arguments], "")
    if code != 0:
        raise EgressError(f"semanage port {' '.join(arguments)}: {err.strip()}")
    return out


def _allowed(kind: str, root: str) -> t.Optional[bool]:
    """The kernel's decision (selinux_check_access(3) asks for it in the same way)."""
    try:
        number, permission, mls = (
            int(files.read(f"{root}{_SELINUX}/{name}") or "") for name in ("class/tcp_socket/index", "class/tcp_socket/perms/name_connect", "mls")
        )
        level, bit = ":s0" if mls else "", 1 << (permission - 1)
        question = f"system_u:system_r:{_DOMAIN}{level} system_u:object_r:{kind}{level} {number} {bit:x}"
        handle = os.open(f"{root}{_SELINUX}/access", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(handle, question.encode())
            answer = os.read(handle, 4096).decode().split()
        finally:
            os.close(handle)
        flags = int(answer[5], 16) if len(answer) > 5 else 0
        return bool(int(answer[0], 16) & bit or flags & _PERMISSIVE)
    except (EgressError, OSError, ValueError, IndexError):
        return None
