# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels of our files: asked of restorecon where a policy is loaded."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import nft, selinux
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError

PATHS = ["/etc/outpost-smtp", "/var/lib/outpost-smtp"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A host with SELinux, and one of the directories."""
    for directory in ("sys/fs/selinux", "etc/outpost-smtp"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "sys/fs/selinux/enforce").write_text("1")
    monkeypatch.setattr(nft, "find", lambda name: f"/usr/sbin/{name}")
    return str(tmp_path)


def labelled(root: str, code: int = 0) -> t.List[t.Sequence[str]]:
    commands: t.List[t.Sequence[str]] = []

    def run(arguments: t.Sequence[str], _text: str) -> t.Tuple[int, str, str]:
        commands.append(arguments)
        return code, "", "no such label"

    selinux.restore(PATHS, run, root)
    return commands


def test_what_exists_is_labelled(root: str) -> None:
    assert labelled(root) == [["/usr/sbin/restorecon", "-R", f"{root}/etc/outpost-smtp"]]


def test_without_selinux_nothing_is_run(root: str) -> None:
    Path(root, "sys/fs/selinux/enforce").unlink()
    assert labelled(root) == []


def test_without_restorecon_nothing_is_run(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "find", lambda _name: None)
    assert labelled(root) == []


def test_a_label_that_is_refused_is_said(root: str) -> None:
    with pytest.raises(EgressError, match="no such label"):
        labelled(root, 1)
