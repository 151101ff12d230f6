# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels of ports: only where the policy keeps Postfix from a port that nobody claims. What semanage lists is as Fedora's does."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._egress import nft, selinux_ports
from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError

LISTED = """\
http_port_t                    tcp      80, 81, 443, 488, 8008, 8009, 8443, 9000
mysqld_port_t                  tcp      1186, 3306, 63132-63164
smtp_port_t                    tcp      25, 465, 587{more}
smtp_port_t                    udp      2526
unreserved_port_t              tcp      61001-65535, 1024-32767
"""


class Semanage:
    """The command, with the ports that have been labelled so far."""

    def __init__(self, *labelled: int) -> None:
        self.labelled = list(labelled)
        self.commands: t.List[t.List[str]] = []
        self.code = 0

    def __call__(self, arguments: t.Sequence[str], _text: str) -> t.Tuple[int, str, str]:
        command, _port, *rest = arguments
        assert (command, _port) == ("/usr/sbin/semanage", "port")
        if rest == ["-l", "-n"]:
            return self.code, LISTED.format(more="".join(f", {port}" for port in self.labelled)), ""
        self.commands.append(rest)
        return self.code, "", "ValueError: Port tcp/2526 already defined\n" if self.code else ""


def allowing(*kinds: str) -> selinux_ports.Allowed:
    return lambda kind: kind in kinds


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A host that enforces a policy."""
    (tmp_path / "sys/fs/selinux").mkdir(parents=True)
    (tmp_path / "sys/fs/selinux/enforce").write_text("1")
    monkeypatch.setattr(nft, "find", lambda name: f"/usr/sbin/{name}")
    return str(tmp_path)


STRICT = allowing("smtp_port_t")


def test_a_policy_that_lets_postfix_connect_to_any_port_needs_no_label(root: str) -> None:
    """As those of Fedora and Debian; semanage, which is slow, is not even asked."""
    assert selinux_ports.missing([465, 2526], lambda *_call: pytest.fail("asked"), root, allowing("unreserved_port_t")) == []


def test_a_policy_that_has_no_postfix_needs_no_label(root: str) -> None:
    assert selinux_ports.missing([2526], lambda *_call: pytest.fail("asked"), root, lambda _kind: None) == []


@pytest.mark.parametrize("mode", ["0", None])
def test_what_is_not_enforced_keeps_nobody_from_anything(root: str, mode: t.Optional[str]) -> None:
    enforce = Path(root, "sys/fs/selinux/enforce")
    enforce.write_text(mode) if mode else enforce.unlink()
    assert selinux_ports.missing([2526], lambda *_call: pytest.fail("asked"), root, STRICT) == []


def test_a_port_that_postfix_is_kept_from_gets_the_label_once(root: str) -> None:
    semanage = Semanage()
    assert selinux_ports.missing([465, 2526, 2526], semanage, root, STRICT) == [2526]
    selinux_ports.label([2526], semanage, root)
    assert semanage.commands == [["-a", "-t", "smtp_port_t", "-p", "tcp", "2526"]] and selinux_ports.labelled(root) == [2526]
    assert selinux_ports.missing([465, 2526], Semanage(2526), root, STRICT) == []


def test_only_our_labels_are_taken_away(root: str) -> None:
    selinux_ports.label([2526, 2527], Semanage(), root)
    semanage = Semanage(2526, 10025)
    selinux_ports.unlabel(semanage, root)
    assert semanage.commands == [["-d", "-p", "tcp", "2526"]] and selinux_ports.labelled(root) == []
    selinux_ports.unlabel(lambda *_call: pytest.fail("asked"), root)


@pytest.mark.parametrize("port", [8443, 63140])
def test_a_port_of_another_service_is_left_to_it(root: str, port: int) -> None:
    with pytest.raises(EgressError, match=f"TCP port {port}, which is a port of type (http|mysqld)_port_t"):
        selinux_ports.missing([port], Semanage(), root, STRICT)
    assert selinux_ports.missing([port], Semanage(), root, allowing("http_port_t", "mysqld_port_t")) == []


def test_where_the_label_would_not_help_that_is_said(root: str) -> None:
    with pytest.raises(EgressError, match="not to mail ports either"):
        selinux_ports.missing([2526], Semanage(), root, allowing())


def test_without_semanage_the_command_is_named(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "find", lambda _name: None)
    with pytest.raises(EgressError, match="semanage port -a -t smtp_port_t -p tcp 2526"):
        selinux_ports.missing([2526], lambda *_call: pytest.fail("asked"), root, STRICT)


def test_what_semanage_says_is_told(root: str) -> None:
    semanage = Semanage()
    semanage.code = 1
    with pytest.raises(EgressError, match="already defined"):
        selinux_ports.label([2526], semanage, root)


@pytest.mark.parametrize(
    ("answer", "needed"),
    [
        ("200000 ffffffff 0 ffffffff 17 0", []),
        ("0 ffffffff 0 ffffffff 17 0", None),
        ("0 ffffffff 0 ffffffff 17 1", []),  # the domain is permissive
        ("", []),  # the policy has no such domain: the kernel refuses the question
    ],
)
def test_the_kernel_is_asked_as_libselinux_asks_it(root: str, answer: str, needed: t.Optional[t.List[int]]) -> None:
    """One write to the file `access`, and one read: the answer follows, in hexadecimal, with the flags last."""
    question = "system_u:system_r:postfix_smtp_t:s0 system_u:object_r:unreserved_port_t:s0 26 200000"
    selinux = Path(root, "sys/fs/selinux")
    (selinux / "class/tcp_socket/perms").mkdir(parents=True)
    (selinux / "class/tcp_socket/index").write_text("26")
    (selinux / "class/tcp_socket/perms/name_connect").write_text("22")
    (selinux / "mls").write_text("1")
    # A file that is written to answers with what comes behind.
    (selinux / "access").write_text("-" * len(question) + answer)
    if needed is None:
        with pytest.raises(EgressError, match="SELinux does not let Postfix"):
            selinux_ports.missing([2526], Semanage(), root)
    else:
        assert selinux_ports.missing([2526], Semanage(), root) == needed
        assert (selinux / "access").read_text().startswith(question)
