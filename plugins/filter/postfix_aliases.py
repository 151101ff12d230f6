# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: postfix_aliases
author: outpost.smtp contributors (@outpost-smtp)
version_added: "0.1.0"
short_description: Check aliases and make them entries of a Postfix table
description:
  - Checks a dictionary of aliases for Postfix's C(virtual_alias_maps). The first wrong entry ends the play with a message
    that names it, before a host is touched.
options:
  _input:
    description: An address, or a list of addresses, by alias. An alias is a local name or a full address.
    type: dict
    required: true
  variable:
    description: What the user calls the dictionary; messages start with it.
    type: str
    default: postfix_relay_aliases
"""

EXAMPLES = r"""
- name: Show the entries
  ansible.builtin.debug:
    msg: "{{ {'root': ['admin@example.com', 'oncall@example.com']} | outpost.smtp.postfix_aliases }}"
"""

RETURN = r"""
_value:
  description: One dictionary per alias, with C(name) and C(targets), the addresses separated by commas.
  type: list
  elements: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.addresses import AddressError, normalise_aliases


def postfix_aliases(value: t.Any, variable: str = "postfix_relay_aliases") -> t.List[t.Dict[str, str]]:
    """Return the aliases as entries of a table. Raises AnsibleFilterError naming the entry."""
    try:
        return normalise_aliases(value, variable)
    except AddressError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    def filters(self) -> t.Dict[str, t.Callable[..., t.Any]]:
        return {"postfix_aliases": postfix_aliases}
