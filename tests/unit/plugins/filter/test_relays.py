# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that roles put their relays through."""

from __future__ import annotations

import pytest

errors = pytest.importorskip("ansible.errors")

from ansible_collections.outpost.smtp.plugins.filter.relays import FilterModule  # noqa: E402  (needs ansible-core)

relays = FilterModule().filters()["relays"]


def test_relays_are_completed():
    assert relays([{"host": "smtp.example.net", "port": 465}])[0]["tls"] == "implicit"


def test_a_wrong_field_is_named_with_the_users_own_variable_and_no_secret():
    with pytest.raises(errors.AnsibleFilterError) as caught:
        relays([{"host": "smtp.example.net", "username": "u", "password": "canary\n"}], variable="smtp_verify_relays")
    assert "smtp_verify_relays[0] (smtp.example.net).password: " in str(caught.value)
    assert "canary" not in str(caught.value) + repr(caught.value.__cause__)
