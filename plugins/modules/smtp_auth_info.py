#!/usr/bin/python
# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: smtp_auth_info
short_description: Tests the login at SMTP relays and says what is wrong
version_added: "0.1.0"
description:
  - Connects to each relay from the managed host, sets up TLS, logs in and leaves. It sends no mail.
  - All relays, and all addresses of each, are tested at the same time, under one deadline.
  - With O(from_postfix) the relays are those of the host's own Postfix, tested the way Postfix would use them, with a prediction of what it will do.
  - When a test fails, the module fails with a diagnosis in RV(ignore:msg), what was seen and what to do about it. Everything that was
    learned before the failure is returned with it. All diagnoses are listed in the collection's file docs/diagnoses.md.
  - After a failure other ways to the same provider are looked at, without credentials, and the one that works is named. See O(investigate).
  - A password is tried exactly once, by one mechanism. After a refusal nothing else is tried, so that the account is not locked.
  - A password is sent over TLS with a verified certificate only. There is no fall-back to anything weaker.
  - The module needs nothing but Python on the managed host.
author:
  - outpost.smtp contributors (@outpost-smtp)
extends_documentation_fragment:
  - outpost.smtp.attributes
attributes:
  check_mode:
    support: full
    details:
      - The module changes nothing, so it does the same in check mode.
  diff_mode:
    support: N/A
    details:
      - The module changes nothing.
  idempotent:
    support: full
