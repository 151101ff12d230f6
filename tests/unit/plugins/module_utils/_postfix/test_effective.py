# SPDX-License-Identifier: GPL-3.0-or-later
"""The relays of an instance: which there are, what is tested of them, what is told, and what is wrong with them."""

from __future__ import annotations

import json
import os

import pytest
from postfix_instance import Instance
from smtp_server import Certificates

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import effective, local_files
from ansible_collections.outpost.smtp.plugins.module_utils._smtp import dns, endpoint
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError

HOST = "smtp.example.net"
RELAYHOST = f"relayhost = [{HOST}]:587\n"
LOGIN = "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = hash:/p\nsmtp_sasl_tls_security_options = noanonymous\n"
TABLES = {"hash:/p": {HOST: "user:pass word", "@b.example": "b:sender"}}


def relay(main, tables=None, master="", **options):
    """The one relay of an instance."""
    found = Instance(main, master, TABLES if tables is None else tables).relays(**options)
    assert len(found) == 1
    return found[0]


def codes(found):
    return [problem.code for problem in found.problems]


def test_a_relay_with_everything():
    found = relay(RELAYHOST + LOGIN + "smtp_tls_security_level = encrypt\nsmtp_bind_address = 127.0.0.1\ninet_protocols = ipv4\n")
    wanted = {"name": "smtp", "host": HOST, "port": 587, "tls": "starttls", "username": "user", "password": "pass word", "family": "ipv4"}
    target = found.endpoint()
    assert wanted.items() <= target.items() and target["source_address"] == "127.0.0.1" and target["mechanism"] == "auto"
    assert not target["allow_unencrypted"] and not target["try_all_mechanisms"]
    assert endpoint.trust(target).system_roots and endpoint.credentials(target).password == "pass word"
    facts = found.facts()
    assert facts["credential"]["key"] == HOST and facts["credential"]["username"] == "user"
    assert facts["nexthop"] == f"[{HOST}]:587" and facts["tls_level"] == "encrypt" and facts["problems"] == []
    assert "pass word" not in json.dumps(facts)


def test_the_transport_of_a_role_has_its_own_settings():
    master = "outpost_a  unix  -  -  n  -  -  smtp -o smtp_tls_wrappermode=$outpost_a_wrap -o smtp_tls_security_level=$outpost_a_level\n"
    main = "outpost_a_wrap = yes\noutpost_a_level = secure\ndefault_transport = outpost_a:[mail.example.net]:465\n" + RELAYHOST + LOGIN
    found = relay(main, master=master, tables={"hash:/p": {"mail.example.net": "u:p"}})
    assert (found.name, found.host, found.port, found.tls_mode, found.level) == ("outpost_a", "mail.example.net", 465, "implicit", "secure")
    assert not endpoint.trust(found.endpoint()).system_roots, "Postfix trusts nothing but smtp_tls_CAfile"
    assert codes(found) == ["postfix_ca_unreadable"] and "no certificate is ever trusted" in found.problems[0].text


def test_without_tls_the_test_gets_no_password():
    found = relay(RELAYHOST + LOGIN)
    assert found.tls_mode == "none" and found.credential.password == "pass word"
    assert found.endpoint()["password"] is None and found.endpoint()["username"] is None


def test_a_relay_that_knows_this_host_by_its_address_wants_no_login():
    assert not relay(RELAYHOST).login_wanted
    assert relay(RELAYHOST + LOGIN).login_wanted
    assert relay(RELAYHOST + LOGIN + "smtp_sasl_auth_enable = no\n").login_wanted, "there is a credential for it"


@pytest.mark.parametrize("value", ["user", "user:", ":pass", "us\ufffder:pass"])
def test_what_can_not_be_sent_unchanged_is_not_tested(value):
    found = relay(RELAYHOST + LOGIN + "smtp_tls_security_level = encrypt\n", {"hash:/p": {HOST: value}})
    assert found.endpoint()["password"] is None


def test_several_relays_and_their_order():
    main = f"relayhost = [{HOST}]:587, [two.example]\nsmtp_fallback_relay = [three.example]:2525\n"
    found = Instance(main).relays()
    assert [(one.name, one.host, one.port, one.fallback) for one in found] == [
        ("smtp", HOST, 587, False),
        ("smtp-2", "two.example", 25, False),
        ("smtp-3", "three.example", 2525, True),
    ]


