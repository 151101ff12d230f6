# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: relays
author: outpost.smtp contributors (@outpost-smtp)
version_added: "0.1.0"
short_description: Check and complete a list of SMTP relays
description:
  - Checks every entry of a list of relays as the roles of this collection take it, and returns the list with every
    field filled in.
  - The first wrong field ends the play with a message that names the entry and the field, before a host is touched.
    Passwords are never part of a message.
options:
  _input:
    description:
      - The relays. Each has C(host). All other fields are in the README of role P(outpost.smtp.postfix_relay#role).
    type: list
    elements: dict
    required: true
  variable:
    description: What the user calls the list; messages start with it.
    type: str
    default: outpost_smtp_relays
"""

EXAMPLES = r"""
- name: Show which port and TLS mode follow from a short entry
  ansible.builtin.debug:
    msg: "{{ [{'host': 'smtp.example.net', 'port': 465}] | outpost.smtp.relays }}"
"""

RETURN = r"""
_value:
  description: The same relays, each with all fields. What was not given and does not follow from another field is null or empty.
  type: list
  elements: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import RelayError, normalise_relays


def relays(value: t.Any, variable: str = "outpost_smtp_relays") -> t.List[t.Dict[str, t.Any]]:
    """Return `value` checked and completed. Raises AnsibleFilterError naming the entry and the field."""
    try:
        return normalise_relays(value, variable)
    except RelayError as error:
        # The cause is left out: since ansible-core 2.19 it would be shown with the source text around the value.
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    def filters(self) -> t.Dict[str, t.Callable[..., t.Any]]:
        return {"relays": relays}
