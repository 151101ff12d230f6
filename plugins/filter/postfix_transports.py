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
  - Adds to every relay what Postfix needs for it. These are C(service) (its transport in master.cf), C(prefix) (what the names of its
    parameters start with), C(nexthop), C(wrappermode), C(security_level), C(sasl) and C(mechanisms).
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
    msg: "{{ outpost_smtp_relays | outpost.smtp.relays | outpost.smtp.postfix_transports | map(attribute='service') }}"
"""

RETURN = r"""
_value:
  description: The same relays with these fields added.
  type: list
  elements: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transports import transports
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import RelayError


def postfix_transports(value: t.Any, variable: str = "outpost_smtp_relays") -> t.List[t.Dict[str, t.Any]]:
    """Return the relays with their Postfix settings. Raises AnsibleFilterError naming the entry and the field."""
    try:
        return transports(value, variable)
    except RelayError as error:
        raise AnsibleFilterError(str(error)) from None  # without a cause, which would be shown with its source text


class FilterModule:
    def filters(self) -> t.Dict[str, t.Callable[..., t.Any]]:
        return {"postfix_transports": postfix_transports}
