# SPDX-License-Identifier: GPL-3.0-or-later
"""Many relays from one list: failover between 465 and 587, senders with relays of their own, two accounts at one host.

The relays are two real servers, and the hosts under test have a main.cf that would break or weaken each of the transports if
they took their settings from it.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from system_lab import RELEASES, ROOT, Lab, run_playbook

CA, CLIENT = "/usr/local/share/rig-ca.pem", "/root/client.pem"
PATIENCE = 30.0
"""Seconds; mail needs less than one."""

ADMINISTRATORS = """\
compatibility_level = 2
inet_interfaces = loopback-only
inet_protocols = ipv4
mydestination =
always_bcc = unicode@provider.test
sender_dependent_default_transport_maps = inline:{unicode@provider.test=retry:administrators}
smtp_always_send_ehlo = no
smtp_discard_ehlo_keywords = auth, starttls
smtp_fallback_relay = [smtp.provider.test]:25
smtp_sasl_auth_soft_bounce = no
smtp_skip_5xx_greeting = no
smtp_tls_cert_file = /nowhere.pem
smtp_tls_exclude_ciphers = aNULL
smtp_tls_mandatory_exclude_ciphers = aNULL
smtp_tls_policy_maps = static:none
smtp_tls_security_level = none
smtpd_client_restrictions = reject
smtpd_recipient_restrictions = reject
smtpd_sender_restrictions = reject
smtpd_tls_chain_files = /nowhere.pem
smtpd_tls_exclude_ciphers = aNULL
smtpd_tls_mandatory_protocols = TLSv1.3
tls_high_cipherlist = ECDHE+AESGCM
tls_medium_cipherlist = ECDHE+AESGCM
transport_maps = inline:{unicode@provider.test=smtp:[smtp.provider.test]:25}
"""

_ANSWERS = "(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null"
# Without the service, connections to its port are refused.
STOP = f"""cp /etc/postfix/master.cf /root/master.cf.kept
postconf -MX {{port}}/inet && postfix reload 2>/dev/null
while {_ANSWERS}; do sleep 0.05; done"""
START = f"""mv /root/master.cf.kept /etc/postfix/master.cf
postfix reload 2>/dev/null
until {_ANSWERS}; do sleep 0.05; done"""


#: The name server of from_postfix_name_server.py, which knows SRV records, before the lab's own; also for Postfix in its chroot.
NAME_SERVER = """cp /etc/resolv.conf /root/resolv.conf
cat >/root/name_server.py
systemd-run --quiet --unit srv-records python3 /root/name_server.py $(awk '/^nameserver/ {print $2; exit}' /etc/resolv.conf)
echo nameserver 127.0.0.1 | tee /etc/resolv.conf >/var/spool/postfix/etc/resolv.conf"""
LABS_OWN = "systemctl stop srv-records; cat /root/resolv.conf | tee /etc/resolv.conf >/var/spool/postfix/etc/resolv.conf"


class Site:
    """The hosts under test, the relays, and what became of mail."""

    def __init__(self, lab: Lab, directory) -> None:
        self.lab, self.directory = lab, directory
        self.fingerprint = lab.shell("openssl x509 -in /etc/ssl/rig/server.crt -noout -fingerprint -sha256", "provider").stdout.split("=")[1].strip()

    def relays(self, **changes):
        """The list under test; *changes* are fields of relays by name."""
        list_ = [
            {"name": "primary", "host": "smtp.provider.test", "port": 465, "account": "alerts"},
            {"name": "second", "host": "postfix.provider.test", "port": 587, "account": "canary"},
            {"name": "billing", "host": "smtp.provider.test", "port": 587, "account": "billing", "senders": ["billing@provider.test"]},
            # Known by its key alone, and knows this host by its certificate.
            {
                **{"name": "pinned", "host": self.lab.address("provider"), "port": 465, "account": "canary", "senders": ["canary@provider.test"]},
                **{"fingerprints": [self.fingerprint], "client_certificate": CLIENT, "minimum_tls": "1.3", "family": "ipv4"},
                **{"concurrency_limit": 2, "rate_delay": "1s", "recipient_limit": 1},
            },
        ]
        return [{**self._credential(relay.pop("account")), "ca_file": CA, **relay, **changes.get(relay["name"], {})} for relay in list_]

    def _credential(self, account: str) -> dict:
        return {field: self.lab.accounts[account][field] for field in ("username", "password")}

    def configure(self, preflight: str = "auto", **changes):
        variables = {"outpost_smtp_relays": self.relays(**changes), "postfix_relay_preflight": preflight}
        run = run_playbook(self.lab, self.directory, "tests/system/plays/relay.yml", variables, hosts="servers")
        assert run.status == 0, run.output
        return run

    def on_all(self, script: str) -> dict[str, str]:
        """What a script prints on each host, all at the same time. ``$TAG`` is new and the host's own."""
        self.tags = {host: f"{host}-{secrets.token_hex(4)}" for host in RELEASES}
        with ThreadPoolExecutor(len(RELEASES)) as pool:
            printed = pool.map(lambda host: self.lab.shell(f"TAG={self.tags[host]}; {script}", host).stdout, RELEASES)
            return dict(zip(RELEASES, printed))

    def send(self, sender: str = "alerts@provider.test", recipients: str = "inbox+$TAG@provider.test", options: str = "") -> dict[str, str]:
        """Give a message to each host; the tags by which they are found."""
        self.on_all(f"printf 'Subject: %s\\nMIME-Version: 1.0\\nContent-Type: text/plain; charset=utf-8\\nContent-Transfer-Encoding: 8bit\\n\\n"
                    f"gr\\303\\274n\\n' $TAG | sendmail {options} -f {sender} {recipients}")  # fmt: skip
        return dict(self.tags)

    def arrived(self, tag: str, mailbox: str = "inbox") -> list[str]:
        """The messages with a tag in a mailbox."""
        listed = self.lab.shell(f"grep -rlF 'Subject: {tag}' /var/mail/{mailbox}/Maildir/new || :", "provider").stdout.split()
        return [self.lab.shell(f"cat '{path}'", "provider").stdout for path in listed]

    def the_messages(self, tags: dict[str, str], mailbox: str = "inbox") -> dict[str, str]:
        """The one message of each host in a mailbox."""
        with ThreadPoolExecutor(len(tags)) as pool:
            return dict(zip(tags, pool.map(lambda tag: self._the_message(tag, mailbox), tags.values())))

    def _the_message(self, tag: str, mailbox: str) -> str:
        """The one message with a tag, which may still be on its way."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            found = self.arrived(tag, mailbox)
            if found:
                assert len(found) == 1, f"{tag} arrived more than once"
                return found[0]
            time.sleep(0.1)
        queue = self.lab.shell("postqueue -p", tag.rpartition("-")[0]).stdout
        pytest.fail(f"{tag} did not arrive; in the queue of its host:\n{queue}")

    def deferred(self, host: str, reason: str) -> dict:
        """The entry of the queue whose delay has this reason, once there is one."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            entries = [json.loads(line) for line in self.lab.shell("postqueue -j", host).stdout.splitlines()]
            for entry in entries:
                if any(reason in recipient.get("delay_reason", "") for recipient in entry["recipients"]):
                    return entry
            time.sleep(0.1)
        pytest.fail(f"nothing was deferred on {host} because of {reason!r}: {entries}")

    def logged_in(self, server: str, tag: str) -> list[str]:
        """Who logged in at the server to hand over the messages of a host that are now in its log."""
        host = tag.rpartition("-")[0]
        clients = f"client=[^ ]*\\[{self.lab.address(host).replace('.', chr(92) + '.')}\\]"
        return self.lab.shell(f"grep -oE '{clients}.*sasl_username=.*' /var/log/mail.log | sed 's/.*sasl_username=//'", server).stdout.split()

    @contextlib.contextmanager
    def stopped(self, server: str, port: int):
        """Within this, nothing listens on the port."""
        self.lab.shell(STOP.format(port=port), server)
        try:
            yield
        finally:
            self.lab.shell(START.format(port=port), server)


