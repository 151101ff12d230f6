# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""With which credential smtp(8) logs in, and by which mechanism (SASL_README, "Enabling SASL authentication in the client").

Three things are looked up, in this order: the sender (if ``smtp_sender_dependent_authentication`` is on), the name of
the host that is connected to, and the next hop exactly as it is written. The port counts only as part of the latter.
"""

from __future__ import annotations

import itertools
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix import literal_tables
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.configtext import split_list
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.maps import MapError, Maps
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.nexthop import Destination
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.packages import Platform
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.settings import Parameters


class _Plugin(t.NamedTuple):
    """The library of a mechanism, and which security options of Postfix it meets (security_flags of the plug-in)."""

    library: str
    meets: t.FrozenSet[str]


_SCRAM = _Plugin("scram", frozenset(("noplaintext", "noactive", "noanonymous", "mutual_auth")))
_PLAINTEXT = frozenset(("noanonymous",))
#: Mechanisms that Cyrus SASL takes a password for, in the order of its preference.
PLUGINS = {
    "SCRAM-SHA-512": _SCRAM,
    "SCRAM-SHA-384": _SCRAM,
    "SCRAM-SHA-256": _SCRAM,
    "SCRAM-SHA-224": _SCRAM,
    "SCRAM-SHA-1": _SCRAM,
    "DIGEST-MD5": _Plugin("digestmd5", frozenset(("noplaintext", "noanonymous", "mutual_auth"))),
    "CRAM-MD5": _Plugin("crammd5", frozenset(("noplaintext", "noanonymous"))),
    "NTLM": _Plugin("ntlm", frozenset(("noplaintext", "noanonymous"))),
    "PLAIN": _Plugin("plain", _PLAINTEXT),
    "LOGIN": _Plugin("login", _PLAINTEXT),
}
#: Mechanisms that show the password itself to whoever reads along.
IN_CLEAR = ("PLAIN", "LOGIN")
#: Mechanisms that take no password, by plug-in. One that is installed is preferred to all others, and takes the password
#: for something else, such as the name of a file with a token.
_NO_PASSWORD = {"XOAUTH2": ("xoauth2", "kdexoauth2"), "OAUTHBEARER": ("oauthbearer",), "GSSAPI": ("gssapiv2",)}


class Credential(t.NamedTuple):
    """What a table has for a key; ``by`` is ``sender``, ``host`` or ``nexthop``. The password never leaves the process."""

    key: str
    by: str
    table: str
    username: str
    password: str

    def __repr__(self) -> str:
        """Without the password: a traceback or a debugger may show it."""
        return f"Credential({self.key!r}, {self.by!r}, {self.table!r}, ...)"

    @property
    def shown_username(self) -> t.Optional[str]:
        """The user name; None where the entry is not of the form 'user:password', so that it may hold the password."""
        well_formed = bool(self.password) and self.username != self.password and not re.search(r"\s", self.username)
        return self.username if well_formed else None


class Lookup(t.NamedTuple):
    """``keys`` are the keys in their order; ``near`` those of a wrong form that the tables have; ``error`` why they can
    not be asked."""

    keys: t.Tuple[str, ...]
    credential: t.Optional[Credential] = None
    near: t.Tuple[str, ...] = ()
    error: str = ""


def look_up(parameters: Parameters, maps: Maps, host: str, destination: Destination, port: int, sender_keys: t.Sequence[str]) -> Lookup:
    """Find the credential for a connection to ``host``. ``sender_keys`` is empty for a bounce, which has no sender."""
    tables = parameters.get("smtp_sasl_password_maps")
    senders = list(sender_keys) if parameters.flag("smtp_sender_dependent_authentication") else []
    keys = [*senders, host, destination.text]
    if not followed(parameters):
        return Lookup(tuple(keys))
    near = [key for key in _near(destination, port) if key not in keys]
    maps.preload(tables, [*keys, *near])
    try:
        found = maps.find(tables, senders, partial=senders[1:]) or maps.find(tables, [host, destination.text])
    except MapError as error:
        return Lookup(tuple(keys), error=str(error))
    if found is None:
        return Lookup(tuple(keys), near=tuple(maps.known_keys(tables, near)))
    by = "sender" if found.key in senders else "host" if found.key == host else "nexthop"
    username, _colon, password = found.value.partition(":")
    return Lookup(tuple(keys), Credential(found.key, by, found.table, username, password))


def followed(parameters: Parameters) -> bool:
    """Whether the tables can be asked without giving postmap(1) an argument that may hold a password."""
    return not any(literal_tables.is_composite(table) for table in split_list(parameters.get("smtp_sasl_password_maps")))


def _near(destination: Destination, port: int) -> t.List[str]:
    """Keys that people write, and that smtp(8) does not look up for this next hop."""
    host, service = destination.host, destination.service
    forms = [f"[{host}]:{port}", f"[{host}]", f"{host}:{port}", f"[{host}]:{service}", f"{host}:{service}", f"smtp.{host}", f"[{host}]:25"]
    return list(dict.fromkeys(forms))


class Mechanisms(t.NamedTuple):
    """What a service may use: the words of the filter, the security options by the state of the connection, and the
    mechanisms that this host has plug-ins for."""

    filter: t.Tuple[str, ...]
    options_in_clear: t.FrozenSet[str]
    options_with_tls: t.FrozenSet[str]
    options_verified: t.FrozenSet[str]
    installed: t.Tuple[str, ...]

    def after_filter(self, offered: t.Sequence[str]) -> t.List[str]:
        """What ``smtp_sasl_mechanism_filter`` leaves of the mechanisms that a server offers, in upper case."""
        return [name.upper() for name in offered if not self.filter or _listed(name, self.filter)]

    def usable(self, offered: t.Sequence[str], options: t.AbstractSet[str]) -> t.List[str]:
        """Those of them that Postfix can log in with by a password under ``options``, best first."""
        left = self.after_filter(offered)
        return [name for name, plugin in PLUGINS.items() if name in left and name in self.installed and options <= plugin.meets]

    def without_password(self, offered: t.Sequence[str]) -> t.List[str]:
        """Those of them that have a plug-in, but need something else than a password."""
        return [name for name in self.after_filter(offered) if name in _NO_PASSWORD and name in self.installed]


def installed(platform: Platform) -> t.Tuple[str, ...]:
    """The mechanisms that this host has plug-ins of Cyrus SASL for."""
    libraries = {**{name: (plugin.library,) for name, plugin in PLUGINS.items()}, **_NO_PASSWORD}
    found = {library for library in set(itertools.chain(*libraries.values())) if platform.has_sasl_mechanism(library)}
    return tuple(name for name, possible in libraries.items() if found.intersection(possible))


def mechanisms(parameters: Parameters, plugins: t.Tuple[str, ...]) -> Mechanisms:
    """What a service may use with the plug-ins of :func:`installed`."""
    return Mechanisms(
        tuple(parameters.names("smtp_sasl_mechanism_filter")),
        _options(parameters, "smtp_sasl_security_options"),
        _options(parameters, "smtp_sasl_tls_security_options"),
        _options(parameters, "smtp_sasl_tls_verified_security_options"),
        plugins,
    )


def _options(parameters: Parameters, name: str) -> t.FrozenSet[str]:
    return frozenset(word.lower() for word in parameters.names(name))


def _listed(name: str, patterns: t.Sequence[str]) -> bool:
    """string_list: the first pattern that fits decides, ``!`` negates; of tables only static: always has an answer."""
    for pattern in patterns:
        bare = pattern.lstrip("!")
        if bare.lower() == name.lower() or bare.lower().startswith("static:"):
            return (len(pattern) - len(bare)) % 2 == 0
    return False
