# SPDX-License-Identifier: GPL-3.0-or-later
"""Files, state and units: what a run writes on the host."""

from __future__ import annotations

import errno
import os
import stat
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import blocking, files, nft, rollback_file, state, systemd, units
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.foreign import Syn
from ansible_collections.outpost.smtp.plugins.module_utils._egress.own_table import RULES_PATH as RULES
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
    saved = State({"a.example.net": {"ipv4": {"192.0.2.1": None, "192.0.2.2": 1700000000}, "ipv6": {}}}, [{"rule": {"chain": "x"}}])
    state.save(saved, str(tmp_path))
    assert state.load(str(tmp_path)) == saved
    before = os.stat(str(tmp_path) + state.PATH).st_ino
    state.save(saved, str(tmp_path))
    assert os.stat(str(tmp_path) + state.PATH).st_ino == before, "written although nothing changed"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"addresses": []}', '{"addresses": {"a": 1}}', '{"addresses": {"a": {"ipv4": 1}}}'])
def test_a_damaged_state_is_an_empty_one(tmp_path: Path, text: str) -> None:
    files.write(str(tmp_path) + state.PATH, text)
    assert state.load(str(tmp_path)) == State({}, None)


def wanted(root: str, **options: t.Any) -> t.Dict[str, t.Optional[str]]:
    return units.wanted(root, "/usr/bin/python3 -I /egress.pyz", **{"nft": "/sbin/nft", **options})


def service(root: Path, name: str, text: str) -> None:
    files.write(f"{root}/lib/systemd/system/{name}", f"[Service]\n{text}")


def test_a_service_gets_what_it_takes_away_and_no_reload_that_it_does_not_have(tmp_path: Path) -> None:
    service(tmp_path, "nftables.service", "ExecStart=/x\n")
    service(tmp_path, "iptables.service", "ExecReload=/x\n")
    names = ("nftables.service", "iptables.service", "ip6tables.service")
    reopen = "-/usr/bin/python3 -I /egress.pyz reopen"
    loads = [f"{when}=-/sbin/nft -f {RULES}" for when in ("ExecStartPost", "ExecReload", "ExecStopPost")]
    texts = wanted(str(tmp_path), reopened=names)
    lines = {name: [line for line in (texts[units.drop_in(name)] or "").splitlines() if line.startswith("Exec")] for name in names}
    assert lines == {
        "nftables.service": [*loads, f"ExecStartPost={reopen}"],
        "iptables.service": [f"ExecStartPost={reopen}", f"ExecReload={reopen}"],
        "ip6tables.service": [],
    }
    assert f"ExecStart={reopen}\nExecReload={reopen}\n" in (texts[units.UNIT_PATH] or "")
    assert not any(wanted(str(tmp_path))[units.drop_in(name)] for name in names[1:])


def test_everything_that_may_be_wanted_is_unwanted_in_the_end(tmp_path: Path) -> None:
    assert set(wanted(str(tmp_path), refresh=300)) == set(units.unwanted()) and not any(units.unwanted().values())


def test_a_reboot_takes_back_what_waits_for_its_confirmation(tmp_path: Path) -> None:
    text = wanted(str(tmp_path))[units.ROLLBACK_PATH] or ""
    assert f"ConditionPathExists={rollback_file.PATH}" in text and "WantedBy=multi-user.target" in text
    assert "ExecStart=/usr/bin/python3 -I /egress.pyz rollback\n" in text and units.UNIT in text.split("After=")[1].splitlines()[0]


def test_the_unit_loads_before_the_network_and_after_all_others(tmp_path: Path) -> None:
    text = wanted(str(tmp_path))[units.UNIT_PATH] or ""
    assert "Before=network-pre.target" in text and "DefaultDependencies=no" in text
    assert [line for line in text.splitlines() if line.startswith("Exec")] == [f"{when}=/sbin/nft -f {RULES}" for when in ("ExecStart", "ExecReload")]
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
    command = nft.Nft("nft", lambda _arguments, _text: (1, "", "may not"))
    (entry,) = blocking.find(command, [], [Syn("192.0.2.10", 465, ()), Syn("2001:db8::10", 465, ())])
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
    init.enable("outpost-smtp-egress.service")
    init.disable("outpost-smtp-egress.service")
    unit = "outpost-smtp-egress.service"
    assert called == ["systemctl daemon-reload", f"systemctl enable --quiet {unit}", f"systemctl disable --quiet {unit}"]


def test_a_failure_of_systemctl_is_told() -> None:
    init = systemd.Systemd(lambda _arguments, _text: (1, "", "Failed to enable unit: read-only file system\n"))
    with pytest.raises(EgressError, match="systemctl enable .* failed: Failed to enable unit: read-only file system"):
        init.enable("x.service")
