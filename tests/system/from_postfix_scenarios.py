# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations of a Postfix that relays to the lab's provider, each a transport of its own, and what must become of mail.

What is expected follows from Postfix's manual pages and from what the provider does on that port (tests/rig/README.md);
tests run it against the real Postfix of each release, so a wrong expectation does not survive.
"""

from __future__ import annotations

import dataclasses
import typing as t

HOST = "smtp.provider.test"
SENDER = "alerts@provider.test"
CA = "/usr/local/share/rig-ca.pem"
RIGHT, WRONG = "RIGHT", "alerts@provider.test:not the password"

SENDS, DEFERS, BOUNCES, CRASHES = "sends", "defers", "bounces", "crashes"
UNAUTHENTICATED, IN_CLEAR = "sends_unauthenticated", "sends_password_in_clear"


@dataclasses.dataclass
class Scenario:
    """What mail by a transport with these settings must come to.

    ``table`` is its password map; RIGHT stands for the user name and password of the sender. A transport without a next
    hop leaves that to relayhost; with ``log``, no status is ever logged, but this is.
    """

    name: str
    nexthop: str
    action: str
    dsn: t.Optional[str] = None
    options: dict = dataclasses.field(default_factory=dict)
    table: dict = dataclasses.field(default_factory=lambda: {HOST: RIGHT})
    sender: str = SENDER
    log: str = ""

    @property
    def transport(self) -> str:
        return f"s_{self.name}"

    def recipient(self, server: str) -> str:
        return f"inbox+{self.name}.{server}@provider.test"


def at(port: object) -> str:
    return f"[{HOST}]:{port}"


WRAPPER = {"smtp_tls_wrappermode": "yes"}
SENDER_KEYS = {"smtp_sender_dependent_authentication": "yes"}


def level(name: str, **more: str) -> dict:
    return {"smtp_tls_security_level": name, **more}


def maps(value: str) -> dict:
    return {"smtp_sasl_password_maps": value}


GOOD = [
    Scenario("starttls", at(587), SENDS),
    Scenario("wrapper", at(465), SENDS, options=WRAPPER),
    Scenario("service", at("submission"), SENDS),
    Scenario("nobrackets", f"{HOST}:587", SENDS, table={f"{HOST}:587": RIGHT}),
    Scenario("list", f"{at(9)}, {at(587)}", SENDS),
    Scenario("login", at(587), SENDS, options={"smtp_sasl_mechanism_filter": "login"}),
    Scenario("filter", at(587), SENDS, options={"smtp_sasl_mechanism_filter": "!external, !xoauth2, static:all"}),
    Scenario("bind", at(587), SENDS, options={"smtp_bind_address": "OWN_ADDRESS"}),
]
KEYS = [
    Scenario("keyhost", at(587), SENDS, table={HOST: RIGHT}),
    Scenario("keycase", at(587), SENDS, table={"SMTP.Provider.Test": RIGHT}),
    Scenario("keynexthop", at(587), SENDS, table={at(587): RIGHT}),
    Scenario("hostfirst", at(587), SENDS, table={HOST: RIGHT, at(587): WRONG}),
    Scenario("nexthopsecond", at(587), DEFERS, "4.7.8", table={HOST: WRONG, at(587): RIGHT}),
    Scenario("keynoport", at(587), UNAUTHENTICATED, table={f"[{HOST}]": RIGHT}),
    Scenario("keynobrackets", at(587), UNAUTHENTICATED, table={f"{HOST}:587": RIGHT}),
    Scenario("keyother", at(587), UNAUTHENTICATED, table={"smtp.example.net": RIGHT}),
    Scenario("keydomain", at(587), UNAUTHENTICATED, table={"provider.test": RIGHT, ".provider.test": RIGHT}),
    Scenario("keyservice", at("submission"), UNAUTHENTICATED, table={at(587): RIGHT}),
    Scenario("keyservice2", at("submission"), SENDS, table={at("submission"): RIGHT}),
    Scenario("senderfirst", at(587), SENDS, options=SENDER_KEYS, table={SENDER: RIGHT, HOST: WRONG}),
    Scenario("senderdomain", at(587), SENDS, options=SENDER_KEYS, table={"@provider.test": RIGHT, HOST: WRONG}),
    Scenario("senderoff", at(587), DEFERS, "4.7.8", table={SENDER: RIGHT, HOST: WRONG}),
    Scenario("secondtable", at(587), SENDS, options=maps("inline:{none=x:y} TABLE")),
]
TLS = [
    Scenario("encryptnone", at(13587), DEFERS, "4.7.4", options=level("encrypt")),
    Scenario("expiredencrypt", at(10587), SENDS, options=level("encrypt")),
    Scenario("expiredverify", at(10587), DEFERS, "4.7.5", options=level("verify")),
    Scenario("expiredsecure", at(10587), DEFERS, "4.7.5"),
    Scenario("expiredwrapper", at(10465), DEFERS, "4.7.5", options=WRAPPER),
    Scenario("expiredmay", at(10587), SENDS, options=level("may")),
    Scenario("othername", at(11587), DEFERS, "4.7.5"),
    Scenario("othernameencrypt", at(11587), SENDS, options=level("encrypt")),
    Scenario("othernamematch", at(11587), SENDS, options={"smtp_tls_secure_cert_match": "nexthop, mail.elsewhere.test"}),
    Scenario("selfsigned", at(12587), DEFERS, "4.7.5"),
    Scenario("noca", at(587), DEFERS, "4.7.5", options={"smtp_tls_CAfile": ""}),
    Scenario("badca", at(587), DEFERS, "4.7.5", options={"smtp_tls_CAfile": "/nonexistent.pem"}),
    Scenario("badcamay", at(587), UNAUTHENTICATED, options=level("may", smtp_tls_CAfile="/nonexistent.pem")),
    Scenario("badcaclear", at(13587), IN_CLEAR, options=level("may", smtp_tls_CAfile="/nonexistent.pem")),
    Scenario("badcawrapper", at(465), CRASHES, options={**WRAPPER, "smtp_tls_CAfile": "/nonexistent.pem"}, log="killed by signal 11"),
    Scenario("emptyca", at(587), DEFERS, "4.7.5", options={"smtp_tls_CAfile": "/etc/hostname"}),
    Scenario("wrapper587", at(587), DEFERS, "4.7.5", options=WRAPPER),
    Scenario("nowrapper465", at(465), DEFERS, "4.4.2"),
    Scenario("wrappermay", at(465), DEFERS, "4.3.0", options={**WRAPPER, **level("may")}),
    Scenario("badlevel", at(587), CRASHES, options=level("encrpyt"), log='fatal: [Ii]nvalid (TLS|tls security) level:? "encrpyt"'),
    Scenario("policy", at(10587), SENDS, options={"smtp_tls_policy_maps": f"inline:{{{at(10587)}=encrypt}}"}),
    Scenario("policyport", at(10587), DEFERS, "4.7.5", options={"smtp_tls_policy_maps": f"inline:{{[{HOST}]=encrypt}}"}),
    Scenario("policyparent", HOST, SENDS, options=level("none", smtp_tcp_port="587", smtp_tls_policy_maps="inline:{.provider.test=encrypt}")),
    Scenario("policymatch", at(11587), SENDS, options={"smtp_tls_policy_maps": "static:{secure match=mail.elsewhere.test}"}),
    Scenario("policywrong", at(587), DEFERS, "4.7.5", options={"smtp_tls_policy_maps": "static:{encrypt nonsense=1}"}),
    Scenario("legacyenforce", at(10587), DEFERS, "4.7.5", options=level("", smtp_enforce_tls="yes")),
    Scenario("legacyuse", at(10587), SENDS, options=level("", smtp_use_tls="yes")),
    Scenario("fingerprint", at(10587), SENDS, options=level("fingerprint", smtp_tls_fingerprint_cert_match="FINGERPRINT")),
    Scenario("fingerprintother", at(587), DEFERS, "4.7.5", options=level("fingerprint", smtp_tls_fingerprint_cert_match="FINGERPRINT")),
    Scenario("daneonly", at(587), DEFERS, "4.7.5", options=level("dane-only")),
    Scenario("dane", at(13587), IN_CLEAR, options=level("dane")),
]
LOGIN = [
    Scenario("wrongpassword", at(587), DEFERS, "4.7.8", table={HOST: WRONG}),
    Scenario("hardbounce", at(587), BOUNCES, "5.7.8", options={"smtp_sasl_auth_soft_bounce": "no"}, table={HOST: WRONG}),
    Scenario("mayclear", at(13587), IN_CLEAR, options=level("may")),
    Scenario("noneclear", at(13587), IN_CLEAR, options=level("none")),
    Scenario("mayplaintext", at(13587), DEFERS, "4.7.0", options=level("may", smtp_sasl_security_options="noplaintext, noanonymous")),
    Scenario("none587", at(587), UNAUTHENTICATED, options=level("none")),
    Scenario("noauth", at(14587), UNAUTHENTICATED),
    Scenario("port25", at(25), UNAUTHENTICATED),
    Scenario("disabled", at(587), UNAUTHENTICATED, options={"smtp_sasl_auth_enable": "no"}),
    Scenario("noplaintext", at(587), DEFERS, "4.7.0", options={"smtp_sasl_tls_security_options": "noplaintext, noanonymous"}),
    Scenario("filterempty", at(587), DEFERS, "4.7.0", options={"smtp_sasl_mechanism_filter": "cram-md5"}),
    Scenario("discardauth", at(587), UNAUTHENTICATED, options={"smtp_discard_ehlo_keywords": "auth"}),
    Scenario("discardtls", at(587), DEFERS, "4.7.4", options={"smtp_discard_ehlo_keywords": "starttls"}),
    Scenario("nomaps", at(587), CRASHES, options=maps(""), log="fatal: specify a password table"),
    Scenario("notable", at(587), DEFERS, "4.3.0", options=maps("hash:/etc/postfix/nonexistent")),
    Scenario("failtable", at(587), DEFERS, "4.3.0", options=maps("fail:always")),
    Scenario("unusedbroken", at(587), SENDS, options=maps("TABLE fail:always")),
    Scenario("nopassword", at(587), DEFERS, None, table={HOST: "alerts@provider.test"}),
]
REACH = [
    Scenario("refused", at(9), DEFERS, "4.4.1"),
    Scenario("noservice", at("nosuchservice"), CRASHES, log="fatal: unknown service: nosuchservice/tcp"),
    Scenario("nohost", "[nope.provider.test]:587", BOUNCES, "5.4.4"),
    Scenario("nohostrelay", "[nope.provider.test]:587", DEFERS, "4.3.5", options={"relayhost": "[nope.provider.test]:587"}),
    # hosts.test is in /etc/hosts of the server, and not in DNS.
    Scenario("hostsfile", "[hosts.test]:587", BOUNCES, "5.4.4", options=level("encrypt"), table={"hosts.test": RIGHT}),
    Scenario("hostsnative", "[hosts.test]:587", SENDS, options=level("encrypt", smtp_host_lookup="native"), table={"hosts.test": RIGHT}),
    # In defer_transports.
    Scenario("deferred", at(587), DEFERS, "4.3.2"),
    Scenario("fallback", "[nope.provider.test]:587", SENDS, options={"smtp_fallback_relay": at(587)}),
]
#: Of the lab's name server: mx.test has the provider as its only mail exchanger and for _submission._tcp.
MX = [
    Scenario("mxhost", "mx.test:587", SENDS, options=level("verify")),
    Scenario("mxnexthop", "mx.test:587", SENDS, options=level("verify"), table={"mx.test:587": RIGHT}),
    Scenario("mxbare", "mx.test:587", UNAUTHENTICATED, options=level("verify"), table={"mx.test": RIGHT, "[mx.test]:587": RIGHT}),
    Scenario("mxsecure", "mx.test:587", DEFERS, "4.7.5"),
    Scenario("mxservice", "mx.test:submission", SENDS, options=level("verify", use_srv_lookup="submission")),
]
#: Senders with relays of their own; the next hop comes from sender_dependent_relayhost_maps or relayhost.
BILLING, CANARY = "billing@provider.test", "canary@provider.test"
RELAYHOST = at(465)
BY_SENDER = [
    Scenario("sender", "", SENDS, sender=BILLING),
    Scenario("dunno", "", SENDS, options=WRAPPER, sender=CANARY),
]
SENDER_RELAYHOSTS = {BILLING: at(587), CANARY: "DUNNO"}
#: No transport of its own: what the collection's role makes of a relay is the default transport.
ROLE = Scenario("role", "", SENDS)
SCENARIOS = [*GOOD, *KEYS, *TLS, *LOGIN, *REACH, *MX, *BY_SENDER, ROLE]
