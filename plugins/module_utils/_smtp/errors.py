# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one exception of this package: what was seen when a dialogue could not go on (the verdict is made elsewhere)."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.outpost.smtp.plugins.module_utils._smtp.reply import Reply


class Kind:
    """How a step failed, as observed."""

    RESOLVE = "resolve"
    """The name has no usable address; ``errno`` is the error of getaddrinfo(3), None if nothing answered in time."""
    CONNECT = "connect"
    """No address could be connected to; the outcome of each is in the client's ``attempts``."""
    TIMEOUT = "timeout"
    """The deadline passed while waiting for the peer."""
    CLOSED = "closed"
    """The peer closed the connection."""
    OS_ERROR = "os_error"
    """The connection broke; ``errno`` says how."""
    MALFORMED = "malformed"
    """What came is not an SMTP reply; ``sample`` shows its beginning."""
    LINE_TOO_LONG = "line_too_long"
    REPLY_TOO_LARGE = "reply_too_large"
    UNSOLICITED = "unsolicited"
    """The peer sent something before it was asked."""
    REPLY = "reply"
    """A proper reply that refuses, or is not the one that this step needs; it is in ``reply``."""
    INJECTION = "injection"
    """Bytes in clear text followed the reply to STARTTLS (CVE-2011-0411 and its kin)."""
    NO_STARTTLS = "no_starttls"
    TLS = "tls"
    """The handshake or the TLS session failed; ``reason`` is OpenSSL's, ``verify_code`` the verification's."""
    NOT_TLS = "not_tls"
    """The answer to the ClientHello was not TLS; ``sample`` shows it."""
    CA_FILE = "ca_file"
    """The CA file can not be used."""
    CLIENT_CERTIFICATE = "client_certificate"
    """The certificate or key that this host should show can not be used."""
    FINGERPRINT = "fingerprint"
    """The server's certificate is not one of those that were pinned."""
    DANE = "dane"
    """The server's certificate does not match its TLSA records, or they can not be used; ``reason`` says which."""
    PROXY = "proxy"
    """The proxy does not connect; ``reason`` is ``unreachable``, ``auth``, ``refused`` or ``protocol``."""
    NO_AUTH = "no_auth"
    NO_MECHANISM = "no_mechanism"
    UNPROTECTED = "unprotected"
    """Credentials would have gone over a connection that is not encrypted and verified; nothing was sent."""
    CREDENTIALS = "credentials"
    """User name or password can not be sent by this mechanism (an octet that it forbids)."""
    CHALLENGE = "challenge"
    """The server asked for more than the mechanism has, or for something that it can not answer."""
    SERVER_SIGNATURE = "server_signature"
    """The server could not prove that it knows the password, as the mechanism demands."""
    TOKEN = "token"
    """The access token can not be used; ``reason`` says why (``expired``, ``not_yet_valid``). Nothing was sent."""
    INTERNAL = "internal"
    """A defect of this package."""


class SmtpError(Exception):
    """A step failed. ``str()`` is a sentence that is safe to print; the fields are the facts."""

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        stage: str = "",
        reply: Reply | None = None,
        command: str = "",
        errno: int | None = None,
        sample: str = "",
        reason: str = "",
        verify_code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.stage = stage
        self.reply = reply
        self.command = command
        self.errno = errno
        self.sample = sample
        self.reason = reason
        self.verify_code = verify_code
