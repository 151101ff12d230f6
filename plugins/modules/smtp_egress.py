#!/usr/bin/python
# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: smtp_egress
short_description: Load, compare and remove outbound mail rules in an nftables table of their own
version_added: "0.1.0"
author: outpost.smtp contributors (@outpost-smtp)
description:
  - Loads a rule set for outbound mail as nftables table C(inet outpost_smtp), makes it last over reboots and over
    reloads of C(nftables.service), and compares by content, so a second run changes nothing and keeps the counters.
  - Only that table, C(/etc/outpost-smtp), C(/var/lib/outpost-smtp), the unit C(outpost-smtp-egress.service) and a
    drop-in for C(nftables.service) are ever written. Rules of others are read, never changed and never flushed.
  - A rule in a table of its own can close a way but never open one that another table closes. Where a foreign output
    chain drops or rejects mail to a relay, the module changes nothing and fails, naming the chain and what to add.
    Where the rules alone do not tell, one SYN packet per address, sent as O(user) after the load, does.
  - The role P(outpost.smtp.smtp_egress#role) holds the rule set and is the usual way to call this module.
extends_documentation_fragment:
  - outpost.smtp.attributes
attributes:
  check_mode:
    support: full
    details:
      - Where C(nft) or O(user) is missing, as on a host that is not set up yet, the change is predicted all the same.
      - The proving SYN packet is not sent.
  diff_mode:
    support: full
  idempotent:
    support: full
requirements:
  - nft 0.9.3 or newer (package C(nftables)), Linux 4.18 or newer
options:
  state:
    description:
      - V(present) loads the rules, V(absent) removes everything that this module made.
    type: str
    choices: [present, absent]
    default: present
  relays:
    description:
      - Where mail goes. The names are resolved on the host, both address families, to numeric rules.
      - A query that fails leaves the addresses of the last good answer in force. A relay that has never been resolved
        is an error, and nothing is changed.
      - Required with O(state=present).
    type: list
    elements: dict
    suboptions:
      name:
        description: The label of the relay in RV(addresses).
        type: str
      host:
        description:
          - Name or address of the relay, or the name of SRV records, C(_submission._tcp.DOMAIN) or C(_submissions._tcp.DOMAIN). These stand for
            all servers that they name at port 587 or 465.
        type: str
        required: true
      port:
        description: Its TCP port.
        type: int
        required: true
  user:
    description: The user whose processes send the mail, C(@uid:user@) in O(ruleset).
    type: str
    default: postfix
  exempt_users:
    description: Users to whom the restriction does not apply, C(@uid:exempt_users@) in O(ruleset).
    type: list
    elements: str
    default: []
  ruleset:
    description:
      - The nftables file, with placeholders that are filled in on the host.
        C(@ipv4:HOST@) and C(@ipv6:HOST@) become the addresses of a relay as an anonymous set,
        C(@uid:user@) a user id and C(@uid:exempt_users@) a set of them. A line whose set is empty is left out.
      - It must add, delete and add table C(inet outpost_smtp), hold the empty chain C(managed_by_outpost_smtp), and
        nothing outside the table. Words such as C(drop), C(flush) and C(include) are refused.
      - Named counters C(accepted) and C(refused) are returned as RV(counters). Count what reaches a relay as C(accepted)
        in an output chain behind those of others, since the proving SYN packet is looked for there.
      - Required with O(state=present).
    type: str
  packages_missing:
    description:
      - What to do when the C(nft) command is missing. V(report) changes nothing and returns RV(missing_packages), so
        that the caller can install the package and call again.
      - In check mode V(fail) does not fail; the result is what it would be once the package is installed.
    type: str
    choices: [fail, report]
    default: fail
seealso:
  - name: nft manual page
    description: The language of the rule set.
    link: https://www.netfilter.org/projects/nftables/manpage.html
"""

EXAMPLES = r"""
- name: Count connections to the relay, whoever makes them
  outpost.smtp.smtp_egress:
    relays:
      - host: smtp.example.net
        port: 465
    ruleset: |
      table inet outpost_smtp
      delete table inet outpost_smtp
      table inet outpost_smtp {
        counter accepted {
        }
        chain managed_by_outpost_smtp {
        }
        chain output {
          type filter hook output priority 60; policy accept;
          tcp flags & (fin | syn | rst | ack) == syn ip daddr @ipv4:smtp.example.net@ tcp dport 465 counter name "accepted" accept
          tcp flags & (fin | syn | rst | ack) == syn ip6 daddr @ipv6:smtp.example.net@ tcp dport 465 counter name "accepted" accept
        }
      }

- name: Remove the rules
  outpost.smtp.smtp_egress:
    state: absent
"""

RETURN = r"""
manager:
  description:
    - Who keeps the firewall of the host, V(nftables), V(firewalld), V(ufw) or V(iptables), told by its loaded chains.
    - Our own table works beside each of them. Opening a way through any of them is left to the administrator.
  returned: success and O(state=present), unless RV(missing_packages) is all that is returned
  type: str
  sample: nftables
rules:
  description: The rules with addresses and user ids filled in, one string each, as C(CHAIN), a colon and the rule.
  returned: success and O(state=present), unless RV(missing_packages) is all that is returned
  type: list
  elements: str
  sample: ['smtp: ip daddr { 192.0.2.10 } tcp dport 465 counter name "accepted" accept']
addresses:
  description: The relays and what their names stand for.
  returned: success and O(state=present), unless RV(missing_packages) is all that is returned
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
    ipv4:
      description: Its IPv4 addresses.
      type: list
      elements: str
    ipv6:
      description: Its IPv6 addresses.
      type: list
      elements: str
    source:
      description:
        - V(dns) for a fresh answer, V(last_good) for addresses of an earlier run because the host can not resolve the
          name now, V(literal) where the host is an address.
      type: str
  sample:
    - name: primary
      host: smtp.example.net
      port: 465
      ipv4: ["192.0.2.10"]
      ipv6: ["2001:db8::10"]
      source: dns
counters:
  description: Connection attempts since the rules were loaded, repeated SYN packets included.
  returned: success and O(state=present), unless RV(missing_packages) is all that is returned
  type: dict
  contains:
    accepted:
      description: Attempts to reach a relay that were let out.
      type: int
    refused:
      description: Attempts that were refused.
      type: int
  sample: {"accepted": 12, "refused": 0}
blocking_chains:
  description: Foreign chains that stop mail to a relay, or may. Empty when every address is open.
  returned: success and O(state=present), unless RV(missing_packages) is all that is returned; and when such a chain is the reason of the failure
  type: list
  elements: dict
  contains:
    chain:
      description: Family, table and chain.
      type: str
    manager:
      description: Who keeps that chain, as in RV(manager).
      type: str
    certain:
      description:
        - Whether it stops the connection for certain. V(false) where its rules alone do not tell and no packet can, as
          in check mode, where none is sent, and for a chain behind our own, which sees it after it has been counted.
      type: bool
    why:
      description: The policy or the rule that stops the connection.
      type: str
    destinations:
      description: The addresses and ports that are stopped.
      type: list
      elements: str
    remedy:
      description: The lines to add to the chain or, where a manager keeps it, the commands to run.
      type: list
      elements: str
  sample:
    - chain: inet filter output
      manager: nftables
      certain: true
      why: policy drop
      destinations: ["192.0.2.10 port 465"]
      remedy: ["ip daddr { 192.0.2.10 } tcp dport 465 accept"]
persistent:
  description: Whether the rules are loaded again at boot. V(false) where there is no systemd.
  returned: success and O(state=present), unless RV(missing_packages) is all that is returned
  type: bool
  sample: true
missing_packages:
  description: Packages to install before the rules can be loaded.
  returned: O(state=present)
  type: list
  elements: str
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.outpost.smtp.plugins.module_utils._egress import nft
from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import Relay
from ansible_collections.outpost.smtp.plugins.module_utils._egress.egress import Egress, Request
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.systemd import Systemd
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import RelayError, normalise_relays

ARGUMENT_SPEC = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "relays": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str"},
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
        },
    },
    "user": {"type": "str", "default": "postfix"},
    "exempt_users": {"type": "list", "elements": "str", "default": []},
    "ruleset": {"type": "str"},
    "packages_missing": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
}