options:
  relays:
    description:
      - The relays to test. Required unless O(from_postfix) is set.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - What results and messages call the relay. Made from O(relays[].host) if it is not set.
        type: str
      host:
        description:
          - Host name or IP address of the relay. The certificate must be for it.
        type: str
        required: true
      port:
        description:
          - TCP port. Follows from O(relays[].tls) if it is not set, V(465) for V(implicit) and V(587) otherwise.
        type: int
      tls:
        description:
          - V(implicit) starts TLS with the first byte, V(starttls) asks for it in the dialogue, V(none) does without.
          - Follows from O(relays[].port) if it is not set, V(implicit) for V(465) and V(starttls) otherwise.
          - V(none) is for relays without credentials only, unless O(relays[].allow_unencrypted) is set.
        type: str
        choices: [implicit, starttls, none]
      srv:
        description:
          - Whether O(relays[].host) is a domain whose SRV records name server and port (RFC 8314), those of C(_submissions._tcp) with
            O(relays[].tls=implicit), else those of C(_submission._tcp). The best of them is tested.
          - The certificate must be for that server if it is in the domain, else for the domain itself.
        type: bool
        default: false
        version_added: "0.2.0"
      username:
        description:
          - User name, together with O(relays[].password) or O(relays[].access_token). Without credentials everything but the login is tested.
        type: str
      password:
        description:
          - Password. Take it from a variable (Ansible Vault), since Ansible may show the line of a playbook in an error message.
        type: str
      password_file:
        description:
          - File on the managed host that holds the password, instead of O(relays[].password). One line break at its end is not
            part of it. It must belong to root or to the user that the module runs as, and be closed to everybody else (C(chmod 600)).
        type: str
        version_added: "0.2.0"
      password_credential:
        description:
          - Name of a credential of systemd on the managed host that is the password, instead of O(relays[].password). It is looked for in
            C(/etc/credstore), C(/run/credstore) and C(/usr/lib/credstore), where it must be as closed as O(relays[].password_file), and then in
            the C(.encrypted) directories beside these, which takes C(systemd-creds) of systemd 250 or newer.
        type: str
        version_added: "0.2.0"
      oauth:
        description:
          - How this host gets an access token for the relay, instead of O(relays[].password). The test takes the token that the service of
            M(outpost.smtp.smtp_oauth_proxy) has on the host for the relay, and fetches none.
        type: dict
        version_added: "0.2.0"
        suboptions:
          token_endpoint:
            description:
              - URL that gives access tokens.
            type: str
            required: true
          client_id:
            description:
              - The application at the provider.
            type: str
            required: true
          client_secret:
            description:
              - Its secret.
            type: str
          refresh_token:
            description:
              - What a token is given for. Without it, it is given for O(relays[].oauth.client_secret).
            type: str
          scope:
            description:
              - What the token is to be good for.
            type: str
          ca_file:
            description:
              - Absolute path of a file on the managed host with CA certificates for the token endpoint.
            type: str
          local_port:
            description: The port of module M(outpost.smtp.smtp_oauth_proxy) that leads to the relay; it means nothing here.
            type: int
      access_token:
        description:
          - OAuth 2.0 access token, instead of O(relays[].password). What it says of itself is looked at first. One that has expired is not sent.
        type: str
        version_added: "0.2.0"
      mechanism:
        description:
          - SASL mechanism. V(auto) takes the strongest that the relay offers for the credentials, in the order that Cyrus SASL and so Postfix has,
            V(scram-sha-256-plus), V(scram-sha-1-plus), V(scram-sha-256), V(scram-sha-1), V(digest-md5), V(cram-md5), V(plain), V(login).
          - With O(relays[].access_token) it takes V(oauthbearer), else V(xoauth2).
          - V(external) logs in with O(relays[].client_certificate) alone.
          - The mechanisms that end in V(-plus) bind the login to the TLS connection. Python can do so up to TLS 1.2 only, so that is what is used
            with them.
        type: str
        choices:
          - auto
          - plain
          - login
          - cram-md5
          - digest-md5
          - scram-sha-1
          - scram-sha-256
          - scram-sha-1-plus
          - scram-sha-256-plus
          - xoauth2
          - oauthbearer
          - external
        default: auto
      try_all_mechanisms:
        description:
          - With O(relays[].mechanism=auto), try the next weaker mechanism after a refusal, and so on. Each counts as a failed login at the
            provider, which may lock the account.
          - RV(results[].auth.attempts) tells what was tried.
          - Without it, a login that was refused is not sent again in the same run either, for another relay with the same O(relays[].host),
            O(relays[].port) and credentials. That relay fails with the same reply, and the evidence says so.
        type: bool
        default: false
        version_added: "0.2.0"
      allow_unencrypted:
        description:
          - Send credentials although O(relays[].tls) is V(none). Everybody on the way can read them.
        type: bool
        default: false
        version_added: "0.2.0"
      ca_file:
        description:
          - Absolute path of a file on the managed host with CA certificates in PEM form. They are trusted in addition to the system's.
        type: str
      server_name:
        description:
          - Name to ask for by SNI, and that the certificate must be for, instead of O(relays[].host).
        type: str
        version_added: "0.2.0"
      minimum_tls:
        description:
          - Oldest version of TLS that is accepted.
        type: str
        choices: ["1.2", "1.3"]
        default: "1.2"
        version_added: "0.2.0"
      client_certificate:
        description:
          - Absolute path of a file on the managed host with the certificate (and its chain) to show to the relay, in PEM form.
        type: str
        version_added: "0.2.0"
      client_key:
        description:
          - Absolute path of its private key, if it is not in the same file. It must not be encrypted.
        type: str
        version_added: "0.2.0"
      fingerprints:
        description:
          - SHA-256 fingerprints, 64 hex digits each, of the relay's certificate or of its public key. If any is set they alone decide
            whether the relay is trusted. Neither roots nor names nor dates are looked at then, as with Postfix's TLS level C(fingerprint).
        type: list
        elements: str
        version_added: "0.2.0"
      dane:
        description:
          - Let TLSA records decide (RFC 7672), if there are any and the host has a validating resolver on its own address.
            Otherwise the certificate is verified as usual, and RV(results[].tls.dane) says why.
        type: bool
        default: false
        version_added: "0.2.0"
      family:
        description:
          - Address family to use.
        type: str
        choices: [any, ipv4, ipv6]
        default: any
        version_added: "0.2.0"
      source_address:
        description:
          - IP address of the managed host to connect from.
        type: str
        version_added: "0.2.0"
      proxy:
        description:
          - Proxy to connect through. It resolves the name of the relay.
        type: dict
        version_added: "0.2.0"
        suboptions:
          type:
            description:
              - V(socks5) or V(http), the latter by its CONNECT method.
            type: str
            choices: [socks5, http]
            default: socks5
          host:
            description:
              - Host name or IP address of the proxy.
            type: str
            required: true
          port:
            description:
              - TCP port of the proxy. V(1080) for V(socks5) and V(3128) for V(http) if it is not set.
            type: int
          username:
            description:
              - User name at the proxy.
            type: str
          password:
            description:
              - Password at the proxy.
            type: str
      every_address:
        description:
          - Go through the dialogue up to the login on every address of the host, not only on the one that is used. The login is tested on one.
        type: bool
        default: false
        version_added: "0.2.0"
      sender:
        description:
          - Ask whether the relay takes mail from this address (C(MAIL FROM)). No message is sent, the transaction is reset.
          - Many servers, Postfix among them, refuse a sender only together with a recipient, so set O(relays[].recipient) as well.
        type: str
        version_added: "0.2.0"
      recipient:
        description:
          - Ask whether the relay takes mail for this address from O(relays[].sender) (C(RCPT TO)).
        type: str
        version_added: "0.2.0"
      senders:
        description:
          - Not used here. It can be given because a relay of the roles may have it.
        type: list
        elements: str
        version_added: "0.2.0"
      concurrency_limit:
        description:
          - Not used here, as O(relays[].senders).
        type: int
        version_added: "0.2.0"
      rate_delay:
        description:
          - Not used here, as O(relays[].senders).
        type: str
        version_added: "0.2.0"
      recipient_limit:
        description:
          - Not used here, as O(relays[].senders).
        type: int
        version_added: "0.2.0"
  from_postfix:
    description:
      - Take the relays from the Postfix of the managed host, with what smtp(8) would use for each, the next hop, TLS policy, CA, addresses
        and credentials, found in the order in which smtp(8) looks them up. RV(results[].postfix) then tells what Postfix would do.
      - The test stays as strict as it is without this option. It never sends a password over a connection that is not verified, even where
        Postfix would.
      - Needs root on the managed host, to read the tables with the credentials.
    type: bool
    default: false
    version_added: "0.2.0"
  config_directory:
    description:
      - Directory of the Postfix configuration, with O(from_postfix).
    type: path
    default: /etc/postfix
    version_added: "0.2.0"
  timeout:
    description:
      - Seconds after which everything has ended, at most 3600. Up to a fifth of it (at most 5 seconds) is kept for finding the cause of a failure.
    type: float
    default: 30
  ehlo_name:
    description:
      - Name by which the host introduces itself. The default is its fully qualified name, or its address if it has none.
    type: str
  investigate:
    description:
      - After a failure, look at the host's own firewall rules (if there are any), at the relay's other addresses, at the other TLS mode and at the
        ports 465, 587 and 2525 of the same host, without credentials, to name the cause and the combination that works.
      - Without it there is a single connection for each relay.
    type: bool
    default: true
    version_added: "0.2.0"
  run_as:
    description:
      - User whose identity is taken on for good before the first connection, such as C(postfix), so that firewall rules and policies for the
        mail server's user apply to the test. CA file, client's certificate and key are read before, as Postfix does it. Needs root.
      - The default, for root, is the mail server's user on a host whose outbound mail is ruled by M(outpost.smtp.smtp_egress), as that module was
        told; else, or where it is empty, the user who runs the module.
      - Where a rule of the host's own firewall stops this user, the test takes up to 15 seconds longer than O(timeout), to name it.
      - In check mode a user who does not exist yet is no error. The test is then made by the user who runs it, with a warning.
    type: str
    version_added: "0.2.0"
  on_failure:
    description:
      - What happens when a relay does not pass. V(fail) makes the module fail, V(report) only returns RV(ok) as V(false).
    type: str
    choices: [fail, report]
    default: fail
