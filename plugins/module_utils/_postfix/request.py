# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""What a caller wants of a Postfix configuration: read, checked, and with the host's own facts filled in."""

from __future__ import annotations

import os
import re
import ssl
import stat
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import (
    check_characters,
    parse_parameters,
    parse_services,
)
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.directory import TableFile
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.errors import PostfixError
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.files import read_file
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.host_secrets import Sources, with_host_secrets
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.tables import BUILT_TYPES, TABLE_TYPES, TEXTHASH, check_table

#: Placeholders that stand for a fact of the host; every other ``@name@`` is a table.
CA_BUNDLE, SMTP_CHROOT, COMPATIBILITY_LEVEL = "ca_bundle", "smtp_chroot", "compatibility_level"
BUNDLE_SUFFIX = ".pem"

_PLACEHOLDER = re.compile(r"@([a-z][a-z0-9_]*)@")


class Request:
    """The options of one call, checked as far as that goes without looking at the configuration in place."""

    def __init__(
        self,
        parameters: str = "",
        initial_parameters: str = "",
        services: str = "",
        tables: t.Optional[t.Mapping[str, str]] = None,
        secret_tables: t.Optional[t.Mapping[str, str]] = None,
        table_types: t.Optional[t.Mapping[str, str]] = None,
        ca_files: t.Sequence[str] = (),
        exclusive: bool = False,
        secret_sources: t.Optional[Sources] = None,
        table_type: str = TEXTHASH,
    ) -> None:
        """Raises PostfixError for the first thing that is wrong."""
        self.exclusive = exclusive
        self.parameters, self.initial_parameters, self.services = parameters, initial_parameters, services
        self.secret_tables = with_host_secrets(secret_tables or {}, secret_sources or {})
        self.tables = {**(tables or {}), **self.secret_tables}
        self._types = {**dict.fromkeys(self.tables, table_type), **(table_types or {})}
        self.ca_files = list(ca_files)
        both = sorted(set(tables or {}) & set(self.secret_tables))
        reserved = sorted({CA_BUNDLE, *self.bundles(), SMTP_CHROOT, COMPATIBILITY_LEVEL} & set(self.tables))
        if both or reserved:
            name = (both or reserved)[0]
            raise PostfixError(f"tables: {name!r} " + ("is given in 'secret_tables' too" if both else "stands for something else in placeholders"))
        for name, table_type in self._types.items():
            if name not in self.tables or table_type not in TABLE_TYPES:
                raise PostfixError(f"table_types: {name!r} must be a table of this call and its type one of {', '.join(TABLE_TYPES)}")
        for name, content in self.tables.items():
            check_table(name, content, self.type_of(name))
        self._check_placeholders()
        self.resolved({name: "x" for name in self._allowed()}, initial=True)  # finds every fault in the texts

    def type_of(self, table: str) -> str:
        return self._types[table]

    def built_types(self) -> t.List[str]:
        """The types of tables of this call that Postfix may be without, each once."""
        return sorted({self.type_of(name) for name in self.tables} & set(BUILT_TYPES))

    def _allowed(self) -> t.Set[str]:
        return {CA_BUNDLE, *self.bundles(), SMTP_CHROOT, COMPATIBILITY_LEVEL, *self.tables}

    def bundles(self) -> t.Dict[str, str]:
        """The files with the system's certificates and those of one of ``ca_files`` each, by placeholder."""
        return {f"{CA_BUNDLE}_{number}": f"ca-bundle-{number}{BUNDLE_SUFFIX}" for number in range(1, len(self.ca_files) + 1)}

    def uses_certificates(self) -> bool:
        """Whether the system's certificates are wanted, alone or together with others."""
        return any(self.uses(name) for name in (CA_BUNDLE, *self.bundles()))

    def _check_placeholders(self) -> None:
        for option in ("parameters", "initial_parameters", "services"):
            text = getattr(self, option)
            check_characters(text, option)
            unknown = sorted(set(_PLACEHOLDER.findall(_without_comments(text))) - self._allowed())
            if unknown:
                raise PostfixError(f"{option}: @{unknown[0]}@ is neither a table of this call nor a known placeholder")

    def wants_anything(self) -> bool:
        return bool(self.exclusive or self.parameters.strip() or self.initial_parameters.strip() or self.services.strip() or self.tables)

    def list_parameters(self) -> t.List[str]:
        """The names of the parameters that something is appended to."""
        resolved = self.resolved({name: "x" for name in self._allowed()}, initial=True)
        return sorted(resolved.appended)

    def uses(self, placeholder: str) -> bool:
        """Whether a placeholder stands anywhere outside of comments."""
        text = "\n".join(_without_comments(text) for text in (self.parameters, self.initial_parameters, self.services))
        return placeholder in _PLACEHOLDER.findall(text)

    def resolved(self, values: t.Mapping[str, str], initial: bool) -> Resolved:
        """Return the wanted entries with placeholders filled in; the initial parameters among them if ``initial``."""

        def fill(text: str) -> str:
            return _PLACEHOLDER.sub(lambda match: values[match.group(1)], _without_comments(text))

        assigned, appended = parse_parameters(fill(self.parameters), "parameters")
        first, first_appended = parse_parameters(fill(self.initial_parameters), "initial_parameters")
        services = parse_services(fill(self.services))
        if initial:
            assigned = {**{name: raw for name, raw in first.items() if name not in appended}, **assigned}
            appended = {**{name: value for name, value in first_appended.items() if name not in assigned}, **appended}
        return Resolved(assigned, appended, services, self.exclusive)

    def files(self, system_bundle: t.Optional[str]) -> t.Dict[str, TableFile]:
        """Return the files of a generation: the tables, and those of :meth:`bundles` that are used."""
        files = {}
        for name, content in self.tables.items():
            text = content if content.endswith("\n") or not content else content + "\n"
            built = self.type_of(name) if self.type_of(name) in BUILT_TYPES else ""
            files[name] = TableFile(text.encode("utf-8"), 0o600 if name in self.secret_tables else 0o644, built)
        for (placeholder, name), path in zip(self.bundles().items(), self.ca_files):
            if self.uses(placeholder):
                parts = [read_file(system_bundle) or b"" if system_bundle else b"", _certificates(path)]
                files[name] = TableFile(b"".join(part if part.endswith(b"\n") else part + b"\n" for part in parts if part), 0o644)
        return files


