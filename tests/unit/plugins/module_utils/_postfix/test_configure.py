# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole calls against a Postfix that is made of files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configure import compatibility_level
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.directory import OwnDirectory
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result

Options = t.Callable[..., t.Dict[str, t.Any]]


def test_a_first_run_adds_what_is_ours_and_leaves_the_rest(postfix: t.Any, relay_options: Options) -> None:
    before_main, before_master = postfix.main.read_text(), postfix.master.read_text()
    result = postfix.configure(**relay_options())
    assert result["changed"] and result["parameters"] == ["default_transport", "outpost_primary_maps", "outpost_primary_yes", "virtual_alias_maps"]
    parameters = postfix.parameters()
    assert parameters["default_transport"] == "outpost_primary:[smtp.example.net]:587"
    assert parameters["virtual_alias_maps"] == f"hash:/etc/postfix/virtual, texthash:{postfix.own}/1/aliases"
    assert parameters["inet_interfaces"] == "all"  # somebody has configured this Postfix before
    kept = [line for line in before_main.splitlines() if not line.startswith("virtual_alias_maps")]
    assert [line for line in postfix.main.read_text().splitlines() if line in kept] == kept
    assert postfix.master.read_text().startswith(before_master) and "outpost_primary unix - - y - - smtp" in postfix.master.read_text()


def test_our_client_runs_in_the_chroot_of_the_hosts_own(postfix: t.Any, relay_options: Options) -> None:
    """Somebody may have taken it out, so that there is none whose files are kept up to date."""
    postfix.master.write_text(postfix.master.read_text().replace("smtp      unix  -       -       y", "smtp      unix  -       -       n"))
    postfix.configure(**relay_options())
    assert "outpost_primary unix - - n - - smtp" in postfix.master.read_text()


def test_a_table_of_ours_that_nobody_remembers_does_not_stay_in_a_list(postfix: t.Any, relay_options: Options) -> None:
    postfix.main.write_text("virtual_alias_maps = hash:/x, texthash:/etc/postfix/outpost_smtp/7/aliases\n")
    postfix.configure(**relay_options())
    assert postfix.parameters()["virtual_alias_maps"] == f"hash:/x, texthash:{postfix.own}/1/aliases"


def test_a_second_run_touches_nothing(postfix: t.Any, relay_options: Options) -> None:
    postfix.start()
    postfix.configure(**relay_options())
    before, told = postfix.files(), postfix.told()
    assert postfix.configure(**relay_options()) == {
        "changed": False,
        "diff": [],
        "parameters": [],
        "reloaded": False,
        "running": True,
        "enabled": None,
        "oauth_proxy": False,
        "version": "3.7.11",
        "missing_packages": [],
        "previous_kept": False,
        "findings": [],
        "preflight": [],
        "rolled_back": False,
    }
    assert (postfix.files(), postfix.told()) == (before, told)


def test_a_run_that_changes_nothing_starts_three_programs(postfix: t.Any, relay_options: Options) -> None:
    postfix.start()
    postfix.configure(**relay_options())
    before = postfix.calls.read_text()
    postfix.configure(**relay_options())
    asked = postfix.calls.read_text()[len(before) :].splitlines()
    of_any_instance = [line.replace(str(postfix.directory), "") for line in asked if not line.endswith("config_directory") and "multi_" not in line]
    assert of_any_instance == [
        "postconf -d mail_version daemon_directory virtual_alias_maps inet_interfaces inet_protocols",
        "/usr/lib/postfix/sbin/master -t -c ",
        "postconf -c  -h queue_directory",
    ]


def test_what_only_a_change_needs_is_not_loaded_by_others() -> None:
    name = "ansible_collections.outpost.smtp.plugins.module_utils"
    script = f"import sys, {name}._postfix.configure; print([one for one in sys.modules if one.startswith('{name}.')])"
    path = os.pathsep.join(entry for entry in sys.path if entry)
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONPATH": path}).stdout
    for module in ("_postfix.examination", "_postfix.witness", "_postfix.lint", "_postfix.effective", "_smtp.client", "_egress"):
        assert f"'{name}.{module}" not in loaded, module


