# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a lab and its inventory."""

from __future__ import annotations

import json
import pathlib

import pytest
from riglib import inventory, lab
from riglib.process import RigError


def test_hosts_are_named_like_their_image_and_numbered_in_a_fleet() -> None:
    assert lab.Plan(("debian11", "debian12"), 1, True).hosts() == {
        "provider": "provider",
        "debian11": "debian11",
        "debian12": "debian12",
    }
    assert lab.Plan(("debian12",), 2, False).hosts() == {"debian12-1": "debian12", "debian12-2": "debian12"}


def test_other_mail_servers_share_an_image_and_there_is_one_of_each() -> None:
    hosts = lab.Plan(("debian12",), 2, True, ("exim", "sendmail")).hosts()
    assert list(hosts) == ["provider", "exim", "sendmail", "debian12-1", "debian12-2"]
    assert hosts["exim"] == hosts["sendmail"] == "mta"


def test_the_inventory_reaches_hosts_by_their_own_keys_only(tmp_path: pathlib.Path) -> None:
    hosts = [
        inventory.Host("provider", "192.0.2.1", "ssh-ed25519 AAAA root@x"),
        inventory.Host("a", "192.0.2.2", "k B"),
        inventory.Host("exim", "192.0.2.3", "k C"),
    ]
    directory = tmp_path / "with space"
    directory.mkdir()
    inventory.write(directory, hosts)
    assert (directory / "known_hosts").read_text(encoding="utf-8") == "192.0.2.1 ssh-ed25519 AAAA\n192.0.2.2 k B\n192.0.2.3 k C\n"
    groups = json.loads((directory / "inventory.yml").read_text(encoding="utf-8"))["all"]["children"]
    assert groups == {
        "servers": {"hosts": {"a": {"ansible_host": "192.0.2.2"}}},
        "providers": {"hosts": {"provider": {"ansible_host": "192.0.2.1"}, "exim": {"ansible_host": "192.0.2.3"}}},
    }
    command = inventory.ssh_command(directory, "a")
    assert command[-1] == "root@192.0.2.2"
    assert f'UserKnownHostsFile="{directory}/known_hosts"' in command
    assert "StrictHostKeyChecking=yes" in command
    with pytest.raises(RigError, match="has no host b"):
        inventory.ssh_command(directory, "b")
    control = pathlib.Path(json.loads((directory / "inventory.yml").read_text())["all"]["vars"]["ansible_control_path_dir"])
    assert control.is_dir()
    inventory.remove(directory)
    assert not control.exists()
    assert not directory.exists()
