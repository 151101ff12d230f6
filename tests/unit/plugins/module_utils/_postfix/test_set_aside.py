# SPDX-License-Identifier: GPL-3.0-or-later
"""An exclusive main.cf: what is not ours is out of force, in its place, and comes back byte for byte."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import Document, main_cf_key
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.set_aside import PREFIX, restored, set_aside

#: Blanks that matter, an entry twice, comments and empty lines inside of entries, what is no assignment, no last newline.
TRICKY = """\
# A comment stays a comment
queue_directory = $base/spool
base = /srv/mail
 # one that looks like a continuation
mydestination = $myhostname,
    # inside

\tlocalhost
relayhost=[a.example.org]
what is this
relayhost = [b.example.org]

restrictions = reject
multi_instance_directories = /etc/postfix-out
biff = yes"""


def aside(text: str, ours: t.Collection[str] = (), services: t.Iterable[str] = ()) -> str:
    return set_aside(Document(text, main_cf_key), ours, services).text


def in_force(text: str) -> t.List[str]:
    return list(Document(text, main_cf_key).entries())


def test_only_what_the_installation_needs_stays_in_force() -> None:
    text = aside(TRICKY)
    assert in_force(text) == ["queue_directory", "base", "multi_instance_directories"]
    assert f"{PREFIX}mydestination = $myhostname,\n{PREFIX}    # inside\n{PREFIX}\n{PREFIX}\tlocalhost\n" in text
    assert text.startswith("# A comment stays a comment\n") and text.endswith(f"{PREFIX}biff = yes")


def test_a_postfix_that_was_built_for_other_places_still_finds_its_own_files() -> None:
    """Parameters without which its programs do not start, or start as somebody else or in the wrong instance (postfix-install(1))."""
    names = ["command", "config", "daemon", "data", "meta", "queue", "shlib"]
    text = "".join(f"{name}_directory = /srv/{name}\n" for name in names)
    text += "mail_owner = mta\nsetgid_group = drop\nmulti_instance_name = out\nmulti_instance_enable = yes\nmaillog_file = /var/log/mta\n"
    assert aside(text) == text


def test_it_comes_back_byte_for_byte() -> None:
    assert restored(aside(TRICKY)) == TRICKY


def test_what_a_service_refers_to_stays_in_force() -> None:
    assert "restrictions" in in_force(aside(TRICKY, services=["smtps inet n - y - - smtpd\n  -o smtpd_client_restrictions=$restrictions\n"]))


def test_of_an_entry_that_is_ours_only_the_one_that_counts_stays() -> None:
    assert Document(aside(TRICKY, ours=["relayhost"]), main_cf_key).entries()["relayhost"] == "relayhost = [b.example.org]\n"
    assert f"{PREFIX}relayhost=[a.example.org]\n" in aside(TRICKY, ours=["relayhost"])


EXCLUSIVE = {
    "parameters": "biff = no\nvirtual_alias_maps += texthash:/x\n",
    "initial_parameters": "inet_interfaces = loopback-only\n",
    "exclusive": True,
}


def test_exclusive_leaves_only_ours_in_force_and_is_done_once(postfix: t.Any) -> None:
    result = postfix.configure(**EXCLUSIVE)
    assert postfix.parameters() == {"biff": "no", "virtual_alias_maps": "texthash:/x", "inet_interfaces": "loopback-only"}
    assert result["parameters"] == ["biff", "inet_interfaces", "mydestination", "myhostname", "virtual_alias_maps"]
    before = postfix.files()
    assert not postfix.configure(**EXCLUSIVE)["changed"] and postfix.files() == before


@pytest.mark.parametrize("ending", ["", "\n", "\n\n"])
@pytest.mark.parametrize("text", ["# x\nmyhostname = a\n", TRICKY])
def test_absent_gives_back_the_very_bytes(postfix: t.Any, text: str, ending: str) -> None:
    postfix.main.write_text(text.rstrip("\n") + ending)
    before = postfix.files()
    postfix.configure(**EXCLUSIVE)
    assert postfix.files() != before
    postfix.configure()
    assert postfix.files() == before


def test_the_administrators_settings_are_in_force_again_once_it_is_off(postfix: t.Any) -> None:
    before = postfix.parameters()
    postfix.configure(**EXCLUSIVE)
    postfix.configure(**{**EXCLUSIVE, "exclusive": False})
    assert postfix.parameters() == {**before, "biff": "no", "virtual_alias_maps": "hash:/etc/postfix/virtual, texthash:/x"}
    assert PREFIX not in postfix.main.read_text()


def test_a_part_of_a_list_that_the_administrator_added_since_is_not_lost(postfix: t.Any) -> None:
    postfix.configure(**{**EXCLUSIVE, "exclusive": False})
    postfix.main.write_text(postfix.main.read_text().replace("hash:/etc/postfix/virtual,", "hash:/etc/postfix/virtual, hash:/new,"))
    postfix.configure(**EXCLUSIVE)
    postfix.configure()
    assert postfix.parameters()["virtual_alias_maps"] == "hash:/etc/postfix/virtual, hash:/new"


def test_what_an_administrator_adds_or_frees_is_set_aside_by_the_next_run(postfix: t.Any) -> None:
    postfix.configure(**EXCLUSIVE)
    text = postfix.main.read_text()
    postfix.main.write_text(text.replace(PREFIX, "", 1) + "relayhost = [c.example.org]\n")
    assert postfix.configure(**EXCLUSIVE)["parameters"] == ["myhostname", "relayhost"]
    postfix.configure()
    assert postfix.parameters()["relayhost"] == "[c.example.org]"


def test_diffs_mask_a_password_that_is_set_aside(postfix: t.Any) -> None:
    password = "smtp_sasl_password_maps = inline:{ {[h]:587 = u:x},\n  # inside\n  {[i]:587 = u:CANARY} }\n"
    postfix.main.write_text(f"{password}ldap_bind_pw = CANARY\nmyhostname = a\n")
    results = [postfix.configure(**options) for options in (EXCLUSIVE, {**EXCLUSIVE, "parameters": "biff = yes\n"}, {})]
    assert "CANARY" not in json.dumps(results)
    assert f"{PREFIX}ldap_bind_pw = ********\n{PREFIX}myhostname = a\n" in results[0]["diff"][0]["after"]
    assert postfix.main.read_text().startswith(password)


def test_lines_set_aside_come_back_though_the_memory_of_it_is_lost(postfix: t.Any) -> None:
    before = postfix.main.read_text()
    postfix.configure(exclusive=True)
    for path in postfix.own.iterdir():
        path.unlink()
    postfix.own.rmdir()
    assert postfix.configure()["changed"]
    assert postfix.main.read_text() == before and not postfix.own.exists()
