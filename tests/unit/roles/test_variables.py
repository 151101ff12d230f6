# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of each role: what Ansible checks, what is set if nothing is given, and what the README says, are the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import FIELDS

ROLES = Path(__file__).parents[3] / "roles"
_ROW = re.compile(r"^\| `(?P<name>[a-z_]+)` \|(?: `(?P<default>[^`]*)`)?[^|]*\|", re.MULTILINE)


@pytest.mark.parametrize("role", sorted(path.name for path in ROLES.iterdir()))
def test_defaults_argument_spec_and_readme_agree(role: str) -> None:
    defaults = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text())
    options = yaml.safe_load((ROLES / role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    rows = {row["name"]: row["default"] for row in _ROW.finditer((ROLES / role / "README.md").read_text()) if row["name"].startswith(role)}
    assert set(rows) == set(options) >= set(defaults)
    for name, option in options.items():
        # Templates stand in defaults/main.yml alone, as Ansible shows the specification with them filled in.
        given = defaults.get(name)
        if given is not None and "{{" not in str(given):
            assert option["default"] == given and _as_written(given) == rows[name], name
        else:
            assert "default" not in option, name


def _as_written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def test_the_readme_has_every_field_of_a_relay() -> None:
    section = (ROLES / "postfix_relay" / "README.md").read_text().split("\n## Relays\n")[1].split("\n**")[0]
    assert sorted(re.findall("`([a-z_]+)`", "".join(re.findall(r"^\|[^|]*\|", section, re.MULTILINE)))) == sorted(FIELDS)