seealso:
  - module: outpost.smtp.smtp_roundtrip
"""

EXAMPLES = r"""
- name: Make sure that this host can log in to the relay
  outpost.smtp.smtp_auth_info:
    relays:
      - host: smtp.example.net
        port: 465
        username: alerts@example.net
        password: "{{ vault_smtp_password }}"

- name: Test the relays that the roles use, and go on whatever comes out
  outpost.smtp.smtp_auth_info:
    relays: "{{ outpost_smtp_relays }}"
    on_failure: report
  register: smtp_auth

- name: Show what to do
  ansible.builtin.debug:
    msg: "{{ smtp_auth.diagnosis.summary }} {{ smtp_auth.diagnosis.remedy }}"
  when: not smtp_auth.ok

- name: See what the host's own Postfix would do with its relays, and whether it could log in
  outpost.smtp.smtp_auth_info:
    from_postfix: true
    run_as: postfix

- name: Ask for the permission to send as this address, without sending
  outpost.smtp.smtp_auth_info:
    relays:
      - host: smtp.example.net
        username: alerts@example.net
        password: "{{ vault_smtp_password }}"
        sender: root@web1.example.org
        recipient: ops@example.net

- name: Log in with an OAuth 2.0 access token
  outpost.smtp.smtp_auth_info:
    relays:
      - host: smtp.office365.com
        username: alerts@example.net
        access_token: "{{ access_token }}"

- name: Compare all addresses of the relay, through the proxy of this network
  outpost.smtp.smtp_auth_info:
    relays:
      - host: smtp.example.net
        every_address: true
      - name: by-proxy
        host: smtp.example.net
        proxy:
          type: http
          host: proxy.example.org

- name: See whether port 587 is open and its certificate has some time left, without logging in
  outpost.smtp.smtp_auth_info:
    relays:
      - host: smtp.example.net
        port: 587
  register: smtp_tls
  failed_when: not smtp_tls.ok or smtp_tls.results[0].tls.days_left < 14
"""

RETURN = r"""
ok:
  description: Whether every relay passed.
  returned: always
  type: bool
  sample: false
diagnosis:
  description: The RV(results[].diagnosis) of the first relay that did not pass, V(null) if all did.
  returned: always
  type: dict
