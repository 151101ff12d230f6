# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: postfix_tables
author: outpost.smtp contributors (@outpost-smtp)
version_added: "0.2.0"
short_description: Postfix lookup tables that follow from relays, aliases and rewritten senders
description:
  - Writes the lookup tables without secrets that belong to relays, as module M(outpost.smtp.postfix_config) takes them.
positional: aliases, senders
options:
  _input:
    description: What P(outpost.smtp.postfix_transports#filter) returns.
    type: dict
    required: true
  aliases:
    description: What P(outpost.smtp.postfix_aliases#filter) returns.
    type: list
    elements: dict
    required: true
  senders:
    description: What P(outpost.smtp.postfix_sender_rewrite#filter) returns.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the tables
  vars:
    transports: "{{ outpost_smtp_relays | outpost.smtp.relays | outpost.smtp.postfix_transports }}"
    aliases: "{{ {'root': 'ops@example.com'} | outpost.smtp.postfix_aliases }}"
    senders: "{{ [{'from': '*', 'to': 'alerts@example.com'}] | outpost.smtp.postfix_sender_rewrite }}"
  ansible.builtin.debug:
    msg: "{{ transports | outpost.smtp.postfix_tables(aliases, senders) }}"
"""

RETURN = r"""
_value:
  description:
    - The text of C(virtual_alias), C(sender_canonical), C(sender_default), C(sender_transport) and C(tls_policy); empty for a table
      that nothing is in. C(sender_default) is of type C(regexp).
  type: dict
"""

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.relay_tables import relay_tables


class FilterModule:
    def filters(self) -> t.Dict[str, t.Callable[..., t.Any]]:
        return {"postfix_tables": relay_tables}
