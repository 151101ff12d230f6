# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables that postmap builds: what makes a map usable, what is noticed by the next run, and what is never used."""

from __future__ import annotations

import os
import stat
import tempfile
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError

Options = t.Callable[..., t.Dict[str, t.Any]]
TYPES = {"aliases": "hash", "sasl_passwd": "hash"}


@pytest.fixture(name="options")
def _options(relay_options: Options) -> Options:
    """Options of a relay whose tables are built."""
    return lambda **more: {**relay_options(**more), "table_types": TYPES}


def live(postfix: t.Any) -> Path:
    """The directory that main.cf refers to."""
    table_type, path = postfix.parameters()["outpost_primary_maps"].split(":", 1)
    assert table_type == "hash"
    return Path(path).parent


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(directory: Path) -> t.List[str]:
    return sorted(path.name for path in directory.iterdir())


def test_maps_are_built_with_the_mode_of_their_text_and_nothing_changes_in_a_second_run(postfix: t.Any, options: Options) -> None:
    os.umask(0)
    try:
        assert postfix.configure(**options())["changed"]
    finally:
        os.umask(0o022)
    directory = live(postfix)
    assert names(directory) == ["aliases", "aliases.db", "built.json", "sasl_passwd", "sasl_passwd.db"]
    assert (directory / "sasl_passwd.db").read_text() == (directory / "sasl_passwd").read_text()
    assert {name: mode(directory / name) for name in names(directory)} == {
        "aliases": 0o644,
        "aliases.db": 0o644,
        "built.json": 0o600,
        "sasl_passwd": 0o600,
        "sasl_passwd.db": 0o600,
    }
    before, calls = postfix.files(), len(postfix.calls.read_text().splitlines())
    assert not postfix.configure(**options())["changed"]
    assert postfix.files() == before
    assert not [line for line in postfix.calls.read_text().splitlines()[calls:] if line.startswith("postmap")]


def test_nobody_else_can_look_into_a_directory_in_which_maps_are_being_built(postfix: t.Any, options: Options) -> None:
    seen = []

    def look(text: str) -> str:
        seen.append(mode(max((path for path in postfix.own.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))))
        return text

    postfix.damage = look
    postfix.configure(**options())
    assert seen == [0o700, 0o700]


@pytest.mark.parametrize("torn", ["", "[smtp.example.net]:587 me:other\n"], ids=["entry lost", "entry changed"])
def test_a_map_that_does_not_hold_every_entry_is_never_used(postfix: t.Any, options: Options, torn: str) -> None:
    postfix.configure(**options())
    before = postfix.files()
    postfix.damage = lambda text: torn if "me:" in text else text
    with pytest.raises(PostfixError, match="back as it was written; nothing was changed") as caught:
        postfix.configure(**options(password="other secret"))
    assert "other secret" not in caught.value.message and postfix.files() == before


def test_a_map_that_came_out_wider_than_its_text_is_closed(postfix: t.Any, options: Options) -> None:
    def widen(text: str) -> str:
        for path in postfix.own.rglob("sasl_passwd.db"):
            path.chmod(0o666)
        return text

    postfix.damage = widen
    postfix.configure(**options())
    assert mode(live(postfix) / "sasl_passwd.db") == 0o600


def test_a_postmap_that_fails_changes_nothing(postfix: t.Any, options: Options) -> None:
    before = postfix.files()
    postfix.map_types = ["hash"]
    postfix.damage = lambda text: t.cast(str, postfix.map_types.clear() or text)  # the second table can not be built any more
    with pytest.raises(PostfixError, match="unsupported dictionary type: hash"):
        postfix.configure(**options())
    assert postfix.files() == before


def _touch_later(directory: Path) -> None:
    status = (directory / "sasl_passwd.db").stat()
    os.utime(directory / "sasl_passwd", (status.st_atime, status.st_mtime + 10))


def _reuse_by_link(directory: Path) -> None:
    os.link(directory / "sasl_passwd.db", directory.parent / "copy")


def _replace_by_link(directory: Path) -> None:
    os.rename(directory / "sasl_passwd.db", directory.parent / "copy")
    (directory / "sasl_passwd.db").symlink_to("../copy")


def _replace_by_fifo(directory: Path) -> None:
    (directory / "sasl_passwd.db").unlink()
    os.mkfifo(directory / "sasl_passwd.db", 0o600)


