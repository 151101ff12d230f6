# SPDX-License-Identifier: GPL-3.0-or-later
"""The choice of a container runtime, on kinds of machines that are not at hand."""

from __future__ import annotations

import dataclasses
import resource

import pytest
from riglib import runtime
from riglib.process import RigError

PODMAN_MACHINE = runtime.Facts(
    programs=frozenset(("podman", "netavark", "aardvark-dns", "iptables", "mmdebstrap", "ssh", "ssh-keygen")),
    wanted="",
    root=True,
    cgroup_v2=True,
    oci_runtime="crun",
    network_backend="netavark",
    sys_resource=True,
    open_files=1048576,
    processes=resource.RLIM_INFINITY,
)
DOCKER_MACHINE = dataclasses.replace(
    PODMAN_MACHINE,
    programs=frozenset(("docker", "mmdebstrap", "ssh", "ssh-keygen")),
    root=False,
    oci_runtime="",
    network_backend="",
)
OLD_CGROUPS = dataclasses.replace(
    PODMAN_MACHINE, programs=PODMAN_MACHINE.programs | {"runc"}, cgroup_v2=False, sys_resource=False, open_files=1024
)


def pairs(options: list[str]) -> list[tuple[str, str]]:
    return list(zip(options, options[1:]))


def test_an_ordinary_podman_needs_no_workaround() -> None:
    assert runtime.base_command(PODMAN_MACHINE) == ["podman"]
    options = runtime.run_options(PODMAN_MACHINE)
    assert "--systemd=always" in options
    assert "--ulimit" not in options
    assert not any("SYSTEMD_PROC_CMDLINE" in word for word in options)
    assert "--privileged" not in options


def test_cgroup_version_1_needs_runc_and_a_word_to_systemd() -> None:
    assert runtime.base_command(OLD_CGROUPS) == ["podman", "--runtime", "runc"]
    assert any(word.startswith("SYSTEMD_PROC_CMDLINE=") for word in runtime.run_options(OLD_CGROUPS))
    with_runc = dataclasses.replace(OLD_CGROUPS, oci_runtime="runc")
    assert runtime.base_command(with_runc) == ["podman"]


def test_limits_stay_below_those_of_a_confined_process() -> None:
    options = pairs(runtime.run_options(OLD_CGROUPS))
    assert ("--ulimit", "nofile=1024:1024") in options
    assert ("--ulimit", "nproc=16384:16384") in options


@pytest.mark.parametrize(
    ("cgroup_v2", "expected"),
    [(True, ("--cgroupns", "private")), (False, ("--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"))],
)
def test_docker_is_told_what_podman_does_for_systemd(cgroup_v2: bool, expected: tuple[str, str]) -> None:
    facts = dataclasses.replace(DOCKER_MACHINE, cgroup_v2=cgroup_v2)
    assert runtime.base_command(facts) == ["docker"]
    options = runtime.run_options(facts)
    assert "--systemd=always" not in options
    assert "--privileged" in options
    assert ("--tmpfs", "/run") in pairs(options)
    assert expected in pairs(options)


def test_podman_is_preferred_and_the_environment_decides() -> None:
    both = dataclasses.replace(PODMAN_MACHINE, programs=PODMAN_MACHINE.programs | {"docker"})
    assert runtime.choose(both) == "podman"
    assert runtime.choose(dataclasses.replace(both, wanted="docker")) == "docker"
    with pytest.raises(RigError, match="OUTPOST_SMTP_RUNTIME is 'lxc'"):
        runtime.choose(dataclasses.replace(both, wanted="lxc"))


def test_a_machine_that_can_run_a_lab_passes() -> None:
    for facts in (PODMAN_MACHINE, DOCKER_MACHINE, OLD_CGROUPS):
        runtime.check(facts)


def test_missing_packages_are_named() -> None:
    nothing = dataclasses.replace(PODMAN_MACHINE, programs=frozenset(), cgroup_v2=False)
    with pytest.raises(RigError) as error:
        runtime.check(nothing)
    assert str(error.value).endswith(
        "apt-get install aardvark-dns iptables mmdebstrap netavark openssh-client podman runc"
    )
    assert runtime.missing_packages(dataclasses.replace(DOCKER_MACHINE, programs=frozenset(), wanted="docker")) == [
        "docker.io",
        "mmdebstrap",
        "openssh-client",
    ]


def test_podman_without_root_or_without_dns_is_refused() -> None:
    with pytest.raises(RigError, match="as root"):
        runtime.check(dataclasses.replace(PODMAN_MACHINE, root=False))
    with pytest.raises(RigError, match="network backend is cni"):
        runtime.check(dataclasses.replace(PODMAN_MACHINE, network_backend="cni"))
