# SPDX-License-Identifier: GPL-3.0-or-later
"""The one list that describes everything: what follows from what, and what is refused, by entry and field."""

from __future__ import annotations

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import FIELDS, RelayError, normalise_relays

PASSWORD = "pa$$: #{x} \\'\" ü"


def one(**fields):
    return normalise_relays([{"host": "smtp.example.net", **fields}])[0]


def refused(entry, variable="outpost_smtp_relays"):
    with pytest.raises(RelayError) as caught:
        normalise_relays([entry], variable)
    return caught.value


@pytest.mark.parametrize(
    ("given", "port", "tls"),
    [
        ({}, 587, "starttls"),
        ({"port": 465}, 465, "implicit"),
        ({"port": "465"}, 465, "implicit"),
        ({"port": 587}, 587, "starttls"),
        ({"port": 2525}, 2525, "starttls"),
        ({"port": 10025}, 10025, "starttls"),
        ({"port": 10465, "tls": "implicit"}, 10465, "implicit"),
        ({"tls": "implicit"}, 465, "implicit"),
        ({"tls": "starttls"}, 587, "starttls"),
        ({"port": 25, "tls": "none"}, 25, "none"),
    ],
)
def test_port_and_tls_follow_from_each_other(given, port, tls):
    relay = one(**given)
    assert (relay["port"], relay["tls"]) == (port, tls)


def test_every_field_is_present_and_a_credential_stays_as_it_is():
    relay = one(name="primary", username="alerts@example.net", password=PASSWORD, ca_file="/etc/ssl/private-ca.pem")
    assert tuple(relay) == FIELDS
    assert relay["password"] == PASSWORD
    assert relay["mechanism"] == "auto"
    bare = one()
    assert bare["username"] is None and bare["password"] is None and bare["ca_file"] is None


def test_what_was_completed_stays_as_it_is():
    full = {
        "name": "primary", "port": 465, "tls": "implicit", "family": "ipv6", "username": "u", "password_file": "/p", "mechanism": "scram-sha-1",
        "ca_file": "/ca.pem", "server_name": "MX.example.net.", "minimum_tls": "1.3", "fingerprints": ["AB" * 32], "client_certificate": "/c.pem",
        "client_key": "/k.pem", "senders": ["@Example.com", "Root"], "concurrency_limit": "3", "rate_delay": 2, "recipient_limit": 10,
    }  # fmt: skip
    relay = one(**full)
    assert normalise_relays([relay]) == [relay]
    assert relay["server_name"] == "mx.example.net" and relay["senders"] == ["@example.com", "root"]
    assert (relay["concurrency_limit"], relay["rate_delay"], relay["recipient_limit"]) == (3, "2s", 10)


@pytest.mark.parametrize("given", ["500", "500s", "5m", "2h", "1d"])
def test_a_delay_is_a_time_as_postfix_writes_it(given):
    assert one(rate_delay=given)["rate_delay"] == (given if given[-1].isalpha() else f"{given}s")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("rate_delay", value) for value in (0, -1, "0s", "1 s", "1w", "2d", "1.5", "", True, "1s\n", 86401)),
        *((limit, value) for limit in ("concurrency_limit", "recipient_limit") for value in (0, -1, 1001, "a", "1\n", 1.0, True, [], "٣")),
        *(("senders", value) for value in ([], "root", [""], ["a b"], ["@"], ["a@b@c"], ["a@b..c"], ["a\nb"])),
        *(("senders", value) for value in (["*"], ["*@example.com"])),
        *(("senders", value) for value in (["$x"], ["#a"], ["a:b"], [1], ["a", "A"])),
        ("senders", ["x@" + "a" * 254]),
        ("family", "inet"),
        ("srv", "yes"),
        ("minimum_tls", 1.2),
        ("fingerprints", ["ab"]),
        ("server_name", "mx example"),
        ("client_key", "/k.pem\n"),
    ],
)
def test_values_that_are_refused(field, value):
    assert refused({"host": "smtp.example.net", field: value}).field == f"outpost_smtp_relays[0] (smtp.example.net).{field}"


