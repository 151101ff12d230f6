# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: postfix_transports
author: outpost.smtp contributors (@outpost-smtp)
version_added: "0.1.0"
short_description: Postfix settings that follow from relays
description:
  - Makes of a list of relays the transports that Postfix needs for it, and tells which mail goes by which of them.
  - The order of the relays is their failover order. Relays that agree in everything but host, port and credential are one transport with a
    list of next hops. Where the next relay differs, V(587) after V(465) for instance, another transport follows.
  - What Postfix can not do ends the play with a message that names the relay and the field, before a host is touched.
options:
  _input:
    description: Relays as P(outpost.smtp.relays#filter) returns them.
    type: list
    elements: dict
    required: true
  variable:
    description: What the user calls the list; messages start with it.
    type: str
    default: outpost_smtp_relays
"""

EXAMPLES = r"""
- name: Show the transports
  ansible.builtin.debug:
    msg: "{{ (outpost_smtp_relays | outpost.smtp.relays | outpost.smtp.postfix_transports).transports | map(attribute='service') }}"
"""

RETURN = r"""
_value:
  description:
    - C(transports), a list with the settings of each. C(service) is its name in C(master.cf) and what the names of its parameters start
      with, C(relays) are the names of its relays, C(table) is the name of its table of credentials.
    - C(failovers), a list of the servers on the loopback that lead from one transport to the next.
    - C(default_transport), and C(senders), a list of C(sender) and C(transport).
    - C(secret_tables), C(secret_sources), C(sasl_mechanisms) and C(ca_files), as module M(outpost.smtp.postfix_config) takes them.
  type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transports import transports
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import RelayError


def postfix_transports(value: t.Any, variable: str = "outpost_smtp_relays") -> t.Dict[str, t.Any]:
    """Return the Postfix settings of relays. Raises AnsibleFilterError naming the entry and the field."""
    try:
        return transports(value, variable)
    except RelayError as error:
        raise AnsibleFilterError(str(error)) from None  # without a cause, which would be shown with its source text


class FilterModule:
    def filters(self) -> t.Dict[str, t.Callable[..., t.Any]]:
        return {"postfix_transports": postfix_transports}