@pytest.mark.parametrize("configured_before", [False, True])
def test_check_mode_tells_what_a_run_does_and_touches_nothing(postfix: t.Any, relay_options: Options, configured_before: bool) -> None:
    postfix.start()
    if configured_before:
        postfix.configure(**relay_options(password="other"))
    before, told = postfix.files(), postfix.told()
    predicted = postfix.configure(change=False, **relay_options())
    assert (postfix.files(), postfix.told()) == (before, told)
    assert predicted == postfix.configure(**relay_options()) and predicted["changed"] and predicted["reloaded"]


def test_secrets_have_their_mode_from_the_start_and_are_never_shown(postfix: t.Any, relay_options: Options) -> None:
    os.umask(0)
    result = postfix.configure(**relay_options(password="CANARY-1"))
    result2 = postfix.configure(**relay_options(password="CANARY-2"))
    os.umask(0o022)
    holders = [name for name, (_mode, content) in postfix.files().items() if b"CANARY" in content]
    assert holders == ["outpost_smtp/2/sasl_passwd"]  # the old one is gone
    assert postfix.files()["outpost_smtp/2/sasl_passwd"][0] & 0o777 == 0o600
    assert postfix.files()["outpost_smtp/state.json"][0] & 0o777 == 0o600
    assert "CANARY" not in json.dumps([result, result2])
    assert "[smtp.example.net]:587 ******** (changed)" in result2["diff"][-1]["after"]


def test_an_administrators_password_in_main_cf_is_masked_in_diffs(postfix: t.Any, relay_options: Options) -> None:
    secrets = "smtp_sasl_password_maps = hash:/x,\n  static:u:CANARY1\n#smtp_sasl_password_maps = static:u:CANARY2\nldap_bind_pw = CANARY3\n"
    postfix.main.write_text(secrets + postfix.main.read_text())
    postfix.master.write_text(postfix.master.read_text() + "x unix - - n - - smtp\n  -o smtp_sasl_password_maps=inline:{a=CANARY4}\n")
    result = postfix.configure(**relay_options())
    assert "CANARY" not in json.dumps(result) and "ldap_bind_pw = ********" in result["diff"][0]["before"]
    assert postfix.main.read_text().startswith(secrets)


@pytest.mark.parametrize(
    "secret",
    [
        "#smtp_sasl_password_maps =\n#   static:u:CANARY\n",
        "# smtp_sasl_password_maps = inline:{\n#   {[h]:587 = u:CANARY} }\n",
        "credentials = static:u:CANARY\n",  # for smtp_sasl_password_maps = $credentials
        "credentials = inline:{ {[h]:587 = u:x},\n  {[i]:587 = u:CANARY} }\n",
        "credentials = static:{u:CANARY}\n",
    ],
)
def test_a_password_that_takes_several_lines_or_has_another_name_is_masked(postfix: t.Any, secret: str) -> None:
    postfix.main.write_text(secret + "#\n# uid: static:5000\nvirtual_uid_maps = static:5000\n")
    before = postfix.configure(parameters="biff = no\n")["diff"][0]["before"]
    assert "CANARY" not in before and before.endswith("********\n#\n# uid: static:5000\nvirtual_uid_maps = static:5000\n")


def test_a_table_that_was_opened_to_others_or_edited_is_made_again(postfix: t.Any, relay_options: Options) -> None:
    for damage in (lambda path: path.chmod(0o644), lambda path: path.write_text("x y\n"), lambda path: path.unlink()):
        postfix.configure(**relay_options())
        path = max(postfix.own.glob("*/sasl_passwd"))
        damage(path)
        assert postfix.configure(**relay_options())["changed"]
        assert not postfix.configure(**relay_options())["changed"]


def test_absent_gives_back_the_very_files(postfix: t.Any, relay_options: Options) -> None:
    for ending in ("", "\n", "\n\n", " "):
        postfix.main.write_text(postfix.main.read_text().rstrip() + ending)
        before = postfix.files()
        postfix.configure(**relay_options())
        postfix.configure(**relay_options(host="other.example.net"))
        result = postfix.configure()
        assert result["changed"] and postfix.files() == before
        assert not postfix.configure()["changed"] and postfix.files() == before


def test_what_is_no_longer_wanted_is_taken_back(postfix: t.Any) -> None:
    postfix.configure(parameters="myhostname = a.example.org\nbiff = no\n")
    postfix.configure(parameters="biff = no\n")
    assert postfix.parameters()["myhostname"] == "mail.example.org" and postfix.parameters()["biff"] == "no"


