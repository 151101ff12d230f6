# SPDX-License-Identifier: GPL-3.0-or-later
"""Files, state and units: what a run writes on the host."""

from __future__ import annotations

import errno
import os
import stat
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import blocking, files, state, systemd
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.foreign import Syn
from ansible_collections.outpost.smtp.plugins.module_utils._egress.state import State


def test_a_staged_file_is_complete_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with files.Staged(str(path), "text\n") as staged:
        assert not path.exists()
        staged.commit()
    assert path.read_text() == "text\n" and stat.S_IMODE(path.stat().st_mode) == 0o644
    with files.Staged(str(path), "other\n"):
        pass
    assert path.read_text() == "text\n" and os.listdir(path.parent) == ["file"]


def test_a_full_disk_is_noticed_before_anything_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EgressError, match="No space left on device; nothing was changed"), files.Staged(str(tmp_path / "file"), "text"):
        raise AssertionError("entered")
    assert os.listdir(tmp_path) == []


def test_reading(tmp_path: Path) -> None:
    assert files.read(str(tmp_path / "none")) is None
    (tmp_path / "latin").write_bytes(b"caf\xe9\r\n")
    assert files.read(str(tmp_path / "latin")) == "caf\ufffd\r\n"
    with pytest.raises(EgressError, match="can not be read"):
        files.read(str(tmp_path))


def test_what_a_killed_run_left_is_replaced_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    staged = files.Staged(str(path), "half")
    staged.__enter__()
    assert os.listdir(tmp_path) == [".file.new"]
    files.write(str(path), "whole")
    assert os.listdir(tmp_path) == ["file"] and path.read_text() == "whole"
    staged.__enter__()
    files.remove(str(path))
    files.remove(str(path))
    assert os.listdir(tmp_path) == []


def test_only_an_empty_directory_is_removed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "b" / "theirs").touch()
    for name in ("a", "b", "none"):
        files.remove_directory(str(tmp_path / name))
    assert os.listdir(tmp_path) == ["b"]


def test_the_state_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    saved = State({"a.example.net": {"ipv4": ["192.0.2.1"], "ipv6": []}}, [{"rule": {"chain": "x"}}])
    state.save(saved, str(tmp_path))
    assert state.load(str(tmp_path)) == saved
    before = os.stat(str(tmp_path) + state.PATH).st_ino
    state.save(saved, str(tmp_path))
    assert os.stat(str(tmp_path) + state.PATH).st_ino == before, "written although nothing changed"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"addresses": []}', '{"addresses": {"a": 1}}', '{"addresses": {"a": {"ipv4": 1}}}'])
def test_a_damaged_state_is_an_empty_one(tmp_path: Path, text: str) -> None:
    files.write(str(tmp_path) + state.PATH, text)
    assert state.load(str(tmp_path)) == State({}, None)


def test_the_unit_loads_before_the_network_and_after_all_others() -> None:
    class Installed(systemd.Systemd):
        installed = True

    text = Installed(lambda _arguments, _text: (0, "", "")).units("/sbin/nft", "/etc/rules")[systemd.UNIT_PATH] or ""
    assert "Before=network-pre.target" in text and "DefaultDependencies=no" in text and "ExecStart=/sbin/nft -f /etc/rules" in text
    for other in ("nftables", "firewalld", "ufw", "netfilter-persistent"):
        assert f"{other}.service" in text.split("After=")[1].splitlines()[0]


@pytest.mark.parametrize(
    ("manager", "expected"),
    [
        ("nftables", ["ip daddr { 192.0.2.10, 192.0.2.11 } tcp dport 465 accept", "ip6 daddr { 2001:db8::10 } tcp dport 587 accept"]),
        ("ufw", [f"ufw allow out proto tcp to {where}" for where in ("192.0.2.10 port 465", "192.0.2.11 port 465", "2001:db8::10 port 587")]),
        (
            "iptables",
            [
                "iptables -I OUTPUT -p tcp -d 192.0.2.10 --dport 465 -j ACCEPT",
                "iptables -I OUTPUT -p tcp -d 192.0.2.11 --dport 465 -j ACCEPT",
                "ip6tables -I OUTPUT -p tcp -d 2001:db8::10 --dport 587 -j ACCEPT",
            ],
        ),
    ],
)
def test_the_remedy_speaks_the_managers_language(manager: str, expected: object) -> None:
    packets = [Syn("192.0.2.10", 465, ()), Syn("192.0.2.11", 465, ()), Syn("2001:db8::10", 587, ())]
    assert blocking.remedy(manager, packets) == expected


def test_the_remedy_for_firewalld_names_family_address_and_port() -> None:
    (command,) = blocking.remedy("firewalld", [Syn("2001:db8::10", 587, ())])
    assert "rule family=ipv6 destination address=2001:db8::10 port port=587 protocol=tcp accept" in command


def test_legacy_iptables_leave_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = tmp_path / "ip_tables_names"
    monkeypatch.setattr(blocking, "_LEGACY", {4: str(listing), 6: str(tmp_path / "none")})
    assert not blocking.possible([])
    listing.write_text("filter\n")
    assert blocking.possible([])
    (entry,) = blocking.find(None, [], [Syn("192.0.2.10", 465, ()), Syn("2001:db8::10", 465, ())])  # type: ignore[arg-type]
    assert entry.facts()["certain"] is False and entry.facts()["destinations"] == ["192.0.2.10 port 465"]
    blocking.require_open([entry], changed=False)


def test_units_are_read_again_only_where_systemd_runs(tmp_path: Path) -> None:
    called = []

    def run(arguments: t.Sequence[str], _text: str) -> t.Tuple[int, str, str]:
        called.append(" ".join(arguments))
        return 0, "", ""

    init = systemd.Systemd(run, str(tmp_path))
    init.reload()
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    init.reload()
    init.enable()
    init.disable()
    unit = "outpost-smtp-egress.service"
    assert called == ["systemctl daemon-reload", f"systemctl enable --quiet {unit}", f"systemctl disable --quiet {unit}"]


def test_a_failure_of_systemctl_is_told() -> None:
    init = systemd.Systemd(lambda _arguments, _text: (1, "", "Failed to enable unit: read-only file system\n"))
    with pytest.raises(EgressError, match="systemctl enable .* failed: Failed to enable unit: read-only file system"):
        init.enable()