@pytest.fixture(scope="module")
def site(trio, tmp_path_factory):
    """Every release with the list of relays, set up twice; the second run changes nothing."""
    site = Site(trio, tmp_path_factory.mktemp("site"))
    with ThreadPoolExecutor(len(RELEASES)) as pool:
        list(pool.map(trio.fresh_postfix, RELEASES))
    site.on_all(f"printf %s '{ADMINISTRATORS}' >/etc/postfix/main.cf")
    site.on_all(f"cd /root; umask 077; openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=client.test -keyout key -out crt; cat key crt >{CLIENT}")
    trio.shell("postconf -e smtpd_tls_ask_ccert=yes && postfix reload", "provider")
    site.configure()
    again = site.configure()
    assert again.changed() == []
    yield site
    trio.shell("postconf -X smtpd_tls_ask_ccert && postfix reload", "provider")


def way(message: str) -> list[str]:
    """By which servers the message came (by SMTP, not LMTP), the first one first."""
    lines = message.partition("\n\n")[0].replace("\n\t", " ").replace("\n ", " ").split("\n")
    return [line.partition(" by ")[2].split()[0] for line in reversed(lines) if line.startswith("Received: from ") and " with ESMTP" in line]


def test_each_sender_has_its_relay_and_its_account_at_one_host(site):
    for sender in ("alerts@provider.test", "billing@provider.test"):
        for host, message in site.the_messages(site.send(sender)).items():
            assert way(message) == ["smtp.provider.test"], (host, message)
            assert f"(Authenticated sender: {sender})" in message, (host, message)


