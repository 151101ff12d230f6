# SPDX-License-Identifier: GPL-3.0-or-later
"""The container runtime: which one, and what it needs on this machine so that systemd runs inside.

Facts are read in one place (read_facts); everything decided from them is a pure function of the facts, because a
machine has only one kind of runtime to try them on.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import resource
import shutil
import subprocess
import typing as t

from .process import RigError

# Where podman looks for its network programs, which are not on PATH: containers.conf(5), helper_binaries_dir.
_HELPERS = ("/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/libexec/podman", "/usr/lib/podman")
_PROGRAMS = ("podman", "docker", "runc", "netavark", "aardvark-dns", "iptables", "mmdebstrap", "ssh", "ssh-keygen")
_PACKAGES = {"ssh": "openssh-client", "ssh-keygen": "openssh-client"}

_CAP_SYS_RESOURCE = 24  # capabilities(7), linux/capability.h

# From version 256 on, systemd refuses to boot on version 1 control groups unless told so on its "kernel command
# line": systemd's NEWS of 256. SYSTEMD_PROC_CMDLINE stands in for /proc/cmdline; older releases take no harm.
_BOOT_ON_CGROUP_V1 = "systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the choices depend on."""

    programs: frozenset[str]  # of those the rig uses: the ones that this machine has
    wanted: str  # OUTPOST_SMTP_RUNTIME; empty: choose
    root: bool
    cgroup_v2: bool
    oci_runtime: str  # podman's default one, such as crun; empty when podman is not used
    network_backend: str  # podman's, netavark or cni; empty when podman is not used
    sys_resource: bool  # this process may raise limits
    open_files: int  # hard limit
    processes: int  # hard limit


def read_facts() -> Facts:
    """The facts of this machine."""
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", *_HELPERS])
    programs = frozenset(name for name in _PROGRAMS if shutil.which(name, path=search))
    wanted = os.environ.get("OUTPOST_SMTP_RUNTIME", "")
    host: dict[str, t.Any] = {}
    if "podman" in programs and wanted in ("", "podman"):
        info = subprocess.run(["podman", "info", "--format", "json"], capture_output=True, text=True, check=False)
        host = json.loads(info.stdout).get("host", {}) if info.returncode == 0 else {}
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    capabilities = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return Facts(
        programs=programs,
        wanted=wanted,
        root=os.geteuid() == 0,
        cgroup_v2=pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        oci_runtime=host.get("ociRuntime", {}).get("name", ""),
        network_backend=host.get("networkBackend", ""),
        sys_resource=bool(int(capabilities, 16) & 1 << _CAP_SYS_RESOURCE),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        processes=resource.getrlimit(resource.RLIMIT_NPROC)[1],
    )


def choose(facts: Facts) -> str:
    """``podman`` or ``docker``."""
    if facts.wanted not in ("", "podman", "docker"):
        raise RigError(f"OUTPOST_SMTP_RUNTIME is {facts.wanted!r}; it can be podman or docker")
    return facts.wanted or ("docker" if "docker" in facts.programs and "podman" not in facts.programs else "podman")


def missing_packages(facts: Facts) -> list[str]:
    """The Debian packages to install before a lab can run."""
    needed = ["mmdebstrap", "ssh", "ssh-keygen"]
    if choose(facts) == "docker":
        needed.append("docker")
    else:
        # netavark calls iptables, and without it says no more than "No such file or directory".
        needed += ["podman", "netavark", "aardvark-dns", "iptables"]
        if not facts.cgroup_v2:
            needed.append("runc")
    packages = {**_PACKAGES, "docker": "docker.io"}
    return sorted({packages.get(name, name) for name in needed if name not in facts.programs})


def check(facts: Facts) -> None:
    """RigError when this machine cannot run a lab, saying what to do."""
    packages = missing_packages(facts)
    if packages:
        raise RigError(f"not installed here; as root: apt-get install {' '.join(packages)}")
    if choose(facts) == "docker":
        return
    if not facts.root:
        raise RigError("podman without root has its networks where this machine cannot reach them; run as root")
    if facts.network_backend != "netavark":
        raise RigError(
            f"podman's network backend is {facts.network_backend or 'unknown'}, which gives a lab no DNS; "
            'put network_backend = "netavark" in /etc/containers/containers.conf'
        )


def base_command(facts: Facts) -> list[str]:
    """The start of every call of the runtime."""
    if choose(facts) == "docker":
        return ["docker"]
    # crun: "cgroups in hybrid mode not supported".
    if not facts.cgroup_v2 and facts.oci_runtime != "runc":
        return ["podman", "--runtime", "runc"]
    return ["podman"]


def run_options(facts: Facts) -> list[str]:
    """The options of ``run`` with which an image's systemd boots and its firewall can be changed."""
    options = ["--stop-signal", "SIGRTMIN+3", "--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW"]
    if choose(facts) == "docker":
        # What podman's --systemd does, said in docker's words: systemd's Container Interface.
        options += ["--privileged", "-e", "container=docker"]
        options += [word for path in ("/run", "/run/lock", "/tmp") for word in ("--tmpfs", path)]
        if facts.cgroup_v2:
            options += ["--cgroupns", "private"]
        else:
            options += ["--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"]
    else:
        options.append("--systemd=always")
        if not facts.sys_resource:
            # podman would ask for more than this process may give: "error setting rlimit".
            for name, limit, enough in (("nofile", facts.open_files, 20000), ("nproc", facts.processes, 16384)):
                value = enough if limit == resource.RLIM_INFINITY else min(limit, enough)
                options += ["--ulimit", f"{name}={value}:{value}"]
    if not facts.cgroup_v2:
        options += ["-e", f"SYSTEMD_PROC_CMDLINE={_BOOT_ON_CGROUP_V1}"]
    return options
