# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule set of role smtp_egress as Ansible renders it, its placeholders still to be filled in."""

from __future__ import annotations

import typing as t
from pathlib import Path

import jinja2

TEMPLATE = Path(__file__).resolve().parents[3] / "roles" / "smtp_egress" / "templates" / "outpost_smtp.nft.j2"


def rendered(relays: t.Sequence[t.Mapping[str, t.Any]], mode: str = "guard", destinations: t.Any = "relays", forwarded: bool = False) -> str:
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined, autoescape=False)
    environment.filters["comment"] = "# {}".format
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        smtp_egress_mode=mode,
        smtp_egress_destinations=destinations,
        smtp_egress_guard_forwarded=forwarded,
        __smtp_egress_relays=relays,
        ansible_managed="Managed",
    )
