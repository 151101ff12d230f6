#!/usr/bin/python
# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: smtp_egress_info
short_description: Tells which outbound mail rules a host has, who was refused by them, and what stops mail to a relay
version_added: "0.2.0"
author: outpost.smtp contributors (@outpost-smtp)
description:
  - Reads what M(outpost.smtp.smtp_egress) has made on the host and what it counted, who keeps the firewall of the host, and whom the
    kernel's log names as refused.
  - For each of O(relays) it tries to connect, and names what is in the way in RV(relays[].blocked_by).
  - Changes nothing, says nothing to the relays, and sends no mail. A connection that is refused by the rules is counted by them, as any other.
  - Root sees everything. Another user is told what that user may read, with the rest in RV(unreadable).
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
      - The relays to try, each at all of its addresses. None are tried where it is not set.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The label of the relay in RV(relays).
        type: str
      host:
        description: Name or address of the relay.
        type: str
        required: true
      port:
        description: Its TCP port.
        type: int
        required: true
  user:
    description:
      - The user as whom the relays are tried, the one whose processes send the mail. Only root can be another user; everybody else tries as
        himself.
    type: str
    default: postfix
  timeout:
    description: Seconds that the relays, all tried at the same time, have for their answer. It takes longer to find out why there was none.
    type: float
    default: 5
seealso:
  - module: outpost.smtp.smtp_egress
  - module: outpost.smtp.smtp_auth_info
    description: Tests TLS and the login, too.
"""

EXAMPLES = r"""
- name: See what stops mail to the relay
  outpost.smtp.smtp_egress_info:
    relays:
      - host: smtp.example.net
        port: 587
  register: egress

- name: Say it
  ansible.builtin.assert:
    that: egress.relays[0].blocked_by is none
    fail_msg: "{{ egress.relays[0].blocked_by.detail }}. {{ egress.relays[0].blocked_by.remedy }}"

- name: See who tried to send past the mail server
  outpost.smtp.smtp_egress_info:
  register: egress
  failed_when: egress.refused | map(attribute='user') | difference(['nagios']) != []
"""

RETURN = r"""
loaded:
  description: Whether the rules of M(outpost.smtp.smtp_egress) are loaded. V(null) where this user may not ask.
  returned: always
  type: bool
  sample: true
in_force:
  description: Whether they are as they were loaded, so that nobody has changed them since. V(null) where this user may not ask.
  returned: always
  type: bool
  sample: true
persistent:
  description: Whether they are loaded again at boot.
  returned: always
  type: bool
  sample: true
manager:
  description:
    - Who keeps the firewall of the host, V(nftables), V(firewalld), V(ufw) or V(iptables). Of several, the one through which ways are open, else
      the first.
    - V(null) where this user may not ask.
  returned: always
  type: str
  sample: ufw
evidence:
  description: What shows that, by manager. Empty on a host without any rules.
  returned: always
  type: dict
  sample: {"ufw": "/etc/ufw/ufw.conf says ENABLED=yes"}
rules:
  description: The rules that are kept for the next boot, one string each, as C(CHAIN), a colon and the rule.
  returned: always
  type: list
  elements: str
  sample: ['smtp: ip daddr { 192.0.2.10 } tcp dport 465 meta skuid 101 counter name "accepted" accept']
counters:
  description: Connection attempts since the rules were loaded, by counter. Empty where none are loaded.
  returned: always
  type: dict
  sample: {"accepted": 12, "refused": 3}
opened:
  description: The ways out that are opened through the manager of the firewall.
  returned: always
  type: list
  elements: str
  sample: ["192.0.2.10 port 465"]
addresses:
  description: What the names of the relays stood for when the rules were made, by name and family.
  returned: always
  type: dict
  sample: {"smtp.example.net": {"ipv4": ["192.0.2.10"], "ipv6": []}}
