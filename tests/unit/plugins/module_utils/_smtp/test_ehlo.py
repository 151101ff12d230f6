# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken from the reply to EHLO."""

from __future__ import annotations

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.ehlo import Capabilities
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply


def capabilities(*lines: str) -> Capabilities:
    return Capabilities(Reply(250, ["mx.provider.test", *lines]))


@pytest.mark.parametrize(
    ("lines", "mechanisms"),
    [
        (["AUTH PLAIN LOGIN"], ["PLAIN", "LOGIN"]),
        (["auth plain login"], ["PLAIN", "LOGIN"]),
        (["AUTH=LOGIN PLAIN"], ["LOGIN", "PLAIN"]),
        (["AUTH PLAIN", "AUTH=PLAIN LOGIN"], ["PLAIN", "LOGIN"]),
        (["AUTH PLAIN PLAIN PLAIN"], ["PLAIN"]),
        (["AUTH"], []),
        (["AUTH="], []),
        (["AUTHPLAIN", "XAUTH PLAIN"], []),
        ([], []),
    ],
)
def test_mechanisms(lines: list, mechanisms: list) -> None:
    assert capabilities(*lines).auth == mechanisms


def test_the_server_name_is_no_extension() -> None:
    assert not Capabilities(Reply(250, ["STARTTLS AUTH PLAIN"])).starttls
    assert Capabilities(Reply(250, ["AUTH"])).lines == []


@pytest.mark.parametrize(
    ("keyword", "masked"),
    [("XXXXXXXA", "XXXXXXXA"), ("XXXXXXXX", "XXXXXXXX"), ("********", "********"), ("XCLIENT", ""), ("X-EXPS", ""), ("XXX", ""), ("STARTTLS", "")],
)
def test_masked_starttls(keyword: str, masked: str) -> None:
    assert capabilities("SIZE 1", keyword).starttls_masked == masked


def test_presence() -> None:
    offered = capabilities("STARTTLS", "", "SIZE 0", "AUTH")

    assert offered.starttls and "size" in offered and "AUTH" in offered and "PIPELINING" not in offered
