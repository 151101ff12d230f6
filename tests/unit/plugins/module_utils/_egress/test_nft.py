# SPDX-License-Identifier: GPL-3.0-or-later
"""Listings recorded from nft 0.9.8, 1.0.6 and 1.1.3 (one rule set), and a stand-in for the nft command that fails in known ways."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import nft
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Nft

VERSIONS = ["0.9.8", "1.0.6", "1.1.3"]


def listing(version: str) -> t.List[nft.Json]:
    text = (Path(__file__).parent / "listings" / f"nft-{version}.json").read_text()
    return t.cast(t.List[nft.Json], json.loads(text)["nftables"])


@pytest.mark.parametrize("version", VERSIONS)
def test_all_versions_list_the_same(version: str) -> None:
    assert nft.normalised(listing(version)) == nft.normalised(listing("1.0.6"))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_listing_survives_being_stored(version: str) -> None:
    normalised = nft.normalised(listing(version))
    assert json.loads(json.dumps(normalised)) == normalised


@pytest.mark.parametrize("version", VERSIONS)
def test_counts_and_handles_do_not_matter(version: str) -> None:
    later = listing(version)
    for number, entry in enumerate(later):
        fields = next(iter(entry.values()))
        fields["handle"] = 1000 + number
        if "counter" in entry:
            fields.update(packets=7, bytes=420)
    assert nft.normalised(later) == nft.normalised(listing(version))
    assert nft.counters(later) == {"accepted": 7, "refused": 7, "refused_forwarded": 0}


def drop_last_rule(table: t.List[nft.Json]) -> None:
    del table[max(index for index, entry in enumerate(table) if "rule" in entry)]


def swap_rules(table: t.List[nft.Json]) -> None:
    first, second = (index for index, entry in enumerate(table) if entry.get("rule", {}).get("chain") == "refuse")
    table[first], table[second] = table[second], table[first]


def add_accept(table: t.List[nft.Json]) -> None:
    table.append({"rule": {"family": "inet", "table": "outpost_smtp", "chain": "smtp", "handle": 99, "expr": [{"accept": None}]}})


def add_chain(table: t.List[nft.Json]) -> None:
    table.append({"chain": {"family": "inet", "table": "outpost_smtp", "name": "x", "handle": 99}})


def change_policy(table: t.List[nft.Json]) -> None:
    next(entry for entry in table if entry.get("chain", {}).get("name") == "output")["chain"]["policy"] = "drop"


def change_address(table: t.List[nft.Json]) -> None:
    rule = next(entry["rule"] for entry in table if "2001:db8::11" in json.dumps(entry))
    rule["expr"][0]["match"]["right"]["set"].remove("2001:db8::11")


def make_dormant(table: t.List[nft.Json]) -> None:
    next(entry["table"] for entry in table if "table" in entry)["flags"] = ["dormant"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("change", [drop_last_rule, swap_rules, add_accept, add_chain, change_policy, change_address, make_dormant])
def test_every_change_that_filters_otherwise_is_seen(version: str, change: t.Callable[[t.List[nft.Json]], None]) -> None:
    table = copy.deepcopy(listing(version))
    change(table)
    assert nft.normalised(table) != nft.normalised(listing(version))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_mark_is_found(version: str) -> None:
    table = listing(version)
    assert nft.is_ours(table)
    assert not nft.is_ours([entry for entry in table if entry.get("chain", {}).get("name") != "managed_by_outpost_smtp"])


def test_a_table_without_counters_has_counted_nothing() -> None:
    assert nft.counters(None) == {"accepted": 0, "refused": 0, "refused_forwarded": 0}


def execute(arguments: t.Sequence[str], text: str) -> t.Tuple[int, str, str]:
    done = subprocess.run(arguments, input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def command(tmp_path: Path) -> t.Callable[[str], Nft]:
    """An nft command that does what a shell script says, and writes down its arguments and input."""

    def make(script: str) -> Nft:
        path = tmp_path / "nft"
        path.write_text(f"#!/bin/sh\necho \"$@\" >> {tmp_path}/arguments\ncat >> {tmp_path}/input\n{script}\n")
        path.chmod(0o755)
        return Nft(str(path), execute)

    return make


def test_the_same_command_is_found_whatever_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path is written into the units, so sudo's secure_path must not make another run of it."""
    links = {"/sbin/nft", "/usr/sbin/nft", "/opt/nft/nft"}
    monkeypatch.setattr(shutil, "which", lambda name, path: next((f"{d}/{name}" for d in path.split(":") if f"{d}/{name}" in links), None))
    for path in ("/sbin:/bin:/usr/sbin:/usr/bin", "/usr/sbin:/sbin", "/opt/nft", ""):
        monkeypatch.setenv("PATH", path)
        assert nft.find() == "/usr/sbin/nft"
    links -= {"/sbin/nft", "/usr/sbin/nft"}
    assert nft.find() is None
    monkeypatch.setenv("PATH", "/opt/nft")
    assert nft.find() == "/opt/nft/nft"


