# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The files that smtp(8) needs for TLS and for its connections, and whether it can use them.

It reads certificates as root before it enters the chroot; directories of certificates and resolv.conf are read inside.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.settings import Parameters


class TlsFiles(t.NamedTuple):
    """``ca_path`` is where the directory is outside of the chroot. ``error`` says why Postfix would do without TLS, and
    ``unreadable`` names a file that this process, other than Postfix, may not read."""

    ca_file: t.Optional[str] = None
    ca_path: t.Optional[str] = None
    system_roots: bool = False
    client_certificate: t.Optional[str] = None
    client_key: t.Optional[str] = None
    error: str = ""
    unreadable: str = ""


def tls_files(parameters: Parameters, root: str, trust_anchors: t.Sequence[str] = ()) -> TlsFiles:
    """The files of a service whose root directory is ``root``. Trust anchors of a policy stand in for the CA certificates."""
    ca_file = trust_anchors[0] if trust_anchors else parameters.get("smtp_tls_CAfile")
    ca_path = "" if trust_anchors else parameters.get("smtp_tls_CApath")
    certificate, key = _client_certificate(parameters)
    error = unreadable = ""
    checks = (("smtp_tls_CAfile", ca_file, _load_roots), ("smtp_tls_cert_file", certificate, lambda path: _load_own(path, key)))
    for name, path, load in checks:
        try:
            if path:
                _refuse_special(path)
                load(path)
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
            reason = _reason(exc)
            if isinstance(exc, PermissionError) and os.geteuid() != 0:
                unreadable = unreadable or path
            else:
                error = error or f"{name} = {path}: {reason}"
    return TlsFiles(
        ca_file or None,
        os.path.join(root, ca_path.lstrip("/")) if ca_path else None,
        parameters.flag("tls_append_default_CA") and bool(ca_file or ca_path),
        certificate or None,
        key or None,
        error,
        unreadable,
    )


def _client_certificate(parameters: Parameters) -> t.Tuple[str, str]:
    chain = parameters.names("smtp_tls_chain_files")
    if chain:
        return chain[0], ""
    for kind in ("", "ec", "d"):
        certificate = parameters.get(f"smtp_tls_{kind}cert_file")
        if certificate:
            key = parameters.get(f"smtp_tls_{kind}key_file")
            return certificate, key if key != certificate else ""
    return "", ""


class _SpecialFile(ValueError):
    """A named pipe or a device: reading it may never end."""


def _refuse_special(path: str) -> None:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise _SpecialFile("it is no regular file")


def _load_roots(path: str) -> None:
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)


def _load_own(path: str, key: str) -> None:
    # A key with a passphrase would ask for it on the terminal; Postfix can not use one either.
    _refuse_special(key or path)
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(path, key or None, password=lambda: "")


def _reason(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLError):
        return "it holds no certificate in PEM form, or no key that fits"
    if isinstance(exc, _SpecialFile):
        return str(exc)
    return os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else type(exc).__name__


def source_address(parameters: Parameters, family: str) -> t.Tuple[str, t.Optional[str], str]:
    """The family (``any``, ``ipv4``, ``ipv6``) and address that connections go out with, and why an address is not used.

    Postfix only warns about an address that this host does not have, and goes on without it.
    """
    for wanted, name, kind in (("ipv4", "smtp_bind_address", socket.AF_INET), ("ipv6", "smtp_bind_address6", socket.AF_INET6)):
        address = parameters.get(name).strip("[]") or _only_interface(parameters, kind)
        if not address or family not in ("any", wanted):
            continue
        obstacle = obstacle_to(kind, address)
        if obstacle:
            return family, None, f"{name} = {address} is no address of this host ({obstacle}), so Postfix goes on without it"
        return wanted, address, ""
    return family, None, ""


def _only_interface(parameters: Parameters, kind: socket.AddressFamily) -> str:
    """A single address in ``inet_interfaces`` is used for outgoing connections, too (postconf(5))."""
    addresses = [name.strip("[]") for name in parameters.names("inet_interfaces") if (":" in name) == (kind == socket.AF_INET6)]
    literal = [address for address in addresses if is_address(kind, address)]
    loopback = literal and (literal[0].startswith("127.") or literal[0] == "::1")
    return literal[0] if len(addresses) == 1 and len(literal) == 1 and not loopback else ""


def is_address(kind: socket.AddressFamily, text: str) -> bool:
    """Whether a text is an address of that family."""
    try:
        return bool(socket.inet_pton(kind, text))
    except OSError:
        return False


def obstacle_to(kind: socket.AddressFamily, address: str) -> str:
    """Why no program of this host can use an address; empty if one can."""
    try:
        with socket.socket(kind, socket.SOCK_STREAM) as sock:
            sock.bind((address, 0))
    except OSError as exc:
        return os.strerror(exc.errno or errno.EINVAL)
    return ""


def is_own_address(address: str) -> bool:
    """Whether this host has an address; also where it has none of that family at all, which Postfix takes into account."""
    kind = socket.AF_INET6 if ":" in address else socket.AF_INET
    return obstacle_to(kind, address) != os.strerror(errno.EADDRNOTAVAIL)


def families(parameters: Parameters) -> str:
    """Which addresses ``inet_protocols`` leaves, as ``any``, ``ipv4`` or ``ipv6``."""
    protocols = {name.lower() for name in parameters.names("inet_protocols")}
    if "all" in protocols or {"ipv4", "ipv6"} <= protocols:
        return "any"
    return "ipv6" if "ipv6" in protocols else "ipv4"


def resolver_of_chroot(root: str) -> str:
    """What is wrong with the chroot's copy of resolv.conf, empty if nothing is."""
    return fault_of_copy(root, "resolv.conf")


def fault_of_copy(root: str, name: str) -> str:
    """What is wrong with the chroot's copy of a file in /etc, empty if nothing is."""
    outside, inside = _content(f"/etc/{name}"), _content(os.path.join(root, "etc", name))
    if inside is None and name == "resolv.conf":
        return f"{root}/etc/{name} does not exist, so Postfix asks a name server on this host"
    if outside is None or inside == outside:
        return ""
    if inside is None:
        return f"{root}/etc/{name} does not exist, and that is where Postfix looks for it"
    return f"{root}/etc/{name} differs from /etc/{name}; 'postfix reload' does not copy it, a restart does on Debian"


def is_in_hosts_file(host: str, path: str = "/etc/hosts") -> bool:
    """Whether hosts(5) has an address for a name."""
    return bool(addresses_in_hosts_file(host, path))


def addresses_in_hosts_file(host: str, path: str = "/etc/hosts") -> t.List[str]:
    """The addresses that hosts(5) has for a name."""
    lines = [line.partition("#")[0].split() for line in (_content(path) or b"").decode("utf-8", "replace").split("\n")]
    named = [words[0] for words in lines if host.lower() in (name.lower() for name in words[1:])]
    return [address for address in named if is_address(socket.AF_INET, address) or is_address(socket.AF_INET6, address)]


def _content(path: str) -> t.Optional[bytes]:
    try:
        _refuse_special(path)
        with open(path, "rb") as file:
            return file.read()
    except (OSError, _SpecialFile):
        return None
