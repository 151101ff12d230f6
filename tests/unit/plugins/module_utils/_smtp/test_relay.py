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


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("SMTP.Example.net.", "smtp.example.net"),
        ("192.0.2.10", "192.0.2.10"),
        ("2001:db8:0::1", "2001:db8::1"),
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
        "192.0.2.256", "1.2.3", "fe80::1%eth0", "inet:smtp.example.net", "$myhostname", "smtp.example.net,evil.example",
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


@pytest.mark.parametrize("path", ["ca.pem", "", "/etc/ssl/a b.pem", "/etc/ssl/a,b.pem", "/etc/$x", "/etc/\nx", "/etc/../x", 1])
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