@pytest.mark.parametrize(
    ("named", "given"),
    [
        ("port", {"srv": True, "port": 2525}),
        ("srv", {"srv": True, "port": 25, "tls": "none"}),
        ("srv", {"srv": True, "host": "192.0.2.1"}),
        ("client_certificate", {"client_key": "/k.pem"}),
        ("server_name", {"port": 25, "tls": "none", "server_name": "mx.example"}),
        ("password_file", {"username": "u", "password": "canary", "password_file": "/p"}),
        ("password_credential", {"username": "u", "password_file": "/p", "password_credential": "c"}),
        ("oauth", {"username": "u", "password": "canary", "oauth": {}}),
        ("username", {"password_file": "/p"}),
        ("password_file", {"username": "u", "password_file": "relative"}),
        ("password_credential", {"username": "u", "password_credential": "../x"}),
        ("tls", {"port": 25, "tls": "none", "username": "u", "password_file": "/p"}),
        ("mechanism", {"username": "u", "password": "canary", "mechanism": "xoauth2"}),
        ("mechanism", {"username": "u", "password": "canary", "mechanism": "external", "client_certificate": "/c.pem"}),
        ("client_certificate", {"mechanism": "external"}),
    ],
)
def test_contradictions_are_refused_by_their_field(named, given):
    error = refused({"host": "smtp.example.net", **given})
    assert error.field.endswith(f".{named}") and "canary" not in str(error)


OAUTH = {"token_endpoint": "https://login.example/token", "client_id": "app", "refresh_token": "r"}


def test_oauth_leads_to_a_token():
    relay = one(username="u", oauth=OAUTH)
    assert relay["mechanism"] == "xoauth2" and relay["oauth"] == {**OAUTH, "client_secret": None, "scope": None, "ca_file": None, "local_port": None}
    assert normalise_relays([relay]) == [relay]


@pytest.mark.parametrize(
    ("named", "given"),
    [
        ("token_endpoint", {"token_endpoint": "http://login.example/token"}),
        ("token_endpoint", {"token_endpoint": "https://u:canary@login.example/"}),
        ("token_endpoint", {"token_endpoint": "https://login.example/#x"}),
        ("token_endpoint", {"token_endpoint": "https://[login.example/"}),
        ("token_endpoint", {"token_endpoint": None}),
        ("client_id", {"client_id": None}),
        ("refresh_token", {"refresh_token": None}),
        ("client_secret", {"client_secret": "canary\n"}),
        ("secret", {"secret": "canary"}),
    ],
)
def test_oauth_that_can_not_work_is_refused(named, given):
    error = refused({"host": "smtp.example.net", "username": "u", "oauth": {**OAUTH, **given}})
    assert error.field.endswith(f".oauth.{named}") and "canary" not in str(error)


def test_a_mechanism_with_a_password_contradicts_oauth():
    assert refused({"host": "smtp.example.net", "username": "u", "oauth": OAUTH, "mechanism": "plain"}).field.endswith(".mechanism")


def test_names_that_are_one_to_postfix_are_refused():
    with pytest.raises(RelayError, match=r"^outpost_smtp_relays\[1\] \(a_b\)\.name: .* are one name to Postfix"):
        normalise_relays([{"host": "a.example", "name": "a-b"}, {"host": "b.example", "name": "a_b"}])


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("SMTP.Example.net.", "smtp.example.net"),
        ("192.0.2.10", "192.0.2.10"),
        ("2001:db8:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.10", "192.0.2.10"),
        ("relay_1.internal", "relay_1.internal"),
    ],
)
def test_hosts_that_are_taken(host, expected):
    assert one(host=host)["host"] == expected


@pytest.mark.parametrize(
    "host",
    [
        None, "", " ", 7, True, ["smtp.example.net"],
        "smtp example.net", "[smtp.example.net]", "smtp.example.net:587", "smtp..example.net", "-smtp.example.net", "bücher.example",
        "a" * 64 + ".example.net", ".".join(["a" * 60] * 5), "smtp.example.net\n", "smtp\0", "smtp.example.net\n[evil.example]:587 a:b",
        "192.0.2.256", "1.2.3", "2001:db8::", "::", "fe80::1%eth0", "inet:smtp.example.net", "$myhostname", "smtp.example.net,evil.example",
    ],
)  # fmt: skip
def test_hosts_that_are_refused(host):
    error = refused({"host": host, "name": "primary"})
    assert error.field == "outpost_smtp_relays[0] (primary).host"


@pytest.mark.parametrize("port", [0, -1, 65536, "587 ", "0587", "submission", "", 587.0, True, [587], "٥٨٧", "587\n"])
def test_ports_that_are_refused(port):
    assert refused({"host": "smtp.example.net", "port": port}).field == "outpost_smtp_relays[0] (smtp.example.net).port"


