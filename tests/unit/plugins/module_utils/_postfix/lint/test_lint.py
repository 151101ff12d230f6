# SPDX-License-Identifier: GPL-3.0-or-later
"""What real servers do not show: other versions and distributions, files in the way, bounds. The faults are in tests/system/lint_cases.py."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from smtp_server import Certificates

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint import lint, relays
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.catalogue import AREAS, CATALOGUE
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.words import wrong_protocols
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline

HOST = "smtp.example.net"
SECRET = "do-not-tell-4711"
LOGIN = "smtp_sasl_auth_enable = yes\nsmtp_sasl_tls_security_options = noanonymous\nsmtp_tls_security_level = secure\n"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def relay(subject, certificates):
    """Make the instance one with a relay: relay(next hop, key, more of main.cf)."""

    def make(nexthop: str = f"[{HOST}]:587", key: str = f"[{HOST}]:587", more: str = "", credential: str = f"me:{SECRET}") -> None:
        table = subject.file("passwd", f"{key} {credential}\n")
        subject.main(f"relayhost = {nexthop}\nsmtp_sasl_password_maps = texthash:{table}\nsmtp_tls_CAfile = {certificates.ca_file}\n{LOGIN}{more}")

    return make


def of(findings, code):
    return [one for one in findings if one.code == code]


def test_a_sound_relay_has_no_finding(subject, relay):
    relay()
    assert subject.lint() == []


def test_errors_come_first_and_lines_in_their_order(subject):
    more = "".join(f"parameter{number} = $nothing\n" for number in range(12))
    subject.warnings = "".join(f"postconf: warning: {subject.directory}/main.cf: unused parameter: parameter{number}=x\n" for number in (11, 2, 9))
    subject.main(f"smtp_connect_timeout = soon\n{more}")
    found = subject.lint()
    assert [one.severity for one in found] == ["error", "warning", "warning", "warning"]
    assert [one.place for one in found] == [
        "main.cf:3: smtp_connect_timeout",
        "main.cf:6: parameter2",
        "main.cf:13: parameter9",
        "main.cf:15: parameter11",
    ]


def test_names_tell_whose_a_finding_is(subject, relay):
    relay(nexthop="[other.example.net]:587")
    subject.master("outpost_a unix - - n - - smtp -o smtp_connect_timeout=$outpost_a_timeout\n")
    main = (subject.directory / "main.cf").read_text()
    (subject.directory / "main.cf").write_text(f"{main}outpost_a_timeout = soon\n")
    found = subject.lint()
    assert of(found, "lint_value_not_time")[0].names == {"smtp_connect_timeout", "outpost_a", "outpost_a_timeout"}
    assert of(found, "lint_no_credential")[0].names == {"smtp_sasl_password_maps", "smtp", "relayhost"}
    assert of(found, "lint_credential_unused")[0].names == {"smtp_sasl_password_maps", "passwd"}


def test_a_table_among_others_in_a_list_is_the_only_one_at_fault(subject):
    subject.main(f"virtual_alias_maps = texthash:{subject.file('good')}, texthash:{subject.directory}/gone\n")
    assert [one.names for one in subject.lint()] == [{"gone"}]


# -- versions and distributions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "level", "codes"),
    [
        ("3.5.8", "3.6", ["lint_compatibility_level_dotted"]),
        ("3.5.8", "2", []),
        ("3.5.25", "3.6", []),
        ("3.7.11", "3.9", ["lint_compatibility_level"]),
        ("3.10.13", "3.9", []),
        ("3.10.13", "3.1", ["lint_compatibility_level"]),
    ],
)
def test_compatibility_levels(subject, version, level, codes):
    subject.defaults = subject.defaults.replace("mail_version = 3.10.13", f"mail_version = {version}")
    (subject.directory / "main.cf").write_text(f"compatibility_level = {level}\ninet_interfaces = loopback-only\n")
    assert subject.codes() == codes


@pytest.mark.parametrize(
    ("value", "version", "wrong"),
    [
        (">=TLSv1.2", (3, 5, 25), [">=TLSv1.2"]),
        (">=TLSv1.2", (3, 6, 0), []),
        (">=TLSv1.2 <=TLSv1.3", (3, 10, 0), []),
        ("!SSLv2,!SSLv3:!TLSv1 !tlsv1.1", (3, 5, 0), []),
        ("TLSv12", (3, 10, 0), ["TLSv12"]),
        ("TLSv1.2+", (3, 10, 0), ["TLSv1.2+"]),
        ("", (3, 10, 0), []),
    ],
)
def test_protocols_of_a_version(value, version, wrong):
    assert wrong_protocols(value, version) == wrong


@pytest.mark.parametrize(
    ("family", "kind", "remedy"),
    [
        ("debian", "lmdb", "postfix-lmdb"),
        ("redhat", "pcre", "postfix-pcre"),
        ("redhat", "hash", "without Berkeley DB: build the table as lmdb"),
    ],
)
def test_a_type_that_is_not_compiled_in(subject, family, kind, remedy):
    subject.family, subject.types = family, "lmdb texthash\n" if kind != "lmdb" else "hash texthash\n"
    subject.defaults = subject.defaults.replace("default_database_type = hash", "default_database_type = lmdb")
    subject.main(f"virtual_alias_maps = {kind}:{subject.file('virtual')}\n")
    found = subject.lint()
    assert [one.code for one in found] == ["lint_table_type"] and remedy in found[0].remedy


def test_names_that_another_version_knows(subject):
    def warned(name: str, text: str) -> str:
        subject.warnings = f"/usr/sbin/postconf: warning: {subject.directory}/main.cf: {text}\n"
        subject.main(f"{name} = no\n")
        found = subject.lint()
        return f"{found[0].code}: {found[0].found} {found[0].remedy}"

    subject.defaults = subject.defaults.replace("mail_version = 3.10.13", "mail_version = 3.7.11")
    assert re.match("lint_parameter_too_new: .* 3.8", warned("use_srv_lookup", "unused parameter: use_srv_lookup=no"))
    assert "lint_parameter_deprecated: smtp_use_tls" in warned("smtp_use_tls", "")
    text = 'support for parameter "smtp_use_tls" will be removed; instead, specify "smtp_tls_security_level"'
    subject.defaults = subject.defaults.replace("mail_version = 3.7.11", "mail_version = 3.10.13")
    assert warned("smtp_use_tls", text).endswith("Instead, specify smtp_tls_security_level.")


def test_a_name_of_another_version_in_master_cf_is_its_services(subject):
    subject.defaults = subject.defaults.replace("mail_version = 3.10.13", "mail_version = 3.7.11")
    subject.warnings = f"postconf: warning: {subject.directory}/master.cf: unused parameter: use_srv_lookup=submission\n"
    subject.master("outpost_a unix - - n - - smtp -o use_srv_lookup=submission\n")
    (found,) = subject.lint()
    assert found.code == "lint_parameter_too_new" and found.names == {"use_srv_lookup", "outpost_a"}


def test_a_word_that_must_be_there(subject):
    subject.main("inet_protocols =\n")
    assert [(one.code, one.place) for one in subject.lint()] == [("lint_value_unknown_word", "main.cf:3: inet_protocols")]


def test_a_wrong_value_that_only_the_expansion_shows(subject):
    subject.main("smtpd_timeout = ${stress?{10}:{300}}s\nmine = 3\nsmtp_destination_recipient_limit = ${mine}x\n")
    assert [(one.code, one.place) for one in subject.lint()] == [("lint_value_not_number", "main.cf:5: smtp_destination_recipient_limit")]


# -- what is no fault -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", ["disable_dns_lookups = yes\n", "smtp_dns_support_level = disabled\n"])
def test_without_dns_a_next_hop_needs_no_brackets(subject, relay, more):
    relay(nexthop=f"{HOST}:587", key=f"{HOST}:587", more=more)
    assert subject.codes() == []


def test_a_destination_of_transport_maps_need_not_have_a_credential(subject, relay):
    transport = subject.file("transport", "partner.example smtp:[mx.partner.example]\n")
    relay(more=f"transport_maps = texthash:{transport}\n")
    assert subject.codes() == []


def test_servers_that_only_dns_knows_may_have_a_credential_unless_a_key_is_beside_the_next_hop(subject, relay):
    relay(nexthop="example.net", key="mx.example.net")
    assert subject.codes() == ["lint_relay_mx_lookup"]
    relay(nexthop="example.net", key="[example.net]")
    assert "lint_no_credential" in subject.codes()


def test_aliases_have_a_format_of_their_own(subject):
    subject.defaults += "alias_maps =\nalias_database =\n"
    aliases = subject.file("aliases", "root: me\nempty:\nroot: you\n")
    subject.file("aliases.db")
    subject.main(f"alias_maps = hash:{aliases}\nalias_database = hash:{aliases}\n")
    assert subject.codes() == []


def test_a_password_in_a_closed_directory_is_not_open_to_all(subject, relay):
    relay()
    (subject.directory / "passwd").chmod(0o644)
    subject.directory.chmod(0o700)
    assert subject.codes() == []


# -- the host -------------------------------------------------------------------------------------------------------------


def test_a_configuration_that_nobody_can_read(subject):
    subject.run = lambda argv, stdin: Result(1, "", f'postconf: fatal: main.cf, line 3: missing value: "{SECRET}"\n')
    found = subject.lint()
    assert [one.code for one in found] == ["lint_configuration_unreadable"] and SECRET not in repr(found)
    subject.run = lambda argv, stdin: Result(1, "", "postconf: fatal: parameter inet_interfaces: no local interface found for ::1\n")
    found = subject.lint()
    assert [one.code for one in found] == ["lint_interface_missing"] and "::1" in found[0].found


def test_a_configuration_that_only_others_may_read_is_no_broken_one(subject, monkeypatch):
    subject.run = lambda argv, stdin: Result(1, "", f"postconf: fatal: open {subject.directory}/main.cf: Permission denied\n")
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert [(one.code, one.place) for one in subject.lint()] == [("lint_not_read", "main.cf")]


@pytest.mark.parametrize(
    ("protocols", "service", "found"),
    [
        ("ipv6", "127.87.0.1:325", "inet_protocols = ipv6 leaves out"),
        ("ipv4", "[::1]:325", "inet_protocols = ipv4 leaves out"),
        ("all", "192.0.2.1:325", "no interface of this host"),
        ("all", "127.87.0.1:325", ""),
        ("ipv4", "325", ""),
        ("ipv6", "localhost:325", ""),
    ],
)
def test_a_service_that_can_not_listen_where_it_is_to(subject, protocols, service, found):
    subject.master(f"{service} inet n - n - - smtpd\n")
    subject.main(f"inet_protocols = {protocols}\n")
    one = of(subject.lint(), "lint_listen_address")
    assert [found in finding.found and service in finding.names for finding in one] == [True] * bool(found)


def test_a_value_that_ends_every_program_is_named_without_itself(subject, relay):
    relay(more="default_process_limit = 3\n")
    subject.fatal = f"postmap: fatal: bad numerical configuration: default_process_limit = {SECRET}\n"
    found = of(subject.lint(), "lint_start_fails")
    assert found[0].names == {"default_process_limit"} and SECRET not in repr(found)


def test_no_program_is_started_when_the_time_is_over(subject):
    with pytest.raises(PostfixError, match="postconf was not started: there is no time left"):
        lint.lint(str(subject.directory), Deadline(0))


def test_there_is_an_end_to_waiting(subject):
    def never(argv, stdin):
        raise PostfixError("postconf did not end within 1 seconds")

    subject.run = never
    with pytest.raises(PostfixError, match="did not end"):
        subject.lint()


def test_files_in_the_chroot_count_while_postfix_runs(subject, relay, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    relay()
    master = subject.directory / "master.cf"
    master.write_text(master.read_text().replace("smtp       unix  -       -       n", "smtp       unix  -       -       y"))
    (subject.queue / "etc").mkdir()
    for name in ("resolv.conf", "hosts", "nsswitch.conf", "services"):
        source = Path("/etc", name)
        (subject.queue / "etc" / name).write_bytes(source.read_bytes() if source.exists() else b"")
    (subject.queue / "etc" / "hosts").write_text("192.0.2.1 elsewhere\n")
    assert subject.codes() == []
    subject.start()
    found = subject.lint()
    assert [(one.code, one.place) for one in found] == [("lint_chroot_differs", f"{subject.queue}/etc/hosts")]


def test_a_certificate_that_only_the_chroot_lacks(subject, relay, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    subject.start()
    certificates = subject.directory / "certs"
    inside = Path(f"{subject.queue}{certificates}")
    for directory, names in ((certificates, ("0123abcd.0", "4567cdef.0")), (inside, ("0123abcd.0",))):
        directory.mkdir(parents=True)
        for name in names:
            (directory / name).touch()
    relay(more=f"smtp_tls_CAfile =\nsmtp_tls_CApath = {certificates}\n")
    master = subject.directory / "master.cf"
    master.write_text(master.read_text().replace("smtp       unix  -       -       n", "smtp       unix  -       -       y"))
    (finding,) = [one for one in of(subject.lint(), "lint_chroot_differs") if "smtp_tls_CApath" in one.names]
    assert "lacks 1 of the certificates" in finding.found
    (inside / "4567cdef.0").touch()
    assert not [one for one in subject.lint() if "smtp_tls_CApath" in one.names]


def test_a_token_plugin_beside_a_password(subject, relay):
    for plugin in ("xoauth2", "kdexoauth2"):
        subject.plugins = ["plain", "login", plugin]
        relay()
        assert subject.codes() == ["lint_token_plugin"], plugin
    relay()
    assert subject.codes() == ["lint_token_plugin"]
    for wanted in ("!xoauth2, static:all", "xoauth2"):
        relay(more=f"smtp_sasl_mechanism_filter = {wanted}\n")
        assert subject.codes() == [], wanted


def test_a_named_pipe_is_not_waited_for(subject):
    os.mkfifo(subject.directory / "virtual")
    subject.main(f"virtual_alias_maps = texthash:{subject.directory}/virtual\n")
    assert subject.codes() == ["lint_table_unreadable"]


@pytest.mark.parametrize(
    "table", ["ldap:PATH", "proxy:ldap:PATH", "unionmap:{static:x, ldap:PATH}", f"pipemap:{{proxy:ldap:PATH,inline:{{a={SECRET}}}}}"]
)
def test_a_table_on_another_server_is_not_asked(subject, relay, table):
    subject.types = subject.types + "ldap unionmap pipemap\n"
    relay(more=f"sender_dependent_relayhost_maps = {table.replace('PATH', subject.file('ldap.cf'))}\n")
    asked = []
    run, subject.run = subject.run, lambda argv, stdin: asked.append(argv[-1]) or run(argv, stdin)
    found = subject.lint()
    assert [one.code for one in found] == ["lint_not_read"] and SECRET not in repr(found)
    assert not [table for table in asked if "ldap:" in table]


def test_proxymap_is_not_asked_since_it_may_not_run(subject, relay):
    relay()
    main = (subject.directory / "main.cf").read_text()
    (subject.directory / "main.cf").write_text(main.replace("texthash:", "proxy:texthash:"))
    (subject.directory / "passwd").chmod(0o600)
    subject.defaults = subject.defaults.replace("mail_owner = postfix", "mail_owner = nobody")
    assert subject.codes() == ["lint_table_unreadable"]


@pytest.mark.parametrize("where", ["key", "alone", "key_and_value", "parameter", "comment"])
def test_a_secret_in_a_wrong_place_is_not_told(subject, relay, where):
    relay()
    if where == "key":
        subject.file("passwd", f"{SECRET} me\n{SECRET} you\n")
    elif where == "alone":
        subject.file("passwd", f"[{HOST}]:587\n{SECRET}\n")
    elif where == "key_and_value":
        subject.file("passwd", f"me:{SECRET} [{HOST}]:587\n")
    elif where == "parameter":
        relay(more=f"smtp_sasl_password_maps = inline:{{ other=me:{SECRET} }} me:{SECRET} {SECRET}\n")
    else:
        relay(more=f"smtp_sasl_auth_enable = yes # {SECRET}\n")
    found = subject.lint()
    assert found
    assert SECRET not in repr(found)


# -- bounds ---------------------------------------------------------------------------------------------------------------


def test_a_main_cf_of_ten_thousand_lines(subject):
    """Postfix has some 1,200 parameters; with more of them it shows better that none is looked at once for each line."""
    subject.defaults += "".join(f"smtp_parameter_{number} = 3\n" for number in range(5_000))
    subject.main("".join(f"smtp_conect_timeout_{number} = $of_{number}\n" for number in range(10_000)))
    subject.warnings = "".join(
        f"postconf: warning: {subject.directory}/main.cf: unused parameter: smtp_conect_timeout_{n}=x\n"
        f"postconf: warning: {subject.directory}/main.cf: undefined parameter: of_{n}\n"
        for n in range(10_000)
    )
    begun = time.process_time()
    found = subject.lint()
    assert time.process_time() - begun < 2.5
    assert 0 < len(found) <= len(CATALOGUE) * lint.MAX_OF_A_CODE


def test_a_table_of_a_million_lines(subject):
    lines = "".join(f"user{number}@example.net other\n" for number in range(200_000)) + "user1@example.net again\n" * 800_000
    subject.main(f"virtual_alias_maps = texthash:{subject.file('virtual', 'twice b' + chr(10) + 'twice c' + chr(10) + lines)}\n")
    begun = time.process_time()
    found = subject.lint()
    assert time.process_time() - begun < 5
    assert [(one.code, one.place) for one in found] == [("lint_table_duplicate_key", "virtual:2")]


# -- the catalogue --------------------------------------------------------------------------------------------------------


def test_every_code_of_the_catalogue_can_be_found_and_no_other():
    assert len(CATALOGUE) == sum(len(rules) for _title, rules in AREAS)
    package = Path(lint.__file__).parent
    sources = "".join(path.read_text() for path in [*package.glob("*.py"), *package.parent.glob("*.py")] if path.name != "catalogue.py")
    assert set(re.findall(r'"(lint_\w+)"', sources)) == set(CATALOGUE)
    assert set(relays.ABOUT) <= set(CATALOGUE)


def test_a_finding_as_a_module_returns_it():
    one = finding("lint_parameter_twice", "main.cf:3: a", "a is set before", ["b", "a"])
    assert one.as_dict()["names"] == ["a", "b"] and one.as_dict()["severity"] == "warning"
    assert set(one.as_dict()) == {"code", "severity", "place", "found", "why", "remedy", "names"}
