# SPDX-License-Identifier: GPL-3.0-or-later
"""What the other mail servers are given, and that there are files for each of them."""

from __future__ import annotations

import base64

from riglib import images, mta, provider


def test_a_password_can_be_anything() -> None:
    accounts = provider.new_accounts()
    lines = mta._accounts(accounts).splitlines()
    read = {name: base64.b64decode(password).decode() for name, password in (line.split(" ") for line in lines)}
    assert read == {one["username"]: one["password"] for one in accounts.values()}
    assert len(f"AUTH PLAIN {base64.b64encode(accounts['long']['password'].encode()).decode()}") > 512


def test_each_server_can_be_set_up() -> None:
    directory = images._HERE / "mta" / "usr" / "local" / "share" / "rig"
    assert sorted(path.parent.name for path in directory.glob("*/setup.sh")) == sorted(mta.PACKAGES)
    assert images.RECIPES[mta.IMAGE].alternatives == tuple(mta.PACKAGES.values())
