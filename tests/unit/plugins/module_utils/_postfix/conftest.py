# SPDX-License-Identifier: GPL-3.0-or-later
"""A Postfix that only exists as files: its programs are answered here, from the very files they would read."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import examination, witness
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import Document, main_cf_key
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configure import Configurator
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Host, Result
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import Finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.packages import Platform
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.request import Request
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.tables import BUILT_TYPES
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.transaction import USUAL, Conduct

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


DEFAULTS = {
    "daemon_directory": "/usr/lib/postfix/sbin",
    "inet_interfaces": "all",
    "inet_protocols": "all",
    "virtual_alias_maps": "$virtual_maps",
    "proxy_write_maps": "$smtp_sasl_auth_cache_name $lmtp_sasl_auth_cache_name $address_verify_map $postscreen_cache_map",
}


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
        self.log = root / "mail.log"
        #: What the linter finds in any configuration.
        self.findings: t.List[Finding] = []
        #: Its release, the types of lookup tables that it has, and what happens to a map that is built.
        self.version = "3.7.11"
        self.map_types = ["texthash", "regexp", "hash"]
        self.damage: t.Callable[[str], str] = str

    def run(self, argv: t.Sequence[str], stdin: str) -> Result:
        with self.calls.open("a") as file:
            file.write(" ".join(argv) + "\n")
        if argv[0] in self.answers:
            return self.answers[argv[0]]
        program = os.path.basename(argv[0])
        if argv[-1] == "config_directory":
            return Result(0, f"{self.directory}\n", "")
        if program == "postconf" and "-m" in argv:
            assert Path(argv[-1], "main.cf").is_file()
            return Result(0, "\n".join(self.map_types), "")
        if program == "postconf" and "-x" in argv:
            return Result(0, f"maillog_file = {self.log}\nsyslog_name = postfix\n", "")
        if program == "postconf" and "-h" in argv:
            return Result(0, "/usr/lib/postfix/sbin\n", "")
        if program == "postconf" and "-d" in argv:
            defaults = {**DEFAULTS, "mail_version": self.version}
            return Result(0, "".join(f"{name} = {defaults[name]}\n" for name in argv if name in defaults), "")
        if program == "postconf":
            assert Path(argv[-1], "main.cf").is_file() and Path(argv[-1], "master.cf").is_file()
            return Result(0, "", "")
        if program == "postmap" and "-q" not in argv:
            return self._build(*argv[-1].split(":", 1))
        if program == "postmap":
            table_type, path = argv[-1].split(":", 1)
            lines = [line.split(None, 1) for line in Path(path + BUILT_TYPES.get(table_type, "")).read_text().splitlines()]
            table = dict(lines)
            return Result(0, "".join(f"{key}\t{table[key]}\n" for key in stdin.splitlines() if key in table), "")
        if program == "master":
            return Result(1 if self.loaded.exists() else 0, "", "")
        assert program == "postfix", argv
        if argv[-1] == "check":
            return Result(0, "", "")
        if argv[-1] == "stop":
            self.loaded.unlink()
        else:
            self.loaded.write_text(self.main.read_text() + self.master.read_text())
        return Result(0, "", "")

    def _build(self, table_type: str, path: str) -> Result:
        """A map is a copy of its text here, made as postmap does: with its mode, over what is there."""
        if table_type not in self.map_types:
            return Result(1, "", f"postmap: fatal: unsupported dictionary type: {table_type}\n")
        assert table_type in BUILT_TYPES, table_type
        built = Path(path + BUILT_TYPES[table_type])
        if not built.exists():
            built.touch()
            built.chmod(Path(path).stat().st_mode)
        built.write_text(self.damage(Path(path).read_text()))
        return Result(0, "", "")

    def start(self) -> None:
        self.run(["postfix", "start"], "")

    def told(self) -> t.List[str]:
        """The commands that postfix(1) got so far."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line.split()[-1] for line in lines if line.startswith("postfix ")]

    def configure(self, change: bool = True, **options: t.Any) -> t.Dict[str, t.Any]:
        return self.configurator(**options).configure(change)

    def configurator(
        self, mechanisms: t.Sequence[str] = (), conduct: Conduct = USUAL, revert: bool = False, **options: t.Any
    ) -> Configurator:
        host, platform = Host(str(self.directory), self.run), Platform(str(self.root))
        return Configurator(str(self.directory), Request(**options), host, platform, mechanisms, conduct, revert)

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
def postfix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePostfix:
    fake = FakePostfix(tmp_path)
    # The linter reads what only a real postconf(1) can tell; it has tests of its own.
    monkeypatch.setattr(witness, "_REASON_TIMEOUT", 0.0)
    monkeypatch.setattr(examination.linter, "lint", lambda *_arguments, **_options: fake.findings)
    return fake


def relay(
    name: str = "primary", host: str = "smtp.example.net", password: str = "se cret:#$x", option: str = "yes", exclusive: bool = False
) -> t.Dict[str, t.Any]:
    """Options for one relay, as the role gives them."""
    return {
        "exclusive": exclusive,
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
