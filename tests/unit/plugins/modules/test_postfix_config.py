# SPDX-License-Identifier: GPL-3.0-or-later
"""The glue: what reaches the package, and how its answers and faults reach Ansible. Needs no Postfix."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import (
    logical,
    parameter_value,
    parse_parameters,
    parse_services,
    references,
    split_list,
)
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.tables import parse_table
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transports import transports
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import normalise_relays
from ansible_collections.outpost.smtp.plugins.modules import postfix_config

TEMPLATES = Path(__file__).parents[4] / "roles" / "postfix_relay" / "templates"
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
            raise FakeConfigurator.outcome  # pylint: disable=raising-bad-type  # seen as the dictionary that it is at first
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


def test_a_path_that_can_not_be_used_is_named(run: t.Any) -> None:
    FakeConfigurator.outcome = IsADirectoryError(21, "Is a directory", "/p")
    assert run()["msg"] == "/p can not be used: Is a directory; nothing was changed"
    FakeConfigurator.outcome = PermissionError(13, "Permission denied", "/p")
    assert run()["msg"] == "/p can not be used: Permission denied; nothing was changed; this needs root's rights (become)"


@pytest.mark.parametrize("options", [{"tables": {"a": ["x"]}}, {"secret_tables": {"a": {"key": "CANARY"}}}, {"parameters": "x"}])
def test_wrong_options_fail_cleanly(run: t.Any, options: t.Dict[str, t.Any]) -> None:
    assert run(**options)["failed"]


def rendered(template: str, **relay: t.Any) -> str:
    """A template of role postfix_relay for one relay, as Ansible renders it."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, undefined=jinja2.StrictUndefined)
    credentials = {"username": "me", "password": "CANARY"} if relay.get("tls") != "none" else {}
    relays = normalise_relays([{"name": "a-b", "host": "smtp.example.net", **credentials, **relay}])
    senders = {"rules": [], "everybody": None}
    return environment.get_template(template).render(
        __postfix_relay_transports=transports(relays, "v"), __postfix_relay_alias_entries=[], __postfix_relay_senders=senders
    )


def test_nothing_in_an_administrators_main_cf_weakens_the_roles_transport() -> None:
    """Of these, each was seen to send without TLS or without a login, or to send nothing, when taken from main.cf."""
    service = next(iter(parse_services(rendered("master.cf.j2")).values()))
    options = dict(argument.split("=", 1) for argument in logical(service).split(" -o ")[1:])
    assert options["smtp_tls_security_level"] == "$outpost_a_b_tls_security_level"
    assert options["smtp_tls_policy_maps"] == "static:$outpost_a_b_tls_security_level"  # when empty, smtp_tls_per_site decides
    assert options["smtp_tls_connection_reuse"] == "no"  # tlsproxy(8) runs in a chroot, without our CA file
    assert options["smtp_fallback_relay"] == options["smtp_tls_CApath"] == "" and options["smtp_sender_dependent_authentication"] == "no"


@pytest.mark.parametrize(("relay", "level"), [({}, "secure"), ({"port": 465}, "secure"), ({"port": 25, "tls": "none"}, "none")])
def test_the_roles_parameters_are_complete_and_a_server_without_credential_gets_no_mail(relay: t.Dict[str, t.Any], level: str) -> None:
    parameters = {name: parameter_value(raw) for name, raw in parse_parameters(rendered("main.cf.j2", **relay), "parameters")[0].items()}
    assert set(references(rendered("master.cf.j2", **relay))) <= set(parameters)
    assert parameters["outpost_a_b_tls_security_level"] == level
    assert parameters["outpost_a_b_sasl_password_maps"].split()[1].startswith("fail:")
    # smtp(8) asks for the host's name first, and "fail" would answer for every name that the table does not have.
    assert parse_table("sasl_passwd", rendered("sasl_passwd.j2", **relay)) == ({"smtp.example.net": "me:CANARY"} if level != "none" else {})


def test_an_alias_for_root_is_one_for_root_at_localhost_too() -> None:
    """virtual(5) takes a bare name for the domains of $mydestination."""
    parameters = parse_parameters(rendered("null_client.cf.j2"), "initial_parameters")[0]
    assert "localhost" in split_list(parameter_value(parameters["mydestination"]))
    assert parameter_value(parameters["local_transport"]).startswith("error:")


def test_no_default_in_the_roles_argument_spec_is_a_template() -> None:
    """When an argument is wrong, Ansible shows the whole specification with its templates filled in: the password, too."""
    specs = yaml.safe_load((TEMPLATES.parent / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert "{{" not in json.dumps(specs)
