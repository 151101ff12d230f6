# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of credential tables whose password is on the host."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host_secrets import with_host_secrets

CANARY = "CANARY-2b8c"


@pytest.fixture(name="password")
def _password(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.touch(0o600)
    path.write_text(f"{CANARY}:#x\n")
    return str(path)


def source(**fields: t.Any) -> t.Dict[str, t.Any]:
    return {"key": "smtp.example.net", "username": "alerts@example.net", **fields}


def test_a_line_is_added_to_a_table_or_is_the_table(password: str) -> None:
    given = {"one": "a b:c", "two": "d e:f\n", "three": "g h:i\n"}
    filled = with_host_secrets(given, {"one": [source(file=password)], "two": [source(file=password)], "new": [source(file=password)] * 2})
    line = f"smtp.example.net alerts@example.net:{CANARY}:#x\n"
    assert filled == {"one": f"a b:c\n{line}", "two": f"d e:f\n{line}", "three": "g h:i\n", "new": line * 2}
    assert given["one"] == "a b:c"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"key": None}, "key"),
        ({"key": ""}, "key"),
        ({"key": "a b"}, "key"),
        ({"key": "a\n[evil]:587"}, "key"),
        ({"key": "#a"}, "key"),
        ({"key": ["a"]}, "key"),
        ({"username": None}, "username"),
        ({"username": "a:b"}, "username"),
        ({"username": "a\nb c:d"}, "username"),
        ({"username": " a"}, "username"),
        ({"file": None}, "file"),
        ({"credential": "smtp"}, "file"),
        ({"file": "relative"}, "file"),
        ({"file": "/nowhere/at all"}, "file"),
        ({"file": "/nowhere/password"}, "file"),
        ({"file": None, "credential": "../x"}, "credential"),
        ({"password": "x"}, "password"),
    ],
)
def test_what_is_wrong_is_named(password: str, fields: t.Dict[str, t.Any], field: str) -> None:
    with pytest.raises(PostfixError) as caught:
        with_host_secrets({}, {"sasl": [source(file=password), source(**{"file": password, **fields})]})
    assert f"secret_sources.sasl[1].{field}: " in caught.value.message and CANARY not in caught.value.message


def test_a_secret_may_be_called_by_the_name_that_its_owner_knows(tmp_path: Path) -> None:
    """The role's user has given a field of a relay."""
    (tmp_path / "password").write_text("")
    for given in ({"file": str(tmp_path / "password")}, {"credential": "no-such"}):
        with pytest.raises(PostfixError, match=r"^relays\[0\]\.password: "):
            with_host_secrets({}, {"sasl": [source(**given, name="relays[0].password")]})


@pytest.mark.parametrize("entries", ["text", {"key": "x"}, ["text"], [None]])
def test_what_is_no_list_of_entries_is_refused(entries: t.Any) -> None:
    with pytest.raises(PostfixError, match=r"secret_sources.*sasl.* must be "):
        with_host_secrets({}, {"sasl": entries})
