# SPDX-License-Identifier: GPL-3.0-or-later
"""Which credential is found for a next hop, and which mechanisms are left. The order of the keys is pinned against real
Postfix in tests/system/test_from_postfix.py; here are the forms."""

from __future__ import annotations

import pytest
from postfix_instance import Instance

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.nexthop import parse
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.sasl_lookup import look_up, mechanisms

HOST = "smtp.example.net"


def lookup(table, nexthop=f"[{HOST}]:587", host=HOST, sender=(), **overrides):
    instance = Instance(tables={"hash:/p": table})
    parameters = instance.parameters(smtp_sasl_password_maps="hash:/p", **overrides)
    return look_up(parameters, instance.maps(), host, parse(nexthop, "smtp"), 587, sender)


def test_what_is_found():
    found = lookup({HOST: "user:pass:word"}).credential
    assert found == ("smtp.example.net", "host", "hash:/p", "user", "pass:word")
    assert lookup({f"[{HOST}]:587": "u:p"}).credential.by == "nexthop"
    assert lookup({HOST: "host:p", f"[{HOST}]:587": "nexthop:p"}).credential.username == "host"
    assert lookup({HOST: "user"}).credential.password == ""
    mx = lookup({"example.net:587": "nexthop:p", "mx1.example.net": "host:p"}, "example.net:587", "mx1.example.net").credential
    assert mx.username == "host"


def test_senders_come_first_where_they_are_asked_for():
    table, keys = {"@example.org": "domain:p", HOST: "host:p"}, ["me@example.org", "@example.org"]
    assert lookup(table, sender=keys).credential.username == "host"
    found = lookup(table, sender=keys, smtp_sender_dependent_authentication="yes")
    assert (found.credential.username, found.credential.by) == ("domain", "sender")
    assert found.keys == ("me@example.org", "@example.org", HOST, f"[{HOST}]:587")


@pytest.mark.parametrize("key", [f"[{HOST}]", f"{HOST}:587", f"[{HOST}]:25"])
def test_keys_that_look_right(key):
    found = lookup({key: "u:p", "unrelated": "u:p"})
    assert found.credential is None and found.near == (key,)


def test_a_number_is_not_the_name_of_its_service():
    found = lookup({f"[{HOST}]:587": "u:p"}, f"[{HOST}]:submission")
    assert found.credential is None and found.near == (f"[{HOST}]:587",)


def test_a_table_that_can_not_be_asked():
    instance = Instance()
    found = look_up(instance.parameters(smtp_sasl_password_maps="fail:always"), instance.maps(), HOST, parse(HOST, "smtp"), 25, [])
    assert found.credential is None and "fail:always" in found.error


def words(**overrides):
    return Instance().parameters(**{f"smtp_sasl_{name}": value for name, value in overrides.items()})


ALL = ("SCRAM-SHA-256", "SCRAM-SHA-1", "DIGEST-MD5", "CRAM-MD5", "PLAIN", "LOGIN", "XOAUTH2")


@pytest.mark.parametrize(
    ("text", "offered", "left"),
    [
        ("", ["plain", "LOGIN"], ["PLAIN", "LOGIN"]),
        ("login", ["PLAIN", "LOGIN"], ["LOGIN"]),
        ("!login, static:all", ["PLAIN", "LOGIN"], ["PLAIN"]),
        ("!login", ["PLAIN", "LOGIN"], []),
        ("plain, login", ["CRAM-MD5"], []),
    ],
)
def test_filter(text, offered, left):
    assert mechanisms(words(mechanism_filter=text), ALL).after_filter(offered) == left


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ("", ["SCRAM-SHA-256", "DIGEST-MD5", "CRAM-MD5", "PLAIN", "LOGIN"]),
        ("noanonymous", ["SCRAM-SHA-256", "DIGEST-MD5", "CRAM-MD5", "PLAIN", "LOGIN"]),
        ("noplaintext, noanonymous", ["SCRAM-SHA-256", "DIGEST-MD5", "CRAM-MD5"]),
        ("noactive", ["SCRAM-SHA-256"]),
        ("mutual_auth", ["SCRAM-SHA-256", "DIGEST-MD5"]),
        ("nodictionary", []),
    ],
)
def test_security_options(options, left):
    found = mechanisms(words(tls_security_options=options), ALL)
    assert found.usable(["LOGIN", "PLAIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-256", "ANONYMOUS"], found.options_with_tls) == left


def test_only_what_is_installed_counts():
    found = mechanisms(words(), ("PLAIN",))
    assert found.usable(["LOGIN", "PLAIN"], frozenset()) == ["PLAIN"]
    assert found.without_password(["XOAUTH2"]) == []
    assert mechanisms(words(), ALL).without_password(["PLAIN", "XOAUTH2"]) == ["XOAUTH2"]
    assert mechanisms(words(mechanism_filter="!xoauth2, static:all"), ALL).without_password(["PLAIN", "XOAUTH2"]) == []


def test_options_follow_each_other():
    found = mechanisms(words(security_options="noanonymous"), ALL)
    assert found.options_in_clear == found.options_with_tls == found.options_verified == {"noanonymous"}
