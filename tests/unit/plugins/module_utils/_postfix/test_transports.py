# SPDX-License-Identifier: GPL-3.0-or-later
"""What a list of relays becomes in Postfix: which transports there are, which mail goes by which of them, and with whose login."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transports import transports
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import RelayError, normalise_relays

LOGIN = {"username": "u", "password": "p"}
FINGERPRINT = "sha256:" + "ab" * 32


def routes(*relays: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    return transports(normalise_relays(list(relays)), "v")


def one(**fields: t.Any) -> t.Dict[str, t.Any]:
    """The transport of a single relay."""
    return dict(routes({"host": "smtp.example.net", **fields})["transports"][0])


def by_service(found: t.Dict[str, t.Any]) -> t.Dict[str, t.Dict[str, t.Any]]:
    return {transport["service"]: transport for transport in found["transports"]}


def refused(*relays: t.Dict[str, t.Any]) -> t.Tuple[str, str]:
    with pytest.raises(RelayError) as caught:
        routes(*relays)
    return caught.value.field, caught.value.reason


# -- one relay ---------------------------------------------------------------------------------------------------------


def test_465_is_implicit_and_587_is_not() -> None:
    by_port = {port: one(port=port, **LOGIN) for port in (465, 587)}
    assert [(by_port[port]["wrappermode"], by_port[port]["security_level"], by_port[port]["sasl"]) for port in (465, 587)] == [
        ("yes", "secure", "yes"),
        ("no", "secure", "yes"),
    ]
    assert by_port[465]["nexthop"] == by_port[465]["first_nexthop"] == "[smtp.example.net]:465"


def test_a_relay_without_credentials_is_still_verified_unless_tls_is_off() -> None:
    assert (one()["security_level"], one()["sasl"], one()["table"]) == ("secure", "no", None)
    assert one(port=25, tls="none")["security_level"] == "none"


def test_postfix_knows_no_hyphen_in_names_of_parameters() -> None:
    assert (one(name="a-b", **LOGIN)["service"], one(name="a-b", **LOGIN)["table"]) == ("outpost_a_b", "sasl_a_b")


def test_auto_allows_any_mechanism_that_uses_a_password() -> None:
    assert one(mechanism="login", **LOGIN)["mechanisms"] == "login"
    *kept_out, others = one()["mechanisms"].split(", ")
    # Each of these takes the password for something else, or none at all (smtp_sasl_mechanism_filter).
    assert set(kept_out) >= {"!xoauth2", "!oauthbearer", "!gssapi", "!gss-spnego", "!external"} and others == "static:all"


def test_the_mechanisms_that_are_needed_are_named_once() -> None:
    second = {"host": "b.example", "mechanism": "scram-sha-256", **LOGIN}
    assert routes({"host": "a.example", **LOGIN}, second)["sasl_mechanisms"] == ["plain", "login", "scram-sha-256"]
    assert routes({"host": "a.example"})["sasl_mechanisms"] == []


def test_trust_becomes_settings_of_tls() -> None:
    plain = one()
    assert (plain["cert_match"], plain["servername"], plain["protocols"]) == ("nexthop", "hostname", "!SSLv2, !SSLv3, !TLSv1, !TLSv1.1")
    other = one(server_name="mx.example.org", minimum_tls="1.3", client_certificate="/c.pem", fingerprints=[FINGERPRINT, "cd" * 32])
    assert (other["cert_match"], other["servername"]) == ("mx.example.org", "mx.example.org")
    assert other["protocols"].endswith(", !TLSv1.2")
    assert other["security_level"] == "fingerprint"
    assert other["fingerprints"] == ":".join(["AB"] * 32) + ", " + ":".join(["CD"] * 32)
    assert (other["client_certificate"], other["client_key"]) == ("/c.pem", "/c.pem")
    assert one(client_certificate="/c.pem", client_key="/k.pem")["client_key"] == "/k.pem"


def test_an_address_can_be_verified_by_another_name_or_a_fingerprint_only() -> None:
    assert refused({"host": "192.0.2.1"})[0] == "v[0] (192-0-2-1).host"
    assert one(host="192.0.2.1", port=25, tls="none")["nexthop"] == "[192.0.2.1]:25"
    assert one(host="2001:db8::1", fingerprints=[FINGERPRINT])["servername"] == ""
    assert one(host="192.0.2.1", server_name="mx.example.org")["cert_match"] == "mx.example.org"


def test_srv_records_are_asked_for_by_the_name_of_the_service() -> None:
    for tls, service in (("implicit", "submissions"), ("starttls", "submission")):
        found = routes({"host": "example.com", "srv": True, "tls": tls, "name": "a", **LOGIN})
        (transport,) = found["transports"]
        assert (transport["nexthop"], transport["srv"]) == (f"example.com:{service}", service)
        assert found["secret_tables"] == {"sasl_a": f"example.com:{service} u:p\n"}, "the host is not known beforehand"
        assert transport["cert_match"] == "nexthop, dot-nexthop"


def test_postfix_has_no_login_by_certificate() -> None:
    field, reason = refused({"host": "a.example", "mechanism": "external", "client_certificate": "/c.pem"})
    assert field == "v[0] (a-example).mechanism" and "external" in reason


# -- credentials ---------------------------------------------------------------------------------------------------------


def test_each_transport_has_a_table_of_its_own_credentials() -> None:
    found = routes(
        {"name": "a", "host": "one.example", "username": "u1", "password": "p: #1"},
        {"name": "b", "host": "one.example", "senders": ["@b.example"], "username": "u2", "password": "p2"},
    )
    assert found["secret_tables"] == {"sasl_a": "one.example u1:p: #1\n", "sasl_b": "one.example u2:p2\n"}


def test_a_secret_on_the_host_is_a_line_that_the_host_adds() -> None:
    found = routes(
        {"name": "a", "host": "one.example", "username": "u1", "password_file": "/etc/secret"},
        {"name": "b", "host": "two.example", "username": "u2", "password": "p2"},
        {"name": "c", "host": "three.example", "username": "u3", "password_credential": "smtp"},
    )
    assert found["secret_tables"] == {"sasl_a": "two.example u2:p2\n"}
    assert found["secret_sources"] == {
        "sasl_a": [
            {"key": "one.example", "username": "u1", "file": "/etc/secret", "name": "v[0] (a).password_file"},
            {"key": "three.example", "username": "u3", "credential": "smtp", "name": "v[2] (c).password_credential"},
        ]
    }


def test_a_ca_file_vouches_for_its_own_relay_only() -> None:
    found = routes(
        {"name": "a", "host": "a.example", "ca_file": "/one.pem"},
        {"name": "b", "host": "b.example"},
        {"name": "c", "host": "c.example", "ca_file": "/two.pem"},
        {"name": "d", "host": "d.example", "ca_file": "/one.pem", "senders": ["d"]},
    )
    assert found["ca_files"] == ["/one.pem", "/two.pem"]
    assert [transport["ca"] for transport in found["transports"]] == ["@ca_bundle_1@", "@ca_bundle@", "@ca_bundle_2@", "@ca_bundle_1@"]
    assert routes({"host": "a.example", "port": 25, "tls": "none", "ca_file": "/one.pem"})["ca_files"] == [], "no file to read without TLS"


# -- failover --------------------------------------------------------------------------------------------------------------


def test_relays_that_agree_are_one_transport_with_a_list_of_next_hops() -> None:
    found = routes(
        {"name": "a", "host": "a.example", "port": 465, **LOGIN},
        {"name": "b", "host": "b.example", "port": 465, "username": "v", "password": "q"},
    )
    assert found["default_transport"] == "outpost_a:[a.example]:465,[b.example]:465"
    assert found["secret_tables"] == {"sasl_a": "a.example u:p\nb.example v:q\n"}
    assert found["failovers"] == [] and [transport["relays"] for transport in found["transports"]] == [["a", "b"]]


@pytest.mark.parametrize(
    "second",
    [
        {"port": 587},
        {"host": "a.example", "username": "other"},
        {"username": None, "password": None},
        {"ca_file": "/ca.pem"},
        {"mechanism": "login"},
        {"minimum_tls": "1.3"},
        {"server_name": "mx.example"},
        {"fingerprints": [FINGERPRINT]},
        {"client_certificate": "/c.pem"},
        {"family": "ipv4"},
        {"concurrency_limit": 1},
        {"rate_delay": 1},
        {"recipient_limit": 1},
        {"host": "b.example", "port": None, "tls": "implicit", "srv": True},
    ],
)
def test_a_relay_that_differs_is_a_transport_of_its_own_behind_the_first(second: t.Dict[str, t.Any]) -> None:
    found = routes({"name": "a", "host": "a.example", "port": 465, **LOGIN}, {"name": "b", "host": "b.example", "port": 465, **LOGIN, **second})
    both = by_service(found)
    assert found["default_transport"] == "outpost_a:[a.example]:465"
    assert both["outpost_a"]["fallback"] == "[127.87.0.1]:325" and both["outpost_b"]["fallback"] == ""
    (failover,) = found["failovers"]
    assert failover["listen"] == "127.87.0.1:325"
    assert failover["destination"] == f"outpost_b:{both['outpost_b']['nexthop']}"


def test_two_keys_for_one_certificate_are_two_transports() -> None:
    both = ({"name": name, "host": f"{name}.example", "client_certificate": "/c.pem", "client_key": f"/{name}.pem"} for name in "ab")
    assert [transport["client_key"] for transport in routes(*both)["transports"]] == ["/a.pem", "/b.pem"]


def test_the_way_to_the_next_transport_begins_with_tls_where_its_client_does() -> None:
    def policies(*ports: int) -> t.List[t.Tuple[str, str, str]]:
        found = routes(*({"name": f"r{port}", "host": f"{port}.example", "port": port} for port in ports))
        return [(one["nexthop"], one["wrappermode"], one["security_level"], one["policy"].split()[0]) for one in found["failovers"]]

    assert policies(465, 587) == [("[127.87.0.1]:325", "yes", "encrypt", "encrypt")]
    assert policies(587, 465) == [("[127.87.0.1]:325", "no", "none", "none")]


def test_a_client_with_tls_and_one_without_need_a_way_each_to_the_same_transport() -> None:
    found = routes(
        {"name": "a", "host": "a.example", "port": 465, "senders": ["x"]},
        {"name": "b", "host": "b.example", "port": 587, "senders": ["y"]},
        {"name": "c", "host": "c.example", "port": 25, "tls": "none", "senders": ["x", "y"]},
        {"name": "all", "host": "e.example"},
    )
    assert [(one["listen"], one["wrappermode"], one["destination"]) for one in found["failovers"]] == [
        ("127.87.0.1:325", "yes", "outpost_c:[c.example]:25"),
        ("127.87.0.1:326", "no", "outpost_c:[c.example]:25"),
    ]


def test_a_chain_of_three_has_two_ways_between() -> None:
    found = routes(*({"name": name, "host": f"{name}.example", "port": port} for name, port in (("a", 465), ("b", 587), ("c", 465))))
    transport = by_service(found)
    ways = {failover["nexthop"]: failover["destination"] for failover in found["failovers"]}
    assert ways[transport["outpost_a"]["fallback"]] == "outpost_b:[b.example]:587"
    assert ways[transport["outpost_b"]["fallback"]] == "outpost_c:[c.example]:465"
    assert transport["outpost_c"]["fallback"] == ""


def test_a_client_without_ipv4_finds_the_next_transport_by_ipv6() -> None:
    found = routes({"name": "a", "host": "a.example", "family": "ipv6"}, {"name": "b", "host": "b.example"})
    assert (found["failovers"][0]["listen"], by_service(found)["outpost_a"]["fallback"]) == ("[::1]:325", "[::1]:325")


# -- senders ---------------------------------------------------------------------------------------------------------------


def test_senders_have_relays_of_their_own_in_the_order_of_the_list() -> None:
    found = routes(
        {"name": "all", "host": "a.example", **LOGIN},
        {"name": "b", "host": "b.example", "senders": ["@B.example", "root"], **LOGIN},
        {"name": "c", "host": "c.example", "senders": ["root"], **LOGIN},
    )
    assert found["default_transport"] == "outpost_all:[a.example]:587"
    assert found["senders"] == [
        {"sender": "@b.example", "transport": "outpost_b:[b.example]:587"},
        {"sender": "root", "transport": "outpost_b_2:[b.example]:587,[c.example]:587"},
    ]
    assert by_service(found)["outpost_b_2"]["relays"] == ["b", "c"]


def test_a_number_for_a_second_transport_is_not_the_name_of_another_relay() -> None:
    found = routes(
        {"name": "all", "host": "a.example"},
        {"name": "b", "host": "b.example", "senders": ["x@b.example", "root"]},
        {"name": "b-2", "host": "c.example", "port": 465, "senders": ["root"]},
    )
    assert sorted(by_service(found)) == ["outpost_all", "outpost_b", "outpost_b_2", "outpost_b_3"]
    assert by_service(found)["outpost_b_2"]["relays"] == ["b-2"]
    found = routes(
        {"name": "all", "host": "a.example"},
        {"name": "b", "host": "b.example", "senders": ["x@b.example", "root"]},
        {"name": "c", "host": "c.example", "senders": ["root"]},
        {"name": "b-2", "host": "d.example", "senders": ["y@b.example"]},
    )
    assert {name: transport["relays"] for name, transport in by_service(found).items() if name.startswith("outpost_b_")} == {
        "outpost_b_2": ["b-2"],
        "outpost_b_3": ["b", "c"],
    }


def test_without_a_relay_for_everybody_the_others_mail_would_take_a_way_without_login() -> None:
    field, reason = refused({"host": "a.example", "senders": ["root"]})
    assert field == "v" and "everybody else" in reason


def test_one_account_at_one_server_is_no_failover_for_itself() -> None:
    twice = {"host": "a.example", "port": 465, **LOGIN}
    field, reason = refused({"name": "a", **twice}, {"name": "b", **twice, "host": "A.example."})
    assert field == "v[1] (b).host" and "'a'" in reason
    routes({"name": "a", **twice}, {"name": "b", **twice, "username": "other"})
    routes({"name": "a", **twice}, {"name": "b", **twice, "senders": ["root"]})
    routes({"name": "a", **twice, "family": "ipv6"}, {"name": "b", **twice, "family": "ipv4"})


def test_limits_go_through() -> None:
    found = one(concurrency_limit=2, rate_delay="1m", recipient_limit=10)
    assert (found["concurrency_limit"], found["rate_delay"], found["recipient_limit"]) == (2, "1m", 10)
