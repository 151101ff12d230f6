# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of the tables, and that they mean what the entries say."""

from __future__ import annotations

import re

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.addresses import normalise_aliases, normalise_sender_rewrite
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.relay_tables import relay_tables

ROUTES = {
    "senders": [{"sender": "billing@example.com", "transport": "outpost_b:[b.example]:587"}],
    "failovers": [{"nexthop": "[127.87.0.1]:325", "policy": "encrypt protocols=TLSv1.2"}],
}


def test_each_entry_is_a_line() -> None:
    aliases = normalise_aliases({"root": ["ops@example.com", "lead@example.com"], "dev": "ops@example.com"}, "v")
    senders = normalise_sender_rewrite([{"from": "root", "to": "alerts@example.com"}], "v")
    assert relay_tables(ROUTES, aliases, senders) == {
        "virtual_alias": "root ops@example.com, lead@example.com\ndev ops@example.com\n",
        "sender_canonical": "root alerts@example.com\n",
        "sender_default": "",
        "sender_transport": "billing@example.com outpost_b:[b.example]:587\n",
        "tls_policy": "[127.87.0.1]:325 encrypt protocols=TLSv1.2\n",
    }


def test_where_there_is_nothing_there_is_no_line() -> None:
    tables = relay_tables({"senders": [], "failovers": []}, [], normalise_sender_rewrite([], "v"))
    assert len(tables) == 5 and not any(tables.values())


def test_a_rule_for_everybody_is_for_those_with_an_address_that_no_other_rule_is_for() -> None:
    rules = [{"from": "root", "to": "root-of-web@example.com"}, {"from": "*", "to": "alerts@example.com"}]
    table = relay_tables(ROUTES, [], normalise_sender_rewrite(rules, "v"))
    assert table["sender_canonical"] == "root root-of-web@example.com\n"
    first, comment, second, last = table["sender_default"].splitlines()
    others = re.fullmatch(r"if !/(.*)/", first)
    assert others and comment.startswith("#") and last == "endif" and second == "/@/ alerts@example.com"
    assert [bool(re.search(others[1], sender)) for sender in ("root@web1", "double-bounce@web1", "cron@web1")] == [True, True, False]
