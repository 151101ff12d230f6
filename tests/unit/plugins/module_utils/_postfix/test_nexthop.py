# SPDX-License-Identifier: GPL-3.0-or-later
"""Next hops, and names of services as ports."""

from __future__ import annotations

import pytest
from postfix_instance import DEFAULTS_2_10, Instance

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.nexthop import NextHopError, parse, port_number


@pytest.mark.parametrize(
    ("text", "host", "service", "direct"),
    [
        ("[smtp.example.net]:587", "smtp.example.net", "587", True),
        ("[smtp.example.net]", "smtp.example.net", "smtp", True),
        ("smtp.example.net:submission", "smtp.example.net", "submission", False),
        ("example.net", "example.net", "smtp", False),
        ("[192.0.2.1]:25", "192.0.2.1", "25", True),
        ("[IPv6:2001:db8::1]:587", "2001:db8::1", "587", True),
        ("[2001:db8::1]", "2001:db8::1", "smtp", True),
    ],
)
def test_forms(text, host, service, direct):
    found = parse(text, "smtp")
    assert (found.text, found.host, found.service, found.direct) == (text, host, service, direct)


@pytest.mark.parametrize("text", ["", ":587", "[]:587", "[a]:", "[a]587", "a:b:c", "[a", "2001:db8::1", "[ipv6:]", "ipv6:"])
def test_what_ends_smtp(text):
    with pytest.raises(NextHopError):
        parse(text, "smtp")


def test_ports(tmp_path):
    (tmp_path / "etc").mkdir()
    services = "smtp 25/tcp mail\nsubmission 999/tcp # no\nhigh \u00b2/tcp\nodd 7/udp\nbroken\n#x 8/tcp\n"
    (tmp_path / "etc" / "services").write_text(services, encoding="utf-8")
    new, old = Instance().parameters(), Instance(defaults=DEFAULTS_2_10).parameters()
    root = str(tmp_path)
    assert port_number("587", new, root) == 587
    assert port_number("submission", new, root) == 587, "known_tcp_ports of 3.6"
    assert port_number("submissions", new, root) == port_number("smtps", new, root) == 465
    assert port_number("submission", old, root) == 999, "etc/services of the chroot"
    assert port_number("mail", new, root) == 25
    for service in ("smtps", "odd", "x", "\u00b2", "9" * 5000):
        with pytest.raises(NextHopError, match="no known TCP service"):
            port_number(service, old, root)
    for service in ("0", "65536"):
        with pytest.raises(NextHopError, match="no TCP port"):
            port_number(service, new, root)
    with pytest.raises(NextHopError):
        port_number("mail", new, str(tmp_path / "none"))
