# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold whatever comes. Each target takes octets and raises AssertionError, or anything else, if it does not hold.

hypothesis (test_fuzz.py) and atheris (fuzz.py) find the octets.
"""

from __future__ import annotations

import typing as t

from target_diagnoses import diagnoses
from target_dialogue import dialogues, mechanisms, replies
from target_network import names, proxies
from target_options import arguments, endpoints
from target_ownership import ownership
from target_postfix import lookups, macro_texts, next_hops, services
from target_relays import relay_configs
from target_text import preparations, secrets, tokens
from target_tls import certificates, chains, messages

_ALL = (
    *(replies, dialogues, mechanisms, preparations, tokens, secrets, certificates, chains, messages, names, proxies, diagnoses),
    *(endpoints, arguments, macro_texts, next_hops, services, lookups, ownership, relay_configs),
)
TARGETS: t.Dict[str, t.Callable[[bytes], None]] = {target.__name__: target for target in _ALL}
