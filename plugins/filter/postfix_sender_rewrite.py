# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: postfix_sender_rewrite
author: outpost.smtp contributors (@outpost-smtp)
version_added: "0.1.0"
short_description: Check rules that rewrite sender addresses
description:
  - Checks a list of rules for Postfix's C(sender_canonical_maps). The first wrong rule ends the play with a message that
    names it and the field, before a host is touched.
options:
  _input:
    description:
      - Rules with C(from) (a local name, an address, C(@domain), or C(*) for every sender) and C(to) (an address).
    type: list
    elements: dict
    required: true
  variable:
    description: What the user calls the list; messages start with it.
    type: str
    default: postfix_relay_sender_rewrite
"""

EXAMPLES = r"""
- name: Show the rules
  ansible.builtin.debug:
    msg: "{{ [{'from': '*', 'to': 'alerts@example.com'}] | outpost.smtp.postfix_sender_rewrite }}"
"""

RETURN = r"""
_value:
  description:
    - A dictionary. C(rules) are the rules but that for C(*). C(everybody) is the address of that one, or null. C(others) is a
      regular expression for the senders that it is not for.
  type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.addresses import AddressError, normalise_sender_rewrite


def postfix_sender_rewrite(value: t.Any, variable: str = "postfix_relay_sender_rewrite") -> t.Dict[str, t.Any]:
    """Return the rules, checked. Raises AnsibleFilterError naming the rule and the field."""
    try:
        return normalise_sender_rewrite(value, variable)
    except AddressError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    def filters(self) -> t.Dict[str, t.Callable[..., t.Any]]:
        return {"postfix_sender_rewrite": postfix_sender_rewrite}
