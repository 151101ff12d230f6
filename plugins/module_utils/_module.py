# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The AnsibleModule of modules whose options hold a secret inside a list or a dictionary."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule


class DiscreetModule(AnsibleModule):
    """An AnsibleModule that does not write its options to the host's journal.

    AnsibleModule masks the values of no_log options there, but it writes a list or dictionary as Python prints it, and a
    password with a quote or a backslash is printed in another form, which is then not masked. Its own parameter
    ``no_log`` does not help: the task's setting overwrites it.
    """

    def _log_invocation(self) -> None:
        pass
