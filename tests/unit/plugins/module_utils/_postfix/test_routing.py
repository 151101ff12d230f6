# SPDX-License-Identifier: GPL-3.0-or-later
"""By which transport and to which next hop mail goes."""

from __future__ import annotations

import pytest
from postfix_instance import Instance

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.maps import MapError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.routing import Router

SENDERS = {"a@example.org": "[a.example]:587", "@b.example": "[b.example]", "dunno@example.org": "DUNNO", "<>": "[null.example]"}


def router(main, tables=None):
    instance = Instance(main, tables={"hash:/t": tables or {}, "hash:/senders": SENDERS, "hash:/x": {"a@example.org": "other:", "<>": "DUNNO"}})
    return Router(instance.settings(), instance.maps())


def way(main, sender="root@example.org", recipient="you@example.net", tables=None):
    found = router(main, tables).way(sender, recipient)
    return found and (found.transport, found.nexthop, found.relay, found.chosen_by)


RELAYHOST = "relayhost = [r.example]:587\n"


@pytest.mark.parametrize(
    ("main", "expected"),
    [
        ("", ("smtp", "example.net", False, ("default_transport",))),
        (RELAYHOST, ("smtp", "[r.example]:587", True, ("relayhost", "default_transport"))),
        ("default_transport = out:[d.example]:465\n" + RELAYHOST, ("out", "[d.example]:465", True, ("relayhost", "default_transport"))),
        ("relay_domains = example.net\n" + RELAYHOST, ("relay", "[r.example]:587", True, ("relayhost", "relay_transport"))),
        ("relay_domains = !example.net, static:x\n" + RELAYHOST, ("smtp", "[r.example]:587", True, ("relayhost", "default_transport"))),
        ("mydestination = example.net\n", None),
        ("virtual_mailbox_domains = static:x\n", None),
    ],
)
def test_parameters(main, expected):
    assert way(main) == expected


@pytest.mark.parametrize(
    ("sender", "transport", "nexthop"),
    [
        ("root@example.org", "smtp", "[r.example]:587"),
        ("a@example.org", "other", "[a.example]:587"),
        ("any@b.example", "smtp", "[b.example]"),
        ("dunno@example.org", "smtp", "[r.example]:587"),
        ("", "smtp", "[null.example]"),
    ],
)
def test_by_sender(sender, transport, nexthop):
    main = RELAYHOST + "sender_dependent_relayhost_maps = hash:/senders\nsender_dependent_default_transport_maps = hash:/x\n"
    assert way(main, sender)[:2] == (transport, nexthop)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("you@example.net", "t:[t.example]", ("t", "[t.example]", True)),
        ("you@example.net", "t:", ("t", "sub.example.net", False)),
        ("sub.example.net", ":[t.example]", ("smtp", "[t.example]", True)),
        ("sub.example.net", ":", ("smtp", "[r.example]:587", True)),
        (".example.net", "t:[t.example]", ("t", "[t.example]", True)),
        ("example.net", "t:[t.example]", ("smtp", "[r.example]:587", True)),
        ("*", "error:5.7.1 no", ("error", "5.7.1 no", True)),
    ],
)
def test_transport_maps(key, value, expected):
    table = {key.replace("you@example.net", "you@sub.example.net"): value}
    assert way(RELAYHOST + "transport_maps = hash:/t\n", recipient="you@sub.example.net", tables=table)[:3] == expected


def test_parent_domains_where_they_match_subdomains():
    main = RELAYHOST + "transport_maps = hash:/t\nparent_domain_matches_subdomains = transport_maps\n"
    assert way(main, recipient="you@sub.example.net", tables={"example.net": "t:[t.example]"})[:2] == ("t", "[t.example]")


def test_a_table_that_can_not_be_asked():
    with pytest.raises(MapError):
        way("transport_maps = hash:/nonexistent\n")


def test_envelope_senders_are_rewritten_before():
    tables = {"root@host.example.org": "alerts@example.net", "@example.org": "@example.com", "me@x.example": "local"}
    main = "sender_canonical_maps = hash:/t\n"
    rewritten = router(main, tables).rewritten
    assert rewritten("root@host.example.org") == "alerts@example.net"
    assert rewritten("any@example.org") == "any@example.com"
    assert rewritten("me@x.example") == "local@host.example.org"
    assert rewritten("") == "" and rewritten("you@elsewhere.example") == "you@elsewhere.example"
    assert router(main + "sender_canonical_classes = header_sender\n", tables).rewritten("root@host.example.org") == "root@host.example.org"
    assert router("").default_sender() == "root@host.example.org"


def test_a_local_name_stands_for_its_user_at_myorigin():
    """canonical(5): "user" is for user@site where site is $myorigin, whether or not this host delivers for it."""
    main = "sender_dependent_default_transport_maps = hash:/x\nmyorigin = host.example\n"
    instance = Instance(main, tables={"hash:/x": {"root": "out:", "<>": "no:"}})
    found = Router(instance.settings(), instance.maps())
    assert found.senders() == ["root@host.example"]
    assert [found.way(sender).transport for sender in ("root@host.example", "root@other.example")] == ["out", "smtp"]


def test_who_has_a_way_of_its_own():
    main = "sender_dependent_relayhost_maps = hash:/senders\nsender_dependent_default_transport_maps = regexp:/r\ntransport_maps = hash:/t\n"
    found = router(main, {"example.net": "x:", ".example.com": "x:", "a@b.example": "x:", "*": "x:"})
    assert found.senders() == ["a@example.org", "dunno@example.org", "postmaster@b.example"]
    assert found.recipients() == ["a@b.example", "postmaster@any.example.com", "postmaster@example.net"]
