# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookups in tables: the order of keys and tables, what a broken table stops, and that nothing is an argument."""

from __future__ import annotations

import pytest
from postfix_instance import Instance

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.maps import Found, MapError, address_keys

TABLES = {
    "hash:/a": {"first": "a1", "@example.org": "domain"},
    "hash:/b": {"first": "b1", "second": "b2"},
    "regexp:/r": {"second": "r2", "@example.org": "pattern"},
    "hash:/broken": "postmap: fatal: open database /broken.db: No such file or directory",
}


def test_a_key_is_looked_up_in_all_tables_before_the_next_key():
    maps = Instance(tables=TABLES).maps()
    assert maps.find("hash:/a, hash:/b", ["second", "first"]) == Found("second", "hash:/b", "b2")
    assert maps.find("hash:/a, hash:/b", ["first", "second"]) == Found("first", "hash:/a", "a1")
    assert maps.find("hash:/a hash:/b", ["third"]) is None


def test_tables_of_patterns_are_not_asked_for_parts_of_an_address():
    maps = Instance(tables=TABLES).maps()
    assert maps.find("regexp:/r hash:/a", ["x", "@example.org"], partial=["@example.org"]) == Found("@example.org", "hash:/a", "domain")
    assert maps.find("proxy:regexp:/r hash:/a", ["@example.org"], partial=["@example.org"]) == Found("@example.org", "hash:/a", "domain")
    assert maps.find("regexp:/r", ["second"]) == Found("second", "regexp:/r", "r2")


def test_a_broken_table_stops_only_what_has_not_been_found_before_it():
    maps = Instance(tables=TABLES).maps()
    assert maps.find("hash:/a hash:/broken", ["first"]) == Found("first", "hash:/a", "a1")
    with pytest.raises(MapError, match="hash:/broken: open database /broken.db: No such file"):
        maps.find("hash:/a hash:/broken", ["second"])
    assert maps.known_keys("hash:/a hash:/broken", ["second", "first"]) == ["first"]


def test_a_table_that_always_fails_is_not_asked():
    """postmap(1) sleeps for a second before it ends with the error, and lists of credentials end with such a table."""
    instance = Instance(tables=TABLES)
    for table in ("fail:no_credential_for_this_server", "proxy:fail:x"):
        with pytest.raises(MapError, match="fail:"):
            instance.maps().find(table, ["first"])
    assert instance.calls == []


@pytest.mark.parametrize("word", ["CANARY", "alerts@example.net:CANARY", "proxy:CANARY", "/etc/postfix/sasl_passwd"])
def test_what_is_no_table_is_no_argument(word: str):
    """It may be a password that was written where the table should be."""
    instance = Instance(tables=TABLES)
    with pytest.raises(MapError) as caught:
        instance.maps().find(word, ["first"])
    assert str(caught.value) == "...: it has no type of table before it, such as hash:"
    assert instance.maps().entries(word) == {}
    assert instance.calls == []


def test_keys_go_in_by_standard_input_and_once():
    instance = Instance(tables=TABLES)
    maps = instance.maps()
    maps.preload("hash:/a hash:/b", ["second", "first"])
    assert maps.find("hash:/a hash:/b", ["second", "first"]) == Found("second", "hash:/b", "b2")
    assert instance.calls == [(["postmap", "-c", "/etc/postfix", "-q", "-", f"hash:/{name}"], "second\nfirst\n") for name in "ab"]


def test_a_key_that_would_be_two_lines_is_not_asked_for():
    instance = Instance(tables=TABLES)
    assert instance.maps().find("hash:/a", ["x\nfirst"]) is None
    assert instance.calls[0][1] == ""


def test_entries_of_tables_that_can_be_listed():
    maps = Instance(tables=TABLES).maps()
    assert maps.entries("hash:/b") == {"first": "b1", "second": "b2"}
    assert maps.entries("hash:/broken") == {}


@pytest.mark.parametrize(
    ("address", "delimiters", "keys"),
    [
        ("me@example.org", "", ["me@example.org", "@example.org"]),
        ("me+x@example.org", "+", ["me+x@example.org", "me@example.org", "@example.org"]),
        ("me-y+x@example.org", "+-", ["me-y+x@example.org", "me@example.org", "@example.org"]),
        ("+x@example.org", "+", ["+x@example.org", "@example.org"]),
        ("me+x@local.test", "+", ["me+x@local.test", "me@local.test", "me+x", "me", "@local.test"]),
        ("me", "", ["me"]),
    ],
)
def test_keys_for_an_address(address, delimiters, keys):
    assert address_keys(address, delimiters, lambda domain: domain == "local.test") == keys
