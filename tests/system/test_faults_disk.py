# SPDX-License-Identifier: GPL-3.0-or-later
"""A configuration directory that is a file system of its own, and has no room, no inodes, or can not be written."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_lab import Faults, from_outside
from system_lab import RESTART


@pytest.fixture(scope="module")
def faults(trio):
    return Faults(trio)


@pytest.fixture
def own_file_system(faults):
    """Make the configuration directory of a server a small file system: own_file_system("debian12")."""
    mounted = []

    def make(host: str) -> None:
        faults.begin(host)
        faults.lab.shell("rm -rf /root/postfix; cp -a /etc/postfix /root/postfix", host)
        from_outside(faults.lab, host, "mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=100,mode=755", "tmpfs", "/etc/postfix")
        mounted.append(host)
        faults.lab.shell(f"cp -a /root/postfix/. /etc/postfix; {RESTART}", host)

    yield make
    for host in mounted:
        faults.lab.shell("systemctl stop postfix", host)
        from_outside(faults.lab, host, "umount", "--lazy", "/etc/postfix")


def test_no_room(faults, own_file_system):
    """A change that finds no room for its next block or file, or postmap for its map, leaves everything as it was, wherever that happens."""
    old, new = (faults.relay(**more, ca_files=(), table_type="hash") for more in ({}, {"name": "second", "port": 587}))

    def starve(kind: str, host: str) -> list[str]:
        own_file_system(host)
        return faults.drive(host, "starve", sides=[old, new], kind=kind, daemon=True)["refused"]

    with ThreadPoolExecutor() as pool:
        for refused in pool.map(starve, ("space", "inodes"), ("debian12", "debian13")):
            assert len(refused) > 3, "there is room for some of it, and then for more"
            assert all("No space left on device" in message for message in refused), refused
    faults.await_delivery()


def test_read_only(faults, own_file_system):
    host, old, new = "debian11", faults.relay(ca_files=()), faults.relay(name="second", port=587, ca_files=())
    own_file_system(host)
    faults.set_up(host, old)
    from_outside(faults.lab, host, "mount", "-o", "remount,ro", "/etc/postfix")
    assert "Read-only file system" in faults.refused(host, new)
    assert not faults.set_up(host, old, check=True)["changed"] and faults.set_up(host, new, check=True)["changed"]
    faults.mail(host, old)
    from_outside(faults.lab, host, "mount", "-o", "remount,rw", "/etc/postfix")
    faults.heals(host, new)
    faults.await_delivery()