results:
  description: One entry for each of O(relays), in their order.
  returned: when O(relays) is valid
  type: list
  elements: dict
  contains:
    name:
      description: What the relay is called.
      returned: always
      type: str
    host:
      description: Host of the relay. Empty if Postfix has none (O(from_postfix)).
      returned: always
      type: str
    port:
      description: Port of the relay, V(0) if Postfix has none (O(from_postfix)).
      returned: always
      type: int
    tls_mode:
      description: The TLS mode that was used, V(implicit), V(starttls) or V(none).
      returned: always
      type: str
    ok:
      description:
        - Whether all stages passed. If credentials are given, or Postfix would log in, this is never V(true) without a login that the relay
          confirmed.
      returned: always
      type: bool
    diagnosis:
      description: What is wrong, V(null) if nothing is.
      returned: always
      type: dict
      contains:
        code:
          description: Identifier of the diagnosis, which never changes its meaning. V(unknown) if none fits.
          returned: always
          type: str
        stage:
          description: The stage that failed.
          returned: always
          type: str
        summary:
          description: What is wrong, in one sentence.
          returned: always
          type: str
        evidence:
          description: What was seen.
          returned: always
          type: list
          elements: str
        remedy:
          description: What to do.
          returned: always
          type: str
        retryable:
          description: Whether the same test may pass later without any change.
          returned: always
          type: bool
        who:
          description: Who has to act, V(operator), V(account owner), V(administrator) (of the account at the provider), V(provider) or V(network).
          returned: always
          type: str
        provider:
          description: Identifier of the provider that the diagnosis is about, V(null) if it is none that is known.
          returned: always
          type: str
    stages:
      description: The stages that the TLS mode has, in order.
      returned: always
      type: list
      elements: dict
      contains:
        stage:
          description:
            - V(resolve), V(connect), V(greeting), V(ehlo) (before TLS), V(starttls), V(tls) (the handshake), V(ehlo_tls) (after it), V(auth),
              V(sender), V(recipient) (these two if they were asked for) or V(quit).
          returned: always
          type: str
        status:
          description: V(ok), V(failed) or V(skipped).
          returned: always
          type: str
        elapsed_ms:
          description: Milliseconds that the stage took, V(null) if it was skipped.
          returned: always
          type: int
    addresses:
      description:
        - The addresses of the host, in the order that the system prefers. Empty if it did not resolve.
        - With O(relays[].proxy) those of the proxy.
      returned: always
      type: list
      elements: dict
      contains:
        address:
          description: IP address.
          returned: always
          type: str
        family:
          description: V(ipv4) or V(ipv6).
          returned: always
          type: str
        outcome:
          description:
            - V(connected), V(refused), V(timeout), V(net_unreachable), V(host_unreachable), V(reset), V(not_permitted), V(access_denied),
              V(no_source_address), V(family_not_supported) or V(failed).
            - V(no_answer) if there was none by the time the test had ended over another address, V(not_tried) beyond the sixteenth address.
          returned: always
          type: str
        elapsed_ms:
          description: Milliseconds until the outcome was seen, V(null) if the address was not tried.
          returned: always
          type: int
        ok:
          description: Whether the dialogue up to the login went well on this address.
          returned: with O(relays[].every_address)
          type: bool
        stage:
          description: Where it ended.
          returned: with O(relays[].every_address)
          type: str
        detail:
          description: Why it ended there, empty if it went well.
          returned: with O(relays[].every_address)
          type: str
        fingerprint_sha256:
          description: SHA-256 fingerprint of the certificate that this address shows, V(null) if none was seen.
          returned: with O(relays[].every_address)
          type: str
    tls:
      description:
        - What is known about TLS and the certificate, V(null) if there was none to see.
        - If the certificate did not verify, this describes it nevertheless, read over a second connection.
      returned: always
      type: dict
      contains:
        version:
          description: Protocol version, V(null) if the handshake did not end.
          returned: always
          type: str
        cipher:
          description: Cipher suite, V(null) if the handshake did not end.
          returned: always
          type: str
        verified:
          description: Whether the certificate is trusted, valid now, and for the host.
          returned: always
          type: bool
        names:
          description: The names and addresses that the certificate is for.
          returned: always
          type: list
          elements: str
        subject:
          description: Whom the certificate is for, in full, V(null) if none was seen.
          returned: always
          type: str
        issuer:
          description: Who issued the certificate, V(null) if none was seen.
          returned: always
          type: str
        key_type:
          description: Kind of the public key, such as V(RSA) or V(EC P-256). V(null) if no certificate was seen.
          returned: always
          type: str
        key_bits:
          description: Size of the public key in bits, V(null) if it is not known.
          returned: always
          type: int
        fingerprint_sha256:
          description: SHA-256 fingerprint of the certificate, 64 hex digits. V(null) if none was seen.
          returned: always
          type: str
        not_before:
          description: From when on the certificate is valid, in UTC (ISO 8601). V(null) if none was seen.
          returned: always
          type: str
        not_after:
          description: Until when the certificate is valid, in UTC (ISO 8601). V(null) if none was seen.
          returned: always
          type: str
        days_left:
          description: Whole days until then, negative if it has expired. V(null) if no certificate was seen.
          returned: always
          type: int
        chain:
          description: The certificates that the relay sent, its own first, at most ten.
          returned: always
          type: list
          elements: dict
          contains:
            subject:
              description: Whom the certificate is for.
              returned: always
              type: str
            issuer:
              description: Who issued it.
              returned: always
              type: str
            key_type:
              description: Kind of the public key.
              returned: always
              type: str
            key_bits:
              description: Its size in bits, V(null) if it is not known.
              returned: always
              type: int
            not_before:
              description: From when on it is valid, in UTC (ISO 8601).
              returned: always
              type: str
            not_after:
              description: Until when it is valid, in UTC (ISO 8601).
              returned: always
              type: str
            fingerprint_sha256:
              description: Its SHA-256 fingerprint.
              returned: always
              type: str
        dane:
          description: What became of O(relays[].dane), V(null) without it.
          returned: always
          type: dict
          contains:
            status:
              description: V(verified), V(no_records), V(no_validating_resolver), V(mismatch) or V(unusable).
              returned: always
              type: str
            detail:
              description: Why, in words.
              returned: always
              type: str
        error:
          description: Why the handshake failed, V(null) if it did not.
          returned: always
          type: str
    capabilities:
      description: What the relay offers in reply to EHLO, one entry for each line.
      returned: always
      type: dict
      contains:
        before_tls:
          description: Before TLS, V(null) if it was not asked.
          returned: always
          type: list
          elements: str
        after_tls:
          description: After TLS, V(null) if it was not asked.
          returned: always
          type: list
          elements: str
    auth:
      description: The login.
      returned: always
      type: dict
      contains:
        offered:
          description: The SASL mechanisms that the relay offers where the login takes place.
          returned: always
          type: list
          elements: str
        tried:
          description: Whether AUTH was sent.
          returned: always
          type: bool
        attempts:
          description: Each AUTH that was sent, at most one without O(relays[].try_all_mechanisms).
          returned: always
          type: list
          elements: dict
          contains:
            mechanism:
              description: SASL mechanism.
              returned: always
              type: str
            code:
              description: Code of the final reply, V(null) if there was none.
              returned: always
              type: int
            enhanced_code:
              description: Enhanced status code of the reply, V(null) if it has none.
              returned: always
              type: str
            text:
              description: Text of the reply, V(null) if there was none.
              returned: always
              type: str
        token:
          description:
            - What the access token says of itself, such as its audience, scopes, account and when it expires. V(null) without a token. The token
              itself is never returned.
          returned: always
          type: dict
        mechanism:
          description: The mechanism that was tried last, V(null) if none was.
          returned: always
          type: str
        code:
          description: Code of the reply, V(null) if there was none.
          returned: always
          type: int
        enhanced_code:
          description: Enhanced status code of the reply, V(null) if it has none.
          returned: always
          type: str
        text:
          description: Text of the reply, V(null) if there was none.
          returned: always
          type: str
    sender:
      description: The reply to C(MAIL FROM), if O(relays[].sender) is set.
      returned: always
      type: dict
      contains:
        code:
          description: Code of the reply, V(null) if there was none.
          returned: always
          type: int
        enhanced_code:
          description: Enhanced status code of the reply, V(null) if it has none.
          returned: always
          type: str
        text:
          description: Text of the reply, V(null) if there was none.
          returned: always
          type: str
    recipient:
      description: The reply to C(RCPT TO), if O(relays[].recipient) is set.
      returned: always
      type: dict
      contains:
        code:
          description: Code of the reply, V(null) if there was none.
          returned: always
          type: int
        enhanced_code:
          description: Enhanced status code of the reply, V(null) if it has none.
          returned: always
          type: str
        text:
          description: Text of the reply, V(null) if there was none.
          returned: always
          type: str
    provider:
      description: Identifier of the provider as recognised by host name, certificate and greeting. V(null) if it is none that is known.
      returned: always
      type: str
    postfix:
      description: What the Postfix of the host does with this relay.
      returned: with O(from_postfix)
      type: dict
      contains:
        prediction:
          description: What Postfix would do with the next mail for this relay.
          returned: always
          type: dict
          contains:
            action:
              description: V(sends), V(defers), V(bounces), V(sends_unauthenticated), V(sends_password_in_clear), V(crashes) or V(unknown).
              returned: always
              type: str
            dsn:
              description: Status that Postfix would log, such as V(4.7.5). V(null) where the answer of the relay decides.
              returned: always
              type: str
            text:
              description: The same in a sentence.
              returned: always
              type: str
            because:
              description: What it follows from.
              returned: always
              type: list
              elements: str
        mail:
          description: What Postfix would do in the end where several servers can take the mail. Same keys as RV(results[].postfix.prediction).
          returned: always
          type: dict
        sender:
          description: Envelope sender whose mail takes this way, empty for any.
          returned: always
          type: str
        recipient:
          description: Recipient whose mail takes this way.
          returned: always
          type: str
        chosen_by:
          description: The parameters and tables that lead here.
          returned: always
          type: list
          elements: str
        transport:
          description: Transport of the mail, a service of master.cf.
          returned: always
          type: str
        nexthop:
          description: Next hop as Postfix has it, with its brackets and port.
          returned: always
          type: str
        fallback:
          description: Whether this is a fall-back relay.
          returned: always
          type: bool
        host:
          description: Host that Postfix connects to, V(null) if there is none.
          returned: always
          type: str
        port:
          description: TCP port, V(null) if there is none.
          returned: always
          type: int
        chroot:
          description: Whether the service runs in the queue directory.
          returned: always
          type: bool
        tls_level:
          description: TLS security level, V(null) if the settings contradict each other.
          returned: always
          type: str
        tls_level_from:
          description: The parameter or table that sets it, V(null) if there is none.
          returned: always
          type: str
        tls_names:
          description: Names that the certificate may have, empty at levels that look at none.
          returned: always
          type: list
          elements: str
        wrappermode:
          description: Whether TLS starts with the first byte.
          returned: always
          type: bool
        ca_file:
          description: File with CA certificates, V(null) if none is set.
          returned: always
          type: str
        ca_path:
          description: Directory with CA certificates, V(null) if none is set.
          returned: always
          type: str
        login:
          description: Whether Postfix logs in (C(smtp_sasl_auth_enable)).
          returned: always
          type: bool
        credential:
          description: The credential that Postfix finds, without the password.
          returned: always
          type: dict
          contains:
            found:
              description: Whether there is one.
              returned: always
              type: bool
            key:
              description: Key that it was found under, V(null) if there is none.
              returned: always
              type: str
            by:
              description: What the key is, V(sender), V(host) or V(nexthop). V(null) if there is none.
              returned: always
              type: str
            table:
              description: Table that holds it, V(null) if there is none. One that is written in main.cf itself is cut, as in V(static:...).
              returned: always
              type: str
            username:
              description: User name, V(null) if there is none, or if the entry is not of the form C(user:password) and may be the password.
              returned: always
              type: str
            keys_tried:
              description: The keys that Postfix looks up, in its order.
              returned: always
              type: list
              elements: str
            similar_keys:
              description: Keys of the table that look like the ones wanted, if none was found.
              returned: always
              type: list
              elements: str
        mechanism_filter:
          description: Value of C(smtp_sasl_mechanism_filter).
          returned: always
          type: list
          elements: str
        security_options:
          description: Security options that apply over TLS.
          returned: always
          type: list
          elements: str
        helo_name:
          description: Name by which Postfix introduces itself, V(null) if it is not known.
          returned: always
          type: str
        family:
          description: Address family that Postfix uses, V(any), V(ipv4) or V(ipv6).
          returned: always
          type: str
        source_address:
          description: Address that Postfix connects from, V(null) if the system chooses.
          returned: always
          type: str
        problems:
          description: What is wrong whatever the relay does.
          returned: always
          type: list
          elements: dict
          contains:
            code:
              description: Code of a diagnosis.
              returned: always
              type: str
            text:
              description: What was found.
              returned: always
              type: str
        notes:
          description: What is remarkable, but no reason to fail.
          returned: always
          type: list
          elements: str
        not_followed:
          description: Settings that were not followed, so that what depends on them is not known.
          returned: always
          type: list
          elements: str
    blocked_by:
      description:
        - What stops the mail, in one answer for a program. V(null) if the test passed, and for what is no block, such as a name that does not
          resolve.
      returned: always
      type: dict
      version_added: "0.2.0"
      contains:
        cause:
          description:
            - V(own_table) for the rules of M(outpost.smtp.smtp_egress), V(other_chain) for any other rule of the host's firewall,
              V(unit_sandbox) for limits of the unit that runs Postfix (looked at with O(from_postfix)), V(route) for the routes of the host.
            - V(relay_refused) where the relay, or a firewall before it, refuses. V(provider_suspected) where nothing on the host is in the way and
              other ports of the relay answer, or the host runs in a cloud that is known to block this port, or something on the way answers in
              the relay's place. V(unknown) where nothing answers.
            - V(tls) and V(authentication) for what fails after that.
          returned: always
          type: str
        detail:
          description: What shows it.
          returned: always
          type: str
        remedy:
          description: What to do.
          returned: always
          type: str
    interception:
      description: Whether something between this host and the relay interferes.
      returned: always
      type: dict
      contains:
        verdict:
          description:
            - V(clean) if the relay itself was spoken to, V(stripped) if STARTTLS was taken out of the dialogue, V(terminated_by_proxy) if somebody
              else answered, V(captive_portal), V(tarpit), V(filtered) if packets are dropped, V(rejected) if connections are refused.
            - V(unknown) if what was seen does not tell.
          returned: always
          type: str
        evidence:
          description: What the verdict rests on.
          returned: always
          type: list
          elements: str
    alternatives:
      description:
        - Other ways to the same host that were looked at after a failure, or because the greeting was late, without credentials.
      returned: always
      type: list
      elements: dict
      contains:
        port:
          description: TCP port.
          returned: always
          type: int
        tls:
          description: TLS mode, as in O(relays[].tls).
          returned: always
          type: str
        works:
          description: Whether TLS was verified there and a login is offered.
          returned: always
          type: bool
        outcome:
          description: V(works), or what was seen instead.
          returned: always
          type: str
        address:
          description: IP address that answered, empty if none did.
          returned: always
          type: str
        elapsed_ms:
          description: Milliseconds that it took, V(null) if it did not end in time.
          returned: always
          type: int
    warnings:
      description: What is worth knowing although it did not make the test fail.
      returned: always
      type: list
      elements: str
    transcript:
      description:
        - The dialogue, V(C:) for what was sent, V(S:) for what came and V(--) for what else happened. Credentials are never part of it.
      returned: always
      type: list
      elements: str
  sample:
    - name: primary
      host: smtp.example.net
      port: 465
      tls_mode: implicit
      provider: null
      ok: false
      diagnosis:
        code: auth_bad_credentials
        stage: auth
        provider: null
        summary: "smtp.example.net:465 refuses the user name or password: 535 5.7.8 Error: authentication failed."
        evidence: ["reply to AUTH PLAIN: 535 5.7.8 Error: authentication failed"]
        remedy: >-
          Check both. Many providers want the full mail address as user name, and an app password. It was tried once only, so as not to lock
          the account.
        who: operator
        retryable: false
      stages:
        - {stage: resolve, status: ok, elapsed_ms: 2}
        - {stage: connect, status: ok, elapsed_ms: 11}
        - {stage: tls, status: ok, elapsed_ms: 24}
        - {stage: greeting, status: ok, elapsed_ms: 11}
        - {stage: ehlo_tls, status: ok, elapsed_ms: 11}
        - {stage: auth, status: failed, elapsed_ms: 2041}
        - {stage: quit, status: ok, elapsed_ms: 11}
      addresses:
        - {address: "192.0.2.25", family: ipv4, outcome: connected, elapsed_ms: 11}
      tls:
        version: TLSv1.3
        cipher: TLS_AES_256_GCM_SHA384
        verified: true
        names: [smtp.example.net]
        subject: "CN=smtp.example.net"
        issuer: "C=XX, O=Example Trust, CN=Example CA 1"
        key_type: "EC P-256"
        key_bits: 256
        not_before: "2026-11-02T00:00:00Z"
        not_after: "2027-01-31T23:59:59Z"
        fingerprint_sha256: "5b3f9bd0a7c4f3b5a6e1d2c90f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c"
        days_left: 69
        chain:
          - subject: "CN=smtp.example.net"
            issuer: "C=XX, O=Example Trust, CN=Example CA 1"
            key_type: "EC P-256"
            key_bits: 256
            not_before: "2026-11-02T00:00:00Z"
            not_after: "2027-01-31T23:59:59Z"
            fingerprint_sha256: "5b3f9bd0a7c4f3b5a6e1d2c90f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c"
        dane: null
        error: null
      capabilities:
        before_tls: null
        after_tls: [SIZE 52428800, AUTH PLAIN LOGIN]
      auth:
        offered: [PLAIN, LOGIN]
        tried: true
        mechanism: PLAIN
        attempts:
          - {mechanism: PLAIN, code: 535, enhanced_code: "5.7.8", text: "Error: authentication failed"}
        token: null
        code: 535
        enhanced_code: "5.7.8"
        text: "Error: authentication failed"
      sender: {code: null, enhanced_code: null, text: null}
      recipient: {code: null, enhanced_code: null, text: null}
      blocked_by:
        cause: authentication
        detail: "smtp.example.net:465 refuses the user name or password: 535 5.7.8 Error: authentication failed."
        remedy: >-
          Check both. Many providers want the full mail address as user name, and an app password. It was tried once only, so as not to lock
          the account.
      interception:
        verdict: clean
        evidence: ["TLS reaches smtp.example.net: its certificate verified, issued by C=XX, O=Example Trust, CN=Example CA 1"]
      alternatives: []
      warnings: []
      transcript:
        - "-- connected to 192.0.2.25 port 465"
        - "-- TLSv1.3, TLS_AES_256_GCM_SHA384, certificate verified"
        - "S: 220 smtp.example.net ESMTP"
        - "C: EHLO web1.example.org"
        - "S: 250-smtp.example.net"
        - "S: 250-SIZE 52428800"
        - "S: 250 AUTH PLAIN LOGIN"
        - "C: AUTH PLAIN ********"
        - "S: 535 5.7.8 Error: authentication failed"
        - "C: QUIT"
        - "S: 221 2.0.0 Bye"
