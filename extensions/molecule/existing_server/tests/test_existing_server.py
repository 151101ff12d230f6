# SPDX-License-Identifier: GPL-3.0-or-later
"""What an administrator wrote stays, byte for byte; only what the role owns has changed."""

from __future__ import annotations

import difflib


def changes(host, name):
    before = host.file(f"/var/tmp/handmade/{name}").content_string.splitlines()
    after = host.file(f"/etc/postfix/{name}").content_string.splitlines()
    diff = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    return [line[2:] for line in diff if line[0] == "-"], [line[2:] for line in diff if line[0] == "+"]


def test_main_cf_only_gains_what_the_relay_needs(host):
    removed, added = changes(host, "main.cf")
    assert removed == []
    names = {line.split("=")[0].strip() for line in added if "=" in line and not line.startswith(("#", " ", "\t"))}
    foreign = {name for name in names if not name.startswith("outpost_")}
    assert foreign == {"default_transport", "sender_canonical_maps", "proxy_write_maps"}


def test_master_cf_only_gains_the_transport(host):
    removed, added = changes(host, "master.cf")
    assert removed == []
    services = [line.split()[0] for line in added if line and not line.startswith(("#", " ", "\t"))]
    assert services == ["outpost_primary"]


def test_its_own_settings_are_in_force(host):
    settings = dict(line.split(" = ", 1) for line in host.check_output("postconf -n").split("\n") if " = " in line)
    assert settings["inet_interfaces"] == "all"
    assert settings["smtp_tls_security_level"] == "may"
    assert settings["mydestination"] == "$myhostname, localhost, localhost.localdomain"


def test_its_own_map_is_untouched(host):
    assert changes(host, "transport") == ([], [])
