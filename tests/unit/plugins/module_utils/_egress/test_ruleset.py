# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ipaddress
import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import ruleset
from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import Addresses
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.ruleset import Users

HOST = "smtp.example.net"
BOTH = {HOST: Addresses(["192.0.2.10", "192.0.2.11"], ["2001:db8::10"], "dns")}
ONLY_IPV4 = {HOST: Addresses(["192.0.2.10"], [], "dns")}
USERS = Users(101, [1000, 0])
TEXT = """\
# Managed
table inet outpost_smtp
delete table inet outpost_smtp
table inet outpost_smtp {
	counter accepted {
	}
	chain managed_by_outpost_smtp {
	}
	chain output {
		type filter hook output priority 60; policy accept;
		oifname "lo" accept
	}
}
"""


def rendered(line: str, addresses: t.Optional[t.Mapping[str, Addresses]] = None, users: Users = USERS) -> str:
    return ruleset.render(line + "\n", BOTH if addresses is None else addresses, users)


def test_placeholders_become_anonymous_sets_and_numbers() -> None:
    assert rendered(f"ip daddr @ipv4:{HOST}@ meta skuid @uid:user@") == "ip daddr { 192.0.2.10, 192.0.2.11 } meta skuid 101\n"
    assert rendered(f"ip6 daddr @ipv6:{HOST}@") == "ip6 daddr { 2001:db8::10 }\n"
    assert rendered("meta skuid @uid:exempt_users@ accept") == "meta skuid { 0, 1000 } accept\n"
    assert rendered("ip daddr @ipv4:SMTP.Example.NET@") == "ip daddr { 192.0.2.10, 192.0.2.11 }\n"


def test_a_line_with_an_empty_set_is_left_out() -> None:
    assert rendered(f"a\nip6 daddr @ipv6:{HOST}@ accept\nb", ONLY_IPV4) == "a\nb\n"
    assert rendered("a\nmeta skuid @uid:exempt_users@ accept", users=Users(101, [])) == "a\n"


def test_a_user_to_come_is_shown_as_such() -> None:
    assert ruleset.UID_TO_COME in rendered("meta skuid @uid:user@", users=Users(None, []))


@pytest.mark.parametrize(
    "line", ["ip daddr @ipv4:other.example.net@", "meta skuid @uid:root@", "ip daddr @relays", "@mac:x@", "@ipv4:a b@", "@ipv4:@"]
)
def test_an_unknown_placeholder_and_a_named_set_are_refused(line: str) -> None:
    with pytest.raises(EgressError):
        rendered(line)


def test_an_at_sign_in_a_comment_is_fine() -> None:
    assert rendered("accept # ask admin@example.net") == "accept # ask admin@example.net\n"


@pytest.mark.parametrize("evil", ["192.0.2.10 } } chain evil {", "0.0.0.0/0", "host", "", "192.0.2.10\nflush ruleset"])
def test_only_an_address_gets_into_the_text(evil: str) -> None:
    with pytest.raises(ValueError, match="IPv4 or IPv6"):
        rendered(f"ip daddr @ipv4:{HOST}@", {HOST: Addresses([evil], [], "dns")})


def test_only_a_number_gets_into_the_text() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        rendered("meta skuid @uid:user@", users=Users("0 accept", []))  # type: ignore[arg-type]


def test_our_own_table_is_allowed() -> None:
    ruleset.require_own_table_only(TEXT)


def test_a_comment_may_say_anything() -> None:
    ruleset.require_own_table_only(edited("# Managed", '# flush, drop, } and "'))


def edited(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("flush ruleset\n" + TEXT, id="flush-before"),
        pytest.param(TEXT + "flush ruleset\n", id="flush-after"),
        pytest.param(TEXT + "add table inet x\n", id="statement-after"),
        pytest.param(edited("delete table inet outpost_smtp\n", ""), id="no-delete"),
        pytest.param(edited("delete table inet outpost_smtp\n", "delete table inet filter\n"), id="deletes-another"),
        pytest.param(TEXT.replace("outpost_smtp {", "filter {", 1), id="writes-another"),
        pytest.param(edited("policy accept", "policy drop"), id="policy-drop"),
        pytest.param(edited('oifname "lo" accept', "drop"), id="drop"),
        pytest.param(edited('oifname "lo" accept', "dnat to 192.0.2.1"), id="dnat"),
        pytest.param(edited('oifname "lo" accept', 'include "/etc/x"'), id="include"),
        pytest.param(edited('oifname "lo" accept', "ip daddr $x accept"), id="variable"),
        pytest.param(edited('oifname "lo" accept', "}\n}\ntable inet evil {\nchain x {"), id="closes-and-opens"),
        pytest.param(edited('oifname "lo" accept', "accept }\n} ; flush ruleset ; table inet x {\nchain y {"), id="one-line"),
        pytest.param(
            edited('oifname "lo" accept', 'log prefix "x\n# " ; } ; } ; flush ruleset ; table inet x { chain y {'), id="string-hides-comment"
        ),
        pytest.param(edited('oifname "lo" accept', "ip daddr \\\n192.0.2.1 accept"), id="continued-line"),
        pytest.param(TEXT.rstrip()[:-1], id="brace-open"),
        pytest.param(edited("managed_by_outpost_smtp", "other"), id="no-mark"),
        pytest.param(edited("managed_by_outpost_smtp", "other") + "# chain managed_by_outpost_smtp\n", id="mark-in-a-comment"),
    ],
)
def test_whatever_reaches_beyond_our_table_is_refused(text: str) -> None:
    with pytest.raises(EgressError, match="the rule set"):
        ruleset.require_own_table_only(text)


def test_what_somebody_else_has_translated_may_be_asked() -> None:
    ruleset.require_own_table_only(edited('oifname "lo" accept', "ct status dnat accept"))


def test_networks_become_anonymous_sets() -> None:
    networks = [ipaddress.ip_network(text) for text in ("192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32")]
    text = "ip daddr @networks:ipv4@ accept\nip6 daddr @networks:ipv6@ accept\n"
    assert ruleset.render(text, BOTH, USERS, networks) == "ip daddr { 192.0.2.0/24, 198.51.100.7/32 } accept\nip6 daddr { 2001:db8::/32 } accept\n"
    assert ruleset.render(text, BOTH, USERS, networks[:1]) == "ip daddr { 192.0.2.0/24 } accept\n"
    with pytest.raises(EgressError, match="@networks:x@"):
        ruleset.render("@networks:x@", BOTH, USERS)


def test_a_load_that_keeps_the_counters_flushes_where_it_would_delete() -> None:
    kept = ruleset.keeping_counters(TEXT)
    assert kept.splitlines()[:3] == ["table inet outpost_smtp", "flush table inet outpost_smtp", "table inet outpost_smtp {"]
    assert kept.split("{", 1)[1] == TEXT.split("{", 1)[1] and "delete" not in kept


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('oifname "lo" accept', "accept", True),
        ("# Managed", "# Other", True),
        ("priority 60", "priority 61", False),
        ("counter accepted", "counter passed", False),
        ("chain output", "chain out", False),
        ("\tcounter accepted {\n\t}\n", "", False),
    ],
)
def test_only_rules_may_differ_where_counters_are_kept(old: str, new: str, same: bool) -> None:
    assert ruleset.alike(TEXT, edited(old, new)) is same


def test_rules_are_summed_up_by_chain() -> None:
    assert ruleset.rules(TEXT) == ['output: oifname "lo" accept']