def test_no_table(command: t.Callable[[str], Nft]) -> None:
    assert command("echo 'Error: No such file or directory' >&2; exit 1").own_table() is None


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("kill -SEGV $$", "named set"),
        ("exit 139", "named set"),
        ("echo 'netlink: Error: cache initialization failed: Operation not permitted' >&2; exit 1", "CAP_NET_ADMIN"),
        ("echo 'Error: JSON support not compiled-in' >&2; exit 1", "JSON support not compiled-in"),
        ("exit 3", "exit status 3"),
        ("echo 'table inet x'", "not understood"),
    ],
)
def test_a_listing_that_fails_is_never_taken_for_no_rules(command: t.Callable[[str], Nft], script: str, message: str) -> None:
    for question in (command(script).own_table, command(script).chains):
        with pytest.raises(EgressError, match=message):
            question()


def test_check_and_load_feed_the_text(command: t.Callable[[str], Nft], tmp_path: Path) -> None:
    command("").check("one\n")
    command("").load("two\n")
    assert (tmp_path / "arguments").read_text() == "-c -f -\n-f -\n"
    assert (tmp_path / "input").read_text() == "one\ntwo\n"


@pytest.mark.parametrize("action", ["check", "load"])
def test_a_refused_text_says_why(command: t.Callable[[str], Nft], action: str) -> None:
    with pytest.raises(EgressError, match="syntax error, unexpected drop") as caught:
        getattr(command("echo '/dev/stdin:3:1-4: Error: syntax error, unexpected drop' >&2; echo more >&2; exit 1"), action)("drop")
    assert "more" in caught.value.facts["stderr"]


def versioned(version: str, ruleset: str) -> str:
    """A shell script for an nft of that version, whose listing of all rules is done by the commands `ruleset`."""
    rule = '{"rule": {"family": "inet", "table": "%s", "chain": "c", "handle": 1, "expr": []}}'
    listing = '{"nftables": [{"metainfo": {}}, {"chain": {"family": "inet", "table": "a", "name": "c"}}, %s, %s]}'
    text = listing % (rule % "a", rule % "b")
    return f"case \"$*\" in --version) echo 'nftables v{version} (some name)'; exit ;; *ruleset) {ruleset} ;; *) ;; esac; echo '{text}'"


@pytest.mark.parametrize(
    ("version", "ruleset", "asked"),
    [
        ("1.0.6", "", ["-j list chains", "-j -t list ruleset"]),
        ("1.1.3", "", ["-j list chains", "-j -t list ruleset"]),
        ("0.9.8", "", ["-j -t list ruleset"]),
        ("1.0.6", "kill -SEGV $$", ["-j list chains", "-j -t list ruleset", "-j list table inet a"]),
    ],
    ids=["in one listing", "in one listing, newer", "in the one that reads all sets", "where that crashes"],
)
def test_the_rules_of_some_tables(command: t.Callable[[str], Nft], tmp_path: Path, version: str, ruleset: str, asked: t.List[str]) -> None:
    nft_command = command(versioned(version, ruleset))
    assert [chain["table"] for chain in nft_command.chains()] == ["a"]
    found = nft_command.tables([("inet", "a")])
    assert {name: [next(iter(entry)) for entry in entries] for name, entries in found.items()} == {("inet", "a"): ["chain", "rule"]}
    assert (tmp_path / "arguments").read_text().splitlines() == ["--version", *asked]
    nft_command.tables([("inet", "a")])
    nft_command.chains()
    nft_command.tables([("inet", "a")])
    again = ["-j -t list ruleset", *asked] if version == "0.9.8" else [*asked[1:], *asked]
    assert (tmp_path / "arguments").read_text().splitlines() == ["--version", *asked, *again], "what was listed may be old"


def test_no_tables_cost_nothing(command: t.Callable[[str], Nft], tmp_path: Path) -> None:
    assert command("").tables([]) == {}
    assert not (tmp_path / "arguments").exists()
