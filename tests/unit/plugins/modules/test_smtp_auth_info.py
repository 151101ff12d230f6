# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it: a process with its arguments on standard input."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import types
import typing as t
from pathlib import Path

import pytest

pytest.importorskip("ansible")

import proxy_server
import yaml
from postfix_instance import Instance
from smtp_server import HOST, PASSWORD, USERNAME, Certificates, Server, conversation

from ansible_collections.outpost.smtp.plugins.module_utils._smtp import endpoint
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import RelayError
from ansible_collections.outpost.smtp.plugins.modules import smtp_auth_info

Answer = t.Dict[str, t.Any]
DEFAULTS = {name: option.get("default") for name, option in smtp_auth_info.ARGUMENTS.items()}


def run(arguments: Answer, check_mode: bool = False) -> Answer:
    """Run the module and return what it printed; anything on standard error is a failure."""
    wrapped = {"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check_mode}}
    done = subprocess.run(
        [sys.executable, smtp_auth_info.__file__],
        input=json.dumps(wrapped),
        capture_output=True,
        text=True,
        timeout=30,
        env=environment(),
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    for secret in (PASSWORD, base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode()).decode()):
        assert secret not in done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert done.returncode == (1 if answer.get("failed") else 0)
    return t.cast(Answer, answer)


def check(parameters: Answer) -> None:
    """Let the module look at *parameters* that are wrong; it has no way to go on."""
    smtp_auth_info.run(t.cast(t.Any, types.SimpleNamespace(params={**DEFAULTS, **parameters})))


def environment() -> t.Dict[str, str]:
    return {"PYTHONPATH": ":".join(sys.path), "LC_ALL": "C.UTF-8"}


def entry(port: int, certificates: Certificates, **fields: t.Any) -> Answer:
    return {
        "host": HOST,
        "port": port,
        "tls": "implicit",
        "username": USERNAME,
        "password": PASSWORD,
        "ca_file": certificates.ca_file,
        **fields,
    }


@pytest.mark.parametrize("check_mode", [False, True])
def test_success_is_never_changed(certificates: Certificates, check_mode: bool) -> None:
    with Server(conversation(tls="implicit", context=certificates.good())) as server:
        answer = run({"relays": [entry(server.port, certificates, name="primary")]}, check_mode)
        server.settle()

    assert answer["ok"] is True and answer["changed"] is False and answer["diagnosis"] is None
    assert answer["results"][0]["name"] == "primary" and answer["results"][0]["auth"]["code"] == 235
    assert server.auth_attempts == 1


def test_failure_says_what_to_do_and_returns_all_that_was_learned(certificates: Certificates) -> None:
    with Server(conversation(tls="implicit", context=certificates.good())) as server:
        relays = [entry(server.port, certificates, name="good"), entry(server.port, certificates, name="bad", password="not-this-one")]
        answer = run({"relays": relays})

    assert answer["failed"] and answer["ok"] is False
    assert answer["msg"].startswith(f"1 of 2 relays failed, first: {HOST}:{server.port} refuses the user name or password: 535 5.7.8")
    assert answer["msg"].endswith("[auth_bad_credentials]") and answer["diagnosis"]["remedy"] in answer["msg"]
    assert [result["ok"] for result in answer["results"]] == [True, False]
    assert answer["diagnosis"] == answer["results"][1]["diagnosis"]


def test_a_password_is_read_on_the_host(certificates: Certificates, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.touch(0o600)
    path.write_text(f"{PASSWORD}\n")
    with Server(conversation(tls="implicit", context=certificates.good())) as server:
        relay = {**entry(server.port, certificates, name="primary"), "password": None, "password_file": str(path)}
        assert run({"relays": [relay]})["ok"]
        path.chmod(0o644)
        answer = run({"relays": [relay]})
    assert answer["msg"].startswith(f"relays[0] (primary).password_file: {path} is open to others") and server.auth_attempts == 1


def test_a_failure_can_be_reported_only(certificates: Certificates) -> None:
    with Server(conversation(tls="implicit", context=certificates.wrong_name())) as server:
        answer = run({"relays": [entry(server.port, certificates)], "on_failure": "report"})

    assert "failed" not in answer and answer["ok"] is False and answer["diagnosis"]["code"] == "tls_name_mismatch"


@pytest.mark.parametrize(
    ("relays", "message"),
    [
        ([], "relays: is empty"),
        ([{"host": "a b"}], "relays[0] (a b).host"),
        ([{"host": "mx.example.net"}, {"name": "second", "host": "mx.example.net", "port": 0}], "relays[1] (second).port"),
        ([{"host": "mx.example.net", "username": "u"}], "relays[0] (mx.example.net).password"),
        ([{"host": "mx.example.net", "port": 465, "tls": "starttls"}], "relays[0] (mx.example.net).tls"),
        ([{"host": "mx.example.net", "username": "u", "password": PASSWORD + "\n"}], "relays[0] (mx.example.net).password"),
        ([{"host": "mx.example.net", "username": "u", "password": PASSWORD, "port": 25, "tls": "none"}], "relays[0] (mx.example.net).tls"),
    ],
)
def test_wrong_relays_are_named_before_anything_is_connected(relays: t.List[Answer], message: str) -> None:
    with pytest.raises(RelayError) as caught:
        check({"relays": relays})

    assert message in str(caught.value) and PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"timeout": 0}, "timeout: "),
        ({"timeout": -1}, "timeout: "),
        ({"timeout": float("nan")}, "timeout: "),
        ({"timeout": float("inf")}, "timeout: "),
        ({"timeout": 3601}, "timeout: "),
        ({"ehlo_name": "a\r\nMAIL FROM:<x>"}, "ehlo_name: "),
        ({"ehlo_name": ""}, "ehlo_name: "),
    ],
)
def test_wrong_options(option: Answer, message: str) -> None:
    with pytest.raises(RelayError) as caught:
        check({"relays": [{"host": "mx.example.net"}], **option})

    assert str(caught.value).startswith(message)


