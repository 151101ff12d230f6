# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that is killed before any of its changes to the file system, or any program it runs, leaves a Postfix that works."""

from __future__ import annotations

import os
import shutil
import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import (
    Document,
    main_cf_key,
    master_cf_key,
    parameter_value,
    references,
)
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.directory import OwnDirectory
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import Finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transaction import Conduct

#: Every call by which the package changes what is in the file system.
_CALLS = ("open", "write", "rename", "link", "unlink", "mkdir", "rmdir")

Options = t.Callable[..., t.Dict[str, t.Any]]


def run_killed(postfix: t.Any, step: int, options: t.Dict[str, t.Any], fails: bool = False) -> bool:
    """Configure in a child that dies before its call number ``step``; return whether it got that far. ``fails``: if not, it fails."""
    child = os.fork()
    if child == 0:
        count = [0]

        def dying(call: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
            def counted(*args: t.Any, **kwargs: t.Any) -> t.Any:
                count[0] += 1
                if count[0] == step:
                    os._exit(9)
                return call(*args, **kwargs)

            return counted

        for name in _CALLS:
            setattr(os, name, dying(getattr(os, name)))
        postfix.run = dying(postfix.run)
        try:
            postfix.configure(**options)
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if hasattr(os, "waitstatus_to_exitcode") else os.waitpid(child, 0)[1] >> 8
    assert status in (1 if fails else 0, 9)
    return status == 9


def assert_works(postfix: t.Any, allowed: t.Collection[t.Optional[str]]) -> None:
    """What every Postfix process reads now fits together, and sends mail to one of ``allowed`` with its credential."""
    main = Document(postfix.main.read_text(), main_cf_key).entries()
    master = Document(postfix.master.read_text(), master_cf_key).entries()
    transport = parameter_value(main["default_transport"]) if "default_transport" in main else None
    assert transport in allowed
    for raw in main.values():
        for word in raw.replace(",", " ").split():
            if word.startswith("texthash:"):
                assert os.path.exists(word.partition(":")[2]), word
    for key, raw in master.items():
        if key.startswith("outpost_"):
            assert set(references(raw)) <= set(main) or key.split("/")[0] != (transport or "").partition(":")[0]
    if transport is not None and transport.startswith("outpost_"):
        service, nexthop = transport.split(":", 1)
        assert f"{service}/unix" in master
        with open(parameter_value(main[f"{service}_maps"]).partition(":")[2], encoding="utf-8") as file:
            assert file.read().startswith(f"{nexthop} me:")


SCENARIOS: t.Dict[str, t.Tuple[t.Optional[t.Dict[str, t.Any]], t.Optional[t.Dict[str, t.Any]]]] = {
    "first": (None, {}),
    "other host": ({}, {"host": "other.example.net"}),
    "new password": ({}, {"password": "other"}),
    "renamed": ({}, {"name": "second"}),
    "changed service": ({}, {"option": "no"}),
    "absent": ({}, None),
    "exclusive": ({}, {"exclusive": True}),
    "no longer exclusive": ({"exclusive": True}, {}),
}


def transport_of(options: t.Dict[str, t.Any]) -> t.Optional[str]:
    return options["parameters"].splitlines()[0].partition(" = ")[2] if options else None


@pytest.mark.parametrize(("scenario", "fresh"), [*((name, False) for name in SCENARIOS), ("first", True), ("absent", True)])
def test_killed_at_every_step(
    postfix: t.Any, relay_options: Options, scenario: str, fresh: bool, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: t.Any
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a kill before or after it looks the same
    old, new = ({} if change is None else relay_options(**change) for change in SCENARIOS[scenario])
    if fresh:
        postfix.main.unlink()
    postfix.configure(**old)
    if postfix.main.exists():
        postfix.start()
    start = tmp_path_factory.mktemp("start") / "root"
    shutil.copytree(postfix.root, start)
    step = 0
    killed = True
    while killed:
        step += 1
        shutil.rmtree(postfix.root)
        shutil.copytree(start, postfix.root)
        killed = run_killed(postfix, step, new)
        if postfix.main.exists():
            assert_works(postfix, {transport_of(old), transport_of(new)})
        else:
            assert fresh and {} in (old, new)
        assert_healed(postfix, new, finished=not killed)
    assert step > 20  # the counting works


@pytest.mark.parametrize(
    ("scenario", "before"),
    [*((name, "usual") for name in ("first", "other host", "renamed", "exclusive")), ("first", "no main.cf"), ("first", "no last newline")],
)
def test_what_a_killed_run_did_can_be_taken_back(
    postfix: t.Any, relay_options: Options, scenario: str, before: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: t.Any
) -> None:
    """It remembers what is ours and what stood there before, whichever side of the switch it got to."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    if before == "no main.cf":
        postfix.main.unlink()
    elif before == "no last newline":
        for file in (postfix.main, postfix.master):
            file.write_text(file.read_text().rstrip("\n"))
    old, new = ({} if change is None else relay_options(**change) for change in SCENARIOS[scenario])
    new["parameters"] += "myhostname = ours.example.org\n"
    new["services"] += "relay unix - - n - - smtp\n"
    pristine = postfix.files()
    postfix.configure(**old)
    start = tmp_path_factory.mktemp("start") / "root"
    shutil.copytree(postfix.root, start)
    step, killed = 0, True
    while killed:
        step += 1
        shutil.rmtree(postfix.root)
        shutil.copytree(start, postfix.root)
        killed = run_killed(postfix, step, new)
        postfix.configure()
        assert postfix.files() == pristine, step


def assert_healed(postfix: t.Any, options: t.Dict[str, t.Any], finished: bool) -> None:
    """The next run finishes: live files, memory and the running Postfix agree, and nothing is left over."""
    predicted = postfix.configure(change=False, **options)["changed"]
    assert postfix.configure(**options)["changed"] == predicted and not (finished and predicted)
    assert not postfix.configure(**options)["changed"]
    if postfix.loaded.exists():
        # Parameters that only services of before referred to may go after the last reload.
        loaded = Document(postfix.loaded.read_text(), main_cf_key).entries()
        assert loaded.items() >= Document(postfix.main.read_text(), main_cf_key).entries().items()
        assert postfix.loaded.read_text().endswith(postfix.master.read_text())
    own = sorted(os.listdir(postfix.own)) if postfix.own.exists() else []
    assert own[1:] == (["lock", "state.json"] if options else []) and len(own) == (3 if options else 0)
    assert sorted(path.name for path in postfix.directory.iterdir() if path.name not in ("main.cf", "outpost_smtp")) == ["master.cf"]


def test_runs_killed_one_after_another_forget_nothing(
    postfix: t.Any, relay_options: Options, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: t.Any
) -> None:
    """What the first of them did is still known to be ours after the second, which wanted something else, was killed too."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    first, second = relay_options(), relay_options(name="second")
    first["parameters"] += "myhostname = ours.example.org\n"
    first["services"] += "relay unix - - n - - smtp\n"
    second["services"] += "relay unix - - - - - smtp\n"
    pristine = postfix.files()
    start = tmp_path_factory.mktemp("start") / "root"
    shutil.copytree(postfix.root, start)
    reached = [True, True]
    steps = [0, 0]
    while reached[0]:
        steps[0] += 5  # each pair of steps would take minutes
        steps[1], reached[1] = 0, True
        while reached[1]:
            steps[1] += 5
            shutil.rmtree(postfix.root)
            shutil.copytree(start, postfix.root)
            reached = [run_killed(postfix, steps[0], first), run_killed(postfix, steps[1], second)]
            postfix.configure()
            assert postfix.files() == pristine, steps


@pytest.mark.parametrize("scenario", ["new password", "renamed", "absent"])
def test_killed_while_the_old_configuration_is_put_back(
    postfix: t.Any, relay_options: Options, scenario: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: t.Any
) -> None:
    """Postfix refuses what it is told first, so every run puts back what it had switched to; wherever that ends, it can be healed."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    old, new = ({} if change is None else relay_options(**change) for change in SCENARIOS[scenario])
    if scenario == "absent":
        postfix.main.unlink()  # so that Postfix has to be stopped
    postfix.configure(**old)
    postfix.start()
    start = tmp_path_factory.mktemp("start") / "root"
    shutil.copytree(postfix.root, start)
    real = type(postfix).run.__get__(postfix)

    def run(argv: t.Sequence[str], stdin: str) -> Result:
        if argv[0] == "postfix" and not (postfix.root / "refused").exists():
            (postfix.root / "refused").write_text("")
            return Result(1, "", "postfix/postfix-script: fatal: cannot")
        return t.cast(Result, real(argv, stdin))

    step, killed = 0, True
    while killed:
        step += 1
        shutil.rmtree(postfix.root)
        shutil.copytree(start, postfix.root)
        postfix.run = run
        killed = run_killed(postfix, step, new, fails=True)
        del postfix.run
        assert_works(postfix, {transport_of(old), transport_of(new)})
        assert_healed(postfix, new if step % 2 else old, finished=False)
    assert step > 30


@pytest.mark.parametrize("scenario", ["other host", "renamed"])
def test_killed_while_it_keeps_or_goes_back_to_the_one_before(
    postfix: t.Any, relay_options: Options, scenario: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: t.Any
) -> None:
    """Wherever a run that keeps the one before is killed, what worked before it can be gone back to, in a run that may be killed, too."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    old, new = (relay_options(**(change or {})) for change in SCENARIOS[scenario])
    postfix.configure(**old)
    postfix.start()
    good = (postfix.main.read_bytes(), postfix.master.read_bytes())
    keeping = {"conduct": Conduct(keep_previous=True), **new}
    for first, second in ((keeping, {"revert": True}), ({"revert": True}, {"revert": True})):
        if first is not keeping:
            postfix.configure(**keeping)
        start = tmp_path_factory.mktemp("start") / "root"
        shutil.copytree(postfix.root, start)
        step, killed = 0, True
        while killed:
            step += 1
            shutil.rmtree(postfix.root)
            shutil.copytree(start, postfix.root)
            killed = run_killed(postfix, step, first)
            assert_works(postfix, {transport_of(old), transport_of(new)})
            if first is keeping and step % 2:
                postfix.configure(**keeping)  # what is kept is the one that worked, not what the killed run left
                assert not postfix.configure(**keeping)["changed"]
            postfix.configure(**second)
            assert (postfix.main.read_bytes(), postfix.master.read_bytes()) == good, step
            assert not postfix.configure(**old)["changed"] and postfix.files().keys() >= {"outpost_smtp/1/sasl_passwd"}, step
        assert step > 20
        shutil.rmtree(postfix.root)
        shutil.copytree(start, postfix.root)


def test_a_restart_that_a_killed_run_owed_is_made_up_for(
    postfix: t.Any, relay_options: Options, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: t.Any
) -> None:
    """The next run sees main.cf as it is wanted, but master(8) must still stop and start for it."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    options = {"parameters": "inet_interfaces = loopback-only\n"}
    postfix.start()
    start = tmp_path_factory.mktemp("start") / "root"
    shutil.copytree(postfix.root, start)
    step, killed, owed = 0, True, 0
    while killed:
        step += 1
        shutil.rmtree(postfix.root)
        shutil.copytree(start, postfix.root)
        killed = run_killed(postfix, step, options)
        switched, told = "inet_interfaces = loopback-only" in postfix.main.read_text(), postfix.told()
        postfix.configure(**options)
        if switched and "stop" not in told:
            owed += 1
            assert "stop" in postfix.told(), step
    assert owed > 1


@pytest.mark.parametrize("keep", [False, True])
def test_what_a_killed_run_owed_outlives_a_run_that_is_refused(postfix: t.Any, relay_options: Options, keep: bool) -> None:
    """The refused one has changed nothing, so Postfix has still to be told, and what worked before both can be gone back to."""
    postfix.start()
    postfix.configure(**relay_options())
    keeping = {"conduct": Conduct(keep_previous=True), **relay_options(password="other")}
    real = postfix.run

    def killed_at_the_reload(argv: t.Sequence[str], stdin: str) -> t.Any:
        if argv[-1] == "reload":
            os._exit(9)
        return real(argv, stdin)

    postfix.run = killed_at_the_reload
    assert run_killed(postfix, 0, {**keeping, "conduct": Conduct(keep_previous=keep)})
    postfix.run = real
    assert "/2/" in postfix.main.read_text() and "/2/" not in postfix.loaded.read_text()
    postfix.findings = [Finding("lint_made_up", "error", "main.cf", "f", "w", "r", frozenset(["default_transport"]))]
    with pytest.raises(PostfixError, match="nothing was changed"):
        postfix.configure(**relay_options(host="third.example.net"))
    assert_works(postfix, {transport_of(relay_options())})
    postfix.findings = []
    result = postfix.configure(**keeping)
    assert result["changed"] and result["reloaded"] and "/2/" in postfix.loaded.read_text()
    postfix.configure(revert=True)
    assert "me:se cret" in (postfix.own / "1" / "sasl_passwd").read_text() and not (postfix.own / "2").exists()


def test_what_a_run_has_removed_before_it_was_killed_is_not_what_is_gone_back_to(
    postfix: t.Any, relay_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    postfix.configure(**relay_options())
    with monkeypatch.context() as patch:
        patch.setattr(OwnDirectory, "end_journal", lambda _own: os._exit(9))
        assert run_killed(postfix, 0, relay_options(password="second"))
    assert (postfix.own / "journal.json").exists() and not (postfix.own / "1").exists()
    postfix.configure(conduct=Conduct(keep_previous=True), **relay_options(password="third"))
    postfix.configure(revert=True)
    assert "me:second" in (postfix.own / "2" / "sasl_passwd").read_text()