def test_a_relay_is_known_by_its_key_and_gets_no_more_at_a_time_than_it_allows(site):
    limits = site.on_all("postconf -h outpost_pinned_destination_{concurrency_limit,rate_delay,recipient_limit}; postconf 2>&1 >/dev/null")
    assert limits == dict.fromkeys(RELEASES, "2\n1s\n1\n")
    tags = site.send("canary@provider.test", "inbox+$TAG@provider.test billing+$TAG@provider.test")
    for mailbox in ("inbox", "billing"):
        for host, message in site.the_messages(tags, mailbox).items():
            assert way(message) == ["smtp.provider.test"] and f"for <{mailbox}+{tags[host]}@provider.test>" in message, message
            for proof in ("using TLSv1.3", '(Client CN "client.test"', "(Authenticated sender: canary@provider.test)"):
                assert proof in message, message


def test_what_the_administrator_has_for_a_sender_comes_first(site):
    site.send("unicode@provider.test")
    for host in RELEASES:
        assert site.deferred(host, "administrators")["sender"] == "unicode@provider.test"
    site.on_all("postsuper -d ALL deferred 2>&1")


def test_a_stopped_primary_on_465_is_replaced_by_the_second_on_587(site):
    with site.stopped("provider", 465):
        tags = site.send(options="-N success -V $TAG")
        messages = site.the_messages(tags)
        in_utf8 = site.send(recipients="inbox+größe-$TAG@provider.test", options="-N never")
        for tag in in_utf8.values():
            site.lab.shell(f"timeout {PATIENCE} sh -c 'until grep -q \"to=<inbox+größe-{tag}@\" /var/log/mail.log; do sleep 0.1; done'", "provider")
    for host, message in messages.items():
        assert way(message) == [f"{host}.lab.test", "postfix.provider.test", "smtp.provider.test"], message
        assert "Content-Transfer-Encoding: 8bit" in message and "\ngrün\n" in message, "its content was converted"
        assert site.logged_in("postfix", tags[host])[-1] == site.lab.accounts["canary"]["username"]
        assert len(site.arrived(tags[host], "unicode")) == 1, "always_bcc was done again on the way to the next transport"
    for host, notice in site.the_messages(tags, "alerts").items():
        assert f"Original-Envelope-Id: {tags[host]}\n" in notice and "Reporting-MTA: dns; smtp.provider.test\n" in notice, notice


def test_if_the_second_fails_too_mail_is_kept_and_arrives_once(site):
    with site.stopped("provider", 465), site.stopped("postfix", 587):
        tags = site.send()
        for host in RELEASES:
            site.deferred(host, "postfix.provider.test")
    site.on_all("postqueue -f")
    for message in site.the_messages(tags).values():
        assert way(message)[-2:] == ["postfix.provider.test", "smtp.provider.test"]


def test_a_refused_password_is_sent_once_and_a_name_without_address_returns_no_mail(site):
    before = refused(site)
    site.configure("never", primary={"password": "wrong"}, billing={"host": "nowhere.provider.test"}, pinned={"fingerprints": ["00" * 32]})
    for _message in range(2):
        for message in site.the_messages(site.send()).values():
            assert "postfix.provider.test" in way(message)
    assert refused(site) - before == len(RELEASES), "each host tries a password once"

    billing = site.send("billing@provider.test")
    pinned = site.send("canary@provider.test")
    for host in RELEASES:
        assert site.deferred(host, "nowhere.provider.test")["sender"] == "billing@provider.test"
        assert site.deferred(host, "Server certificate not verified")["sender"] == "canary@provider.test"
    site.configure()
    site.on_all("postqueue -f")
    for message in site.the_messages(billing).values():
        assert "(Authenticated sender: billing@provider.test)" in message
    site.the_messages(pinned)


def refused(site) -> int:
    return int(site.lab.shell("grep -c 'authentication failed:' /var/log/mail.log || :", "provider").stdout)


def test_srv_records_lead_to_the_server_where_postfix_knows_them(site):
    """Debian 13 has Postfix 3.10; the others refuse before anything changes."""
    (primary, *_others) = site.relays(primary={"host": "provider.test", "port": None, "tls": "starttls", "srv": True})
    before = site.on_all("cat /etc/postfix/*.cf")
    site.lab.shell(NAME_SERVER, "debian13", input=(ROOT / "tests/system/from_postfix_name_server.py").read_text())
    try:
        given = {"outpost_smtp_relays": [primary]}
        run = run_playbook(site.lab, site.directory, "tests/system/plays/relay.yml", given, hosts="servers")
        messages = {task["host"]: task["result"]["msg"] for task in run.tasks if task["status"] == "failed"}
        assert sorted(messages) == ["debian11", "debian12"] and all("srv_lookup" in text for text in messages.values()), run.output
        assert {host: text for host, text in site.on_all("cat /etc/postfix/*.cf").items() if text != before[host]}.keys() == {"debian13"}
        tags = {"debian13": site.send()["debian13"]}
        (message,) = site.the_messages(tags).values()
    finally:
        site.lab.shell(LABS_OWN, "debian13")
    assert way(message) == ["smtp.provider.test"] and "(Authenticated sender: alerts@provider.test)" in message, message
