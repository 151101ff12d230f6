# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory of a lab, .dev/labs/LAB/: what its users need to reach the hosts. Private to this user.

inventory.yml for Ansible (JSON, which is YAML), id_ed25519, known_hosts; with a provider also ca.pem, accounts.yml.
"""

from __future__ import annotations

import json
import pathlib
import shlex
import shutil
import tempfile
import typing as t

from . import mta
from .process import RigError, run, write_private


class Host(t.NamedTuple):
    """A running host."""

    name: str
    address: str
    host_key: str  # as in ssh_host_*_key.pub


def create(directory: pathlib.Path) -> str:
    """Make a lab's directory with a new key for SSH; the public key."""
    directory.mkdir(mode=0o700, parents=True)
    key = directory / "id_ed25519"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", directory.name, "-f", str(key)])
    return key.with_suffix(".pub").read_text(encoding="utf-8")


def remove(directory: pathlib.Path) -> None:
    """Remove a lab's directory and what Ansible's SSH connections keep elsewhere."""
    if (directory / "inventory.yml").exists():
        shutil.rmtree(_read(directory)["all"]["vars"]["ansible_control_path_dir"], ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)


def write(directory: pathlib.Path, hosts: t.Sequence[Host]) -> None:
    """Write known_hosts and, last, inventory.yml."""
    known = [f"{host.address} {' '.join(host.host_key.split()[:2])}\n" for host in hosts]
    write_private(directory / "known_hosts", "".join(known))
    variables = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(directory / "id_ed25519"),
        "ansible_ssh_common_args": shlex.join(_ssh_options(directory)),
        # A later lab can get the same addresses: it must not meet the kept connections of this one. Not below
        # the lab's directory because the path of a socket has no more than 108 bytes: unix(7).
        "ansible_control_path_dir": tempfile.mkdtemp(prefix="outpost-"),
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    addresses = {host.name: {"ansible_host": host.address} for host in hosts}
    providers = {name: one for name, one in addresses.items() if name == "provider" or name in mta.PACKAGES}
    groups = {"servers": {"hosts": {name: one for name, one in addresses.items() if name not in providers}}}
    if providers:
        groups["providers"] = {"hosts": providers}
    inventory = {"all": {"vars": variables, "children": groups}}
    write_private(directory / "inventory.yml", json.dumps(inventory, indent=2) + "\n")


def ssh_command(directory: pathlib.Path, host: str) -> list[str]:
    """The call of ssh(1) that reaches a host as Ansible does."""
    if not (directory / "inventory.yml").exists():
        raise RigError(f"there is no lab {directory.name} that is up; see: rig.py list")
    inventory = _read(directory)["all"]
    for group in inventory["children"].values():
        if host in group["hosts"]:
            address = group["hosts"][host]["ansible_host"]
            return ["ssh", "-i", str(directory / "id_ed25519"), *_ssh_options(directory), f"root@{address}"]
    raise RigError(f"lab {directory.name} has no host {host}; see: rig.py list")


def _ssh_options(directory: pathlib.Path) -> list[str]:
    settings = {
        "UserKnownHostsFile": f'"{directory / "known_hosts"}"',
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _read(directory: pathlib.Path) -> dict[str, t.Any]:
    inventory: dict[str, t.Any] = json.loads((directory / "inventory.yml").read_text(encoding="utf-8"))
    return inventory
