# SPDX-License-Identifier: GPL-3.0-or-later
"""How a change is carried out: what refuses it, what Postfix is told, and what happens when that goes wrong."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import examination, preflight, witness
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import Document, main_cf_key
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import Finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transaction import Conduct

Options = t.Callable[..., t.Dict[str, t.Any]]


def finding(severity: str, *names: str) -> Finding:
    return Finding("lint_made_up", severity, "main.cf, biff", "biff is off", "Nobody is told.", "Turn it on.", frozenset(names))


# -- what Postfix is told ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("main", "parameters", "told"),
    [
        ("", "biff = no\n", ["reload"]),
        ("", "inet_interfaces = loopback-only\n", ["check", "stop", "start"]),
        ("", "inet_protocols = ipv6\n", ["check", "stop", "start"]),
        ("", "inet_interfaces = all\n", []),  # the same in other words
        ("inet_protocols = all\n", "inet_protocols = ipv4\n", ["check", "stop", "start"]),
        ("inet_interfaces = $here\nhere = $there\n", "there = 192.0.2.1\n", ["check", "stop", "start"]),
        ("inet_interfaces = $here\nhere = $there\n", "nowhere = 192.0.2.1\n", ["reload"]),
    ],
)
def test_restart_only_where_a_reload_is_not_enough(postfix: t.Any, main: str, parameters: str, told: t.List[str]) -> None:
    postfix.main.write_text(main or "inet_interfaces=all\n")
    postfix.start()
    assert postfix.configure(parameters=parameters)["reloaded"] is bool(told)
    assert postfix.told() == ["start", *told]


def test_a_running_postfix_knows_a_new_transport_before_main_cf_names_it(postfix: t.Any, relay_options: Options) -> None:
    """Otherwise mail would wait for a transport that master(8) does not know if the run were killed between the two files."""
    postfix.start()
    postfix.configure(**relay_options())
    known: t.List[t.Tuple[bool, bool]] = []
    real = postfix.run

    def run(argv: t.Sequence[str], stdin: str) -> Result:
        result = real(argv, stdin)
        if argv[0] == "postfix":
            known.append(("outpost_second:" in postfix.main.read_text(), "outpost_second unix" in postfix.loaded.read_text()))
        return t.cast(Result, result)

    postfix.run = run
    postfix.configure(**relay_options(name="second"))
    assert known[0] == (False, True) and set(known[1:]) == {(True, True)}


def test_a_built_in_default_that_is_written_down_needs_no_restart(postfix: t.Any) -> None:
    postfix.main.write_text("")
    postfix.start()
    postfix.configure(parameters="inet_interfaces = all\ninet_protocols = all\n")
    assert postfix.told() == ["start", "reload"]


def test_postfix_is_told_nothing_when_only_the_memory_changes(postfix: t.Any, relay_options: Options) -> None:
    postfix.start()
    postfix.configure(**relay_options())
    postfix.configure(conduct=Conduct(keep_previous=True), **relay_options(password="other"))
    before = postfix.told()
    result = postfix.configure(**relay_options(password="other"))  # no longer keeps what was before
    assert result["changed"] and not result["reloaded"] and postfix.told() == before
    assert [path.name for path in postfix.own.iterdir() if path.is_dir()] == ["2"]


# -- what refuses a change -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["default_transport"], ["outpost_primary"], ["outpost_primary/unix"], ["sasl_passwd"]])
def test_a_fault_in_what_is_ours_refuses_the_change(postfix: t.Any, relay_options: Options, names: t.List[str]) -> None:
    before = postfix.files()
    postfix.findings = [finding("warning", *names), finding("error", "their_own"), finding("error", *names)]
    with pytest.raises(PostfixError, match=r"fault in main\.cf, biff: .* Turn it on\. \[lint_made_up\]; nothing was changed") as caught:
        postfix.configure(**relay_options())
    assert postfix.files() == before
    assert [one["severity"] for one in caught.value.facts["findings"]] == ["warning", "error", "error"]
    json.dumps(caught.value.facts)


def test_what_is_wrong_with_the_administrators_settings_is_told_and_refuses_nothing(postfix: t.Any, relay_options: Options) -> None:
    postfix.findings = [finding("error", "their_own"), finding("warning", "default_transport")]
    assert [one["names"] for one in postfix.configure(**relay_options())["findings"]] == [["their_own"], ["default_transport"]]
    assert postfix.configure(**relay_options())["findings"] == []  # nothing is examined when nothing changes


def test_taking_everything_back_is_not_refused(postfix: t.Any, relay_options: Options) -> None:
    before = postfix.files()
    postfix.configure(**relay_options())
    postfix.findings = [finding("error", "default_transport")]
    assert postfix.configure()["changed"] and postfix.files() == before


@pytest.fixture
def logins(postfix: t.Any, monkeypatch: pytest.MonkeyPatch) -> t.List[t.Dict[str, t.Any]]:
    """Replaces the logins, which need a server, by what a test puts into "answers"; records how they were asked for."""
    asked: t.List[t.Dict[str, t.Any]] = []

    def log_in(stage: str, transports: t.Any, timeout: float, run: t.Any, unless_as_in: t.Optional[str] = None) -> t.List[t.Dict[str, t.Any]]:
        staged = Path(stage, "main.cf").read_text()
        asked.append({"staged": staged, "transports": transports, "timeout": timeout, "unless": unless_as_in})
        return postfix.logins

    postfix.logins = [{"ok": True, "diagnosis": None}]
    monkeypatch.setattr(preflight, "log_in", log_in)
    return asked


REFUSED = {"ok": False, "diagnosis": {"code": "auth_refused", "summary": "It says 535.", "remedy": "Check the password."}}


def test_a_relay_that_refuses_the_login_keeps_the_old_configuration(postfix: t.Any, relay_options: Options, logins: t.Any) -> None:
    postfix.start()
    postfix.configure(**relay_options())
    before, told = postfix.files(), postfix.told()
    postfix.logins = [{"ok": True, "diagnosis": None}, REFUSED]
    with pytest.raises(PostfixError, match=r"1 of 2 logins failed, first: It says 535\. Check .* \[auth_refused\]; nothing was changed") as caught:
        postfix.configure(conduct=Conduct("always", 7), **relay_options(password="other"))
    assert postfix.files() == before and postfix.told() == told
    assert caught.value.facts["preflight"] == postfix.logins and not caught.value.facts["rolled_back"]
    assert logins[-1]["transports"] == {"outpost_primary"} and logins[-1]["timeout"] == 7 and "/2/sasl_passwd" in logins[-1]["staged"]


def test_when_the_login_is_tested(postfix: t.Any, relay_options: Options, logins: t.Any) -> None:
    live = str(postfix.directory)
    for number, (when, tested, unless) in enumerate(
        [("auto", 0, None), ("always", 1, None), ("auto", 2, live), ("never", 2, live), ("always", 3, None)]
    ):
        postfix.configure(conduct=Conduct(when), **relay_options(password=str(number)))
        assert len(logins) == tested, when
        assert not logins or logins[-1]["unless"] == unless, when
    postfix.configure(conduct=Conduct("always"), **relay_options(password="4"))
    assert len(logins) == 3, "nothing changed"
    assert postfix.configure(conduct=Conduct("always"))["changed"] and len(logins) == 3, "what only takes back"


@pytest.mark.parametrize("reference", ["$config_directory/aliases", "${config_directory}/aliases", "$(config_directory)/aliases"])
def test_a_stage_means_the_same_as_the_directory_that_it_is_for(postfix: t.Any, relay_options: Options, logins: t.Any, reference: str) -> None:
    """Or the linter and the login would look for files of the administrator's below the stage."""
    postfix.main.write_text(f"alias_maps = hash:{reference}\n")
    options = relay_options()
    options["services"] += "127.0.0.1:2525 inet n - n - - smtpd\n"
    postfix.configure(conduct=Conduct("always"), **options)
    staged = Document(logins[-1]["staged"], main_cf_key).entries()
    assert staged["config_directory"] == f"config_directory = {postfix.directory}\n" and "config_directory" not in postfix.parameters()
    assert logins[-1]["transports"] == {"outpost_primary"}, "only smtp(8) logs in"