def test_wrong_input_fails_with_the_message_alone() -> None:
    answer = run({"relays": [{"host": "mx.example.net", "username": USERNAME}]})

    assert answer["failed"] and answer["msg"].startswith("relays[0] (mx.example.net).password: is required")
    assert answer["ok"] is False and answer["diagnosis"] is None and "results" not in answer


def test_the_documented_values_are_what_comes_back(certificates: Certificates) -> None:
    """RETURN names every key, and nothing comes that it does not name."""
    documented = yaml.safe_load(smtp_auth_info.RETURN)
    with Server(conversation(context=certificates.expired())) as server:
        answer = run({"relays": [entry(server.port, certificates, tls="starttls")], "on_failure": "report"})

    assert set(documented) == set(answer) - {"changed", "invocation"}
    compare(answer["results"][0], documented["results"]["contains"], "results")
    for sample in documented["results"]["sample"]:
        compare(sample, documented["results"]["contains"], "sample")


def compare(value: Answer, contains: Answer, path: str) -> None:
    always = {key for key, documentation in contains.items() if documentation["returned"] == "always"}
    assert always <= set(value) <= set(contains), path
    for key, documentation in contains.items():
        inner = documentation.get("contains")
        if not inner or value.get(key) is None:
            continue
        for part in value[key] if isinstance(value[key], list) else [value[key]]:
            compare(part, inner, f"{path}.{key}")


def test_the_documented_options_are_those_of_an_endpoint() -> None:
    """That they are the module's is what ansible-test sees to."""
    options = yaml.safe_load(smtp_auth_info.DOCUMENTATION)["options"]

    assert set(options["relays"]["suboptions"]) == set(endpoint.FIELDS)
    for name, option in options["relays"]["suboptions"].items():
        if "default" in option and name in endpoint.DEFAULTS:
            assert option["default"] == endpoint.DEFAULTS[name], name


def test_every_address_adds_what_it_promises(certificates: Certificates) -> None:
    with Server(conversation(tls="implicit", context=certificates.good())) as server:
        answer = run({"relays": [entry(server.port, certificates, every_address=True)]})
        server.settle()

    assert answer["ok"] is True and server.auth_attempts == 1
    (address,) = answer["results"][0]["addresses"]
    assert address["ok"] is True and address["fingerprint_sha256"] == answer["results"][0]["tls"]["fingerprint_sha256"]


@pytest.mark.parametrize("investigate", [True, False])
def test_without_investigation_there_is_one_connection(certificates: Certificates, investigate: bool) -> None:
    with Server(conversation(tls="implicit", context=certificates.expired())) as server:
        answer = run({"relays": [entry(server.port, certificates)], "on_failure": "report", "investigate": investigate})
        server.settle()

    assert answer["diagnosis"]["code"] == "tls_cert_expired"
    assert (len(server.peers) > 1) is investigate


