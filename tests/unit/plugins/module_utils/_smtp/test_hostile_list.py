# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of what hostile servers do, A1 to A50, is tested to its end: a test of case 7 is called test_a07_..."""

from __future__ import annotations

import ast
import re
import typing as t
from pathlib import Path

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.diagnoses import BY_CODE

TESTS = Path(__file__).resolve().parents[4]
PLACES = ("unit/plugins/module_utils/_smtp/test_hostile_*.py", "unit/plugins/modules/test_hostile_*.py", "system/test_hostile.py")

OUTCOMES = {
    "reply too large": {"reply_too_large"},  # A1, A2
    "line too long": {"line_too_long"},  # A3
    "deadline": {"deadline_exceeded"},  # A4
    "timeout": {"greet_timeout", "tls_handshake_timeout", "tcp_timeout", "egress_blocked_local", "egress_blocked_upstream"},  # A5, A8
    "not SMTP": {"greet_not_smtp_http", "greet_not_smtp_other"},  # A9
    "malformed": {"greet_not_smtp_other", "reply_malformed"},  # A10, A11
    "injection": {"starttls_injection"},  # A17
    "TLS was expected": {"tls_wrong_mode"},  # A20, port 465 in clear text
    "implicit TLS on a STARTTLS port": {"tls_wrong_mode"},  # A20
}
"""What the list calls an outcome, and the diagnoses that stand for it here."""


def functions() -> t.Dict[str, str]:
    """Every test in the files of this list, and its source."""
    found = {}
    for place in PLACES:
        for path in TESTS.glob(place):
            source = path.read_text(encoding="utf-8")
            for node in ast.parse(source).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    found[node.name] = "".join(ast.get_source_segment(source, part) or "" for part in [*node.decorator_list, node])
    return found


def test_no_case_is_missing() -> None:
    cases = {int(number) for name in functions() for number in re.findall(r"_a(\d\d)(?=_)", name)}

    assert cases == set(range(1, 51))


def test_every_outcome_is_expected_by_a_test_and_in_the_catalogue() -> None:
    sources = "\n".join(functions().values())
    for codes in OUTCOMES.values():
        for code in codes:
            assert code in BY_CODE and f'"{code}"' in sources, code
