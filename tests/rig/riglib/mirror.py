# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Debian packages come from: the mirrors of this machine, for other releases of Debian.

Both formats of sources.list(5) are read: one line per source (``*.list``) and deb822 stanzas (``*.sources``).
"""

from __future__ import annotations

import pathlib
import re
import typing as t

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# The parts of a release that a server normally takes packages from; backports and others are left out.
_SUFFIXES = ("", "-updates", "-security")


class Source(t.NamedTuple):
    """One place that binary packages come from."""

    uri: str
    suite: str


def parse_one_line(text: str) -> list[Source]:
    """The ``deb`` lines of a ``*.list`` file; options in brackets are passed over."""
    sources = []
    for line in text.splitlines():
        found = re.match(r"\s*deb\s+(?:\[[^]]*]\s*)?([^\s#]+)\s+([^\s#]+)", line)
        if found:
            sources.append(Source(*found.groups()))
    return sources


def parse_deb822(text: str) -> list[Source]:
    """The enabled ``deb`` stanzas of a ``*.sources`` file, one Source per URI and suite."""
    sources = []
    for stanza in _stanzas(text):
        if "deb" not in stanza.get("types", "").split() or stanza.get("enabled", "yes").lower() in ("no", "false"):
            continue
        for uri in stanza.get("uris", "").split():
            sources += [Source(uri, suite) for suite in stanza.get("suites", "").split()]
    return sources


def _stanzas(text: str) -> t.Iterator[dict[str, str]]:
    stanza: dict[str, str] = {}
    field = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if stanza:
                yield stanza
            stanza, field = {}, ""
        elif line[0] in " \t":
            stanza[field] = stanza.get(field, "") + " " + line.strip()
        else:
            field, _colon, value = line.partition(":")
            field = field.strip().lower()
            stanza[field] = value.strip()


def lines_for(release: str, machine_release: str, sources: t.Iterable[Source]) -> list[str]:
    """The sources.list(5) lines of Debian ``release``, by the mirrors that serve ``machine_release``.

    Empty when no mirror of the machine serves Debian over HTTP: mmdebstrap(1) then uses its own default.
    """
    lines: list[str] = []
    for source in sources:
        suffix = source.suite[len(machine_release) :]
        if not source.suite.startswith(machine_release) or suffix not in _SUFFIXES:
            continue
        if not source.uri.startswith(("http://", "https://")):
            continue
        line = f"deb [signed-by={KEYRING}] {source.uri.rstrip('/')} {release}{suffix} main"
        if line not in lines:
            lines.append(line)
    return lines


def machine_lines(release: str) -> list[str]:
    """lines_for() this machine; empty when it does not run Debian."""
    facts = dict(
        line.replace('"', "").split("=", 1)
        for line in pathlib.Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
        if "=" in line
    )
    if facts.get("ID") != "debian" or "VERSION_CODENAME" not in facts:
        return []
    sources: list[Source] = []
    directory = pathlib.Path("/etc/apt")
    for path in [directory / "sources.list", *sorted((directory / "sources.list.d").glob("*"))]:
        if path.suffix == ".list" and path.is_file():
            sources += parse_one_line(path.read_text(encoding="utf-8"))
        elif path.suffix == ".sources":
            sources += parse_deb822(path.read_text(encoding="utf-8"))
    return lines_for(release, facts["VERSION_CODENAME"], sources)
