# SPDX-License-Identifier: GPL-3.0-or-later
"""main.cf, defaults and master.cf as one service sees them."""

from __future__ import annotations

import pytest
from postfix_instance import DEFAULTS_2_10, Instance

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import settings
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result

# As "postconf -M" prints it: long entries are continued.
MASTER = """\
outpost_a  unix  -       -       y       -       -       smtp
    -o smtp_tls_wrappermode=$outpost_a_wrappermode -o { smtp_sasl_security_options = noanonymous, noactive }
    -osmtp_helo_name=one -o smtp_helo_name=two
chrooted   unix  -       -       y       -       -       smtp
default    unix  -       -       -       -       -       smtp -v
"""


def test_overrides_of_a_service():
    read = Instance("outpost_a_wrappermode = yes\n", MASTER).settings()
    own, other = read.of_service("outpost_a"), read.of_service("smtp")
    assert own.flag("smtp_tls_wrappermode") and not other.flag("smtp_tls_wrappermode")
    assert own.names("smtp_sasl_security_options") == ["noanonymous", "noactive"]
    assert own.names("smtp_sasl_tls_security_options") == ["noanonymous", "noactive"], "a default that refers to it follows"
    assert other.names("smtp_sasl_tls_security_options") == ["noplaintext", "noanonymous"]
    assert own.get("smtp_helo_name") == "two", "the last one counts"
    assert read.of_service("relay").get("syslog_name") == "postfix/relay"
    assert own.get("unknown_parameter") == ""


def test_chroot():
    old, new = Instance(master=MASTER).settings(), Instance("compatibility_level = 3.6\n", MASTER).settings()
    for read in (old, new):
        assert read.chrooted(read.service("chrooted")) and not read.chrooted(read.service("smtp"))
    assert old.chrooted(old.service("default")) and not new.chrooted(new.service("default"))
    assert old.service("nonexistent") is None and old.service("smtpd") is None


@pytest.mark.parametrize(("defaults", "version", "digest"), [("", (3, 10, 13), "md5"), (DEFAULTS_2_10, (2, 10, 1), "md5")])
def test_versions(defaults, version, digest):
    read = (Instance(defaults=defaults) if defaults else Instance()).settings()
    assert read.version == version and read.global_parameters.get("smtp_tls_fingerprint_digest") == digest
    assert Instance("compatibility_level = 3.6\n").parameters().get("smtp_tls_fingerprint_digest") == "sha256"


@pytest.mark.parametrize("command", ["{", "{ smtp", "{}", "{ }"])
def test_a_service_without_a_command_is_none(command):
    assert set(settings.parse_services(f"a unix - - n - - smtp\nb unix - - n - - {command}\n")) == {"a/unix"}


def test_what_can_not_be_read():
    with pytest.raises(PostfixError, match="/x can not be read: open /x/main.cf: No such file"):
        settings.read("/x", lambda _argv, _stdin: Result(1, "", "postconf: fatal: open /x/main.cf: No such file or directory\n"))
    with pytest.raises(PostfixError, match="myorigin can not be used: a parameter refers to itself"):
        Instance("myorigin = $myorigin\n").parameters().get("myorigin")
