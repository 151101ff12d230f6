# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a TLS failure is: by OpenSSL's verify code and reason, and by the certificates that were sent."""

from __future__ import annotations

import os
import re
import ssl
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.observation import Observation
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls import chain
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.x509 import Certificate

VERIFY_CODES = {
    2: "tls_cert_untrusted_issuer",
    9: "tls_cert_not_yet_valid",
    10: "tls_cert_expired",
    18: "tls_cert_self_signed",
    19: "tls_cert_self_signed_in_chain",
    20: "tls_cert_untrusted_issuer",
    21: "tls_cert_untrusted_issuer",
    23: "tls_cert_revoked",
    26: "tls_purpose",
    62: "tls_name_mismatch",
    64: "tls_name_mismatch",
    65: "tls_dane_mismatch",
    66: "tls_weak_key",
    67: "tls_weak_key",
    68: "tls_weak_key",
}
"""By X509_V_ERR_* (X509_STORE_CTX_get_error(3))."""

REASONS = (
    (r"PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|WRONG_SSL_VERSION", "tls_protocol_too_old"),
    (r"WRONG_VERSION_NUMBER", "tls_not_tls"),
    (r"CERTIFICATE_REQUIRED", "tls_client_cert_required"),
    (r"KEY_TOO_SMALL|MD_TOO_WEAK|DH_KEY", "tls_weak_key"),
    (r"HANDSHAKE_FAILURE|NO_SHARED_CIPHER|INSUFFICIENT_SECURITY", "tls_no_shared_cipher"),
)
"""By OpenSSL's reason (ERR_reason_error_string(3))."""

_UNTRUSTED = ("tls_cert_untrusted_issuer", "tls_cert_self_signed", "tls_cert_self_signed_in_chain")


def _proxy_ends_tls(seen: Observation) -> bool:
    """the verdict is terminated_by_proxy: the issuer or the names are not the provider's"""
    return seen.interception is not None and seen.interception.verdict == "terminated_by_proxy"


def _no_roots(_seen: Observation) -> bool:
    """this server has no root certificate at all"""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    directory = ssl.get_default_verify_paths().capath  # OpenSSL reads it only when it needs a root
    return not context.cert_store_stats()["x509_ca"] and not (directory and os.listdir(directory))


def _intermediate_is_missing(seen: Observation) -> bool:
    """the issuer of the last certificate that was sent is itself an intermediate"""
    return seen.explanation is not None and seen.explanation.cause == chain.MISSING_INTERMEDIATE


REFINED: tuple[tuple[tuple[str, ...], str, t.Callable[[Observation], bool]], ...] = (
    ((*_UNTRUSTED, "tls_name_mismatch"), "tls_intercepted", _proxy_ends_tls),
    (_UNTRUSTED, "tls_ca_store_missing", _no_roots),
    (("tls_cert_untrusted_issuer",), "tls_cert_missing_intermediate", _intermediate_is_missing),
)
"""What a diagnosis by verify code becomes where the condition holds; the first that fits."""


def recognise(seen: Observation) -> str:
    """The code of the diagnosis for a failure of kind ``tls``."""
    if not seen.failure.verify_code:
        reason = seen.failure.reason
        code = next((code for pattern, code in REASONS if re.search(pattern, reason)), "tls_handshake_failed")
        # After the handshake the server has shown that it speaks TLS: then clear text is in between.
        return "tls_handshake_failed" if code == "tls_not_tls" and seen.failure.stage != "tls" else code
    code = VERIFY_CODES.get(seen.failure.verify_code, "tls_cert_invalid")
    return next((particular for general, particular, condition in REFINED if code in general and condition(seen)), code)


def blamed(seen: Observation) -> tuple[str, Certificate | None]:
    """The certificate that the failure is about, and how to call it: the server's own unless the dates of another are wrong."""
    find = {9: chain.not_yet_valid, 10: chain.expired}.get(seen.failure.verify_code or 0)
    index = find(seen.chain, seen.now) if find and seen.chain else None
    if not index:
        return "the certificate", seen.certificate
    certificate = seen.chain[index]
    return f"the intermediate certificate {certificate.subject or '(without a name)'}", certificate


def asked_name(seen: Observation) -> str:
    """The name that the certificate should be for, which is not the host's where another one was set."""
    match = re.search(r"not valid for '([^']+)'", seen.failure.message)
    return match.group(1) if match else seen.host


def names_to_use(names: t.Sequence[str]) -> str:
    """Names of a certificate as an operator can write them."""
    shown = [f"{name} (any one word for the *)" if name.startswith("*.") else name for name in names[:10]]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(shown) + more