@pytest.mark.parametrize(
    "harm",
    [
        lambda directory: (directory / "sasl_passwd.db").unlink(),
        lambda directory: (directory / "sasl_passwd.db").write_text("torn"),
        lambda directory: (directory / "sasl_passwd.db").chmod(0o644),
        lambda directory: (directory / "sasl_passwd").chmod(0o644),
        lambda directory: (directory / "built.json").unlink(),
        lambda directory: (directory / "built.json").write_text("[]"),
        lambda directory: (directory / "built.json").write_text("{"),
        lambda directory: (directory / "sasl_passwd.lmdb").touch(),
        _touch_later,
        _reuse_by_link,
        _replace_by_link,
        _replace_by_fifo,
    ],
    ids=[
        "missing",
        "torn",
        "map readable",
        "text readable",
        "record missing",
        "record wrong",
        "record torn",
        "foreign",
        "stale",
        "hard link",
        "link",
        "fifo",
    ],
)
def test_what_is_not_as_it_was_built_is_built_anew(postfix: t.Any, options: Options, harm: t.Callable[[Path], object]) -> None:
    postfix.configure(**options())
    postfix.start()
    harmed = live(postfix)
    harm(harmed)
    told = postfix.configure(change=False, **options())
    assert told["changed"] and harmed.exists()
    result = postfix.configure(**options())
    assert result["changed"] and result["reloaded"] and result["diff"] == told["diff"]
    assert live(postfix) != harmed and not harmed.exists()
    assert mode(live(postfix) / "sasl_passwd.db") == 0o600 and (live(postfix) / "sasl_passwd.db").stat().st_nlink == 1
    assert not postfix.configure(**options())["changed"]


def test_no_file_of_the_former_type_is_left(postfix: t.Any, options: Options, relay_options: Options) -> None:
    postfix.configure(**options())
    diff = postfix.configure(**relay_options())["diff"]
    assert not list(postfix.own.rglob("*.db")) and not list(postfix.own.rglob("built.json"))
    gone = {entry["before_header"].rsplit("/", 1)[-1]: (entry["before"], entry["after"]) for entry in diff}
    assert gone["sasl_passwd.db"] == ("built from sasl_passwd\n", "")
    come = {entry["after_header"].rsplit("/", 1)[-1]: entry["after"] for entry in postfix.configure(change=False, **options())["diff"]}
    assert come["sasl_passwd.db"] == "built from sasl_passwd\n"


def test_diffs_tell_of_a_map_that_was_not_as_built_and_show_none(postfix: t.Any, options: Options) -> None:
    postfix.configure(**options())
    path = live(postfix) / "sasl_passwd.db"
    path.write_text("me:CANARY\n")
    diff = postfix.configure(change=False, **options())["diff"]
    shown = {entry["before_header"]: (entry["before"], entry["after"]) for entry in diff}
    assert shown[str(path)] == ("missing, or not as it was built from sasl_passwd\n", "built from sasl_passwd\n")
    assert "CANARY" not in str(diff)
    changed = postfix.configure(change=False, **options(password="new"))["diff"]
    assert not [entry for entry in changed if entry["before_header"].endswith("aliases.db")]


def test_a_type_that_is_missing_is_named_with_its_package_or_refused(postfix: t.Any, options: Options) -> None:
    lmdb = {**options(), "table_types": {"sasl_passwd": "lmdb"}}
    assert postfix.configurator(**lmdb).missing_packages == ["postfix-lmdb"]
    library = postfix.root / "usr/lib/postfix/postfix-lmdb.so"
    library.parent.mkdir(parents=True)
    library.touch()
    with pytest.raises(PostfixError, match=r"postfix-lmdb is installed, but Postfix has no lmdb: dynamicmaps.cf .* --reinstall"):
        postfix.configurator(**lmdb)
    postfix.map_types.append("lmdb")
    assert postfix.configurator(**lmdb).missing_packages == []
    (postfix.root / "etc/os-release").write_text("ID=alpine\n")
    with pytest.raises(PostfixError, match=r"table_types: there is no cdb for Postfix on this operating system; it has hash, lmdb, regexp, texthash"):
        postfix.configurator(**{**options(), "table_types": {"sasl_passwd": "cdb"}})


def test_the_types_can_be_told_without_a_main_cf(postfix: t.Any, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    postfix.main.unlink()
    assert postfix.configurator(**options()).missing_packages == []
    assert not postfix.main.exists() and not list((tmp_path / "temporary").iterdir())


def test_texthash_asks_for_no_types(postfix: t.Any, relay_options: Options) -> None:
    postfix.configure(**relay_options())
    assert "postconf -m" not in postfix.calls.read_text()
