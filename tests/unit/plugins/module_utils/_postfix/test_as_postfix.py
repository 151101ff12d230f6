# SPDX-License-Identifier: GPL-3.0-or-later
"""What the test of a relay and the prediction come to together: one result, one diagnosis."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from postfix_instance import Instance

from ansible_collections.outpost.smtp.plugins.module_utils._oauth import settings
from ansible_collections.outpost.smtp.plugins.module_utils._postfix import as_postfix, oauth_relays
from ansible_collections.outpost.smtp.plugins.module_utils._smtp import result
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import normalise_relays
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.transcript import Transcript

HOST = "smtp.example.net"
PASSWORD = "pass word"
LOGIN = f"relayhost = [{HOST}]:587\nsmtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = hash:/p\nsmtp_sasl_tls_security_options = noanonymous\n"
ENCRYPT = "smtp_tls_security_level = encrypt\n"
IN_CLEAR = "smtp_tls_security_level = may\nsmtp_sasl_security_options = noanonymous\n"


def seen(before: t.Sequence[str], after: t.Optional[t.Sequence[str]], tried: bool, error: t.Optional[SmtpError] = None) -> t.Dict[str, t.Any]:
    """A result as probe_all() gives it, of a server with these capabilities."""
    found = result.assemble("r", Observation(HOST, 587, "starttls", error=error), Transcript().show)
    found["capabilities"] = {"before_tls": list(before), "after_tls": None if after is None else list(after)}
    found["auth"].update(tried=tried, code=235 if tried else None)
    found["tls"] = {"verified": error is None, "names": [HOST], "days_left": 10}
    return found


GOOD = seen(["STARTTLS"], ["AUTH PLAIN LOGIN"], tried=True)
NO_AUTH = seen(["STARTTLS"], ["SIZE 1"], tried=False, error=SmtpError("no_auth", "x", stage="auth"))
OPEN_RELAY = seen(["STARTTLS"], ["SIZE 1"], tried=False)
WRONG_MODE = seen([], None, tried=False, error=SmtpError("not_tls", "x", stage="greeting"))
WRONG_MODE["diagnosis"]["code"] = "tls_wrong_mode"
UNTRUSTED = seen(["STARTTLS"], None, tried=False, error=SmtpError("tls", "x", stage="tls", verify_code=20))
OTHERS_ONLY = seen(["STARTTLS"], ["AUTH GSSAPI"], tried=False, error=SmtpError("no_mechanism", "x", stage="auth"))
NO_STARTTLS = seen(["AUTH PLAIN"], None, tried=False, error=SmtpError("no_starttls", "x", stage="starttls"))


def examine(main: str, *answers: t.Dict[str, t.Any], table: t.Optional[t.Dict[str, str]] = None) -> t.List[t.Dict[str, t.Any]]:
    tables = {"hash:/p": {HOST: f"user:{PASSWORD}"} if table is None else table}
    asked: t.List[t.Dict[str, t.Any]] = []

    def test(endpoints: t.List[t.Dict[str, t.Any]]) -> t.List[t.Dict[str, t.Any]]:
        asked.extend(endpoints)
        return list(answers)

    found = as_postfix.examine(Instance(main, tables=tables).relays(), test)
    assert len(asked) == len(answers)
    assert PASSWORD not in str(found)
    return found


def code_of(found: t.List[t.Dict[str, t.Any]]) -> t.Optional[str]:
    assert found[0]["ok"] is (found[0]["diagnosis"] is None)
    return found[0]["diagnosis"] and t.cast(str, found[0]["diagnosis"]["code"])


def test_all_is_well() -> None:
    found = examine(LOGIN + ENCRYPT, GOOD)
    assert code_of(found) is None
    assert found[0]["postfix"]["prediction"]["action"] == "sends"
    assert found[0]["postfix"]["mail"] == found[0]["postfix"]["prediction"]
    assert found[0]["postfix"]["credential"]["username"] == "user"


def test_a_relay_whose_login_is_done_by_the_proxy_of_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Postfix does not log in to that, and is right not to."""
    given = {"name": "one", "host": HOST, "port": 587, "username": "alerts@example.net"}
    oauth = {"token_endpoint": "https://login.example.net/token", "client_id": "app", "client_secret": "CANARY"}
    proxies = oauth_relays.proxies(normalise_relays([{**given, "oauth": oauth}], "relays"), "relays")
    settings_file = tmp_path / "settings.json"
    settings_file.touch(0o600)
    settings_file.write_text(settings.to_json(proxies))
    monkeypatch.setattr(oauth_relays, "DATA", str(tmp_path))
    answer = {**seen(["SIZE 1"], None, tried=False), "tls": None}
    main = "relayhost = [127.0.0.1]:288\nsmtp_tls_security_level = none\n"
    (found,) = examine(main, answer)
    prediction = found["postfix"]["prediction"]
    words = f"Postfix would send by the proxy on 127.0.0.1:288, which logs in to {HOST}:587 as alerts@example.net by XOAUTH2."
    assert (found["ok"], prediction["action"], prediction["text"]) == (True, "sends", words)
    assert "CANARY" not in str(found)
    for other in (main.replace("288", "289"), main.replace("127.0.0.1", "127.0.0.2")):
        assert examine(other, answer)[0]["postfix"]["prediction"]["action"] == "sends_unauthenticated"
    settings_file.chmod(0o644)  # which the proxy refuses, too
    assert examine(main, answer)[0]["postfix"]["prediction"]["action"] == "sends_unauthenticated"


