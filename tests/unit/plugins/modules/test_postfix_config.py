# SPDX-License-Identifier: GPL-3.0-or-later
"""The glue: what reaches the package, and how its answers and faults reach Ansible. Needs no Postfix."""

from __future__ import annotations

import json
import os
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
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configure import Configurator
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Host
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.packages import Platform
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.relay_tables import relay_tables
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.request import Request
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.tables import parse_table
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transports import transports
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import normalise_relays
from ansible_collections.outpost.smtp.plugins.modules import postfix_config

NO_SENDERS = {"rules": [], "everybody": None}
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
        assert {key: value for key, value in documented[name].items() if key not in ("description", "version_added")} == {
            key: value for key, value in option.items() if key != "no_log"
        }


def test_what_is_returned_is_documented(tmp_path: Path) -> None:
    configurator = Configurator(str(tmp_path), Request(), Host(str(tmp_path), systemd_directory=""), Platform(str(tmp_path)))
    assert set(yaml.safe_load(postfix_config.RETURN)) == set(configurator.nothing_done()) - {"changed", "diff"}
    assert set(configurator.configure(change=False)) == set(configurator.nothing_done())


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


def test_a_path_that_can_not_be_used_is_named(run: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeConfigurator.outcome = IsADirectoryError(21, "Is a directory", "/p")
    assert run()["msg"] == "/p can not be used: Is a directory; nothing was changed"
    FakeConfigurator.outcome = PermissionError(1, "Operation not permitted", "/p")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert run()["msg"] == "/p can not be used: Operation not permitted; nothing was changed"
    FakeConfigurator.outcome = PermissionError(13, "Permission denied", "/p")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run()["msg"] == "/p can not be used: Permission denied; nothing was changed; this needs root's rights (become)"


@pytest.mark.parametrize("options", [{"tables": {"a": ["x"]}}, {"secret_tables": {"a": {"key": "CANARY"}}}, {"parameters": "x"}])
def test_wrong_options_fail_cleanly(run: t.Any, options: t.Dict[str, t.Any]) -> None:
    assert run(**options)["failed"]


def routes(**relay: t.Any) -> t.Dict[str, t.Any]:
    credentials = {"username": "me", "password": "CANARY"} if relay.get("tls") != "none" else {}
    return transports(normalise_relays([{"name": "a-b", "host": "smtp.example.net", **credentials, **relay}]), "v")


def rendered(template: str, found: t.Dict[str, t.Any]) -> str:
    """A template of role postfix_relay, as Ansible renders it."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(template).render(
        __postfix_relay_routes=found,
        __postfix_relay_transports=found["transports"],
        __postfix_relay_alias_entries=[],
        __postfix_relay_senders=NO_SENDERS,
    )


def options_of(found: t.Dict[str, t.Any], service: str) -> t.Dict[str, str]:
    """The parameters that master.cf.j2 sets for a service."""
    entry = parse_services(rendered("master.cf.j2", found).replace("@smtp_chroot@", "y"))[service]
    return dict(argument.split("=", 1) for argument in logical(entry).split(" -o ")[1:])


def parameters_of(found: t.Dict[str, t.Any]) -> t.Dict[str, str]:
    """What main.cf.j2 sets, and what it adds to lists."""
    assigned, appended = parse_parameters(rendered("main.cf.j2", found), "parameters")
    return {**{name: parameter_value(raw) for name, raw in assigned.items()}, **appended}


def test_nothing_in_an_administrators_main_cf_weakens_the_roles_transport() -> None:
    """Of these, each was seen to send without TLS or without a login, or to send nothing, when taken from main.cf."""
    options, parameters = options_of(routes(), "outpost_a_b/unix"), parameters_of(routes())
    assert options["smtp_tls_security_level"] == "$outpost_a_b_tls_security_level"
    assert options["smtp_tls_policy_maps"] == "$outpost_a_b_tls_policy_maps"
    assert parameters["outpost_a_b_tls_policy_maps"] == "static:secure"  # when empty, smtp_tls_per_site decides
    assert options["smtp_fallback_relay"] == "$outpost_a_b_fallback_relay" and parameters["outpost_a_b_fallback_relay"] == ""
    fixed = {
        "relayhost": "[smtp.example.net]:587",  # mail would be returned if the name had no address
        "smtp_always_send_ehlo": "yes",
        "smtp_never_send_ehlo": "no",
        "smtp_discard_ehlo_keywords": "",
        "smtp_discard_ehlo_keyword_address_maps": "",
        "smtp_reply_filter": "",
        "smtp_sasl_auth_soft_bounce": "yes",
        "smtp_sasl_security_options": "noplaintext,noanonymous",  # those without TLS
        "smtp_sasl_auth_cache_name": "proxy:internal:outpost_refused",  # one on disk holds a refusal for 90 days
        "smtp_skip_5xx_greeting": "yes",
        "smtp_tls_connection_reuse": "no",  # tlsproxy(8) runs in a chroot, without our CA file
        "smtp_tls_CApath": "",
        "smtp_tls_chain_files": "",
        "smtp_sender_dependent_authentication": "no",
    }
    assert {name: options.get(name) for name in fixed} == fixed
    assert parameters["proxy_write_maps"] == options["smtp_sasl_auth_cache_name"], "proxywrite writes to no other map"


def test_main_cf_and_the_tables_of_many_relays() -> None:
    relays = [
        {"name": "a", "host": "a.example", "port": 465, "username": "u", "password": "p", "ca_file": "/ca.pem", "rate_delay": 2},
        {"name": "b", "host": "b.example", "port": 587, "username": "u", "password": "p"},
        {"name": "c", "host": "c.example", "port": 587, "senders": ["@c.example"]},
        {"name": "d", "host": "d.example", "srv": True, "username": "u", "password": "p", "senders": ["d"]},
    ]
    found = transports(normalise_relays(relays), "v")
    expected = {
        "default_transport": "outpost_a:[a.example]:465",
        "sender_dependent_default_transport_maps": "@sender_transport@",
        "outpost_a_fallback_relay": "[127.87.0.1]:325",
        "outpost_a_tls_policy_maps": "@tls_policy@ static:secure",
        "outpost_a_tls_CAfile": "@ca_bundle_1@",
        "outpost_a_sasl_password_maps": "@sasl_a@ fail:no_credential_for_this_server",
        "outpost_a_destination_rate_delay": "2s",
        "outpost_b_tls_CAfile": "@ca_bundle@",
        "outpost_b_tls_policy_maps": "static:secure",
        "outpost_c_sasl_password_maps": "fail:no_credential_for_this_server",
        "outpost_d_sasl_password_maps": "@sasl_d@",
        "outpost_failover_325": "outpost_b:[b.example]:587",
    }
    parameters = parameters_of(found)
    assert {name: parameters.get(name) for name in expected} == expected
    assert [name for name in parameters if "_destination_" in name] == ["outpost_a_destination_rate_delay"], "Postfix has defaults for the others"
    tables = relay_tables(found, [], NO_SENDERS)
    assert tables["sender_transport"] == "@c.example outpost_c:[c.example]:587\nd outpost_d:d.example:submission\n"
    assert tables["tls_policy"] == "[127.87.0.1]:325 encrypt protocols=TLSv1.2 ciphers=high servername=localhost\n"
    srv = options_of(found, "outpost_d/unix")
    assert srv["use_srv_lookup"] == "submission"
    assert srv["allow_srv_lookup_fallback"] == srv["ignore_srv_lookup_error"] == "no", "its MX is no submission server"
    assert "use_srv_lookup" not in options_of(found, "outpost_a/unix"), "Postfix before 3.8 does not know it"
    assert set(references(rendered("master.cf.j2", found))) <= set(parameters)


def test_the_way_to_the_next_transport_keeps_what_it_can_not_take_and_does_nothing_twice() -> None:
    found = transports(normalise_relays([{"name": "a", "host": "a.example", "port": 465}, {"name": "b", "host": "b.example"}]), "v")
    options = options_of(found, "127.87.0.1:325/inet")
    assert options["content_filter"] == "$outpost_failover_325" and options["soft_bounce"] == "yes"
    off = "no_unknown_recipient_checks,no_header_body_checks,no_milters,no_address_mappings"
    assert options["receive_override_options"] == off and options["smtpd_proxy_filter"] == options["smtpd_milters"] == ""
    assert options["smtpd_relay_restrictions"].endswith(",reject")
    # What an administrator's own restrictions refuse has been accepted by this host already.
    places = ("client", "helo", "sender", "recipient", "data", "end_of_data")
    assert {options[f"smtpd_{place}_restrictions"] for place in places} == {""}


@pytest.mark.parametrize(("relay", "level"), [({}, "secure"), ({"port": 465}, "secure"), ({"port": 25, "tls": "none"}, "none")])
def test_the_roles_parameters_are_complete_and_a_server_without_credential_gets_no_mail(relay: t.Dict[str, t.Any], level: str) -> None:
    found = routes(**relay)
    parameters = parameters_of(found)
    assert set(references(rendered("master.cf.j2", found))) <= set(parameters)
    assert parameters["outpost_a_b_tls_security_level"] == level
    assert parameters["outpost_a_b_sasl_password_maps"].split()[-1].startswith("fail:")
    # smtp(8) asks for the host's name first, and "fail" would answer for every name that the table does not have.
    assert found["secret_tables"] == ({"sasl_a_b": "smtp.example.net me:CANARY\n"} if level != "none" else {})
    assert all(parse_table(name, text) for name, text in found["secret_tables"].items())


def test_an_alias_for_root_is_one_for_root_at_localhost_too() -> None:
    """virtual(5) takes a bare name for the domains of $mydestination."""
    parameters = parse_parameters(rendered("null_client.cf.j2", routes()), "initial_parameters")[0]
    assert "localhost" in split_list(parameter_value(parameters["mydestination"]))
    assert parameter_value(parameters["local_transport"]).startswith("error:")


def test_no_default_in_the_roles_argument_spec_is_a_template() -> None:
    """When an argument is wrong, Ansible shows the whole specification with its templates filled in: the password, too."""
    specs = yaml.safe_load((TEMPLATES.parent / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert "{{" not in json.dumps(specs)