class Resolved(t.NamedTuple):
    """The wanted entries, ready to be written."""

    assigned: t.Dict[str, str]  #: raw entries of main.cf by name
    appended: t.Dict[str, str]  #: what to add to list parameters, by name
    services: t.Dict[str, str]  #: raw entries of master.cf by name/type
    exclusive: bool = False  #: whether the administrator's entries of main.cf are set aside


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if not line.lstrip(" \t").startswith("#"))


def _certificates(path: str) -> bytes:
    """Return the content of a PEM file. Raises PostfixError where smtp(8) would find no certificate in it, or others more than that."""
    content = _regular_file(path)
    if b"PRIVATE KEY-----" in content:
        raise PostfixError(f"ca_files: {path} holds a private key, and what is made of it can be read by anybody; give a file with certificates only")
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=content.decode("ascii", "ignore"))  # comments may be in any encoding
        if not context.get_ca_certs():
            raise PostfixError(f"ca_files: {path} holds no certificate of a certification authority")
    except (ssl.SSLError, ValueError):
        raise PostfixError(f"ca_files: {path} holds no certificate in PEM form") from None
    return content


def _regular_file(path: str) -> bytes:
    """The content of one of ``ca_files``; reading a named pipe or a device may never end."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise PostfixError(f"ca_files: {path} is no regular file")
        return read_file(path) or b""
    except FileNotFoundError:
        raise PostfixError(f"ca_files: {path} does not exist on this host") from None
    except OSError as error:
        raise PostfixError(f"ca_files: {path} can not be read: {error.strerror}") from None
