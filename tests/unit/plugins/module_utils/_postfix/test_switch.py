# SPDX-License-Identifier: GPL-3.0-or-later
"""The moments between the first and the last file of a change that are exchanged."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import transaction, witness
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import Document, main_cf_key, parameter_value
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result

Options = t.Callable[..., t.Dict[str, t.Any]]


def look_at_each_write(monkeypatch: pytest.MonkeyPatch, look: t.Callable[[str], None]) -> None:
    """Call ``look`` with the name of each live file that is about to be exchanged."""
    replace = transaction.replace_file

    def looking(path: str, content: bytes, mode: int) -> None:
        look(path.rpartition("/")[2])
        replace(path, content, mode)

    monkeypatch.setattr(transaction, "replace_file", looking)


def transport(main: str) -> str:
    entries = Document(main, main_cf_key).entries()
    return parameter_value(entries["default_transport"]).partition(":")[0] if "default_transport" in entries else ""


@pytest.mark.parametrize("fails", [False, True])
def test_a_running_master_knows_a_service_before_main_cf_names_it(
    postfix: t.Any, relay_options: Options, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Any new process reads main.cf. What it sends to a service that master(8) has not read of is deferred until somebody reloads it."""
    postfix.start()
    postfix.configure(**relay_options())
    seen = []

    def look(name: str) -> None:
        service = transport(postfix.main.read_text())
        seen.append(service)
        assert f"\n{service} " in postfix.loaded.read_text(), name

    look_at_each_write(monkeypatch, look)
    if fails:
        run = postfix.run
        refusal = Result(1, "", "postconf: fatal: no")
        postfix.run = lambda argv, stdin: refusal if argv == ["postconf", "-n", "-c", str(postfix.directory)] else run(argv, stdin)
        with pytest.raises(PostfixError):
            postfix.configure(**relay_options(name="second"))
    else:
        postfix.configure(**relay_options(name="second"))
    look("main.cf")
    assert seen[-1] == ("outpost_primary" if fails else "outpost_second") and "outpost_second" in seen


@pytest.mark.parametrize("number", [1, 2])
def test_what_somebody_else_writes_between_two_of_ours_is_not_lost(
    postfix: t.Any, relay_options: Options, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    postfix.start()
    postfix.configure(**relay_options())
    run, calls = postfix.run, []

    def interfering(argv: t.Sequence[str], stdin: str) -> t.Any:
        result = run(argv, stdin)
        if argv[-1] == "reload":
            calls.append(1)
            if len(calls) == number:
                postfix.main.write_text(postfix.main.read_text() + "delay_warning_time = 4h\n")
        return result

    postfix.run = interfering
    with pytest.raises(PostfixError, match="somebody else"):
        postfix.configure(**relay_options(name="second"))
    assert "\ndelay_warning_time = 4h\n" in postfix.main.read_text()
    postfix.configure(**relay_options(name="second"))
    assert "\ndelay_warning_time = 4h\n" in postfix.main.read_text()


def test_a_service_goes_when_its_processes_have_gone(postfix: t.Any, relay_options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """They end by themselves once they were told of a main.cf that sends nothing to them."""
    postfix.start()
    postfix.configure(**relay_options())
    drained = []

    def drain(_witness: t.Any, services: t.Collection[str]) -> None:
        drained.append(sorted(services))
        assert transport(postfix.loaded.read_text().split("# service type")[0]) != "outpost_primary"
        assert "\noutpost_primary " in postfix.master.read_text()

    monkeypatch.setattr(witness.Witness, "drain", drain)
    postfix.configure(**relay_options(name="second"))
    assert drained == [["outpost_primary/unix"]] and "\noutpost_primary " not in postfix.loaded.read_text()
