# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail servers of other kinds than the provider, with its accounts and certificates of its CA. Their files are in images/mta/.

Each is called NAME.provider.test and offers submission on ports 465 (TLS from the start) and 587 (STARTTLS required).
Debian's mail servers replace each other, so each is a host of its own. One image has the packages of all of them, not
installed; a host installs those of its server when it starts.
"""

from __future__ import annotations

import base64
import typing as t

from . import provider
from .containers import Containers

PACKAGES: dict[str, tuple[str, ...]] = {
    "postfix": ("postfix", "dovecot-core"),
    "dovecot": ("dovecot-submissiond",),
    "exim": ("exim4-daemon-heavy", "sasl2-bin", "libsasl2-modules"),
    "opensmtpd": ("opensmtpd",),
    "sendmail": ("sendmail", "sasl2-bin", "libsasl2-modules"),
    "aiosmtpd": ("python3-aiosmtpd",),
    "courier": ("courier-mta", "courier-authlib-userdb"),
}
"""Name of each server -> Debian's packages of it."""

IMAGE = "mta"

# Run by sh in the provider: what a request for a certificate asks for is granted.
_SIGN = "openssl x509 -req -CA /etc/ssl/rig/ca.pem -CAkey /etc/ssl/rig/ca.key -copy_extensions copy -days 90 2> /dev/null"
# The same with a key of its own, for a client that is known by its certificate; $1 is its mail address.
_CLIENT = f"""set -eu
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | tee /root/client.key
openssl req -new -key /root/client.key -subj "/CN=$1" -addext "subjectAltName=email:$1" \\
    -addext keyUsage=digitalSignature -addext extendedKeyUsage=clientAuth | {_SIGN}
"""


def install(lab: Containers, name: str) -> str:
    """Install the server, without starting it; its request for a certificate."""
    return lab.feed(name, "", "rig-mta-install", name, *PACKAGES[name])


def set_up(lab: Containers, name: str, request: str, lent: provider.Lent) -> None:
    """Give the server its certificate and the accounts, and start it."""
    certificate = lab.feed("provider", request, "sh", "-c", _SIGN)
    for path, text in (("ssl/rig/server.crt", certificate), ("ssl/rig/ca.pem", lent.ca), ("rig-oauth.key", lent.oauth_key)):
        lab.feed(name, text, "sh", "-c", f"cat > /etc/{path}")
    lab.feed(name, _accounts(lent.accounts), "rig-mta-setup", name)


def await_ports(address: str) -> None:
    """Return when the server greets on both of its ports."""
    provider.await_ports(address, {465: b"220 ", 587: b"220 "})


def client_certificate(lab: Containers, username: str) -> str:
    """PEM of a private key and of a certificate of the lab's CA for a client that is ``username``."""
    return lab.feed("provider", "", "sh", "-c", _CLIENT, "sh", username)


def _accounts(accounts: t.Mapping[str, t.Mapping[str, str]]) -> str:
    """A user name and the base64 of the password on each line: a password may be any."""
    return "".join(f"{one['username']} {base64.b64encode(one['password'].encode()).decode()}\n" for one in accounts.values())