"""

import os
import pwd
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.outpost.smtp.plugins.module_utils._egress import users, who_blocks
from ansible_collections.outpost.smtp.plugins.module_utils._module import DiscreetModule
from ansible_collections.outpost.smtp.plugins.module_utils._postfix import as_postfix, effective, unit_felt
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.oauth_relays import with_access_token
from ansible_collections.outpost.smtp.plugins.module_utils._smtp import endpoint, run_as
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.as_user import probe_all_as
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.fields import RelayError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.probe import probe_all
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import place_of
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay_options import RELAY_OPTIONS
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.result import overall
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.run_options import DEFAULT_TIMEOUT, check_run_options
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.secret_sources import with_password

PROXY = {
    "type": {"type": "str", "choices": list(endpoint.PROXY_TYPES), "default": "socks5"},
    "host": {"type": "str", "required": True},
    "port": {"type": "int"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
}
RELAY = {
    **RELAY_OPTIONS,
    "access_token": {"type": "str", "no_log": True},
    "mechanism": {"type": "str", "choices": list(endpoint.MECHANISMS), "default": "auto"},
    "try_all_mechanisms": {"type": "bool", "default": False},
    "allow_unencrypted": {"type": "bool", "default": False},
    "dane": {"type": "bool", "default": False},
    "source_address": {"type": "str"},
    "proxy": {"type": "dict", "options": PROXY},
    "every_address": {"type": "bool", "default": False},
    "sender": {"type": "str"},
    "recipient": {"type": "str"},
}
ARGUMENTS = {
    "relays": {"type": "list", "elements": "dict", "options": RELAY},
    "from_postfix": {"type": "bool", "default": False},
    "config_directory": {"type": "path", "default": "/etc/postfix"},
    "timeout": {"type": "float", "default": DEFAULT_TIMEOUT},
    "ehlo_name": {"type": "str"},
    "investigate": {"type": "bool", "default": True},
    "run_as": {"type": "str"},
    "on_failure": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
}


Result = t.Dict[str, t.Any]


def run(module: AnsibleModule) -> None:
    """Test the relays and exit; raises RelayError, RunAsError, PostfixError and nothing else."""
    options = module.params
    if options["from_postfix"] and options["relays"] is not None:
        raise RelayError("relays", "can not be combined with from_postfix, which takes the relays from Postfix")
    check_run_options(options["timeout"], options["ehlo_name"])
    options["run_as"] = _user(module)
    facts = overall(_with_blame(_test_postfix(module) if options["from_postfix"] else _test_given(module), options["investigate"]))
    failed = [result for result in facts["results"] if not result["ok"]]
    if failed and options["on_failure"] == "fail":
        module.fail_json(msg=_message(failed, len(facts["results"])), **facts)
    module.exit_json(changed=False, **facts)


def _user(module: AnsibleModule) -> t.Optional[str]:
    """As whom the relays are tested; None for the user who runs this."""
    given = module.params["run_as"]
    if given is None and os.geteuid() == 0:
        return users.mail_server()
    if given and module.check_mode and not _exists(given):
        module.warn(f"there is no user {given} yet, so the login was tested by the user who runs this")
        return None
    return given or None


def _exists(username: str) -> bool:
    try:
        pwd.getpwnam(username)
    except (KeyError, ValueError):
        return False
    return True


def _test_given(module: AnsibleModule) -> t.List[Result]:
    relays = module.params["relays"]
    targets = []
    for index, one in enumerate(endpoint.normalise_endpoints(relays, "relays")):
        place = place_of(relays[index], "relays", index)
        target = with_access_token(with_password(one, place), place)
        if target is not one:  # read on this host, so Ansible does not know it yet
            module.no_log_values.add(target["access_token"] or target["password"])
        targets.append(target)
    return _test(targets, module.params)


def _test_postfix(module: AnsibleModule) -> t.List[Result]:
    options = module.params
    deadline = Deadline(options["timeout"])
    # A table that does not answer leaves time to say so, and slow name servers leave time for the test.
    relays = effective.relays(options["config_directory"], deadline.within(options["timeout"] / 2))
    # As Ansible does with the passwords that are options: whatever happens, they are masked in what is returned.
    module.no_log_values.update(relay.credential.password for relay in relays if relay.credential and relay.credential.password)
    return as_postfix.examine(relays, lambda targets: unit_felt.felt(_test(targets, {**options, "timeout": deadline.remaining()})))


def _test(targets: t.List[endpoint.Endpoint], options: t.Dict[str, t.Any]) -> t.List[Result]:
    ask = (targets, options["timeout"], options["ehlo_name"], options["investigate"], who_blocks.explain if options["investigate"] else None)
    return probe_all_as(options["run_as"], *ask) if options["run_as"] else probe_all(*ask)


def _with_blame(results: t.List[Result], investigated: bool) -> t.List[Result]:
    if all(result["ok"] for result in results):
        return [{**result, "blocked_by": None} for result in results]
    # Imported here, as in late.py: a login that works does not wait for it.
    from ansible_collections.outpost.smtp.plugins.module_utils._egress.login_blame import with_blame

    return with_blame(results, investigated)


def _message(failed: t.List[Result], tested: int) -> str:
    diagnosis, postfix = failed[0]["diagnosis"], failed[0].get("postfix")
    count = f"{len(failed)} of {tested} relays failed, first: " if tested > 1 else ""
    prediction = _prediction(diagnosis, postfix) if postfix else ""
    return f"{count}{diagnosis['summary']} {diagnosis['remedy']}{prediction} [{diagnosis['code']}]"


def _prediction(diagnosis: t.Dict[str, t.Any], postfix: t.Dict[str, t.Any]) -> str:
    """What Postfix would do, without what the diagnosis says already."""
    said, text = diagnosis["summary"].rstrip("."), str(postfix["prediction"]["text"])
    return "" if text.rstrip(".") in said else " " + text.replace(f": {said}", "")


def main() -> None:
    module = DiscreetModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_if=[("from_postfix", False, ["relays"])],
    )
    try:
        run(module)
    except (RelayError, run_as.RunAsError, PostfixError) as exc:
        module.fail_json(msg=str(exc), ok=False, diagnosis=None)
    except Exception as exc:
        # Only the type: the text of an unexpected exception might quote a secret.
        module.fail_json(msg=f"internal error: {type(exc).__name__}; please report it", ok=False, diagnosis=None)


if __name__ == "__main__":
    main()