@pytest.mark.parametrize(
    "given",
    [
        {"port": 465, "tls": "starttls"},
        {"port": 465, "tls": "none"},
        {"port": 587, "tls": "implicit"},
        {"port": 25, "tls": "implicit"},
        {"tls": "ssl"},
        {"tls": True},
        {"tls": ""},
        {"port": 25, "tls": "none", "username": "u", "password": "p"},
    ],
)
def test_a_tls_mode_that_contradicts_is_refused(given):
    assert refused({"host": "smtp.example.net", **given}).field.endswith(").tls")


@pytest.mark.parametrize("field", ["username", "password"])
@pytest.mark.parametrize("value", ["", " p", "p ", "p\n", "p\rq", "p\0q", "p\x7fq", "p\u2028q", "p\x85q", "\ud800", 250, True, ["p"], {"a": 1}])
def test_a_credential_that_a_table_can_not_hold_is_refused_without_being_shown(field, value):
    error = refused({"host": "smtp.example.net", "username": "user", "password": "canary", field: value})
    assert error.field == f"outpost_smtp_relays[0] (smtp.example.net).{field}"
    assert "canary" not in str(error)


@pytest.mark.parametrize(("given", "missing"), [("username", "password"), ("password", "username")])
def test_one_half_of_a_login_is_refused(given, missing):
    assert refused({"host": "smtp.example.net", given: "x"}).field.endswith(missing)


def test_a_colon_in_the_user_name_is_refused_but_not_in_the_password():
    assert refused({"host": "smtp.example.net", "username": "a:b", "password": "x"}).field.endswith(".username")
    assert one(username="a", password="x:y")["password"] == "x:y"


@pytest.mark.parametrize("path", ["ca.pem", "", "/ssl/a b.pem", "/ssl/a,b.pem", "/etc/$x", "/etc/\nx", "/etc/../x", "/etc/..", "/etc/@sasl_a@", 1])
def test_a_ca_file_that_main_cf_could_not_name_is_refused(path):
    assert refused({"host": "smtp.example.net", "ca_file": path}).field.endswith(".ca_file")


@pytest.mark.parametrize("name", ["", "Primary", "a b", "-a", "a-", "a" * 33, "a=b", "a\n", "ä", 5])
def test_names_that_are_refused(name):
    assert refused({"host": "smtp.example.net", "name": name}).field.endswith(".name")


def test_the_name_defaults_to_the_host():
    assert one()["name"] == "smtp-example-net"
    assert one(host="2001:db8::1")["name"] == "2001-db8-1"


def test_two_relays_of_one_name_are_refused():
    with pytest.raises(RelayError) as caught:
        normalise_relays([{"host": "a.example"}, {"host": "b.example", "name": "a-example"}])
    assert caught.value.field == "outpost_smtp_relays[1] (a-example).name"


@pytest.mark.parametrize("mechanism", ["PLAIN", "ntlm", "", 1])
def test_mechanisms_that_are_refused(mechanism):
    assert refused({"host": "smtp.example.net", "mechanism": mechanism}).field.endswith(".mechanism")


@pytest.mark.parametrize("entry", ["smtp.example.net", None, 3, ["smtp.example.net"]])
def test_an_entry_that_is_no_dictionary_is_refused_by_its_position(entry):
    assert refused(entry, "smtp_egress_relays").field == "smtp_egress_relays[0]"


@pytest.mark.parametrize("value", [None, {}, "smtp.example.net", 1])
def test_a_list_that_is_none_is_refused(value):
    with pytest.raises(RelayError, match="^mine: must be a list"):
        normalise_relays(value, "mine")


def test_an_unknown_field_is_refused_by_its_name():
    error = refused({"host": "smtp.example.net", "passwort": "canary"})
    assert error.field == "outpost_smtp_relays[0] (smtp.example.net).passwort"
    assert "canary" not in str(error)


def test_a_hostile_name_does_not_get_into_the_message():
    assert refused({"host": "x\n\x1b[31m", "name": "y\n"}).field == "outpost_smtp_relays[0].host"


def test_an_empty_list_is_refused():
    with pytest.raises(RelayError, match="^mine: is empty"):
        normalise_relays([], "mine")


def test_what_is_normalised_is_so_already() -> None:
    """A role gives the list through the filter to modules, which check it once more."""
    once = normalise_relays([{"host": "a.example"}, {"host": "b.example", "senders": ["root"], "username": "u", "password": "p"}])
    assert normalise_relays(once) == once
