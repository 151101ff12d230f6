# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages and the modules' documentation show can be used as it stands there."""

from __future__ import annotations

import importlib
import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transports import transports
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.relay import normalise_relays

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("roles/*/README.md"))]
MODULES = sorted(path.stem for path in ROOT.glob("plugins/modules/*.py"))

Data = t.Dict[str, t.Any]


class Called(Exception):
    """Carries what AnsibleModule was called with."""


@pytest.fixture(name="module", params=MODULES)
def _module(request: pytest.FixtureRequest) -> t.Any:
    return importlib.import_module(f"ansible_collections.outpost.smtp.plugins.modules.{request.param}")


@pytest.fixture(name="arguments")
def _arguments(module: t.Any, monkeypatch: pytest.MonkeyPatch) -> Data:
    def called(**options: t.Any) -> t.NoReturn:
        raise Called(options)

    for name in ("AnsibleModule", "DiscreetModule"):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, called)
    with pytest.raises(Called) as caught:
        module.main()
    return t.cast(Data, caught.value.args[0])


def test_a_module_takes_its_own_examples(module: t.Any, arguments: Data) -> None:
    name = f"outpost.smtp.{module.__name__.rpartition('.')[2]}"
    checks = ("mutually_exclusive", "required_together", "required_one_of", "required_if", "required_by")
    validator = ArgumentSpecValidator(arguments["argument_spec"], **{check: arguments.get(check) for check in checks})
    examples = [task[name] or {} for task in yaml.safe_load(module.EXAMPLES) if name in task]
    assert examples
    for example in examples:
        given = {key: filled(value, arguments["argument_spec"][key]["type"]) for key, value in example.items()}
        assert validator.validate(given).error_messages == []


def filled(value: t.Any, wanted: str) -> t.Any:
    """A value, or where all of it is a template, what the template may give."""
    relay = {"host": "smtp.example.net"}
    return {"list": [relay], "dict": relay}.get(wanted, "text") if str(value).startswith("{{") else value


def blocks(page: Path) -> t.List[t.Any]:
    """The YAML on a page, with a word in place of each template."""
    text = re.sub(r"{{.*?}}", "filled", page.read_text(encoding="utf-8"))
    return [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)]


def relays_in(data: t.Any) -> t.Iterator[t.Any]:
    if isinstance(data, dict):
        yield from ([data["outpost_smtp_relays"]] if "outpost_smtp_relays" in data else [])
        data = list(data.values())
    for one in data if isinstance(data, list) else []:
        yield from relays_in(one)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_relays_of_a_page_are_taken(page: Path) -> None:
    for relays in relays_in(blocks(page)):
        transports(normalise_relays(relays), "outpost_smtp_relays")


def test_pages_have_relays() -> None:
    assert len([relays for page in PAGES for relays in relays_in(blocks(page))]) > 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        path, _hash, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        assert not anchor or anchor in [_anchor(title) for title in re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)], link


def _anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_every_page_is_found_from_the_first() -> None:
    first = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in ROOT.glob("docs/*.md") if f"(docs/{page.name}" not in first] == []
