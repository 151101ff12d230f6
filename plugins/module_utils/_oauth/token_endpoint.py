# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""Asking a token endpoint for an access token (RFC 6749 sections 4.4, 5 and 6).

The endpoint is not trusted further than it must be: one answer of bounded size within a deadline, over verified TLS, and no
redirect is followed, for it would carry the secrets to another place. What it says reaches a log only as far as
it can not be a secret: HTTP's status, the error's code, and Microsoft's number of the error.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import threading
import time
import typing as t
import urllib.parse

from ansible_collections.outpost.smtp.plugins.module_utils._oauth.settings import OAuthError, RelaySettings

DEADLINE = 30.0
"""Seconds for a whole answer, once there is a connection; connecting and TLS each take at most as long."""
MAX_ANSWER = 256 * 1024
MAX_TOKEN = 16384
"""Characters. Microsoft's tokens have some 2000 (RFC 4954 section 4: a server takes 12288 octets of base64 in one line)."""
UNSAID_LIFETIME = 1800.0
"""Seconds that a token is taken to live if the endpoint does not say (RFC 6749 section 5.1 leaves that to documentation)."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z")
"""RFC 6750 section 2.1, b68token."""
_REFRESH_TOKEN = re.compile(r"[\x20-\x7e]+\Z")
"""RFC 6749 appendix A.17."""
_ERROR_CODES = (
    *("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope"),
    *("access_denied", "server_error", "temporarily_unavailable", "interaction_required", "consent_required", "login_required"),
    *("invalid_resource", "admin_policy_enforced", "org_internal", "deleted_client", "disabled_client", "rate_limit_exceeded"),
)
"""RFC 6749 sections 4.1.2.1 and 5.2, and what Google and Microsoft add. Any other text could be a secret that is sent back."""
_MICROSOFT_NUMBER = re.compile(r"\bAADSTS[0-9]{4,8}\b")
_REDIRECTS = range(300, 400)


class Grant(t.NamedTuple):
    """What a token endpoint gave."""

    access_token: str
    expires: float  #: seconds since the epoch
    lifetime: float  #: seconds
    refresh_token: t.Optional[str]  #: a new one, that takes the place of the one that was used

    def __repr__(self) -> str:
        return "Grant(...)"


def request(relay: RelaySettings, refresh_token: t.Optional[str], now: t.Callable[[], float] = time.time, deadline: float = DEADLINE) -> Grant:
    """Get an access token for a relay. Raises OAuthError."""
    asked = now()
    status, content = _post(relay.token_endpoint, _form(relay, refresh_token), relay.token_ca_file, deadline)
    if status in _REDIRECTS:
        raise OAuthError(f"the token endpoint answers with a redirect (HTTP {status}), which is not followed; give the address it leads to")
    answer = _json_object(content)
    if status != 200:
        raise OAuthError(f"the token endpoint refuses: HTTP {status}{_reason(answer)}")
    return _grant(answer, asked)


def _form(relay: RelaySettings, refresh_token: t.Optional[str]) -> t.Dict[str, str]:
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token} if refresh_token else {"grant_type": "client_credentials"}
    given = {"client_id": relay.client_id, "client_secret": relay.client_secret, "scope": relay.scope}
    return {key: value for key, value in {**form, **given}.items() if value}


def _post(url: str, form: t.Mapping[str, str], ca_file: t.Optional[str], deadline: float) -> t.Tuple[int, bytes]:
    """HTTP's status and body. Raises OAuthError."""
    parts = urllib.parse.urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port or 443, timeout=deadline, context=tls_context(ca_file))
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json", "Connection": "close"}
    try:
        with contextlib.closing(connection):
            connection.connect()
            with _cut_off(connection.sock, deadline):
                connection.request("POST", path, urllib.parse.urlencode(form), headers)
                response = connection.getresponse()
                content = response.read(MAX_ANSWER + 1)
    except ssl.SSLCertVerificationError as error:
        raise OAuthError(f"the certificate of the token endpoint can not be verified: {error.verify_message}") from None
    except socket.timeout:
        raise OAuthError(f"the token endpoint does not answer within {deadline:.0f} seconds") from None
    except socket.gaierror as error:
        raise OAuthError(f"the token endpoint's name {parts.hostname} has no address: {error.strerror}") from None
    except OSError as error:
        raise OAuthError(f"the token endpoint can not be reached: {error.strerror or type(error).__name__}") from None
    except http.client.HTTPException as error:
        raise OAuthError(f"the token endpoint does not speak HTTP as it should: {type(error).__name__}") from None
    if len(content) > MAX_ANSWER:
        raise OAuthError(f"the token endpoint answers with more than {MAX_ANSWER} octets")
    return response.status, content


def tls_context(ca_file: t.Optional[str], minimum: str = "1.2") -> ssl.SSLContext:
    """What trusts the system's certificates, and those in a file. Raises OAuthError.

    Not ssl.create_default_context(), which from Python 3.13 on refuses private authorities that OpenSSL, and so Postfix, takes.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if minimum == "1.3" else ssl.TLSVersion.TLSv1_2
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise OAuthError(f"the CA file {ca_file} can not be used: {error.strerror or error}") from None
    return context


@contextlib.contextmanager
def _cut_off(connection: socket.socket, deadline: float) -> t.Iterator[None]:
    """End a connection at a deadline: the timeout of a socket is for each read, and a server may send an octet before each."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(deadline, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if late.is_set():
            raise socket.timeout from None
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise socket.timeout


def _json_object(content: bytes) -> t.Dict[str, t.Any]:
    try:
        answer = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _reason(answer: t.Mapping[str, t.Any]) -> str:
    code, text = answer.get("error"), answer.get("error_description")
    shown = [code] if isinstance(code, str) and code in _ERROR_CODES else []
    number = _MICROSOFT_NUMBER.search(text) if isinstance(text, str) else None
    return "".join(f" {word}" for word in [*shown, *([number.group()] if number else [])])


def _grant(answer: t.Mapping[str, t.Any], asked: float) -> Grant:
    token, kind, new = answer.get("access_token"), answer.get("token_type", "Bearer"), answer.get("refresh_token")
    if not isinstance(token, str) or len(token) > MAX_TOKEN or not _TOKEN.match(token):
        raise OAuthError("the token endpoint's answer holds no access token")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise OAuthError("the token endpoint gives a token of another type than Bearer, which SMTP has no use for")
    if new is not None and not (isinstance(new, str) and len(new) <= MAX_TOKEN and _REFRESH_TOKEN.match(new)):
        raise OAuthError("the token endpoint's answer holds a refresh token that none can be")
    lifetime = _lifetime(answer.get("expires_in"))
    return Grant(token, asked + lifetime, lifetime, new)


def _lifetime(value: t.Any) -> float:
    """``expires_in`` as seconds; some endpoints send it as text."""
    if value is None:
        return UNSAID_LIFETIME
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = 0.0
    if not 0 < seconds < 366 * 86400:
        raise OAuthError("the token endpoint does not say in seconds how long its token lives")
    return seconds
