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
  - When a test fails, the module fails with a diagnosis in RV(ignore:msg), what was seen and what to do about it. Everything that was
    learned before the failure is returned with it.
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
      - The relays to test.
    type: list
    elements: dict
    required: true
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
          - V(none) is for relays without O(relays[].password) only.
        type: str
        choices: [implicit, starttls, none]
      username:
        description:
          - User name, together with O(relays[].password). Without them everything but the login is tested.
        type: str
      password:
        description:
          - Password. Take it from a variable (Ansible Vault), since Ansible may show the line of a playbook in an error message.
        type: str
      mechanism:
        description:
          - SASL mechanism. V(auto) takes V(plain) if the relay offers it, else V(login).
        type: str
        choices: [auto, plain, login]
        default: auto
      ca_file:
        description:
          - Absolute path of a file on the managed host with CA certificates in PEM form. They are trusted in addition to the system's.
        type: str
  timeout:
    description:
      - Seconds after which everything has ended, at most 3600. Up to a fifth of it (at most 5 seconds) is kept for finding the cause of a failure.
    type: float
    default: 30
  ehlo_name:
    description:
      - Name by which the host introduces itself. The default is its fully qualified name, or its address if it has none.
    type: str
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
      description: Host of the relay.
      returned: always
      type: str
    port:
      description: Port of the relay.
      returned: always
      type: int
    tls_mode:
      description: The TLS mode that was used, V(implicit), V(starttls) or V(none).
      returned: always
      type: str
    ok:
      description:
        - Whether all stages passed. If O(relays[].password) is set, this is never V(true) without a login that the relay confirmed.
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
    stages:
      description: The stages that the TLS mode has, in order.
      returned: always
      type: list
      elements: dict
      contains:
        stage:
          description:
            - V(resolve), V(connect), V(greeting), V(ehlo) (before TLS), V(starttls), V(tls) (the handshake), V(ehlo_tls) (after it), V(auth)
              or V(quit).
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
      description: The addresses of the host, in the order that the system prefers. Empty if it did not resolve.
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
    tls:
      description:
        - What is known about TLS and the certificate, V(null) if there was none to see.
        - If the certificate did not verify, this describes it nevertheless, read over a second connection.
      returned: always
      type: dict
      contains:
        version:
          description: Protocol version.
          returned: always
          type: str
        cipher:
          description: Cipher suite.
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
        issuer:
          description: Who issued the certificate.
          returned: always
          type: str
        not_after:
          description: Until when the certificate is valid, in UTC (ISO 8601).
          returned: always
          type: str
        days_left:
          description: Whole days until then, negative if it has expired.
          returned: always
          type: int
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
        mechanism:
          description: The mechanism that was tried, V(null) if none was.
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
      ok: false
      diagnosis:
        code: auth_bad_credentials
        stage: auth
        summary: "smtp.example.net:465 refuses the user name or password: 535 5.7.8 Error: authentication failed."
        evidence: ["reply to AUTH PLAIN: 535 5.7.8 Error: authentication failed"]
        remedy: >-
          Check both (many providers want the full mail address as user name, and an app password). It was tried once only, so as not to
          lock the account.
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
        issuer: "C=XX, O=Example Trust, CN=Example CA 1"
        not_after: "2027-01-31T23:59:59Z"
        days_left: 69
        error: null
      capabilities:
        before_tls: null
        after_tls: [SIZE 52428800, AUTH PLAIN LOGIN]
      auth:
        offered: [PLAIN, LOGIN]
        tried: true
        mechanism: PLAIN
        code: 535
        enhanced_code: "5.7.8"
        text: "Error: authentication failed"
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

import re
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.outpost.smtp.plugins.module_utils._module import DiscreetModule
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.probe import probe_all
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import RelayError, normalise_relays

MAX_TIMEOUT = 3600
_EHLO_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,253}[A-Za-z0-9])?|\[[0-9A-Za-z:.]{2,60}\]")


def run(module: AnsibleModule) -> None:
    """Test the relays and exit; raises RelayError and nothing else."""
    relays = normalise_relays(module.params["relays"], "relays")
    ehlo_name = module.params["ehlo_name"]
    if not 0 < module.params["timeout"] <= MAX_TIMEOUT:
        raise RelayError("timeout", f"must be more than 0 and at most {MAX_TIMEOUT} seconds")
    if ehlo_name is not None and not _EHLO_NAME.fullmatch(ehlo_name):
        raise RelayError("ehlo_name", "must be a host name or an address in brackets (RFC 5321 section 4.1.1.1)")

    results = probe_all(relays, module.params["timeout"], ehlo_name)
    failed = [result for result in results if not result["ok"]]
    facts: t.Dict[str, t.Any] = {"ok": not failed, "diagnosis": failed[0]["diagnosis"] if failed else None, "results": results}
    if failed and module.params["on_failure"] == "fail":
        module.fail_json(msg=_message(failed, len(results)), **facts)
    module.exit_json(changed=False, **facts)


def _message(failed: t.List[t.Dict[str, t.Any]], tested: int) -> str:
    diagnosis = failed[0]["diagnosis"]
    count = f"{len(failed)} of {tested} relays failed, first: " if tested > 1 else ""
    return f"{count}{diagnosis['summary']} {diagnosis['remedy']} [{diagnosis['code']}]"


def main() -> None:
    module = DiscreetModule(
        argument_spec={
            "relays": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str"},
                    "host": {"type": "str", "required": True},
                    "port": {"type": "int"},
                    "tls": {"type": "str", "choices": ["implicit", "starttls", "none"]},
                    "username": {"type": "str"},
                    "password": {"type": "str", "no_log": True},
                    "mechanism": {"type": "str", "choices": ["auto", "plain", "login"], "default": "auto"},
                    "ca_file": {"type": "str"},
                },
            },
            "timeout": {"type": "float", "default": 30.0},
            "ehlo_name": {"type": "str"},
            "on_failure": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
        },
        supports_check_mode=True,
    )
    try:
        run(module)
    except RelayError as exc:
        module.fail_json(msg=str(exc), ok=False, diagnosis=None)
    except Exception as exc:
        # Only the type: the text of an unexpected exception might quote a secret.
        module.fail_json(msg=f"internal error: {type(exc).__name__}; please report it", ok=False, diagnosis=None)


if __name__ == "__main__":
    main()
