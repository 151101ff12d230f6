# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: egress_destinations
author: outpost.smtp contributors (@outpost-smtp)
version_added: "0.2.0"
short_description: Where the mail of relays goes
description:
  - Makes of a list of relays what module M(outpost.smtp.smtp_egress) needs of it, which is nothing secret.
  - Relays at the same host and port are one entry, with the name of the first. The host of a relay with C(srv) is the name of its SRV
    records, such as C(_submission._tcp.example.com).
options:
  _input:
    description: Relays as P(outpost.smtp.relays#filter) returns them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the destinations
  ansible.builtin.debug:
    msg: "{{ outpost_smtp_relays | outpost.smtp.relays | outpost.smtp.egress_destinations }}"
"""

RETURN = r"""
_value:
  description: Dictionaries with C(name), C(host) and C(port).
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import destinations


def egress_destinations(value: t.Sequence[t.Mapping[str, t.Any]]) -> t.List[t.Dict[str, t.Any]]:
    """Return name, host and port of each destination."""
    return [one._asdict() for one in destinations(value)]


class FilterModule:
    def filters(self) -> t.Dict[str, t.Callable[..., t.Any]]:
        return {"egress_destinations": egress_destinations}
