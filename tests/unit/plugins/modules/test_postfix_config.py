# SPDX-License-Identifier: GPL-3.0-or-later
"""The glue: what reaches the package, and how its answers and faults reach Ansible. Needs no Postfix."""

from __future__ import annotations

import json
import typing as t

import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.modules import postfix_config

CANARY = "[h]:465 me:CANARY'\"\\-1f7\n"


class FakeConfigurator:
    missing: t.List[str] = []
    outcome: t.Any = {"changed": True}
    seen: t.List[t.Any] = []

    def __init__(self, *arguments: t.Any) -> None:
        FakeConfigurator.seen = list(arguments)
        self.missing_packages = FakeConfigurator.missing

    def nothing_done(self) -> t.Dict[str, t.Any]:
        return {"changed": False, "missing_packages": self.missing_packages}

    def configure(self, change: bool) -> t.Dict[str, t.Any]:
        if isinstance(FakeConfigurator.outcome, Exception):
            raise FakeConfigurator.outcome
        return {**FakeConfigurator.outcome, "change": change}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> t.Callable[..., t.Dict[str, t.Any]]:
    logged: t.List[str] = []
    monkeypatch.setattr(postfix_config, "Configurator", FakeConfigurator)
    monkeypatch.setattr(basic.AnsibleModule, "log", lambda self, msg, log_args=None: logged.append(msg))
    FakeConfigurator.missing, FakeConfigurator.outcome = [], {"changed": True}

    def call(**arguments: t.Any) -> t.Dict[str, t.Any]:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            postfix_config.main()
        output = capsys.readouterr().out
        assert "CANARY" not in output and "CANARY" not in "".join(logged)
        return dict(json.loads(output))

    return call


def test_options_and_documentation_agree() -> None:
    documented = yaml.safe_load(postfix_config.DOCUMENTATION)["options"]
    assert set(documented) == set(postfix_config.ARGUMENTS)
    for name, option in postfix_config.ARGUMENTS.items():
        assert {key: value for key, value in documented[name].items() if key != "description"} == {
            key: value for key, value in option.items() if key != "no_log"
        }


def test_secret_tables_are_hidden_from_output_and_log(run: t.Any) -> None:
    result = run(parameters="a = @sasl@\n", secret_tables={"sasl": CANARY})
    assert result["changed"] and result["change"] and FakeConfigurator.seen[1].secret_tables == {"sasl": CANARY}


def test_check_mode_changes_nothing(run: t.Any) -> None:
    assert run(_ansible_check_mode=True)["change"] is False


@pytest.mark.parametrize(
    ("options", "failed", "changed"),
    [
        ({}, True, None),
        ({"packages_missing": "report"}, False, False),
        ({"_ansible_check_mode": True}, False, True),  # predicts as if they were installed
    ],
)
def test_missing_packages(run: t.Any, options: t.Dict[str, t.Any], failed: bool, changed: t.Optional[bool]) -> None:
    FakeConfigurator.missing = ["postfix"]
    result = run(**options)
    assert result.get("failed", False) is failed and result.get("changed") is changed
    if failed:
        assert result["missing_packages"] == ["postfix"] and "postfix" in result["msg"]


def test_absent_ignores_what_is_given(run: t.Any) -> None:
    run(state="absent", parameters="not even valid")
    assert not FakeConfigurator.seen[1].wants_anything()


def test_a_fault_is_one_sentence(run: t.Any) -> None:
    FakeConfigurator.outcome = PostfixError("It does not work", reason="x")
    result = run()
    assert (result["failed"], result["msg"], result["reason"]) == (True, "It does not work", "x")


def test_the_text_of_an_unexpected_exception_is_not_shown(run: t.Any) -> None:
    FakeConfigurator.outcome = KeyError("CANARY")
    assert run()["msg"].startswith("Unexpected KeyError in test_postfix_config.py:")


@pytest.mark.parametrize("options", [{"tables": {"a": ["x"]}}, {"secret_tables": {"a": {"CANARY": "CANARY"}}}, {"parameters": "x"}])
def test_wrong_options_fail_cleanly(run: t.Any, options: t.Dict[str, t.Any]) -> None:
    assert run(**options)["failed"]
