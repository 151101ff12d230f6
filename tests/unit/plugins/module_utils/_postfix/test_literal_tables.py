# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables that are written in main.cf itself: what they hold, and that nobody is told."""

from __future__ import annotations

import json
import typing as t

import pytest
from postfix_instance import Instance

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import literal_tables
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.maps import Maps
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.predict import predict

HOST = "smtp.example.net"
SECRET = "Canary-Secret"
MAIN = f"relayhost = [{HOST}]:587\nsmtp_sasl_auth_enable = yes\nsmtp_tls_security_level = encrypt\nsmtp_sasl_tls_security_options =\n"


def relay(password_maps: str, **options: t.Any) -> t.Tuple[t.Any, Instance]:
    instance = Instance(MAIN + f"smtp_sasl_password_maps = {password_maps}\n", **options)
    (found,) = instance.relays()
    return found, instance


def told(found: t.Any) -> str:
    return json.dumps([found.facts(), predict(found, None)]) + repr(found.lookup)


@pytest.mark.parametrize(
    "table",
    [
        f"static:user:{SECRET}",
        f"static:{{ user:{SECRET} }}",
        f"proxy:static:user:{SECRET}",
        f"inline:{{ {HOST}=user:{SECRET} }}",
        f"inline:{{ {{ {HOST.upper()} = user:{SECRET} }}, other=x }}",
        f"inline:{{ [{HOST}]:587=user:{SECRET} }}",
        f"hash:/p inline:{{ {HOST}=user:{SECRET} }}",
    ],
)
def test_a_password_in_main_cf_is_found_and_never_told(table: str) -> None:
    found, instance = relay(table, tables={"hash:/p": {"other": "x:y"}})
    target = found.endpoint()
    assert (target["username"], target["password"]) == ("user", SECRET)
    assert found.facts()["credential"]["username"] == "user"
    assert SECRET not in told(found)
    assert SECRET not in str(instance.calls), "postmap got it as an argument"


@pytest.mark.parametrize(
    "table", [f"inline:user:{SECRET}", f"inline:{{ {SECRET} }}", f"inline:{{ ={SECRET} }}", f"inline:{{ x.example=user:{SECRET} }}"]
)
def test_a_table_without_an_answer_is_not_told_either(table: str) -> None:
    found, instance = relay(table)
    assert found.credential is None and [problem.code for problem in found.problems] != []
    assert "inline:..." in told(found)
    assert SECRET not in told(found) and SECRET not in str(instance.calls)


@pytest.mark.parametrize("table", [f"randmap:{{user:{SECRET}}}", f"unionmap:{{static:user:{SECRET}}}", f"proxy:pipemap:{{inline:{{a={SECRET}}}}}"])
def test_tables_made_of_others_are_not_followed(table: str) -> None:
    found, instance = relay(table)
    assert predict(found, None)["action"] == "unknown" and found.problems == []
    assert "made of others" in told(found)
    assert SECRET not in told(found) and SECRET not in str(instance.calls)


@pytest.mark.parametrize("value", [SECRET, f"user {SECRET}", f"user {SECRET}:{SECRET}", f"{SECRET}:{SECRET}"])
def test_an_entry_of_another_form_may_be_all_password(value: str) -> None:
    found, _instance = relay("hash:/p", tables={"hash:/p": {HOST: value}})
    assert found.facts()["credential"] == {**found.facts()["credential"], "found": True, "username": None}
    assert SECRET not in told(found)


@pytest.mark.parametrize(
    "warning",
    [
        f"""postmap: warning: /p, line 1: unbalanced '"' in 'user:{SECRET}" [{HOST}]:587' -- ignoring this line""",
        f'postmap: warning: texthash:/p, line 2: ignoring duplicate entry: "user:{SECRET}"',
    ],
)
def test_what_postmap_quotes_of_a_table_is_not_told(warning: str) -> None:
    found, _instance = relay("hash:/p", tables={"hash:/p": f"{warning}\npostmap: fatal: open database /p.db: No such file"})
    assert "open database /p.db" in told(found) and SECRET not in told(found)


def test_what_postconf_quotes_of_main_cf_is_not_told() -> None:
    error = f"postconf: fatal: /etc/postfix/main.cf, line 7: missing '=' after attribute name: \"static:user:{SECRET}\"\n"
    instance = Instance()
    instance.run = lambda _argv, _stdin: Result(1, "", error)  # type: ignore[method-assign]
    with pytest.raises(PostfixError, match="main.cf, line 7: missing '=' after attribute name") as caught:
        instance.settings()
    assert SECRET not in str(caught.value)


def test_names_of_tables() -> None:
    names = "hash:/etc/postfix/p, static:user:secret proxy:inline:{a=b, c=d} randmap:{a,b}"
    assert literal_tables.shown(names) == "hash:/etc/postfix/p, static:..., inline:..., randmap:..."


def test_entries_for_routing() -> None:
    def no_program(argv: t.Sequence[str], _stdin: str) -> Result:
        raise AssertionError(argv)

    maps = Maps("/etc/postfix", no_program)
    assert maps.entries("inline:{@A.example=[relay.example], { b@b.example = [other.example]:587 }}") == {
        "@a.example": "[relay.example]",
        "b@b.example": "[other.example]:587",
    }
    assert maps.entries("static:[relay.example]") == {} and maps.entries("inline:broken") == {}
    found = maps.find("inline:{@A.example=[relay.example]}", ["me@a.example", "@a.example"])
    assert found is not None and found.value == "[relay.example]"
