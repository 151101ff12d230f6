# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Words of a server that are shown as they are, even if a secret happens to be part of them.

A password of one letter is part of most names. Masked there, it would make the certificate one for another host, and of a server
that offers a login one that does not; and what is left of a name that everybody knows would tell the letter. What the
caller or a standard calls a thing is no secret, whoever says it.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.redact import MASK
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.sasl.sasl import MECHANISMS
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.text import shorten
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.tls.certnames import names_that_match

_KEYWORDS = ("STARTTLS", "AUTH")
#: IANA's list of SASL mechanisms, as far as Postfix can have plug-ins for them.
_OTHER_MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-384", "SCRAM-SHA-224", "NTLM", "GSSAPI")

Show = t.Callable[[str], str]
"""As in result.py."""


def capability(line: str, show: Show) -> str:
    """A line of the reply to EHLO. Where something of it has to be masked, all is that no standard knows."""
    shown = show(line)
    if MASK not in shown:
        return shown
    words = re.split(r"([ =]+)", line)
    if words[0].upper() not in _KEYWORDS:
        return shown
    return shorten("".join(word if at % 2 or _is_known(word) else MASK for at, word in enumerate(words)))


def mechanism(name: str, show: Show) -> str:
    return name if _is_known(name) else show(name)


def certificate_name(name: str, wanted: str, show: Show) -> str:
    """A name of a certificate that was to be for the host *wanted*."""
    return name if names_that_match(wanted, [name]) else show(name)


def _is_known(word: str) -> bool:
    return word.upper() in (*_KEYWORDS, *MECHANISMS, *_OTHER_MECHANISMS)
