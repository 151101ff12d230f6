# SPDX-License-Identifier: GPL-3.0-or-later
"""Package sources for other releases, from a machine's own."""

from __future__ import annotations

from riglib.mirror import KEYRING, Source, lines_for, parse_deb822, parse_one_line

ONE_LINE = """\
# deb http://mirror.test/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://mirror.test/debian bookworm main contrib  # comment
deb-src http://mirror.test/debian bookworm main
deb\thttp://mirror.test/debian bookworm-backports main
"""

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb
Enabled: no
URIs: http://off.test/debian
Suites: bookworm

Types: deb
URIs: https://mirror.test/security
# URIs: a comment inside
 https://other.test/security
Suites: bookworm-security
"""


def test_one_line_format() -> None:
    assert parse_one_line(ONE_LINE) == [
        Source("http://mirror.test/debian", "bookworm"),
        Source("http://mirror.test/debian", "bookworm-backports"),
    ]


def test_deb822_format() -> None:
    assert parse_deb822(DEB822) == [
        Source("http://mirror.test/debian", "bookworm"),
        Source("http://mirror.test/debian", "bookworm-updates"),
        Source("https://mirror.test/security", "bookworm-security"),
        Source("https://other.test/security", "bookworm-security"),
    ]


def test_another_release_comes_from_the_same_mirrors() -> None:
    sources = [
        Source("http://mirror.test/debian/", "bookworm"),
        Source("http://mirror.test/debian", "bookworm"),
        Source("http://mirror.test/security", "bookworm-security"),
        Source("http://mirror.test/debian", "bookworm-backports"),
        Source("http://mirror.test/other", "nodistro"),
        Source("file:/srv/debian", "bookworm"),
    ]
    assert lines_for("trixie", "bookworm", sources) == [
        f"deb [signed-by={KEYRING}] http://mirror.test/debian trixie main",
        f"deb [signed-by={KEYRING}] http://mirror.test/security trixie-security main",
    ]