refused:
  description:
    - Who was refused since the boot of the host, as far as the kernel's log has it. Who was refused last comes first.
    - The rules log at a limited rate, so this tells who, and RV(counters) how often.
  returned: always
  type: list
  elements: dict
  contains:
    uid:
      description: The user's id, V(null) where the log has none, as for a socket that was gone already.
      type: int
    user:
      description: The user's name, empty where there is none.
      type: str
    logged:
      description: Attempts in the log.
      type: int
    last:
      description: When the last one was, in UTC (ISO 8601). Empty where that is not known.
      type: str
    destinations:
      description: Where to, the last ones first, at most five.
      type: list
      elements: str
  sample:
    - uid: 33
      user: www-data
      logged: 4
      last: "2026-11-23T21:40:00Z"
      destinations: ["198.51.100.7 port 25"]
denials:
  description: What AppArmor or SELinux has denied Postfix, as far as the kernel's log since the boot, or the last of auditd's log, has it.
  returned: always
  type: list
  elements: dict
  contains:
    module:
      description: V(apparmor) or V(selinux).
      type: str
    detail:
      description: What was denied, and by which profile or to which domain.
      type: str
    remedy:
      description: What lets it pass.
      type: str
    last:
      description: When it was seen last, in UTC (ISO 8601). Empty where that is not known.
      type: str
  sample: []
apparmor_profiles:
  description: The profiles of AppArmor for programs of Postfix that are loaded, which only root may know. None are, as distributions ship it.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The profile.
      type: str
    mode:
      description: V(enforce) denies, V(complain) only logs.
      type: str
    remedy:
      description: How to allow what a relay needs, where it may be denied. Empty where nothing is.
      type: str
  sample: []
relays:
  description: What is in the way to each of O(relays).
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The label of the relay.
      type: str
    host:
      description: The host as given.
      type: str
    port:
      description: The port as given.
      type: int
    addresses:
      description: Its addresses, as the host resolves them, or did so the last time it could.
      type: list
      elements: str
    blocked_by:
      description: What stops the connection. V(null) where one of the addresses is reached, or none is known.
      type: dict
      contains:
        cause:
          description:
            - V(own_table) for the rules of M(outpost.smtp.smtp_egress), V(other_chain) for any other rule of the host's firewall,
              V(unit_sandbox) for limits of the unit that runs Postfix, which a test over SSH does not feel, V(route) for the routes of the host.
            - V(relay_refused) where the relay, or a firewall before it, refuses. V(provider_suspected) where nothing on the host is in the way and
              other ports of the relay answer, or the host runs in a cloud that is known to block this port. V(unknown) where nothing answers at all.
          type: str
        detail:
          description: What shows it.
          type: str
        remedy:
          description: What to do.
          type: str
  sample:
    - name: smtp.example.net
      host: smtp.example.net
      port: 587
      addresses: ["192.0.2.10"]
      blocked_by:
        cause: other_chain
        detail: "chain 'inet filter output' of nftables: its policy is drop"
        remedy: open TCP port 587 to the relay there; role smtp_egress does it through the manager of the firewall (smtp_egress_manager)
unreadable:
  description: What could not be read, or not be asked as O(user), and why.
  returned: always
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.outpost.smtp.plugins.module_utils._egress import command, request
from ansible_collections.outpost.smtp.plugins.module_utils._egress.overview import Overview
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import RelayError

ARGUMENT_SPEC = {
    "relays": {
        "type": "list",
        "elements": "dict",
        "options": request.RELAY_OPTIONS,
        "default": [],
    },
    "user": {"type": "str", "default": "postfix"},
    "timeout": {"type": "float", "default": 5},
}
MAX_TIMEOUT = 60


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    timeout = module.params["timeout"]
    if not 0 < timeout <= MAX_TIMEOUT:
        module.fail_json(msg=f"timeout must be more than 0 and at most {MAX_TIMEOUT} seconds, and is {timeout:g}")
    try:
        relays = request.relays(module.params["relays"], "relays") if module.params["relays"] else []
        facts = Overview(command.run).facts(relays, module.params["user"], timeout)
    except RelayError as error:
        module.fail_json(msg=str(error))
    except Exception as error:  # a person gets a sentence, never a traceback
        module.fail_json(msg=f"unexpected {type(error).__name__}: {error}; please report this as a bug")
    module.exit_json(changed=False, **facts)


if __name__ == "__main__":
    main()