def test_a_stage_that_nothing_refers_to_makes_postmap_warn_of_nothing(postfix: t.Any, relay_options: Options, logins: t.Any) -> None:
    postfix.main.write_text("# it is in $config_directory_of_old\nalias_maps =\n")
    postfix.configure(conduct=Conduct("always"), **relay_options())
    assert "\nconfig_directory =" not in logins[-1]["staged"]


def test_a_configuration_that_postfix_can_not_read_beforehand_is_said_to_be_so(postfix: t.Any, relay_options: Options) -> None:
    before = postfix.files()
    real = postfix.run
    broken = Result(1, "", 'postconf: fatal: main.cf, line 7: missing "=" in "static:me:CANARY"')
    postfix.run = lambda argv, stdin: broken if argv[0] == "postconf" and "-c" in argv else real(argv, stdin)
    with pytest.raises(PostfixError, match="as it is now, before any change: main.cf, line 7.* Mend that first; nothing was changed") as caught:
        postfix.configure(**relay_options())
    assert "CANARY" not in str(caught.value) and postfix.files() == before


def test_a_restart_from_which_postfix_would_not_come_back_is_not_begun(postfix: t.Any) -> None:
    postfix.start()
    before = postfix.files()
    real = postfix.run
    fatal = Result(1, "", "postfix: fatal: no such user: postfix")
    postfix.run = lambda argv, stdin: fatal if argv[-1] == "check" else real(argv, stdin)
    with pytest.raises(PostfixError, match="would not start again.* before any change: .*no such user: postfix.* nothing was changed"):
        postfix.configure(parameters="inet_interfaces = loopback-only\n")
    assert postfix.files() == before and postfix.told() == ["start"]