def test_ways_from_tables():
    tables = {"hash:/s": {"a@b.example": "[a.example]", "@b.example": f"[{HOST}]:587"}, "hash:/t": {"x.example": "relay:[x.example]", "*": ":"}}
    main = RELAYHOST + "sender_dependent_relayhost_maps = hash:/s\ntransport_maps = hash:/t\n"
    found = Instance(main, tables=tables).relays()
    assert [(one.way.sender, one.way.recipient, one.host) for one in found] == [
        ("root@host.example.org", "postmaster@example.net", HOST),
        ("a@b.example", "postmaster@example.net", "a.example"),
        ("root@host.example.org", "postmaster@x.example", "x.example"),
    ]


def test_senders_with_credentials_of_their_own():
    main = RELAYHOST + LOGIN + "smtp_sender_dependent_authentication = yes\nsmtp_tls_security_level = encrypt\n"
    found = Instance(main, tables=TABLES).relays(senders=["me@b.example", "me@c.example", ""])
    assert [one.credential.username for one in found] == ["b", "user", "user"]


@pytest.mark.parametrize(
    ("main", "text"),
    [
        ("", "goes to the servers of its domain"),
        ("default_transport = error:5.7.1 no\n", "transport 'error' is error(8)"),
        ("default_transport = nowhere:[x]\n", "master.cf has no transport 'nowhere'"),
        ("default_transport = lmtp:[x]\n", "transport 'lmtp' is lmtp(8)"),
    ],
)
def test_no_relay(main, text):
    found = relay(main)
    assert found.endpoint() is None and codes(found) == ["postfix_no_relay"] and text in found.problems[0].text
    assert found.facts()["host"] is None


def test_mail_for_users_of_this_host_has_no_relay():
    assert Instance(RELAYHOST).relays(recipients=["me@localhost"]) == []


@pytest.mark.parametrize(
    ("settings", "code", "text"),
    [
        ("smtp_tls_wrappermode = yes\n", "postfix_tls_contradiction", "needs a security level of encrypt or stronger, not none"),
        ("smtp_tls_wrappermode = yes\nsmtp_tls_security_level = encrypt\n", "postfix_tls_contradiction", "port 587, which begins without TLS"),
        (f"relayhost = [{HOST}]:465\n", "postfix_tls_contradiction", "both sides wait"),
        ("smtp_tls_security_level = encrpyt\n", "postfix_tls_contradiction", "encrpyt is no security level"),
        ("smtp_tls_policy_maps = static:nonsense\n", "postfix_tls_contradiction", "nonsense"),
        ("smtp_tls_security_level = may\nsmtp_tls_CAfile = /nonexistent\n", "postfix_ca_unreadable", "smtp_tls_CAfile = /nonexistent: No such file"),
        ("smtp_tls_security_level = may\nsmtp_tls_CAfile = /etc/hosts\n", "postfix_ca_unreadable", "no certificate in PEM form"),
        (f"relayhost = [{HOST}]:nosuch\n", "postfix_port_name", "'nosuch' is no known TCP service"),
        ("relayhost = [broken\n", "postfix_port_name", "is no host and port"),
        (LOGIN + "smtp_sasl_password_maps = hash:/other\n", "postfix_no_credential", f"no entry for {HOST} and [{HOST}]:587; there is [{HOST}]"),
        (LOGIN + "smtp_sasl_password_maps =\n", "postfix_credential_unreadable", "without smtp_sasl_password_maps"),
        (LOGIN + "smtp_sasl_password_maps = hash:/none\n", "postfix_credential_unreadable", "open database hash:/none"),
        (LOGIN + "smtp_sasl_password_maps = static:user\n", "postfix_credential_unreadable", "has no colon"),
        (LOGIN + "smtp_sasl_auth_enable = no\n", "postfix_would_send_unauthenticated", "smtp_sasl_auth_enable is no"),
        (LOGIN + "smtp_sasl_tls_security_options = noplaintext\n", "postfix_mechanism_missing", "noplaintext"),
        (LOGIN + "smtp_sasl_mechanism_filter = cram-md5\n", "postfix_mechanism_missing", "cram-md5"),
        (LOGIN + "smtp_sasl_type = dovecot\n", "postfix_mechanism_missing", "dovecot"),
    ],
)
def test_what_is_wrong_without_asking_the_server(settings, code, text):
    tables = {**TABLES, "hash:/other": {f"[{HOST}]": "u:p"}}
    found = relay(RELAYHOST + settings, tables)
    assert codes(found) == [code] and text in found.problems[0].text
    assert "pass word" not in found.problems[0].text