def test_what_somebody_changed_since_is_not_taken_back(postfix: t.Any) -> None:
    postfix.configure(parameters="myhostname = a.example.org\n")
    postfix.main.write_text(postfix.main.read_text().replace("a.example.org", "hand.example.org"))
    postfix.configure(parameters="biff = no\n")
    assert postfix.parameters()["myhostname"] == "hand.example.org"


def test_drift_is_corrected_and_the_first_value_remembered(postfix: t.Any) -> None:
    postfix.configure(parameters="myhostname = a.example.org\n")
    postfix.main.write_text(postfix.main.read_text().replace("a.example.org", "hand.example.org"))
    assert postfix.configure(parameters="myhostname = a.example.org\n")["parameters"] == ["myhostname"]
    postfix.configure()
    assert postfix.parameters()["myhostname"] == "mail.example.org"


def test_an_administrators_addition_to_a_shared_list_survives_both_ways(postfix: t.Any, relay_options: Options) -> None:
    postfix.configure(**relay_options())
    text = postfix.main.read_text()
    postfix.main.write_text(text.replace("hash:/etc/postfix/virtual,", "hash:/etc/postfix/virtual, hash:/new,"))
    assert not postfix.configure(**relay_options())["parameters"]
    postfix.configure(**relay_options(password="other"))
    assert postfix.parameters()["virtual_alias_maps"] == f"hash:/etc/postfix/virtual, hash:/new, texthash:{postfix.own}/2/aliases"
    postfix.configure()
    assert postfix.parameters()["virtual_alias_maps"] == "hash:/etc/postfix/virtual, hash:/new"


@pytest.mark.parametrize("value", ["hash:/a, texthash:/y", "texthash:/y, hash:/a", "texthash:/y"])
def test_an_element_that_the_administrator_has_already_stays_theirs(postfix: t.Any, value: str) -> None:
    postfix.main.write_text(f"virtual_alias_maps = {value}\n")
    before = postfix.files()
    postfix.configure(parameters="virtual_alias_maps += texthash:/y, texthash:/z\n")
    assert postfix.parameters()["virtual_alias_maps"] == f"{value}, texthash:/z"
    assert not postfix.configure(parameters="virtual_alias_maps += texthash:/y, texthash:/z\n")["changed"]
    postfix.configure(parameters="virtual_alias_maps += texthash:/y\n")
    postfix.configure()
    assert postfix.files() == before


def test_a_list_that_was_ours_as_a_whole_has_the_administrators_value_again_when_we_only_add(postfix: t.Any) -> None:
    before = postfix.files()
    postfix.configure(parameters="virtual_alias_maps = texthash:/y\n")
    postfix.configure(parameters="virtual_alias_maps += texthash:/y\n")
    assert postfix.parameters()["virtual_alias_maps"] == "hash:/etc/postfix/virtual, texthash:/y"
    postfix.configure(parameters="virtual_alias_maps = texthash:/z\n")
    postfix.configure()
    assert postfix.files() == before


def test_lines_added_below_our_block_are_replaced_there_once(postfix: t.Any) -> None:
    options = {"parameters": "biff = no\n"}
    before = postfix.main.read_text()
    postfix.configure(**options)
    postfix.main.write_text(postfix.main.read_text() + "biff = yes")  # no newline at its end
    assert postfix.configure(**options)["changed"]
    assert not postfix.configure(**options)["changed"]
    postfix.configure()
    assert postfix.main.read_text() == before + "biff = yes"


