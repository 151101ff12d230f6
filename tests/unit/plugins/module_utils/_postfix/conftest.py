# SPDX-License-Identifier: GPL-3.0-or-later
"""A Postfix that only exists as files: its programs are answered here, from the very files they would read."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import Document, main_cf_key
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configure import Configurator
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Host, Result
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.packages import Platform
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.request import Request

MAIN = """\
# The administrator's file
myhostname = mail.example.org
inet_interfaces = all
mydestination = $myhostname,
    # this comment is inside of the value
    localhost
virtual_alias_maps = hash:/etc/postfix/virtual

# the end
"""
MASTER = """\
# service type  private unpriv  chroot  wakeup  maxproc command
smtp      inet  n       -       y       -       -       smtpd
smtp      unix  -       -       y       -       -       smtp
relay     unix  -       -       y       -       -       smtp
        -o syslog_name=postfix/$service_name
"""


class FakePostfix:
    """One instance in a directory of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = root / "etc" / "postfix"
        self.directory.mkdir(parents=True)
        (root / "etc" / "os-release").write_text("ID=debian\n")
        for path in ("usr/sbin/postconf", "usr/lib/x/sasl2/libplain.so", "etc/ssl/certs/ca-certificates.crt"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text("")
            (root / path).chmod(0o755)
        self.main, self.master = self.directory / "main.cf", self.directory / "master.cf"
        self.own = self.directory / "outpost_smtp"
        self.main.write_text(MAIN)
        self.master.write_text(MASTER)
        self.main.chmod(0o640)
        #: What the running master(8) has read; its absence means that nothing runs. A file, so that a forked run counts too.
        self.loaded = root / "loaded"
        self.calls = root / "calls"
        self.answers: t.Dict[str, Result] = {}

    def run(self, argv: t.Sequence[str], stdin: str) -> Result:
        with self.calls.open("a") as file:
            file.write(" ".join(argv) + "\n")
        if argv[0] in self.answers:
            return self.answers[argv[0]]
        program = os.path.basename(argv[0])
        if program == "postconf" and "-h" in argv:
            return Result(0, "/usr/lib/postfix/sbin\n", "")
        if program == "postconf" and "-d" in argv:
            return Result(0, "mail_version = 3.7.11\nvirtual_alias_maps = $virtual_maps\n", "")
        if program == "postconf":
            assert Path(argv[-1], "main.cf").is_file() and Path(argv[-1], "master.cf").is_file()
            return Result(0, "", "")
        if program == "postmap":
            lines = [line.split(None, 1) for line in Path(argv[-1].partition(":")[2]).read_text().splitlines()]
            table = dict(lines)
            return Result(0, "".join(f"{key}\t{table[key]}\n" for key in stdin.splitlines() if key in table), "")
        if program == "master":
            return Result(1 if self.loaded.exists() else 0, "", "")
        assert program == "postfix", argv
        if argv[-1] == "stop":
            self.loaded.unlink()
        else:
            self.loaded.write_text(self.main.read_text() + self.master.read_text())
        return Result(0, "", "")

    def start(self) -> None:
        self.run(["postfix", "start"], "")

    def told(self) -> t.List[str]:
        """The commands that postfix(1) got so far."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line.split()[-1] for line in lines if line.startswith("postfix ")]

    def configure(self, change: bool = True, **options: t.Any) -> t.Dict[str, t.Any]:
        return self.configurator(**options).configure(change)

    def configurator(self, mechanisms: t.Sequence[str] = (), **options: t.Any) -> Configurator:
        return Configurator(str(self.directory), Request(**options), Host(str(self.directory), self.run), Platform(str(self.root)), mechanisms)

    def parameters(self) -> t.Dict[str, str]:
        entries = Document(self.main.read_text(), main_cf_key).entries()
        return {name: raw.partition("=")[2].strip() for name, raw in entries.items()}

    def files(self) -> t.Dict[str, t.Tuple[int, bytes]]:
        """Everything below the configuration directory, with modes."""
        return {
            str(path.relative_to(self.directory)): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
            for path in self.directory.rglob("*")
        }


@pytest.fixture
def postfix(tmp_path: Path) -> FakePostfix:
    return FakePostfix(tmp_path)


def relay(name: str = "primary", host: str = "smtp.example.net", password: str = "se cret:#$x", option: str = "yes") -> t.Dict[str, t.Any]:
    """Options for one relay, as the role gives them."""
    return {
        "parameters": f"default_transport = outpost_{name}:[{host}]:587\n"
        f"outpost_{name}_maps = @sasl_passwd@\noutpost_{name}_{option} = {option}\nvirtual_alias_maps += @aliases@\n",
        "initial_parameters": "inet_interfaces = loopback-only\n",
        "services": f"outpost_{name} unix - - @smtp_chroot@ - - smtp\n"
        f"  -o smtp_sasl_password_maps=$outpost_{name}_maps -o x=$outpost_{name}_{option}\n",
        "tables": {"aliases": "root admin@example.com\n"},
        "secret_tables": {"sasl_passwd": f"[{host}]:587 me:{password}\n"},
    }


@pytest.fixture
def relay_options() -> t.Callable[..., t.Dict[str, t.Any]]:
    return relay