def request(params: t.Mapping[str, t.Any]) -> Request:
    """The wanted rules from the module's options. Raises RelayError naming a wrong field."""
    relays = [
        Relay(relay["name"], relay["host"], relay["port"]) for relay in normalise_relays(params["relays"], "relays")
    ]
    return Request(relays, params["user"], params["exempt_users"], params["ruleset"])


def run(module: AnsibleModule) -> t.Dict[str, t.Any]:
    def execute(arguments: t.Sequence[str], text: str) -> t.Tuple[int, str, str]:
        return module.run_command(list(arguments), data=text, binary_data=True, environ_update={"LC_ALL": "C"})

    command = nft.find()
    egress = Egress(nft.Nft(command, execute) if command else None, Systemd(execute), check_mode=module.check_mode)
    if module.params["state"] == "absent":
        return egress.absent()
    return egress.present(request(module.params), report_missing=module.params["packages_missing"] == "report")


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC, required_if=[("state", "present", ["relays", "ruleset"])], supports_check_mode=True
    )
    try:
        result = run(module)
    except EgressError as error:
        module.fail_json(msg=str(error), **error.facts)
    except RelayError as error:
        module.fail_json(msg=str(error))
    except Exception as error:  # a person gets a sentence, never a traceback
        module.fail_json(msg=f"unexpected {type(error).__name__}: {error}; please report this as a bug")
    for entry in result.get("blocking_chains", []):
        module.warn(
            f"chain '{entry['chain']}' may stop mail to {', '.join(entry['destinations'])}; its rules alone do not tell"
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