@pytest.mark.parametrize("name", ["main", "master"])
def test_what_somebody_writes_while_the_change_is_prepared_is_not_lost(postfix: t.Any, relay_options: Options, name: str) -> None:
    file = getattr(postfix, name)
    real = postfix.run

    def run(argv: t.Sequence[str], stdin: str) -> Result:
        if argv[0] == "postmap":
            file.write_text("# by hand\n" + file.read_text())
            postfix.run = real
        return real(argv, stdin)

    postfix.run = run
    with pytest.raises(PostfixError, match=rf"{file.name} was changed by somebody else.* nothing was changed"):
        postfix.configure(**relay_options())
    assert file.read_text().startswith("# by hand\n") and "outpost" not in file.read_text() and not postfix.own.exists()
    postfix.configure(**relay_options())
    assert file.read_text().startswith("# by hand\n")


@pytest.mark.parametrize("name", ["main", "master"])
@pytest.mark.parametrize("error", [errno.EPERM, errno.EXDEV])
def test_a_file_that_can_not_be_exchanged_is_named_before_anything_changes(
    postfix: t.Any, relay_options: Options, monkeypatch: pytest.MonkeyPatch, name: str, error: int
) -> None:
    """As link(2) answers for a file that is immutable, and for one that is a mount point."""
    before = postfix.files()
    file = getattr(postfix, name)
    real = os.link

    def link(source: str, target: str) -> None:
        if source == str(file):
            raise OSError(error, os.strerror(error), source)
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    module = "ansible_collections.outpost.smtp.plugins.module_utils._postfix.files._is_fixed"
    monkeypatch.setattr(module, lambda path: error == errno.EPERM)
    with pytest.raises(PostfixError, match=rf"{file} can not be written: it is (marked as immutable|a mount point).*; nothing was changed"):
        postfix.configure(**relay_options())
    assert postfix.files() == before