def test_a_lost_memory_leaves_no_reference_to_tables_that_are_gone(postfix: t.Any, relay_options: Options) -> None:
    postfix.configure(**relay_options())
    for path in sorted(postfix.own.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    postfix.configure(**relay_options(password="other"))
    assert postfix.parameters()["virtual_alias_maps"] == f"hash:/etc/postfix/virtual, texthash:{postfix.own}/1/aliases"
    assert postfix.main.read_text().count("default_transport") == 1


def test_without_a_main_cf_the_initial_parameters_apply_and_stay_applied(postfix: t.Any, relay_options: Options) -> None:
    postfix.main.unlink()
    postfix.configure(**relay_options())
    assert postfix.parameters()["inet_interfaces"] == "loopback-only" and postfix.main.stat().st_mode & 0o777 == 0o644
    assert postfix.parameters()["virtual_alias_maps"] == f"texthash:{postfix.own}/1/aliases"
    assert not postfix.configure(**relay_options())["changed"]
    postfix.start()
    predicted = postfix.configure(change=False)
    assert predicted == postfix.configure() and not predicted["running"]
    assert not postfix.main.exists() and postfix.told()[-1] == "stop" and not postfix.own.exists()


def test_an_untouched_main_cf_of_an_rpm_counts_as_unconfigured(postfix: t.Any, relay_options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "ansible_collections.outpost.smtp.plugins.module_utils._postfix.host.find_program"
    monkeypatch.setattr(module, lambda name: f"/usr/bin/{name}")
    postfix.answers["rpm"] = Result(1, f"S.5....T.  c {postfix.main}\n", "")
    assert "inet_interfaces" not in postfix.configure(change=False, **relay_options())["parameters"]
    postfix.answers["rpm"] = Result(1, f"S.5....T.  c {postfix.master}\n", "")
    assert "inet_interfaces" in postfix.configure(**relay_options())["parameters"]
    postfix.answers["rpm"] = Result(1, f"S.5....T.  c {postfix.main}\n", "")
    assert not postfix.configure(**relay_options())["changed"]


def test_a_stopped_postfix_is_configured_and_not_started(postfix: t.Any) -> None:
    result = postfix.configure(parameters="biff = no\n")
    assert result["changed"] and not result["running"] and not result["reloaded"] and postfix.told() == []


@pytest.mark.parametrize(
    "answer",
    [Result(1, "", "postconf: fatal: bad"), Result(0, "", "postconf: warning: x/main.cf: unused parameter: default_transport=1")],
)
def test_what_postfix_refuses_changes_nothing(postfix: t.Any, relay_options: Options, answer: Result) -> None:
    postfix.configure(parameters="biff = no\n")
    before = postfix.files()
    real = postfix.run
    postfix.run = lambda argv, stdin: answer if argv[0] == "postconf" and "-c" in argv else real(argv, stdin)
    with pytest.raises(PostfixError, match="nothing was changed"):
        postfix.configure(**relay_options())
    assert postfix.files() == before


def test_a_warning_about_the_administrators_own_parameter_is_not_ours_to_judge(postfix: t.Any) -> None:
    real = postfix.run
    warning = Result(0, "", "postconf: warning: x/main.cf: unused parameter: their_own=1")
    postfix.run = lambda argv, stdin: warning if argv[0] == "postconf" and "-c" in argv else real(argv, stdin)
    assert postfix.configure(parameters="biff = no\n")["changed"]


def test_a_table_that_reads_back_differently_changes_nothing(postfix: t.Any, relay_options: Options) -> None:
    before = postfix.files()
    postfix.answers["postmap"] = Result(0, "[smtp.example.net]:587\tme:cut\n", "")
    with pytest.raises(PostfixError, match="read back|back as it was written") as caught:
        postfix.configure(**relay_options())
    assert "me:" not in str(caught.value)
    assert postfix.files() == before


def test_patterns_that_postfix_would_ignore_change_nothing(postfix: t.Any) -> None:
    options = {"parameters": "a = @x@\n", "tables": {"x": "/(/ b\n"}, "table_types": {"x": "regexp"}}
    before = postfix.files()
    postfix.answers["postmap"] = Result(1, "", "postmap: warning: regexp map x, line 1: Unmatched ( or \\(")
    with pytest.raises(PostfixError, match="does not accept table x: regexp map x, line 1.*; nothing was changed"):
        postfix.configure(**options)
    assert postfix.files() == before
    postfix.answers["postmap"] = Result(1, "", "")
    postfix.configure(**options)
    assert postfix.parameters()["a"] == f"regexp:{postfix.own}/1/x"


def test_bytes_that_are_no_text_survive(postfix: t.Any) -> None:
    postfix.main.write_bytes(b"# caf\xe9\n" + postfix.main.read_bytes())
    result = postfix.configure(parameters="biff = no\n")
    json.dumps(result).encode()
    assert postfix.main.read_bytes().startswith(b"# caf\xe9\n")


def test_missing_packages_are_named_as_on_this_system(postfix: t.Any, relay_options: Options) -> None:
    (postfix.root / "usr/lib/x/sasl2/libplain.so").unlink()
    assert postfix.configurator(["plain", "login"], **relay_options()).missing_packages == ["libsasl2-modules"]
    (postfix.root / "usr/sbin/postconf").unlink()
    (postfix.root / "etc/ssl/certs/ca-certificates.crt").unlink()
    (postfix.root / "etc/os-release").write_text('ID="rocky"\nID_LIKE="rhel centos fedora"\n')
    configurator = postfix.configurator(["login"], parameters="a = @ca_bundle@\n")
    assert configurator.missing_packages == ["postfix", "cyrus-sasl-plain", "ca-certificates"]
    assert configurator.configure(change=False)["changed"]
    assert postfix.configurator().missing_packages == []  # nothing is needed to take everything back


def test_what_is_built_in_is_foretold_before_postfix_is_installed(postfix: t.Any) -> None:
    options = {"parameters": "proxy_write_maps += proxy:internal:ours\n"}
    postfix.main.unlink()
    program = postfix.root / "usr/sbin/postconf"
    program.unlink()
    predicted = postfix.configure(change=False, **options)
    program.write_text("")
    program.chmod(0o755)
    assert predicted["diff"] == postfix.configure(change=False, **options)["diff"]


def test_a_ca_file_that_is_none_is_named_before_anything_is_installed_or_touched(postfix: t.Any, pki: t.Any) -> None:
    (postfix.root / "usr/sbin/postconf").unlink()
    os.mkfifo(postfix.root / "fifo")  # opening one would wait for a writer for ever
    (postfix.root / "loop").symlink_to("loop")
    (postfix.root / "shadow").write_text("root:$6$CANARY:20000:0:99999:7:::\n")
    # The bundle, which anybody may read, would show the key of a server whose certificate and key are in one file.
    (postfix.root / "both").write_text(Path(pki.path("root")).read_text() + Path(pki.key("root")).read_text())
    before = postfix.files()
    faults = {"nowhere": "does not exist", "fifo": "is no regular file", ".": "is no regular file", "loop": "symbolic links"}
    for name, fault in {**faults, "shadow": "holds no certificate in PEM form", "both": "holds a private key"}.items():
        with pytest.raises(PostfixError, match=f"ca_files: {postfix.root / name}.* {fault}") as caught:
            postfix.configurator(parameters="a = @ca_bundle_1@\n", ca_files=[str(postfix.root / name)])
        assert "CANARY" not in str(caught.value)
    assert postfix.files() == before


def test_a_ca_file_may_have_comments_in_any_language(postfix: t.Any, pki: t.Any) -> None:
    path = postfix.root / "ca.pem"
    path.write_text("# Autoridad de Certificación\n" + Path(pki.path("root")).read_text())
    postfix.configure(parameters="a = @ca_bundle_1@\n", ca_files=[str(path)])
    assert path.read_bytes() in (postfix.own / "1" / "ca-bundle-1.pem").read_bytes()


def test_a_first_run_that_ends_early_leaves_nothing(postfix: t.Any, relay_options: Options) -> None:
    postfix.main.unlink()
    postfix.main.mkdir()
    before = postfix.files()
    with pytest.raises(IsADirectoryError):
        postfix.configure(**relay_options())
    assert postfix.files() == before


def test_two_runs_at_once_do_not_mix(postfix: t.Any) -> None:
    own = OwnDirectory(str(postfix.directory))
    with own.locked(), pytest.raises(PostfixError, match="Another run"), own.locked(timeout=0):
        pass


@pytest.mark.parametrize(
    ("version", "level"),
    [("3.4.14", "2"), ("3.5.8", "2"), ("3.5.25", "3.6"), ("3.10.13", "3.6"), ("3.6-20210101", "3.6"), ("", "3.6")],
)
def test_compatibility_level(version: str, level: str) -> None:
    assert compatibility_level(version) == level


@pytest.mark.parametrize(
    "options",
    [
        {"parameters": "a = @nothing@"},
        {"tables": {"ca_bundle": ""}},
        {"tables": {"x": "a b"}, "table_types": {"x": "btree"}},
        {"tables": {"x": "a b"}, "table_types": {"y": "regexp"}},
        {"tables": {"x": "a b"}, "secret_tables": {"x": "a b"}},
        {"secret_tables": {"x": "a\n"}},
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_read(postfix: t.Any, options: t.Dict[str, t.Any]) -> None:
    with pytest.raises(PostfixError):
        postfix.configure(**options)
    assert not postfix.own.exists()
