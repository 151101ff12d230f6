# SPDX-License-Identifier: GPL-3.0-or-later
"""Make docs/lint.md from the linter's catalogue.

lint_doc.py            write it
lint_doc.py --check    fail, with the difference, if it is not what would be written
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

from collection_path import ensure_collection_path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ensure_collection_path(ROOT)))

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.catalogue import AREAS, CATALOGUE, ERROR, Rule  # noqa: E402

PAGE = ROOT / "docs" / "lint.md"

INTRODUCTION = """\
# What the linter finds

`postfix check` looks at queue directories and at who owns which file. It ends with 0 for a misspelt security level, for a table that
does not exist and for a password that everybody may read. The linter of `outpost.smtp.postfix_config` finds these: {errors} errors and
{warnings} warnings.

```yaml
- name: What is wrong with this Postfix?
  outpost.smtp.postfix_config:
    state: linted
  become: true
  register: linted

- name: Stop if something is
  ansible.builtin.assert:
    that: linted.findings | selectattr("severity", "equalto", "error") | length == 0
```

It changes nothing and asks no other host. It works on any Postfix from 3.5 on, whoever configured it, in any `config_directory`, and as
a plain user as far as that may read. Each change that `postfix_config` makes is linted before it is switched to; an error in what it
sets is refused then, while what an administrator wrote is only reported.

This page is made from the catalogue in the code (`tests/tools/lint_doc.py`); change it there.

* A **code** never changes its meaning, so alerts can be set on it.
* An **error** keeps mail from being sent as it is meant to be, or shows a password. A **warning** is what will, or may.
* Each finding has a place (file and line, parameter or service), what was found there, why it matters, and a remedy. None holds a secret.
"""


def page() -> str:
    """The whole page."""
    errors = sum(rule.severity == ERROR for rule in CATALOGUE.values())
    parts = [INTRODUCTION.format(errors=errors, warnings=len(CATALOGUE) - errors)]
    for title, rules in AREAS:
        parts.append("\n".join([f"**{title}**", *(f"[{rule.code}](#{rule.code})" for rule in rules), ""]))
    for title, rules in AREAS:
        parts.append(f"## {title}\n")
        parts += [_entry(rule) for rule in rules]
    return "\n".join(parts)


def _entry(rule: Rule) -> str:
    lines = [
        f"### {rule.code}",
        "",
        f"{_text(rule.finds)} ({rule.severity})",
        "",
        f"* Why: {_text(rule.why)}",
        f"* Remedy: {_text(rule.remedy)}",
        f"* Source: {_text(rule.source)}",
        "",
    ]
    return "\n".join(lines)


def _text(text: str) -> str:
    return text.replace("*", r"\*").replace("<", "&lt;")


def main() -> int:
    wanted = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    present = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    sys.stdout.writelines(difflib.unified_diff(present.splitlines(True), wanted.splitlines(True), "docs/lint.md", "from the catalogue"))
    if present != wanted:
        print("docs/lint.md is not up to date: run tests/tools/lint_doc.py")
    return int(present != wanted)


if __name__ == "__main__":
    sys.exit(main())