@pytest.mark.parametrize(
    "settings",
    [
        "smtp_tls_per_site = hash:/s\n",
        "smtp_tls_connection_reuse = yes\n",
        "smtp_discard_ehlo_keyword_address_maps = hash:/s\n",
        "smtp_never_send_ehlo = yes\n",
        "smtp_sasl_mechanism_filter = hash:/s\n",
        "smtp_tls_security_level = fingerprint\nsmtp_tls_fingerprint_cert_match = AA:BB\n",
        "smtp_tls_security_level = secure\nsmtp_tls_trust_anchor_file = /a /b\n",
    ],
)
def test_what_is_not_followed_is_said(settings):
    assert len(relay(RELAYHOST + settings).facts()["not_followed"]) == 1


def test_mail_exchangers_without_brackets(monkeypatch):
    def mx(name, _deadline):
        if name == "broken.example":
            raise SmtpError(Kind.RESOLVE, "no answer", stage="resolve")
        return [(10, "mx1.example"), (20, "mx2.example")] if name == "example.net" else []

    monkeypatch.setattr(dns, "mx", mx)
    monkeypatch.setattr(dns, "srv", lambda service, name, _deadline: [(0, 0, 2465, f"{service}.{name}")] if name == "srv.example" else [])

    def hosts(main):
        return [(one.host, one.port) for one in Instance(main).relays()]

    assert hosts("relayhost = example.net:587\n") == [("mx1.example", 587), ("mx2.example", 587)]
    assert hosts("relayhost = [example.net]:587\n") == [("example.net", 587)]
    assert hosts("relayhost = bare.example\n") == [("bare.example", 25)]
    assert hosts("relayhost = broken.example\n") == [("broken.example", 25)]
    assert hosts("relayhost = example.net\nsmtp_dns_support_level = disabled\n") == [("example.net", 25)]
    assert hosts("relayhost = srv.example:submission\nuse_srv_lookup = submission\n") == [("submission.srv.example", 2465)]
    assert hosts("relayhost = example.net:submission\nuse_srv_lookup = submission\n") == [("mx1.example", 587), ("mx2.example", 587)]


def test_a_name_that_only_hosts_file_knows(monkeypatch):
    """smtp(8) asks DNS only, where it is not told to use the system's own lookups."""
    monkeypatch.setattr(local_files, "is_in_hosts_file", lambda host: host == HOST)
    zone = {"records": (), "rcode": dns.NOERROR}

    def query(name, rdtype, _deadline):
        if zone["rcode"] is None:
            raise SmtpError(Kind.RESOLVE, "no answer", stage="resolve")
        return dns.Answer(zone["records"] if rdtype == dns.A else (), False, zone["rcode"], name)

    monkeypatch.setattr(dns, "query", query)
    assert "not in DNS" in relay(RELAYHOST).unresolvable
    assert relay(RELAYHOST + "smtp_host_lookup = dns, native\n").unresolvable == ""
    zone["records"] = ("192.0.2.1",)
    assert relay(RELAYHOST).unresolvable == "" and not relay(RELAYHOST).unclear
    zone["records"] = ()
    for zone["rcode"] in (None, dns.SERVFAIL):
        assert relay(RELAYHOST).unclear and relay(RELAYHOST).unresolvable == ""


