# SPDX-License-Identifier: GPL-3.0-or-later
"""The configurator on every operating system that is supported, from facts of it (platforms/); `origin` says how they were got."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.packages import SASL_MECHANISMS, Platform
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.tables import BUILT_TYPES

Facts = t.Dict[str, t.Any]

PLATFORMS: t.Dict[str, Facts] = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parent / "platforms").glob("*.json")}
#: What brings a type of map that is not built in; None: nothing does.
MAP_PACKAGES: t.Dict[str, t.Dict[str, t.Optional[str]]] = {
    **dict.fromkeys(("debian11", "debian12", "debian13", "ubuntu2204", "ubuntu2404", "ubuntu2604"), {"lmdb": "postfix-lmdb", "cdb": "postfix-cdb"}),
    **dict.fromkeys(("el8", "el9"), {"lmdb": "postfix-lmdb", "cdb": "postfix-cdb"}),
    **dict.fromkeys(("el10", "fedora"), {"hash": None, "cdb": "postfix-cdb"}),
    **dict.fromkeys(("opensuse_leap", "opensuse_tumbleweed"), {"hash": None, "cdb": None}),
    "alpine": {"hash": None, "lmdb": "postfix-lmdb", "cdb": None},
}
NULL_CLIENT = "compatibility_level = @compatibility_level@\nalias_maps =\n"


def test_every_family_is_there() -> None:
    assert set(PLATFORMS) == set(MAP_PACKAGES)  # facts without expectations would prove nothing


@pytest.fixture(name="facts", params=sorted(PLATFORMS))
def _facts(request: pytest.FixtureRequest) -> Facts:
    return {"name": request.param, **PLATFORMS[request.param]}


@pytest.fixture(name="host")
def _host(postfix: t.Any, facts: Facts) -> t.Any:
    """A host of this platform with Postfix, which nobody has configured yet, and without plug-ins of Cyrus SASL."""
    (postfix.root / "etc/os-release").write_text(facts["os_release"])
    for path in ("usr/lib/x/sasl2/libplain.so", "etc/ssl/certs/ca-certificates.crt"):
        (postfix.root / path).unlink()
    bundle = postfix.root / facts["ca_bundle"].lstrip("/")
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.touch()
    postfix.version, postfix.map_types = facts["mail_version"], list(facts["map_types"])
    postfix.main.unlink()
    postfix.master.write_text(postfix.master.read_text().replace("-       y       -", f"-       {facts['chroot']}       -"))
    return postfix


def install(host: t.Any, facts: Facts, packages: t.Collection[str]) -> None:
    """The plug-ins that packages bring."""
    directory = host.root / facts["plugin_directory"]
    directory.mkdir(parents=True, exist_ok=True)
    for package in packages:
        for plugin in facts["plugins_of_packages"].get(package, ()):
            (directory / f"lib{plugin}.so.3").touch()


def test_a_relay_is_set_up_and_a_second_run_changes_nothing(host: t.Any, facts: Facts, relay_options: t.Callable[..., Facts]) -> None:
    options = {**relay_options(), "initial_parameters": NULL_CLIENT}
    options["parameters"] += "outpost_primary_CAfile = @ca_bundle@\n"
    assert host.configure(**options)["changed"]
    parameters = host.parameters()
    # Postfix 3.5.8 dies of a dotted level; that of its own series is as good everywhere (COMPATIBILITY_README).
    assert parameters["compatibility_level"] == ("2" if facts["name"] == "el8" else "3.6")
    assert parameters["outpost_primary_CAfile"] == facts["ca_bundle"]
    assert f"outpost_primary unix - - {facts['chroot']} - - smtp" in host.master.read_text()
    assert "hash:" not in host.main.read_text().replace("texthash:", "")
    assert not host.configure(**options)["changed"]


@pytest.mark.parametrize("map_type", sorted(BUILT_TYPES))
def test_each_type_of_map_works_or_is_named_with_its_package_or_refused(
    host: t.Any, facts: Facts, relay_options: t.Callable[..., Facts], map_type: str
) -> None:
    options = {**relay_options(), "table_types": {"sasl_passwd": map_type}}
    if map_type in facts["map_types"]:
        assert host.configurator(**options).missing_packages == []
        assert host.configure(**options)["changed"] and not host.configure(**options)["changed"]
        return
    package = MAP_PACKAGES[facts["name"]][map_type]
    if package is None:
        with pytest.raises(PostfixError, match=f"there is no {map_type} for Postfix on this operating system; it has .*texthash"):
            host.configurator(**options)
        return
    assert host.configurator(**options).missing_packages == [package]
    host.map_types.append(map_type)
    assert host.configure(**options)["changed"] and not host.configure(**options)["changed"]


def test_what_a_fresh_system_needs_is_asked_for_at_once(host: t.Any, facts: Facts, relay_options: t.Callable[..., Facts]) -> None:
    (host.root / "usr/sbin/postconf").unlink()
    (host.root / facts["ca_bundle"].lstrip("/")).unlink()
    lmdb = [package for package in [MAP_PACKAGES[facts["name"]].get("lmdb")] if package]
    if facts["name"].startswith(("el", "fedora")):
        lmdb = ["postfix-lmdb"]  # where it is a dependency of postfix it does no harm to ask for it
    if facts["name"].startswith("opensuse"):
        lmdb = []
    options = {**relay_options(), "parameters": "a = @ca_bundle@ @sasl_passwd@\n", "table_types": {"sasl_passwd": "lmdb"}}
    missing = host.configurator(["plain", "login"], **options).missing_packages
    assert missing[0] == "postfix" and set(missing) >= {"ca-certificates", *lmdb} and len(missing) == len(set(missing))
    install(host, facts, missing)
    assert Platform(str(host.root)).missing_plugins(["plain", "login"]) == []
    assert host.configure(change=False, **options)["changed"]


@pytest.mark.parametrize("mechanism", SASL_MECHANISMS)
def test_the_package_of_a_mechanism_brings_its_plugin(host: t.Any, facts: Facts, mechanism: str) -> None:
    missing = host.configurator([mechanism, "external"], parameters="a = b\n").missing_packages
    assert missing
    install(host, facts, missing)
    if facts["name"] == "debian11" and mechanism.startswith("scram"):
        with pytest.raises(PostfixError, match="Cyrus SASL of this host has no scram-sha-"):
            host.configurator([mechanism], parameters="a = b\n")
        return
    assert host.configurator([mechanism, "external"], parameters="a = b\n").missing_packages == []


def test_hash_is_refused_where_it_is_gone_with_what_there_is(postfix: t.Any) -> None:
    (postfix.root / "etc/os-release").write_text(PLATFORMS["el10"]["os_release"])
    postfix.map_types = list(PLATFORMS["el10"]["map_types"])
    with pytest.raises(PostfixError, match="there is no hash .*; it has lmdb, regexp, texthash"):
        postfix.configurator(secret_tables={"sasl": "a b"}, table_types={"sasl": "hash"})
