# SPDX-License-Identifier: GPL-3.0-or-later
"""A configuration in real files, whose programs are answered from them."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from postfix_instance import DEFAULTS_3_10, MASTER

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import Document, main_cf_key, parameter_value
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host import Result
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.finding import Finding
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.lint.lint import lint
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.packages import Platform
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.deadline import Deadline

#: What the relays of these tests need of a release, besides what others read.
DEFAULTS = (
    DEFAULTS_3_10
    + """\
daemon_directory = /usr/lib/postfix/sbin
default_database_type = hash
default_process_limit = 100
disable_dns_lookups = no
mail_owner = postfix
maillog_file =
maillog_file_prefixes = /var, /dev/stdout
sender_dependent_relayhost_maps =
smtp_bind_address =
smtp_connect_timeout = 30s
smtp_destination_recipient_limit = $default_process_limit
smtp_discard_ehlo_keywords =
smtp_mx_session_limit = 2
smtp_sasl_auth_cache_name =
smtp_tls_CAfile =
smtp_tls_CApath =
smtp_tls_loglevel = 0
smtp_tls_mandatory_ciphers = medium
smtpd_banner = $myhostname ESMTP
smtpd_timeout = ${stress?{10}:{300}}s
transport_maps =
virtual_maps =
"""
)
TYPES = "btree cidr hash pcre proxy regexp static texthash\n"


class Subject:
    """The instance that is linted. ``warnings`` are postconf's, ``fatal`` what every program ends with."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.queue = directory / "queue"
        self.queue.mkdir()
        self.defaults = DEFAULTS.replace("/var/spool/postfix", str(self.queue))
        self.types = TYPES
        self.warnings = ""
        self.fatal = ""
        self.plugins = ["plain", "login"]
        self.family = "debian"
        self.main("")
        self.master("")

    def start(self) -> None:
        """Let it run, by the process of the tests."""
        (self.queue / "pid").mkdir()
        (self.queue / "pid" / "master.pid").write_text(f"{os.getpid()}\n")

    def main(self, text: str) -> None:
        (self.directory / "main.cf").write_text(f"compatibility_level = 3.6\ninet_interfaces = loopback-only\n{text}")

    def master(self, text: str) -> None:
        (self.directory / "master.cf").write_text(MASTER + text)

    def file(self, name: str, text: str = "", mode: int = 0o600) -> str:
        path = self.directory / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def lint(self) -> t.List[Finding]:
        return lint(str(self.directory), Deadline(30), self.run, _Platform(self.family, self.plugins))

    def codes(self) -> t.List[str]:
        return [one.code for one in self.lint()]

    def run(self, argv: t.Sequence[str], stdin: str) -> Result:
        if argv[1:] == ["-d", "-h", "daemon_directory"]:
            return Result(0, "/usr/lib/postfix/sbin\n", "")
        if argv[0] == "postconf":
            assert argv[1:3] == ["-c", str(self.directory)]
            return self._postconf(argv[3:])
        if argv[0] == "postmap":
            assert argv[1:3] == ["-c", str(self.directory)]
            return self._postmap(argv[3], argv[-1], stdin)
        assert list(argv[1:]) == ["-t", "-c", str(self.directory)]
        return Result(1, "", "")  # also where it can not even start

    def _postconf(self, options: t.Sequence[str]) -> Result:
        if "-h" in options:
            return Result(0, f"{self.queue}\n", "")
        if "-m" in options:
            return Result(0, self.types, "")
        if "-d" in options:
            return Result(0, self.defaults, "")
        if "-M" in options:
            return Result(0, (self.directory / "master.cf").read_text(), self.warnings)
        entries = Document((self.directory / "main.cf").read_text(), main_cf_key).entries()
        return Result(0, self.defaults + "".join(f"{name} = {parameter_value(raw)}\n" for name, raw in entries.items()), self.warnings)

    def _postmap(self, option: str, table: str, stdin: str) -> Result:
        if self.fatal:
            return Result(1, "", self.fatal)
        kind, _colon, path = table.partition(":")
        if kind == "static":
            return Result(0, f"x\t{path}\n", "")
        lines = [line.split(None, 1) for line in Path(path).read_text().splitlines()]
        entries = {words[0].lower(): words[1] for words in lines if len(words) == 2}
        asked = [(key, entries[key.lower()]) for key in stdin.splitlines() if key.lower() in entries]
        found = asked if option == "-q" else list(entries.items())
        return Result(0 if found else 1, "".join(f"{key}\t{value}\n" for key, value in found), "")


class _Platform(Platform):
    def __init__(self, family: str, plugins: t.Sequence[str]) -> None:
        super().__init__("/nonexistent")
        self.family = family
        self._plugins = plugins

    def has_sasl_mechanism(self, mechanism: str) -> bool:
        return mechanism in self._plugins


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return Subject(tmp_path)