def test_a_file_system_without_second_names_is_no_obstacle(postfix: t.Any, relay_options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: str, target: str) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), source)

    monkeypatch.setattr(os, "link", link)
    assert postfix.configure(**relay_options())["changed"]


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_at_any_moment_leaves_one_of_the_two_configurations(
    postfix: t.Any, relay_options: Options, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    postfix.configure(**relay_options())
    before, new = postfix.files(), relay_options(host="other.example.net")
    real, left = os.write, [0]

    def write(descriptor: int, data: t.Any) -> int:
        left[0] -= len(data)
        if left[0] < 0:
            raise OSError(fault, os.strerror(fault))
        return real(descriptor, data)

    outcomes = []
    for space in range(0, 50000, 400):
        left[0] = space
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            try:
                postfix.configure(**new)
                break
            except PostfixError as error:
                assert os.strerror(fault) in error.message
                outcomes.append(error.message.rpartition("; ")[2])
        if postfix.files() != before:
            break
    assert outcomes.count("nothing was changed") > 5
    assert set(outcomes[:-1]) <= {"nothing was changed", "the old configuration is in place again"}
    assert outcomes[-1] == "the new configuration is in place and works, the next run completes the rest"
    assert postfix.parameters()["default_transport"] == "outpost_primary:[other.example.net]:587"
    assert postfix.configure(**new)["changed"] and not postfix.configure(**new)["changed"]


# -- links and labels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["main", "master"])
def test_links_are_followed_and_modes_and_labels_kept(postfix: t.Any, relay_options: Options, name: str) -> None:
    link = getattr(postfix, name)
    real = postfix.root / "srv" / link.name
    real.parent.mkdir()
    link.rename(real)
    link.symlink_to(real)
    real.chmod(0o640)
    os.setxattr(real, "user.label", b"x")
    with contextlib.suppress(OSError):  # who is not root may not
        os.setxattr(real, "security.selinux", b"system_u:object_r:postfix_etc_t:s0\0")
    labels = {label: os.getxattr(real, label) for label in os.listxattr(real)}
    before = real.read_text()
    postfix.configure(**relay_options())
    assert link.is_symlink() and "outpost_primary" in real.read_text() and real.stat().st_mode & 0o777 == 0o640
    assert {label: os.getxattr(real, label) for label in os.listxattr(real)} == labels
    assert [path.name for path in real.parent.iterdir()] == [link.name]
    postfix.configure()
    assert link.is_symlink() and real.read_text() == before


def test_the_directory_itself_may_be_a_link(postfix: t.Any, relay_options: Options) -> None:
    moved = postfix.root / "srv"
    postfix.directory.rename(moved)
    postfix.directory.symlink_to(moved)
    before = {path.name: path.read_bytes() for path in moved.iterdir()}
    postfix.configure(**relay_options())
    assert (moved / "outpost_smtp" / "1" / "sasl_passwd").is_file() and not postfix.configure(**relay_options())["changed"]
    postfix.configure()
    assert postfix.directory.is_symlink() and {path.name: path.read_bytes() for path in moved.iterdir()} == before


def test_a_main_cf_that_was_made_behind_a_link_goes_and_the_link_stays(postfix: t.Any) -> None:
    real = postfix.root / "srv" / "main.cf"
    real.parent.mkdir()
    postfix.main.unlink()
    postfix.main.symlink_to(real)
    postfix.configure(parameters="biff = no\n")
    assert "biff = no" in real.read_text()
    postfix.configure()
    assert postfix.main.is_symlink() and not real.exists()


# -- back again ----------------------------------------------------------------------------------------------------------

FATAL = "Nov 23 10:00:00 host postfix/master[7]: fatal: bind 127.0.0.1 port 25: Address already in use\n"


class Trouble:
    """What postfix(1) does in a test: for each of its commands, in order, what goes wrong; nothing where that is None."""

    def __init__(self, postfix: t.Any, *troubles: t.Optional[t.Callable[[], t.Optional[Result]]]) -> None:
        self._real = postfix.run
        self._troubles = list(troubles)
        postfix.run = self.run

    def run(self, argv: t.Sequence[str], stdin: str) -> Result:
        result = self._real(argv, stdin)
        if argv[0] == "postfix" and argv[-1] != "check" and self._troubles:
            trouble = self._troubles.pop(0)
            return trouble() or result if trouble is not None else result
        return t.cast(Result, result)


def refuses() -> Result:
    return Result(1, "", "postfix/postfix-script: fatal: cannot")


@pytest.fixture
def dies(postfix: t.Any) -> t.Callable[[], None]:
    def die() -> None:
        postfix.loaded.unlink()
        with postfix.log.open("a") as file:
            file.write(FATAL)

    return die


@pytest.fixture
def running(postfix: t.Any, relay_options: Options) -> t.Any:
    """A Postfix that runs with a configuration of ours."""
    postfix.log.write_text("")
    postfix.start()
    postfix.configure(**relay_options())
    return postfix


def assert_rolled_back(postfix: t.Any, before: t.Any, caught: t.Any) -> None:
    assert caught.value.facts["rolled_back"] is True and "the old configuration is in place again" in str(caught.value)
    assert postfix.files() == before and postfix.loaded.exists()
    assert_in_use(postfix)


def assert_in_use(postfix: t.Any) -> None:
    """The running Postfix has read what is in the files; parameters that only services of before had may still have been there."""
    loaded = Document(postfix.loaded.read_text(), main_cf_key).entries()
    assert loaded.items() >= Document(postfix.main.read_text(), main_cf_key).entries().items()
    assert postfix.loaded.read_text().endswith(postfix.master.read_text())


@pytest.mark.parametrize("change", [{"password": "other"}, {"host": "other.example.net"}, {"name": "second"}, {"option": "no"}])
def test_a_reload_that_fails_is_rolled_back(running: t.Any, relay_options: Options, change: t.Dict[str, str]) -> None:
    before = running.files()
    Trouble(running, refuses)
    with pytest.raises(PostfixError, match=r"^With the new configuration, Postfix did not reload: cannot; the old .* again$") as caught:
        running.configure(**relay_options(**change))
    assert_rolled_back(running, before, caught)
    assert running.configure(**relay_options(**change))["changed"] and not running.configure(**relay_options(**change))["changed"]


def test_a_postfix_that_dies_of_the_reload_is_started_with_the_old_configuration(running: t.Any, relay_options: Options, dies: t.Any) -> None:
    before = running.files()
    Trouble(running, dies)
    with pytest.raises(PostfixError, match=r"Postfix does not run \(bind 127.0.0.1 port 25: Address already in use\); the old") as caught:
        running.configure(**relay_options(name="second"))
    assert_rolled_back(running, before, caught)
    assert running.told()[-2:] == ["reload", "start"]


def test_a_restart_that_fails_is_followed_by_a_start_with_the_old_configuration(running: t.Any, dies: t.Any, relay_options: Options) -> None:
    before = running.files()
    options = relay_options()
    options["parameters"] += "inet_interfaces = loopback-only\n"

    def does_not_start() -> Result:
        dies()
        return refuses()

    Trouble(running, None, does_not_start)
    with pytest.raises(PostfixError, match=r"Postfix did not start: cannot \(bind .* already in use\); the old") as caught:
        running.configure(**options)
    assert_rolled_back(running, before, caught)
    assert running.told()[-4:] == ["check", "stop", "start", "start"]


def test_a_restart_is_taken_back_by_a_restart(running: t.Any, relay_options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """A master(8) that has started with the new addresses would keep them over a reload."""
    before = running.files()
    options = relay_options()
    options["parameters"] += "inet_interfaces = loopback-only\n"

    def complains() -> None:
        with running.log.open("a") as file:
            file.write(FATAL.replace("master", "qmgr"))

    monkeypatch.setattr(witness.Witness, "restarted", lambda _witness: True)
    Trouble(running, None, complains)
    with pytest.raises(PostfixError) as caught:
        running.configure(**options)
    assert_rolled_back(running, before, caught)
    assert running.told()[-5:] == ["check", "stop", "start", "stop", "start"]


def test_a_program_that_ends_with_the_new_configuration_brings_the_old_one_back(running: t.Any, relay_options: Options) -> None:
    known = FATAL.replace("master", "qmgr").replace("bind", "known")
    running.log.write_text(known)
    before = running.files()
    ours = FATAL.replace("postfix/master[7]", "postfix/primary/smtp[9]").replace("bind", 'open "CANARY"')
    of_people = FATAL.replace("postfix/master", "postfix/sendmail")
    of_another = FATAL.replace("postfix/master", "postfix-out/master")

    def logs(*lines: str) -> t.Callable[[], None]:
        def log() -> None:
            with running.log.open("a") as file:
                file.writelines(lines)

        return log

    Trouble(running, logs(known, of_people, of_another, ours))
    with pytest.raises(PostfixError, match=r"^With the new configuration, Postfix fails: open \.\.\. 127[^;]*; the old .* again$") as caught:
        running.configure(**relay_options(password="other"))
    assert_rolled_back(running, before, caught)
    Trouble(running, logs(known, of_people, of_another))
    assert running.configure(**relay_options(password="other"))["changed"]


def test_a_postfix_that_works_with_neither_is_said_to_be_so(running: t.Any, relay_options: Options, dies: t.Any) -> None:
    before = running.files()

    def stays_dead() -> Result:
        running.loaded.unlink()
        return refuses()

    Trouble(running, dies, stays_dead)
    with pytest.raises(PostfixError, match=r"does not run .*; the old .* again, but with that one, too, Postfix did not start") as caught:
        running.configure(**relay_options(password="other"))
    assert "Postfix does not run now" in str(caught.value)
    after = running.files()
    assert after.pop("outpost_smtp/journal.json") and {**after, "outpost_smtp/2": 0, "outpost_smtp/2/sasl_passwd": 0}.keys() >= before.keys()
    assert running.main.read_bytes() == before["main.cf"][1] and running.master.read_bytes() == before["master.cf"][1]
    running.start()
    assert running.configure(**relay_options())["changed"]  # what was left to be tidied up
    assert running.files() == before and not running.configure(**relay_options())["changed"]


def test_a_postfix_that_did_not_go_back_is_told_by_the_next_run(running: t.Any, relay_options: Options) -> None:
    """It runs with what is in no file any more, and no file differs from what is wanted."""

    def takes_it_up_and_fails() -> Result:
        new.append(running.loaded.read_text())
        return refuses()

    def does_not_take_it_up() -> Result:
        running.loaded.write_text(new[0])
        return refuses()

    new: t.List[str] = []
    Trouble(running, takes_it_up_and_fails, does_not_take_it_up)
    with pytest.raises(PostfixError, match="Postfix still runs"):
        running.configure(**relay_options(password="other"))
    assert "/1/" in running.main.read_text() and "/2/" in running.loaded.read_text()
    assert running.configure(**relay_options())["reloaded"]
    assert_in_use(running)


def test_what_somebody_writes_during_the_switch_is_not_overwritten(running: t.Any, relay_options: Options) -> None:
    def edits() -> None:
        running.main.write_text(running.main.read_text() + "biff = no\n")

    Trouble(running, edits)
    with pytest.raises(PostfixError, match=r"main.cf is not what was written.*can not be put back: somebody else has changed main.cf") as caught:
        running.configure(**relay_options(password="other"))
    assert caught.value.facts["rolled_back"] is False
    assert "main.cf is one between" in str(caught.value) or "somebody else" in str(caught.value)
    assert running.main.read_text().endswith("biff = no\n")
    running.configure(**relay_options(password="other"))
    assert running.parameters()["biff"] == "no" and not running.configure(**relay_options(password="other"))["changed"]


def test_a_configuration_that_postfix_can_not_read_where_it_is_used_is_rolled_back(running: t.Any, relay_options: Options) -> None:
    before = running.files()
    real = running.run
    broken = Result(1, "", "postconf: fatal: bad")

    def run(argv: t.Sequence[str], stdin: str) -> Result:
        live = list(argv[:2]) == ["postconf", "-n"] and argv[-1] == str(running.directory)
        return broken if live and "/2/" in running.main.read_text() else t.cast(Result, real(argv, stdin))

    running.run = run
    with pytest.raises(PostfixError) as caught:
        running.configure(**relay_options(password="other"))
    assert_rolled_back(running, before, caught)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_rename_that_fails_in_the_middle_is_rolled_back(
    running: t.Any, relay_options: Options, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The first, second or third exchange of a configuration file: master.cf, main.cf, master.cf."""
    before = running.files()
    real, left = os.rename, [number]

    def rename(source: str, target: str) -> None:
        if target.endswith(".cf"):
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), target)
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(PostfixError, match="can not be written: Device or resource busy; the old configuration is in place again$") as caught:
        running.configure(**relay_options(name="second"))
    assert_rolled_back(running, before, caught)


def test_a_rollback_that_is_impossible_says_what_is_in_place(
    running: t.Any, relay_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.rename, [1]

    def rename(source: str, target: str) -> None:
        if target.endswith(".cf"):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO), target)
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises(PostfixError, match="can not be put back: .*master.cf can not be written: Input/output error") as caught:
            running.configure(**relay_options(name="second"))
    assert caught.value.facts["rolled_back"] is False
    assert str(caught.value).endswith("main.cf is the old one, master.cf is one between the old and the new one; the next run heals that")
    running.configure(**relay_options(name="second"))
    assert not running.configure(**relay_options(name="second"))["changed"] and running.configure(**relay_options())["changed"]


def test_a_first_configuration_that_fails_leaves_nothing(postfix: t.Any, relay_options: Options) -> None:
    postfix.start()
    before = postfix.files()
    Trouble(postfix, refuses)
    with pytest.raises(PostfixError) as caught:
        postfix.configure(**relay_options())
    assert_rolled_back(postfix, before, caught)


def test_a_fault_of_the_examination_itself_leaves_nothing_behind(postfix: t.Any, relay_options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    before = postfix.files()

    def bug(*_arguments: t.Any, **_options: t.Any) -> t.Any:
        raise KeyError("bug")

    monkeypatch.setattr(examination.linter, "lint", bug)
    with pytest.raises(KeyError):
        postfix.configure(**relay_options())
    assert postfix.files() == before


# -- keeping the one before ----------------------------------------------------------------------------------------------

KEEP = Conduct(keep_previous=True)


def test_going_back_to_what_was_kept(postfix: t.Any, relay_options: Options) -> None:
    postfix.start()
    postfix.configure(**relay_options())
    first = postfix.main.read_bytes(), postfix.master.read_bytes(), (postfix.own / "1" / "sasl_passwd").read_bytes()
    new = relay_options(name="second", password="CANARY")
    result = postfix.configure(conduct=KEEP, **new)
    assert result["changed"] and result["previous_kept"]
    assert not postfix.configure(conduct=KEEP, **new)["changed"]
    before = postfix.files()
    predicted = postfix.configure(change=False, revert=True)
    assert postfix.files() == before
    result = postfix.configure(revert=True)
    assert result == predicted and result["changed"] and result["reloaded"] and "CANARY" not in json.dumps(result)
    assert (postfix.main.read_bytes(), postfix.master.read_bytes(), (postfix.own / "1" / "sasl_passwd").read_bytes()) == first
    assert_in_use(postfix)
    assert not postfix.configure(revert=True)["changed"] and not postfix.configure(**relay_options())["changed"]
    assert not [name for name, (_mode, content) in postfix.files().items() if b"CANARY" in content]


def test_going_back_keeps_the_order_of_the_entries(postfix: t.Any) -> None:
    parameters = "biff = no\nappend_dot_mydomain = no\n"
    postfix.configure(parameters=parameters)
    first = postfix.main.read_bytes()
    postfix.configure(conduct=KEEP, parameters=parameters.replace("biff = no", "biff = yes"))
    assert postfix.configure(revert=True)["changed"] and postfix.main.read_bytes() == first


def test_going_back_keeps_what_is_built_in_of_a_list(postfix: t.Any) -> None:
    parameters = "proxy_write_maps += proxy:internal:ours\nbiff = no\n"
    postfix.configure(parameters=parameters)
    first = postfix.main.read_bytes()
    built_in = b"$smtp_sasl_auth_cache_name $lmtp_sasl_auth_cache_name $address_verify_map $postscreen_cache_map"
    assert b"proxy_write_maps = " + built_in + b", proxy:internal:ours" in first
    postfix.configure(conduct=KEEP, parameters=parameters.replace("biff = no", "biff = yes"))
    assert postfix.configure(revert=True)["changed"] and postfix.main.read_bytes() == first


def test_the_diff_of_going_back_shows_keys_and_no_values(postfix: t.Any, relay_options: Options) -> None:
    postfix.configure(**relay_options(password="CANARY-1"))
    postfix.configure(conduct=KEEP, **relay_options(password="CANARY-2"))
    text = json.dumps(postfix.configure(change=False, revert=True)["diff"])
    assert "[smtp.example.net]:587 ******** (changed)" in text and "CANARY" not in text


def test_going_back_to_nothing(postfix: t.Any, relay_options: Options) -> None:
    before = postfix.files()
    postfix.configure(conduct=KEEP, **relay_options())
    assert postfix.configure(revert=True)["changed"] and postfix.files() == before
    assert not postfix.configure(revert=True)["changed"] and postfix.files() == before


def test_where_nothing_is_kept_the_configuration_stays(postfix: t.Any, relay_options: Options) -> None:
    postfix.configure(**relay_options())
    before = postfix.files()
    assert not postfix.configure(revert=True)["changed"] and postfix.files() == before


def test_the_one_before_all_that_is_not_final_is_kept_and_healing_is_no_change_of_it(postfix: t.Any, relay_options: Options) -> None:
    postfix.configure(**relay_options(password="a"))
    for password in ("b", "c"):
        postfix.configure(conduct=KEEP, **relay_options(password=password))
    assert sorted(path.name for path in postfix.own.iterdir() if path.is_dir()) == ["1", "3"], "b was never made final"
    postfix.main.write_text(postfix.main.read_text().replace("outpost_primary_yes = yes", "outpost_primary_yes = hand"))
    assert postfix.configure(conduct=KEEP, **relay_options(password="c"))["changed"]
    postfix.configure(revert=True)
    assert "me:a\n" in (postfix.own / "1" / "sasl_passwd").read_text() and not (postfix.own / "3").exists()


def test_what_the_administrator_changes_meanwhile_stays_when_going_back(postfix: t.Any, relay_options: Options) -> None:
    postfix.configure(**relay_options())
    postfix.configure(conduct=KEEP, **relay_options(host="other.example.net"))
    postfix.main.write_text(postfix.main.read_text().replace("# the end", "biff = no"))
    postfix.configure(revert=True)
    assert postfix.parameters()["biff"] == "no"
    assert postfix.parameters()["default_transport"] == "outpost_primary:[smtp.example.net]:587"


def test_tables_that_are_gone_can_not_be_gone_back_to(postfix: t.Any, relay_options: Options) -> None:
    postfix.configure(**relay_options())
    postfix.configure(conduct=KEEP, **relay_options(password="other"))
    (postfix.own / "1" / "sasl_passwd").rename(postfix.root / "x")
    (postfix.own / "1" / "aliases").unlink()
    (postfix.own / "1").rmdir()
    before = postfix.files()
    with pytest.raises(PostfixError, match="no longer in"):
        postfix.configure(revert=True)
    assert postfix.files() == before


def test_absent_forgets_what_was_kept(postfix: t.Any, relay_options: Options) -> None:
    before = postfix.files()
    postfix.configure(**relay_options())
    postfix.configure(conduct=KEEP, **relay_options(password="other"))
    postfix.configure(conduct=KEEP)
    assert postfix.files() == before
