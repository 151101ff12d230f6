# SPDX-License-Identifier: GPL-3.0-or-later
"""Who the mail server's user is, for those who are not told: what the last run has left on the host."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import state, users
from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import Relay
from ansible_collections.outpost.smtp.plugins.module_utils._egress.request import Request


def remembered(root: Path, user: str) -> t.Optional[str]:
    request = Request([Relay("primary", "smtp.example.net", 465)], user, [], "table inet outpost_smtp { }")
    state.save(state.State({}, None, request), str(root))
    return users.mail_server(str(root))


def test_the_user_of_the_last_run(tmp_path: Path) -> None:
    assert remembered(tmp_path, "nobody") == "nobody"


@pytest.mark.parametrize("user", ["root", "nobody-of-that-name", "a\0b"])
def test_who_can_not_send_for_the_mail_server_is_nobody(tmp_path: Path, user: str) -> None:
    assert remembered(tmp_path, user) is None


def test_a_host_without_our_rules(tmp_path: Path) -> None:
    assert users.mail_server(str(tmp_path)) is None
    (tmp_path / state.PATH[1:]).parent.mkdir(parents=True)
    (tmp_path / state.PATH[1:]).write_text("damaged")
    assert users.mail_server(str(tmp_path)) is None
