# SPDX-License-Identifier: GPL-3.0-or-later
"""Images are named by what they are made from."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil

import pytest
from riglib import images


@pytest.fixture
def recipe(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> images.Recipe:
    """A recipe over a copy of the images' files."""
    shutil.copytree(images._HERE, tmp_path / "images")
    monkeypatch.setattr(images, "_HERE", tmp_path / "images")
    return images.RECIPES["debian12"]


def key(recipe: images.Recipe, sources: tuple[str, ...] = ("deb http://mirror.test bookworm main",)) -> str:
    return images.key(recipe, images.build_arguments(recipe, sources, check_dates=True))


def test_the_key_does_not_depend_on_where_the_checkout_is(
    recipe: images.Recipe, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key(recipe)
    shutil.copytree(images._HERE, tmp_path / "else where")
    monkeypatch.setattr(images, "_HERE", tmp_path / "else where")
    assert key(recipe) == before


@pytest.mark.parametrize("change", ["content", "name", "script", "packages", "at_hand", "alternatives", "sources"])
def test_every_ingredient_changes_the_key(recipe: images.Recipe, change: str) -> None:
    before = key(recipe)
    file = next(path for path in (images._HERE / "common").rglob("*") if path.is_file())
    sources = ("deb http://mirror.test bookworm main",)
    if change == "content":
        file.write_text("other\n", encoding="utf-8")
    elif change == "name":
        file.rename(file.with_name("other"))
    elif change == "script":
        (images._HERE / "customize.sh").write_text("other\n", encoding="utf-8")
    elif change == "sources":
        sources = ("deb http://other.test bookworm main",)
    else:
        recipe = dataclasses.replace(recipe, **{change: (("other",),) if change == "alternatives" else ("other",)})
    assert key(recipe, sources) != before


def test_the_archive_of_debian_11_may_be_past_its_date() -> None:
    arguments = images.build_arguments(images.RECIPES["debian11"], [], check_dates=False)
    assert '--aptopt=Acquire::Check-Valid-Until "false"' in arguments
    assert not images._dates_count("bullseye")


def test_packages_that_replace_each_other_are_downloaded_one_group_after_the_other() -> None:
    recipe = dataclasses.replace(images.RECIPES["debian13"], alternatives=(("exim4",), ("sendmail", "sasl2-bin")))
    hooks = [word for word in images.build_arguments(recipe, [], check_dates=True) if word.startswith("--customize-hook=")]
    assert len(hooks) == 3
    assert hooks[1].endswith(" install exim4") and hooks[2].endswith(" install sendmail sasl2-bin")
    assert all("--download-only" in hook for hook in hooks[1:])
