# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which SASL mechanism a login uses (RFC 4422, RFC 4954)."""

from __future__ import annotations

import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.errors import Kind, SmtpError
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.credentials import Credentials
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.sasl_mechanism import (
    ACCESS_TOKEN,
    CERTIFICATE,
    PASSWORD,
    Connection,
    Mechanism,
)
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.sasl_plain import External, Login, Plain

_NAMES = (
    *("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "DIGEST-MD5", "CRAM-MD5", "PLAIN", "LOGIN"),
    *("OAUTHBEARER", "XOAUTH2", "EXTERNAL"),
)


class _Mechanisms(t.Mapping[str, t.Type[Mechanism]]):
    """By name, in the order of :data:`_NAMES`."""

    def __getitem__(self, name: str) -> type[Mechanism]:
        # Imported here, as in late.py: most servers offer few of them.
        found: tuple[type[Mechanism], ...] = (Plain, Login, External)
        if name.startswith("SCRAM-"):
            from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl import sasl_scram

            found = (sasl_scram.ScramSha256Plus, sasl_scram.ScramSha1Plus, sasl_scram.ScramSha256, sasl_scram.ScramSha1)
        elif name.endswith("-MD5"):
            from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl import sasl_md5

            found = (sasl_md5.DigestMd5, sasl_md5.CramMd5)
        elif name in ("OAUTHBEARER", "XOAUTH2"):
            from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl import sasl_oauth

            found = (sasl_oauth.OAuthBearer, sasl_oauth.XOAuth2)
        return {mechanism.name: mechanism for mechanism in found}[name]

    def __iter__(self) -> t.Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


MECHANISMS = _Mechanisms()
"""What is implemented, strongest first among those that need the same: the order of Cyrus SASL, and so of Postfix."""


def choose(wanted: str, offered: t.Sequence[str], credentials: Credentials, connection: Connection) -> list[type[Mechanism]]:
    """The mechanisms that can be used, strongest first; the first is the one to use.

    With *wanted* (any case) it is that one; with ``auto`` those that the server offers, that fit the credentials and
    that work on this connection. Raises :class:`SmtpError` if there is none: nothing else is ever tried in its place.
    """
    kind = _kind(credentials, connection)
    if wanted.upper() != "AUTO":
        return [_explicit(wanted.upper(), offered, kind, connection)]
    common = [MECHANISMS[name] for name in MECHANISMS if name in offered and MECHANISMS[name].needs == kind]
    usable = [mechanism for mechanism in common if not mechanism.obstacle(connection)]
    if usable:
        return usable
    if common:
        raise SmtpError(Kind.NO_MECHANISM, common[0].obstacle(connection), stage="auth", reason="unusable")
    names = ", ".join(name for name, mechanism in MECHANISMS.items() if mechanism.needs == kind)
    raise SmtpError(Kind.NO_MECHANISM, f"the server offers none of {names}", stage="auth")


def _kind(credentials: Credentials, connection: Connection) -> str:
    """What there is to log in with."""
    if credentials.access_token is not None:
        return ACCESS_TOKEN
    if credentials.password is not None:
        return PASSWORD
    if connection.certificate:
        return CERTIFICATE
    raise SmtpError(Kind.CREDENTIALS, "there is no password, access token or client certificate to log in with", stage="auth")


def _explicit(name: str, offered: t.Sequence[str], kind: str, connection: Connection) -> type[Mechanism]:
    mechanism = MECHANISMS[name]
    if mechanism.needs != kind and not (mechanism.needs == CERTIFICATE and connection.certificate):
        raise SmtpError(Kind.CREDENTIALS, f"{name} logs in by {mechanism.needs}, not by {kind}", stage="auth")
    if name not in offered:
        raise SmtpError(Kind.NO_MECHANISM, f"the server does not offer {name}", stage="auth")
    obstacle = mechanism.obstacle(connection)
    if obstacle:
        raise SmtpError(Kind.NO_MECHANISM, obstacle, stage="auth", reason="unusable")
    return mechanism
