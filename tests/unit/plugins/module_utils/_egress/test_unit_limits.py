# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of the unit that runs Postfix, as systemctl shows them."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import nft, unit_limits

RELAY, RELAY6 = "192.0.2.10", "2001:db8::10"
EXEC = "{{ path={path} ; argv[]={path} start ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }}"
RUNNING = {"LoadState": "loaded", "ExecStart": EXEC.format(path="/usr/sbin/postfix"), "Slice": "system.slice"}
IDLE = {**RUNNING, "ExecStart": EXEC.format(path="/bin/true")}


class Systemctl:
    """A systemd with these units: their properties, by name."""

    def __init__(self, **units: t.Dict[str, str]) -> None:
        self.units = units

    def __call__(self, arguments: t.Sequence[str], _text: str) -> t.Tuple[int, str, str]:
        asked = arguments[arguments.index("--") + 1 :]
        shown = [{"Id": name, **self.units.get(name, {"LoadState": "not-found", "ExecStart": ""})} for name in asked]
        return 0, "\n".join("".join(f"{name}={value}\n" for name, value in unit.items()) for unit in shown), ""


@pytest.fixture(autouse=True)
def systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "find", lambda name: f"/usr/bin/{name}")


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A host whose cgroups are of version 2."""
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text("cpu memory\n")
    return str(tmp_path)


def limits(root: str, unit: t.Dict[str, str], *addresses: str, **slices: t.Dict[str, str]) -> t.List[str]:
    run = Systemctl(**{"postfix.service": {**RUNNING, **unit}, **slices})
    return [str(limit) for limit in unit_limits.find(addresses or (RELAY, RELAY6), run, root)]


def test_a_unit_without_limits(root: str) -> None:
    assert limits(root, {"IPAddressDeny": "", "RestrictAddressFamilies": "~", "PrivateNetwork": "no"}) == []
    assert limits(root, {}) == []


def test_the_unit_that_runs_the_processes_counts() -> None:
    """On Debian 11 and 12 postfix.service runs nothing; on Debian 13 there is the instance as well, and it is not used."""
    limited = {"PrivateNetwork": "yes"}
    before_13 = {"postfix.service": {**IDLE, **limited}, "postfix@-.service": RUNNING}
    since_13 = {"postfix.service": RUNNING, "postfix@-.service": {**RUNNING, **limited}}
    assert unit_limits.find([RELAY], Systemctl(**before_13)) == unit_limits.find([RELAY], Systemctl(**since_13)) == []
    before_13, since_13 = {**before_13, "postfix@-.service": {**RUNNING, **limited}}, {**since_13, "postfix.service": {**RUNNING, **limited}}
    units = [unit_limits.find([RELAY], Systemctl(**units))[0].unit for units in (before_13, since_13)]
    assert units == ["postfix@-.service", "postfix.service"]


def test_a_host_without_postfix_or_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unit_limits.find([RELAY], Systemctl()) == []
    assert unit_limits.find([RELAY], lambda _arguments, _text: (1, "", "System has not been booted with systemd")) == []
    monkeypatch.setattr(nft, "find", lambda name: None)
    assert unit_limits.find([RELAY], lambda _arguments, _text: pytest.fail("there is no systemctl")) == []


def test_addresses_that_are_denied(root: str) -> None:
    assert limits(root, {"IPAddressDeny": "0.0.0.0/0 ::/0", "IPAddressAllow": f"127.0.0.0/8 {RELAY}/32"}) == [
        f"unit postfix.service may not connect to {RELAY6}: IPAddressDeny=::/0"
    ]
    assert limits(root, {"IPAddressDeny": "any"}, RELAY) == [f"unit postfix.service may not connect to {RELAY}: IPAddressDeny=0.0.0.0/0"]
    assert limits(root, {"IPAddressDeny": "198.51.100.0/24"}) == []


def test_the_slices_above_count_as_well(root: str) -> None:
    """Recommended by the manual: to deny all in the slice, and to allow single addresses in its units."""
    slices = {"system.slice": {"IPAddressDeny": "0.0.0.0/0 ::/0"}, "-.slice": {"IPAddressAllow": f"{RELAY6}/128"}}
    assert limits(root, {}, **slices) == [f"unit postfix.service may not connect to {RELAY}: IPAddressDeny=0.0.0.0/0"]
    assert limits(root, {"IPAddressAllow": f"{RELAY}/32"}, **slices) == []
    nested = {"mail.slice": {"IPAddressDeny": "any"}}
    assert limits(root, {"Slice": "mail-out.slice"}, RELAY, **nested) != []


def test_what_systemd_does_not_enforce_is_no_limit(tmp_path: Path) -> None:
    """Where cgroups are not of version 2 alone, IPAddressDeny= does nothing."""
    assert limits(str(tmp_path), {"IPAddressDeny": "any"}) == []
    assert limits(str(tmp_path), {"RestrictAddressFamilies": "AF_UNIX"}) != []


@pytest.mark.parametrize(
    ("families", "kept"),
    [
        ("AF_UNIX AF_NETLINK AF_INET AF_INET6", []),
        ("AF_UNIX AF_INET", [RELAY6]),
        ("AF_INET6", [RELAY]),
        ("AF_UNIX", [RELAY, RELAY6]),
        ("", [RELAY, RELAY6]),
        ("~AF_INET6", [RELAY6]),
        ("~AF_PACKET", []),
    ],
)
def test_families_of_sockets(root: str, families: str, kept: t.List[str]) -> None:
    found = unit_limits.find([RELAY, RELAY6], Systemctl(**{"postfix.service": {**RUNNING, "RestrictAddressFamilies": families}}), root)
    assert [limit.address for limit in found] == kept


def test_a_network_of_its_own(root: str) -> None:
    assert limits(root, {"PrivateNetwork": "yes", "IPAddressDeny": "any"}) == ["unit postfix.service may not connect to anything: PrivateNetwork=yes"]


class Recorded:
    """Systemd of Debian 11, 12 or 13, as `systemctl show` was recorded there with a drop-in of these lines for the unit that runs Postfix."""

    def __init__(self, version: int, lines: str) -> None:
        text = (Path(__file__).parent / "listings" / f"unit-properties-systemd-{version}.txt").read_text()
        self.shown = dict(block.split("\n", 1) for block in text.split("##")[1:])
        self.lines = lines

    def __call__(self, arguments: t.Sequence[str], _text: str) -> t.Tuple[int, str, str]:
        limited = "slices" if "-.slice" in arguments else self.lines
        units = {**self.units("none"), **self.units(limited)}
        return 0, "\n".join(units[name] for name in arguments[arguments.index("--") + 1 :] if name in units), ""

    def units(self, key: str) -> t.Dict[str, str]:
        blocks = [block.strip("\n") + "\n" for block in self.shown[key].split("\n\n")]
        return {re.findall(r"^Id=(.*)", block, re.M)[0]: block for block in blocks if "Id=" in block}


DENIED_NET = "198.51.100.7"
IN_ALL = [RELAY, DENIED_NET, RELAY6]


@pytest.mark.parametrize("version", [247, 252, 257])
@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ("none", []),
        (r"IPAddressDeny=any\nIPAddressAllow=localhost 192.0.2.10 2001:db8::10", [DENIED_NET]),
        (r"IPAddressDeny=link-local multicast 198.51.100.0/24 2001:db8:1::/48", [DENIED_NET]),
        ("RestrictAddressFamilies=none", IN_ALL),
        ("RestrictAddressFamilies=~AF_INET6 AF_PACKET", [RELAY6]),
        (r"RestrictAddressFamilies=~AF_INET AF_INET6\nRestrictAddressFamilies=~AF_PACKET", IN_ALL),
        ("PrivateNetwork=yes", [""]),
        ("Slice=mail-out.slice", []),
    ],
)
def test_as_each_release_shows_it(root: str, version: int, lines: str, kept: t.List[str]) -> None:
    recorded = Recorded(version, lines)
    # What is recorded of the slices has a limit for all of system.slice.
    recorded.shown["slices"] = re.sub(r"(IPAddressDeny=).*", r"\1", recorded.shown["slices"])
    assert sorted(limit.address for limit in unit_limits.find(IN_ALL, recorded, root)) == kept


@pytest.mark.parametrize("version", [247, 252, 257])
def test_as_each_release_shows_a_limit_of_the_slice(root: str, version: int) -> None:
    found = unit_limits.find([RELAY, RELAY6], Recorded(version, "none"), root)
    assert [limit.setting for limit in found] == ["IPAddressDeny=0.0.0.0/0", "IPAddressDeny=::/0"]