@pytest.mark.parametrize(
    ("main", "answer", "table", "code"),
    [
        (ENCRYPT, NO_AUTH, None, "postfix_would_send_unauthenticated"),
        (ENCRYPT, OPEN_RELAY, {"other.example.net": "user:x"}, "postfix_no_credential"),
        (IN_CLEAR, NO_STARTTLS, None, "postfix_would_send_password_in_clear"),
        (ENCRYPT, NO_STARTTLS, None, "cap_starttls_absent"),
        (ENCRYPT + "defer_transports = smtp\n", GOOD, None, "postfix_would_not_send"),
        # A setting that explains the failure is what has to be changed.
        (ENCRYPT + f"relayhost = [{HOST}]:465\n", WRONG_MODE, None, "postfix_tls_contradiction"),
        (ENCRYPT, WRONG_MODE, None, "tls_wrong_mode"),
        ("smtp_tls_security_level = secure\n", UNTRUSTED, None, "postfix_ca_unreadable"),
        (ENCRYPT, UNTRUSTED, None, "tls_cert_untrusted_issuer"),
        (ENCRYPT + "smtp_sasl_mechanism_filter = plain\n", OTHERS_ONLY, None, "postfix_mechanism_missing"),
        # Nobody logged in, though Postfix would.
        (ENCRYPT + "smtp_sasl_password_maps = randmap:{a:b,c:d}\n", OPEN_RELAY, None, "postfix_login_not_tested"),
    ],
)
def test_what_is_told(main: str, answer: t.Dict[str, t.Any], table: t.Optional[t.Dict[str, str]], code: str) -> None:
    found = examine(LOGIN + main, answer, table=table)
    assert code_of(found) == code
    assert found[0]["diagnosis"]["summary"].startswith(HOST)


def test_a_relay_that_knows_this_host_by_its_address_needs_no_login() -> None:
    assert code_of(examine(f"relayhost = [{HOST}]:587\n" + ENCRYPT, OPEN_RELAY)) is None


def test_without_a_relay_there_is_nothing_to_test_and_a_whole_result_nevertheless() -> None:
    found = examine("")
    assert code_of(found) == "postfix_no_relay"
    assert set(found[0]) == {*GOOD, "postfix"}


def test_of_two_servers_the_mail_takes_the_one_that_works() -> None:
    dead = seen([], None, tried=False, error=SmtpError("connect", "x", stage="connect"))
    table = dict.fromkeys((HOST, "backup.example.net"), "user:" + PASSWORD)
    found = examine(f"{LOGIN}{ENCRYPT}smtp_fallback_relay = [backup.example.net]:587\n", dead, GOOD, table=table)
    assert [entry["postfix"]["prediction"]["action"] for entry in found] == ["defers", "sends"]
    assert {entry["postfix"]["mail"]["action"] for entry in found} == {"sends"}
    assert [entry["ok"] for entry in found] == [False, True]


def test_what_works_is_said_in_words_of_postfix() -> None:
    answer = {**UNTRUSTED, "port": 587, "alternatives": [{"port": 465, "tls": "implicit", "works": True}]}
    found = examine(LOGIN + ENCRYPT, answer)
    assert found[0]["diagnosis"]["remedy"].endswith(f"the next hop [{HOST}]:465 with smtp_tls_wrappermode = yes.")


def test_without_a_relay_no_port_is_named() -> None:
    assert examine("")[0]["diagnosis"]["summary"].startswith("Postfix: ")


@pytest.mark.parametrize(("main", "answer"), [(ENCRYPT, NO_AUTH), (IN_CLEAR, NO_STARTTLS)])
def test_nothing_is_said_twice(main: str, answer: t.Dict[str, t.Any]) -> None:
    (found,) = examine(LOGIN + main, answer)
    assert found["diagnosis"]["summary"] == f"{HOST}:587: {found['postfix']['prediction']['text']}"