def test_a_token_is_told_about_but_never_shown(certificates: Certificates) -> None:
    claims = base64.urlsafe_b64encode(b'{"aud": "https://graph.example", "exp": 1}').decode().rstrip("=")
    token = f"eyJhbGciOiJub25lIn0.{claims}.c2lnbmF0dXJl"
    fields = {"username": USERNAME, "password": None, "access_token": token}
    with Server(conversation(tls="implicit", context=certificates.good(), offer_tls=("AUTH XOAUTH2",))) as server:
        answer = run({"relays": [entry(server.port, certificates, **fields)], "on_failure": "report"})
        server.settle()

    assert answer["diagnosis"]["code"] == "oauth_token_expired" and server.auth_attempts == 0
    assert answer["results"][0]["auth"]["token"]["audience"] == ["https://graph.example"]
    printed = json.dumps(answer["results"])
    assert claims not in printed and "c2lnbmF0dXJl" not in printed


def test_passwords_of_postfix_are_masked_by_ansible_too(monkeypatch: pytest.MonkeyPatch) -> None:
    main = "relayhost = [127.0.0.1]:9\nsmtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = hash:/p\nsmtp_tls_security_level = encrypt\n"
    relays = Instance(main, tables={"hash:/p": {HOST: f"{USERNAME}:{PASSWORD}"}}).relays()
    monkeypatch.setattr(smtp_auth_info.effective, "relays", lambda _directory, _deadline: relays)
    masked: t.Set[str] = set()
    told: t.List[Answer] = []
    params = {**DEFAULTS, "from_postfix": True, "on_failure": "report", "investigate": False}
    module = types.SimpleNamespace(params=params, no_log_values=masked, exit_json=lambda **facts: told.append(facts))
    smtp_auth_info.run(t.cast(t.Any, module))

    assert masked == {PASSWORD}
    assert told[0]["results"][0]["postfix"]["credential"]["found"] and PASSWORD not in str(told)


