#!/usr/bin/python
# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: smtp_egress
short_description: Let mail out to the relays and nowhere else, on every firewall
version_added: "0.1.0"
author: outpost.smtp contributors (@outpost-smtp)
description:
  - Loads a rule set for outbound mail as nftables table C(inet outpost_smtp), and opens the way to the relays through the manager of the
    host's firewall where its rules stop mail, or may. Both last over reboots and over reloads and restarts of the manager.
  - A rule in a table of its own can close a way but never open one that another table closes. So the table closes and counts, and the active
    manager (firewalld, ufw, iptables, or a hand-written nftables chain) opens, one address and port at a time.
  - Compares by content, so a second run changes nothing and keeps the counters. The rules are replaced in one transaction.
  - Rules of others are never changed and never flushed, and no manager is enabled, started or, but for the first policy of firewalld, reloaded.
  - A change is proved by packets. O(user) must reach each relay at one of its addresses and, where the rules keep others in, another user
    must be refused and counted. Where that fails, and where nobody confirms a change in O(rollback_timeout) seconds, the host goes back to
    its former rules.
  - Where SELinux enforces a policy that keeps Postfix from the port of a relay, which no distribution's does, and nobody else claims the port,
    it gets the label of a mail port (C(semanage port)).
  - The role P(outpost.smtp.smtp_egress#role) holds the rule set, and is the usual way to call this module.
extends_documentation_fragment:
  - outpost.smtp.attributes
attributes:
  check_mode:
    support: full
    details:
      - Where C(nft) or O(user) is missing, as on a host that is not set up yet, the change is predicted all the same.
      - No packet is sent.
  diff_mode:
    support: full
  idempotent:
    support: full
  action:
    description: Has a corresponding action plugin, so that some parts of the options can be executed on the controller.
    support: full
  async:
    description: Can be used with the C(async) keyword.
    support: none
    details:
      - The confirmation of a change is part of the task.
requirements:
  - nft 0.9.3 or newer (package C(nftables)), Linux 4.18 or newer
  - firewalld 0.9 or newer, where that is the manager
options:
  state:
    description:
      - V(present) loads and opens, V(absent) removes everything that this module made.
      - V(confirmed) lets a change stand that waits for it, see O(rollback_timeout). It fails where that has been taken back meanwhile.
        Ansible confirms each change by itself, within the same task and through a new connection.
    type: str
    choices: [present, absent, confirmed]
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
  destinations:
    description:
      - Where the ports of the relays are opened. V(relays) for the relays' own addresses, V(any) for any address, or a list of addresses
        and networks.
      - Networks fill C(@networks:ipv4@) and C(@networks:ipv6@) in O(ruleset).
    type: raw
    default: relays
    version_added: "0.2.0"
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
        C(@networks:ipv4@) and C(@networks:ipv6@) the networks of O(destinations),
        C(@uid:user@) a user id and C(@uid:exempt_users@) a set of them. A line whose set is empty is left out.
      - It must add, delete and add table C(inet outpost_smtp), hold the empty chain C(managed_by_outpost_smtp), and
        nothing outside the table. Words such as C(drop), C(flush) and C(include) are refused.
      - Named counters C(accepted), C(refused) and C(refused_forwarded) are returned as RV(counters). Count what reaches a relay as C(accepted)
        in an output chain behind those of others, since packets that prove a way are looked for there. Refuse in one before them, or what
        they drop is not refused.
      - A rule set with C(@uid:user@) and C(reject) is taken to keep all users but O(user) and O(exempt_users) from the ports 25, 465 and 587.
      - Required with O(state=present).
    type: str
  manager:
    description:
      - Through whom ways are opened. V(auto) is the manager that is active, of several the one whose rules stop mail; where those of more than one
        do, the module fails and names them.
      - With V(none) nothing is opened. Where a chain stops mail, the module then changes nothing and fails, naming the chain and what to add.
    type: str
    choices: [auto, none, nftables, firewalld, ufw, iptables]
    default: auto
    version_added: "0.2.0"
  refresh:
    description:
      - Seconds between two looks at the relays' addresses, by a timer of systemd. V(0) for none.
      - It is set up where a relay is a name and O(destinations=relays). An address that is no longer in the answer stays in force for as long as
        others may keep the old answer, its time to live, but for 300 seconds at least and 86400 at most. A failed or empty answer changes nothing.
    type: int
    default: 0
    version_added: "0.2.0"
  proof_timeout:
    description: Seconds for the proof by packets. V(0) for no proof, as where no relay can be reached yet.
    type: int
    default: 10
    version_added: "0.2.0"
  rollback_timeout:
    description:
      - Seconds after which a change goes back by itself unless it is confirmed, as it can not be from a controller that it has shut out.
        A reboot meanwhile takes the change back, too.
      - V(0) lets a change stand as soon as it is proved. Until then it is guarded by the same timer, so that a run that is killed leaves
        the former rules.
    type: int
    default: 60
    version_added: "0.2.0"
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
  description: Through whom ways are opened, as O(manager) names it or as it was found. V(none) where none are to be.
  returned: success and O(state=present), unless RV(missing_packages) is all that is returned
  type: str
  sample: nftables
evidence:
  description: What shows that this is the manager, by manager; empty on a host without any rules.
  returned: success and O(state=present), unless RV(missing_packages) is all that is returned
  type: dict
  version_added: "0.2.0"
  sample: {"ufw": "/etc/ufw/ufw.conf says ENABLED=yes"}
opened:
  description: The ways that are open through the manager because of this module. Empty where its rules let mail out anyway.
  returned: success and O(state=present), unless RV(missing_packages) is all that is returned
  type: list
  version_added: "0.2.0"
  elements: str
  sample: ["192.0.2.10 port 465", "2001:db8::10 port 465"]
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
    leaving:
      description: Those of the addresses that are no longer in the answer, and stay for a while.
      type: list
      elements: str
    source:
      description:
        - V(dns) for a fresh answer, V(last_good) for addresses of an earlier run because the host can not resolve the
          name now, V(literal) where the host is an address, V(unknown) where none is known and none is needed.
      type: str
  sample:
    - name: primary
      host: smtp.example.net
      port: 465
      ipv4: ["192.0.2.10"]
      ipv6: ["2001:db8::10"]
      leaving: []
      source: dns
counters:
  description: Connection attempts since the rules were loaded first, repeated SYN packets included. Those that a rule set does not have are 0.
  returned: success and O(state=present), unless RV(missing_packages) is all that is returned
  type: dict
  contains:
    accepted:
      description: Attempts to reach a relay that were let out.
      type: int
    refused:
      description: Attempts that were refused.
      type: int
    refused_forwarded:
      description: Attempts of containers and virtual machines that were refused.
      type: int
  sample: {"accepted": 12, "refused": 0, "refused_forwarded": 0}
blocking_chains:
  description: Foreign chains that stop mail to a relay, or may, and through which no way is opened. Empty when every address is open.
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
proof:
  description: What became of connections after a change, by address and port. Empty where nothing was changed, and with O(proof_timeout=0).
  returned: success and O(state=present), unless RV(missing_packages) is all that is returned; and when it is the reason of the failure
  type: list
  version_added: "0.2.0"
  elements: dict
  contains:
    address:
      description: The address of a relay.
      type: str
    port:
      description: Its port.
      type: int
    version:
      description: V(4) or V(6).
      type: int
    mta:
      description:
        - V(reached) when O(user) could connect, V(no_route) when nothing was tried, otherwise what the attempt came to, such as V(refused) or
          V(timeout).
      type: str
    mta_ms:
      description: Milliseconds that this took.
      type: int
    others:
      description: The same for another user; empty where others are not kept in.
      type: str
    others_ms:
      description: Milliseconds that this took.
      type: int
    counted:
      description: Whether our table counted the other user's attempt as refused; none where there was none.
      type: bool
    ok:
      description: Whether all is as it is meant to be.
      type: bool
  sample:
    - address: 192.0.2.10
      port: 465
      version: 4
      mta: reached
      mta_ms: 12
      others: refused
      others_ms: 0
      counted: true
      ok: true
blocked_by:
  description: What keeps mail from the relay; none where that is not the reason of the failure.
  returned: when the proof fails
  type: dict
  version_added: "0.2.0"
  contains:
    cause:
      description:
        - V(own_table), V(other_chain), V(unit_sandbox), V(route), V(provider_suspected), V(relay_refused) or V(unknown).
      type: str
    detail:
      description: What shows it.
      type: str
    remedy:
      description: What to do.
      type: str
  sample:
    cause: other_chain
    detail: "rule 'tcp dport 587 drop' (handle 4) in chain 'inet filter output' of nftables"
    remedy: open TCP port 587 to the relay there
rollback:
  description: Whether the change waits for its confirmation, and for how many seconds. Ansible has confirmed it when the task ends.
  returned: success and O(state=present), unless RV(missing_packages) is all that is returned
  type: dict
  version_added: "0.2.0"
  contains:
    armed:
      description: Whether it waits.
      type: bool
    seconds:
      description: Seconds until it goes back.
      type: int
  sample: {"armed": false, "seconds": 0}
rolled_back:
  description:
    - The change of an earlier run that was taken back by itself, told once; with a failure, that of this run. None where there is no such change.
  returned: O(state=present), unless RV(missing_packages) is all that is returned
  type: dict
  version_added: "0.2.0"
  contains:
    at:
      description: When, in UTC.
      type: str
    why:
      description: Why.
      type: str
  sample: {"at": "2026-11-23T12:00:00Z", "why": "nobody confirmed it in time, or the host was restarted before"}
confirmed:
  description: Whether there was a change that waited, and stands now.
  returned: success, when something was changed with O(rollback_timeout), and O(state=confirmed)
  type: bool
  version_added: "0.2.0"
  sample: true
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

from ansible_collections.outpost.smtp.plugins.module_utils._egress import nft, program, request
from ansible_collections.outpost.smtp.plugins.module_utils._egress.egress import Egress
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.request import Request, Terms
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import RelayError

ARGUMENT_SPEC = {
    "state": {"type": "str", "choices": ["present", "absent", "confirmed"], "default": "present"},
    "relays": {
        "type": "list",
        "elements": "dict",
        "options": request.RELAY_OPTIONS,
    },
    "destinations": {"type": "raw", "default": "relays"},
    "user": {"type": "str", "default": "postfix"},
    "exempt_users": {"type": "list", "elements": "str", "default": []},
    "ruleset": {"type": "str"},
    "manager": {"type": "str", "choices": ["auto", "none", "nftables", "firewalld", "ufw", "iptables"], "default": "auto"},
    "refresh": {"type": "int", "default": 0},
    "proof_timeout": {"type": "int", "default": 10},
    "rollback_timeout": {"type": "int", "default": 60},
    "packages_missing": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
}
#: Options that are seconds, with the least and the most that make sense; 0 always means none.
SECONDS = {"refresh": (10, 86400), "proof_timeout": (1, 300), "rollback_timeout": (5, 3600)}


def wanted(params: t.Mapping[str, t.Any]) -> Request:
    """The wanted rules from the module's options. Raises RelayError or EgressError naming a wrong field."""
    return Request(
        request.relays(params["relays"], "relays"),
        params["user"],
        params["exempt_users"],
        params["ruleset"],
        params["manager"],
        request.destinations(params["destinations"]),
    )


def terms(params: t.Mapping[str, t.Any]) -> Terms:
    """How to go about it. Raises EgressError naming an option that is out of its range."""
    for name, (least, most) in SECONDS.items():
        if params[name] != 0 and not least <= params[name] <= most:
            raise EgressError(f"{name} must be 0, or from {least} to {most} seconds, and is {params[name]}")
    return Terms(params["refresh"], params["proof_timeout"], params["rollback_timeout"])


def run(module: AnsibleModule) -> t.Dict[str, t.Any]:
    def execute(arguments: t.Sequence[str], text: str) -> t.Tuple[int, str, str]:
        return module.run_command(list(arguments), data=text, binary_data=True, environ_update={"LC_ALL": "C"})

    command = nft.find()
    egress = Egress(
        nft.Nft(command, execute) if command else None, execute, check_mode=module.check_mode, entry=program.__name__
    )
    if module.params["state"] == "absent":
        return egress.absent()
    if module.params["state"] == "confirmed":
        return egress.confirmed()
    return egress.present(
        wanted(module.params), terms(module.params), report_missing=module.params["packages_missing"] == "report"
    )


def warn(module: AnsibleModule, result: t.Mapping[str, t.Any]) -> None:
    """Say what a person should know of a run that did not fail."""
    for entry in result.get("blocking_chains", []):
        module.warn(
            f"chain '{entry['chain']}' may stop mail to {', '.join(entry['destinations'])}; its rules alone do not tell"
        )
    for entry in result.get("proof", []):
        if not entry["ok"]:
            module.warn(f"{entry['address']} port {entry['port']} is not reached by the mail server's user: {entry['mta']}")
    if result.get("rolled_back"):
        note = result["rolled_back"]
        module.warn(f"the change before this one was taken back at {note['at']}: {note['why']}")


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
    warn(module, result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
