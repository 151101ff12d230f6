# SPDX-License-Identifier: GPL-3.0-or-later
"""The glue: options in, facts or one sentence out."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.outpost.smtp.plugins.module_utils._egress import addresses, blame, denials, overview, refused_log
from ansible_collections.outpost.smtp.plugins.modules import smtp_egress_info


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> t.Callable[..., t.Dict[str, t.Any]]:
    def facts(_self: t.Any, relays: t.Sequence[t.Any], user: str, seconds: float) -> t.Dict[str, t.Any]:
        if user == "broken":
            raise OSError("no space left")
        return {"asked": [[relay.host for relay in relays], user, seconds]}

    monkeypatch.setattr(overview.Overview, "facts", facts)

    def call(**options: t.Any) -> t.Dict[str, t.Any]:
        with patch_module_args(options), pytest.raises(SystemExit):
            smtp_egress_info.main()
        return t.cast(t.Dict[str, t.Any], json.loads(capsys.readouterr().out))

    return call


def test_nothing_need_be_given(run: t.Callable[..., t.Dict[str, t.Any]]) -> None:
    result = run()
    assert result["changed"] is False and result["asked"] == [[], "postfix", 5]


def test_options_are_passed_on(run: t.Callable[..., t.Dict[str, t.Any]]) -> None:
    result = run(relays=[{"host": "SMTP.example.net.", "port": 465}], user="mail", timeout=2, _ansible_check_mode=True)
    assert result["asked"] == [["smtp.example.net"], "mail", 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relays": [{"host": "a b", "port": 465}]}, "relays[0]"),
        ({"relays": [{"host": "smtp.example.net", "port": 0}]}, "relays[0]"),
        ({"timeout": 0}, "timeout must be"),
        ({"timeout": 61}, "timeout must be"),
        ({"user": "broken"}, "unexpected OSError: no space left"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(run: t.Callable[..., t.Dict[str, t.Any]], options: t.Dict[str, t.Any], message: str) -> None:
    result = run(**options)
    assert result["failed"] and message in result["msg"]


def test_the_documented_values_are_what_comes_back(tmp_path: Path) -> None:
    closed = [addresses.Relay("closed", "127.0.0.1", 1)]
    facts = overview.Overview(lambda *_call: (127, "", ""), str(tmp_path)).facts(closed, "root", 1)
    documented = yaml.safe_load(smtp_egress_info.RETURN)

    assert set(facts) == set(documented) and facts["relays"][0]["blocked_by"]
    assert set(facts["relays"][0]) == set(documented["relays"]["contains"])
    assert set(blame.BlockedBy._fields) == set(documented["relays"]["contains"]["blocked_by"]["contains"])
    assert set(refused_log.Refused._fields) == set(documented["refused"]["contains"])
    assert set(denials.Denial._fields) == set(documented["denials"]["contains"])
    assert set(denials.Profile._fields) == set(documented["apparmor_profiles"]["contains"])
