# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""What AppArmor or SELinux has denied the mail server, told by the kernel's log or auditd's, with what lets it pass.

Neither stands in the way of mail as distributions ship them: Postfix's AppArmor profiles are in a package of extras, and
SELinux lets postfix_smtp_t connect to every port. Who has loaded profiles, or moved files, finds the denial here.
"""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import selinux_ports
from ansible_collections.outpost.smtp.plugins.module_utils._egress.kernel_log import Line

#: Denials that are told.
MAX_DENIALS = 10
_PROFILES = "/etc/apparmor.d"
_LOADED_PROFILES = "/sys/kernel/security/apparmor/profiles"
#: Where auditd runs, as on Red Hat's systems, it takes the denials, and the kernel's log has none. Its end is read.
_AUDIT_LOG = "/var/log/audit/audit.log"
_AUDIT_END = 262144
_AUDIT_TIME = re.compile(r"\bmsg=audit\((\d+\.\d+):")
#: What Postfix needs of ours, in the language of AppArmor.
_NEEDED = ("/etc/postfix/outpost_smtp/** r,", "network inet stream,", "network inet6 stream,")
#: Where files may have come with the wrong label, as after mv from /tmp.
_LABELLED = "/etc/postfix /etc/outpost-smtp /var/spool/postfix"
_FILES = frozenset({"file", "dir", "lnk_file", "sock_file", "fifo_file"})
#: For what is neither a label nor a port that nobody claims.
_ASK = "'ausearch -m avc -ts recent | audit2why' names the boolean, or says that there is none"
#: What AppArmor's log calls making and removing a file is writing in its rules (apparmor.d(5)).
_WRITING = str.maketrans("cd", "ww")

_FIELD = re.compile(r'\b(\w+)="?([^"\s]+)"?')
_SELINUX = re.compile(r"avc:\s+denied\s+\{ ([^}]+) \}")
#: The generation of our tables, which changes with each change of them.
_GENERATION = re.compile(r"(/outpost_smtp)/\d+/.*")


class Denial(t.NamedTuple):
    """``module`` is ``apparmor`` or ``selinux``, ``last`` when it was seen, ``remedy`` what lets it pass."""

    module: str
    detail: str
    remedy: str
    last: str


class Profile(t.NamedTuple):
    """A profile of AppArmor for Postfix that is loaded. ``mode`` is ``enforce``, ``complain``...; ``remedy`` is for what it may deny."""

    name: str
    mode: str
    remedy: str


def audited(root: str = "") -> t.List[Line]:
    """The last lines of auditd's log; none without it, and for who may not read it."""
    try:
        with open(root + _AUDIT_LOG, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _AUDIT_END))
            texts = file.read(_AUDIT_END).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    times = ((_AUDIT_TIME.search(text), text) for text in texts)
    return [Line(float(found.group(1)), text) for found, text in times if found]


def profiles(root: str = "") -> t.List[Profile]:
    """The loaded profiles for Postfix's programs. Only root may read the list."""
    loaded = (line.rpartition(" (") for line in _text(root + _LOADED_PROFILES).splitlines())
    found = [(name, mode.rstrip(")")) for name, _mark, mode in loaded if "postfix" in name]
    return [Profile(name, mode, _rule(" ".join(_NEEDED), _profile_file(name, root)) if mode == "enforce" else "") for name, mode in found]


def find(lines: t.Sequence[Line], root: str = "") -> t.List[Denial]:
    """The denials that concern Postfix, each once; the last one first."""
    found: t.Dict[t.Tuple[str, str], Denial] = {}
    for line in reversed(lines):
        denial = _apparmor(line, root) if 'apparmor="DENIED"' in line.text else _selinux(line)
        if denial is not None:
            found.setdefault(denial[:2], denial)
    return list(found.values())[:MAX_DENIALS]


def _apparmor(line: Line, root: str) -> t.Optional[Denial]:
    fields = dict(_FIELD.findall(line.text))
    profile = fields.get("profile", "")
    if "postfix" not in profile:
        return None
    if "family" in fields:
        what, rule = f"a socket of family {fields['family']}", f"network {fields['family']} {fields.get('sock_type', 'stream')},"
    elif "name" in fields:
        path = _GENERATION.sub(r"\1/**", fields["name"])
        letters = "".join(dict.fromkeys(fields.get("denied_mask", "r").translate(_WRITING)))
        what, rule = path, f"{path} {letters},"
    else:
        return None
    return Denial("apparmor", f"profile {profile} denies {what}", _rule(rule, _profile_file(profile, root)), line.time)


def _rule(rule: str, file: str) -> str:
    return f"add the line '{rule}' to {_PROFILES}/local/{file}, then apparmor_parser -r {_PROFILES}/{file}"


def _profile_file(profile: str, root: str) -> str:
    """The file that defines a profile; by custom its name is that of the program, with dots for slashes."""
    usual = profile.strip("/").replace("/", ".")
    try:
        names = sorted(name for name in os.listdir(root + _PROFILES) if "postfix" in name)
    except OSError:
        return usual
    return next((name for name in names if name == usual or profile in _text(f"{root}{_PROFILES}/{name}")), usual)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(65536)
    except OSError:
        return ""


def _selinux(line: Line) -> t.Optional[Denial]:
    found = _SELINUX.search(line.text)
    fields = dict(_FIELD.findall(line.text))
    domain = _type(fields.get("scontext", ""))
    if found is None or not domain.startswith("postfix") or fields.get("permissive") == "1":
        return None
    target, kind = _type(fields.get("tcontext", "")), fields.get("tclass", "object")
    if "dest" in fields:
        port = fields["dest"]
        remedy = f"semanage port -a -t smtp_port_t -p tcp {port}" if target in selinux_ports.UNCLAIMED else _ASK
        return Denial("selinux", f"{domain} may not {found.group(1)} to port {port} of type {target}", remedy, line.time)
    what = f"{kind} {fields.get('path') or fields.get('name', '')}".strip()
    remedy = f"restorecon -Rv {_LABELLED}" if kind in _FILES else _ASK
    return Denial("selinux", f"{domain} may not {found.group(1)} {what} of type {target}", remedy, line.time)


def _type(context: str) -> str:
    """Of ``system_u:system_r:postfix_smtp_t:s0``, the third part."""
    parts = context.split(":")
    return parts[2] if len(parts) > 2 else ""
