# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Descriptions of the attributes that every module declares; the module itself states its support."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return the changes it would make without making them.
  diff_mode:
    description: Returns what has changed, or would change in C(check_mode), when run in C(diff) mode.
  idempotent:
    description: A second run with the same options on the same host reports no change.
"""
