# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The catalogue of diagnoses, whole: what each code means and what to do (see catalogue.py for the form of an entry)."""

from __future__ import annotations

from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.catalogue import Entry
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.catalogue_connection import CONNECTION
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.catalogue_dialogue import DIALOGUE
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.catalogue_envelope import ENVELOPE_REPLIES
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.catalogue_login import LOGIN
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.catalogue_postfix import POSTFIX
from ansible_collections.outpost.smtp.plugins.module_utils._smtp.diagnosis.catalogue_tls import TLS

AREAS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    ("Configuration, name resolution and connection", CONNECTION),
    ("TLS and certificates", TLS),
    ("Login", LOGIN),
    ("Sender, recipient and message", ENVELOPE_REPLIES),
    ("Any step of the dialogue", DIALOGUE),
    ("As Postfix would", POSTFIX),
)
CATALOGUE: tuple[Entry, ...] = tuple(entry for _title, entries in AREAS for entry in entries)
BY_CODE: dict[str, Entry] = {entry.code: entry for entry in CATALOGUE}