class Children:
    """Stands in for run_as.call, which needs root: the same calls, in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rules: t.Sequence[str]) -> None:
        self.calls = 0
        self.asked: t.List[int] = []
        self._rules = rules
        monkeypatch.setattr(smtp_auth_info.run_as, "call", self._call)
        monkeypatch.setattr(smtp_auth_info.who_blocks, "explain", self._explain)

    def _call(self, _user: str, function: t.Callable[[], t.Any], _seconds: float) -> t.Any:
        self.calls += 1
        return function()

    def _explain(self, addresses: t.Sequence[str], port: int, _uid: int) -> t.List[str]:
        assert addresses == [HOST]
        self.asked.append(port)
        return [f"{rule} {port}" for rule in self._rules]


def as_user(relays: t.List[Answer]) -> t.List[Answer]:
    told: t.List[Answer] = []
    params = {**DEFAULTS, "relays": relays, "run_as": "nobody", "on_failure": "report"}
    smtp_auth_info.run(t.cast(t.Any, types.SimpleNamespace(params=params, check_mode=False, exit_json=lambda **facts: told.append(facts))))
    return t.cast("t.List[Answer]", told[0]["results"])


def unused_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return t.cast(int, listener.getsockname()[1])


def test_rules_that_stop_a_user_are_told_by_all_relays_at_once(monkeypatch: pytest.MonkeyPatch, certificates: Certificates) -> None:
    """However many relays are stopped, one more look is taken, so that it ends soon."""
    children, ports = Children(monkeypatch, ["the rule of"]), [unused_port() for _number in range(5)]
    with Server(conversation(tls="implicit", context=certificates.good())) as server:
        relays = [{"host": HOST, "port": port} for port in ports]
        relays.insert(2, entry(server.port, certificates))
        results = as_user([{**relay, "name": f"r{number}"} for number, relay in enumerate(relays)])
        server.settle()

    assert children.calls == 2 and children.asked == ports and server.auth_attempts == 1
    assert [result["name"] for result in results] == [f"r{number}" for number in range(6)]
    assert results.pop(2)["ok"]
    for result, port in zip(results, ports):
        assert result["diagnosis"]["code"] == "egress_blocked_local" and f"the rule of {port}" in str(result["diagnosis"])


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_user_who_is_yet_to_come_is_no_error_in_check_mode(certificates: Certificates, check_mode: bool) -> None:
    """As in mode guard on a host that has no Postfix yet."""
    with Server(conversation(tls="implicit", context=certificates.good())) as server:
        answer = run({"relays": [entry(server.port, certificates)], "run_as": "nobody-of-that-name"}, check_mode)

    if check_mode:
        assert answer["ok"] and "no user nobody-of-that-name yet" in str(answer["warnings"])
    else:
        assert answer["failed"] and "nobody-of-that-name" in answer["msg"]


@pytest.mark.parametrize(
    ("given", "egress_user", "uid", "tested_as"),
    [
        (None, "mta", 0, ["mta"]),  # though the play does not say who that is
        (None, None, 0, []),
        ("", "mta", 0, []),
        ("other", "mta", 0, ["other"]),
        (None, "mta", 1000, []),
    ],
)
def test_the_login_is_tested_as_the_user_whom_the_firewall_lets_out(
    monkeypatch: pytest.MonkeyPatch, given: t.Optional[str], egress_user: t.Optional[str], uid: int, tested_as: t.List[str]
) -> None:
    asked: t.List[str] = []
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(smtp_auth_info.users, "mail_server", lambda: egress_user)
    monkeypatch.setattr(smtp_auth_info, "probe_all_as", lambda user, *_rest: asked.append(user) or [])
    monkeypatch.setattr(smtp_auth_info, "probe_all", lambda *_rest: [])
    params = {**DEFAULTS, "relays": [{"host": HOST}], "run_as": given}
    module = types.SimpleNamespace(params=params, check_mode=False, exit_json=lambda **_facts: None)
    smtp_auth_info.run(t.cast(t.Any, module))

    assert asked == tested_as


def test_what_stops_the_mail_is_told_in_one_word(certificates: Certificates) -> None:
    with Server(conversation(tls="implicit", context=certificates.good())) as server:
        wrong = entry(server.port, certificates, name="wrong", password="another")
        relays = [entry(server.port, certificates, name="right"), wrong, {"name": "closed", "host": HOST, "port": unused_port()}]
        answer = run({"relays": relays, "on_failure": "report"})

    causes = [result["blocked_by"] and result["blocked_by"]["cause"] for result in answer["results"]]
    assert causes == [None, "authentication", "relay_refused"]


def test_a_login_that_a_proxy_refuses_is_not_sent_to_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children(monkeypatch, ["a rule"])
    with Server(proxy_server.socks5([], login=("someone", "else"))) as server:
        proxy = {"type": "socks5", "host": HOST, "port": server.port, "username": "me", "password": PASSWORD}
        (result,) = as_user([{"host": "relay.example", "port": 465, "proxy": proxy}])
        server.settle()

    assert result["diagnosis"]["code"] == "proxy_auth"
    assert children.calls == 1 and children.asked == [] and len(server.peers) == 1


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("Postfix would keep the mail: it can not connect: h:587 is dead.", " Postfix would keep the mail: it can not connect."),
        ("Postfix would log in and send.", " Postfix would log in and send."),
        ("h:587 is dead.", ""),
    ],
)
def test_what_postfix_would_do_is_told_without_saying_it_twice(prediction: str, expected: str) -> None:
    failed = {"diagnosis": {"summary": "h:587 is dead.", "remedy": "Repair it.", "code": "x"}, "postfix": {"prediction": {"text": prediction}}}
    assert smtp_auth_info._message([failed], 1) == f"h:587 is dead. Repair it.{expected} [x]"


@pytest.mark.parametrize(("try_all", "said"), [(False, "It was tried once only"), (True, "It was tried 2 times")])
def test_how_often_a_password_was_tried_is_told(certificates: Certificates, try_all: bool, said: str) -> None:
    handler = conversation(tls="implicit", context=certificates.good(), offer_tls=["AUTH PLAIN LOGIN"], replies={"AUTH": "535 5.7.8 no"})
    with Server(handler) as server:
        answer = run({"relays": [entry(server.port, certificates, try_all_mechanisms=try_all)], "timeout": 10})
    assert said in answer["msg"]
    assert len(answer["results"][0]["auth"]["attempts"]) == (2 if try_all else 1)