def test_names_of_the_hosts_file(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost # me.example\n192.0.2.1\tOne.example two.example\nbroken\n")
    found = [name for name in ("one.example", "two.example", "me.example", "192.0.2.1") if local_files.is_in_hosts_file(name, str(path))]
    assert found == ["one.example", "two.example"]
    assert not local_files.is_in_hosts_file("one.example", str(tmp_path / "none"))


def test_what_the_certificate_is_compared_with():
    def server_name(settings, nexthop=f"[{HOST}]:587"):
        return relay(f"relayhost = {nexthop}\nsmtp_tls_CAfile = {CA}\n" + settings).endpoint()["server_name"]

    assert server_name("smtp_tls_security_level = secure\n") is None
    assert server_name("smtp_tls_security_level = secure\nsmtp_tls_secure_cert_match = .other, mail.other\n") == "mail.other"
    assert server_name("smtp_tls_security_level = secure\nsmtp_tls_secure_cert_match = .example.net\n") is None
    assert server_name("smtp_tls_security_level = encrypt\nsmtp_tls_servername = sni.example\n") == "sni.example"
    assert server_name("smtp_tls_security_level = encrypt\nsmtp_tls_servername = hostname\n") is None
    assert server_name("smtp_tls_security_level = encrypt\nsmtp_tls_servername = nexthop\n") == HOST


CA = "/nonexistent"


def test_certificates_and_keys_of_this_host(tmp_path):
    certificates = Certificates(tmp_path)
    good = str(certificates.ca_file)
    found = relay(RELAYHOST + f"smtp_tls_security_level = secure\nsmtp_tls_CAfile = {good}\nsmtp_tls_CApath = /etc/certs\n")
    assert codes(found) == [] and found.endpoint()["ca_file"] == good and found.endpoint()["ca_path"] == "/etc/certs"
    assert not endpoint.trust(found.endpoint()).system_roots
    both = relay(RELAYHOST + f"smtp_tls_security_level = secure\nsmtp_tls_CAfile = {good}\ntls_append_default_CA = yes\n")
    assert endpoint.trust(both.endpoint()).system_roots
    broken = relay(RELAYHOST + f"smtp_tls_security_level = encrypt\nsmtp_tls_cert_file = {good}\n")
    assert codes(broken) == ["postfix_ca_unreadable"] and "smtp_tls_cert_file" in broken.problems[0].text


@pytest.mark.parametrize("parameter", ["smtp_tls_CAfile", "smtp_tls_cert_file", "smtp_tls_key_file"])
def test_a_named_pipe_is_not_waited_for(tmp_path, parameter):
    certificates, pipe = Certificates(tmp_path), str(tmp_path / "pipe")
    os.mkfifo(pipe)
    files = {"smtp_tls_cert_file": certificates.ca_file, parameter: pipe}
    found = relay(RELAYHOST + "smtp_tls_security_level = encrypt\n" + "".join(f"{name} = {path}\n" for name, path in files.items()))
    assert "it is no regular file" in found.tls_files.error and codes(found) == ["postfix_ca_unreadable"]
    assert found.endpoint()["ca_file"] is None and found.endpoint()["client_certificate"] is None


def test_files_of_a_chroot_that_are_named_pipes(tmp_path):
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc" / "resolv.conf")
    assert "resolv.conf does not exist" in local_files.resolver_of_chroot(str(tmp_path))


def test_a_chroot(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "services").write_text("special 2525/tcp\n")
    master = "jailed  unix  -  -  y  -  -  smtp -o smtp_tls_CApath=/etc/certs -o smtp_tls_security_level=secure\n"
    found = relay(f"default_transport = jailed:[{HOST}]:special\nqueue_directory = {tmp_path}\n", master=master)
    assert found.chroot and found.port == 2525 and found.endpoint()["ca_path"] == str(tmp_path / "etc/certs")
    assert any("resolv.conf does not exist" in note for note in found.notes)


@pytest.mark.skipif(os.geteuid() != 0, reason="root may read everything, which is what this is about")
def test_an_address_that_this_host_does_not_have():
    found = relay(RELAYHOST + "smtp_bind_address = 192.0.2.77\n")
    assert found.source_address is None and any("192.0.2.77 is no address of this host" in note for note in found.notes)


def test_few_programs_are_started():
    instance = Instance(RELAYHOST + LOGIN, tables=TABLES)
    instance.relays()
    assert [call[0][0] for call in instance.calls] == ["postconf", "postconf", "postmap"]
    assert not any("pass word" in " ".join(argv) for argv, _stdin in instance.calls)


def test_the_deadline_stops_the_programs(monkeypatch):
    seen = []
    monkeypatch.setattr(effective, "run_program", lambda argv, stdin, timeout: seen.append(timeout))
    with pytest.raises(Exception, match="no time left"):
        effective.relays("/etc/postfix", effective.Deadline(0))
    assert seen == []


@pytest.mark.parametrize(
    ("level", "host", "sent"),
    [
        ("encrypt", "mx.attacker.example", False),
        ("may", "mx.attacker.example", False),
        ("verify", "mx.attacker.example", False),
        ("secure", "mx.attacker.example", True),  # the certificate must be for the next hop
        ("encrypt", "example.net.attacker.example", False),
        ("encrypt", "mx1.example.net", True),
        ("encrypt\nsmtp_tls_servername = smtp.example.net", "mx.attacker.example", True),
        ("encrypt\nsmtp_tls_servername = hostname", "mx.attacker.example", False),
        ("encrypt\nsmtp_tls_servername = nexthop", "mx.attacker.example", True),
        ("verify\nsmtp_tls_verify_cert_match = nexthop", "mx.attacker.example", True),
    ],
)
def test_a_forged_mx_record_gets_no_password(monkeypatch, level, host, sent):
    monkeypatch.setattr(dns, "mx", lambda _name, _deadline: [(10, host)])
    main = f"relayhost = example.net:587\nsmtp_tls_security_level = {level}\nsmtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt\n"
    found = relay(main + LOGIN, {"hash:/p": {"example.net:587": "user:pass"}})
    target = found.endpoint()
    assert found.credential is not None and found.host == host
    assert (target["password"] is not None) is sent
    assert any("sends no password" in text for text in found.notes) is not sent
    if sent and not host.endswith(".example.net"):
        assert target["server_name"] in ("example.net", "smtp.example.net")


FAILOVER = """\
outpost_a unix - - n - - smtp -o smtp_tls_wrappermode=yes -o relayhost=[a.example]:465 -o smtp_fallback_relay=[127.87.0.1]:325
outpost_b unix - - n - - smtp -o relayhost=[b.example]:587 -o smtp_fallback_relay=[::1]:326
outpost_c unix - - n - - smtp
127.87.0.1:325 inet n - n - - smtpd -o content_filter=$outpost_failover_325
[::1]:326 inet n - n - - smtpd -o content_filter=outpost_c:[c.example]:465
"""


def test_relays_behind_a_server_of_the_instance_itself_are_followed():
    main = "default_transport = outpost_a:[a.example]:465,[a2.example]:465\noutpost_failover_325 = outpost_b:[b.example]:587\n"
    found = Instance(main, FAILOVER, {}).relays()
    assert [(one.name, one.host, one.port) for one in found] == [
        ("outpost_a", "a.example", 465),
        ("outpost_a-2", "a2.example", 465),
        ("outpost_b", "b.example", 587),
        ("outpost_c", "c.example", 465),
    ]
    assert [one.wrappermode for one in found] == [True, True, False, False]
    assert [one.kept_without_address for one in found] == [True, True, True, False]
    assert not any(one.fallback for one in found)


@pytest.mark.parametrize("transport", ["outpost_a", "outpost_b"])
def test_a_way_that_leads_back_ends(transport):
    main = f"default_transport = outpost_a:[a.example]:465\noutpost_failover_325 = {transport}:[a.example]:465\n"
    master = FAILOVER.replace("outpost_c:", "outpost_a:")
    assert {one.service.name for one in Instance(main, master, {}).relays()} <= {"outpost_a", "outpost_b"}


def test_another_server_on_the_loopback_is_a_fallback_as_any():
    main = "default_transport = outpost_a:[a.example]:465\n"
    for master in (FAILOVER.split("\n127.87", maxsplit=1)[0] + "\n", FAILOVER.replace(" -o content_filter=$outpost_failover_325", "")):
        assert [(one.host, one.fallback) for one in Instance(main, master, {}).relays()] == [("a.example", False), ("127.87.0.1", True)]
