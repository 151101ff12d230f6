# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""The AnsibleModule of modules whose options hold a secret inside a list or a dictionary."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

SECRETS = ("password", "client_secret", "refresh_token", "access_token")


def secrets(value: t.Any, secret: bool = False) -> t.Iterator[str]:
    """The secrets anywhere in options that nobody has checked yet: all that is below one of these names."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from secrets(inner, secret or name in SECRETS)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from secrets(inner, secret)
    elif secret and isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != "":
        yield str(value)


class DiscreetModule(AnsibleModule):
    """An AnsibleModule that masks secrets wherever they are in its options, and does not write these to the host's journal.

    AnsibleModule masks the values of no_log options there, but it writes a list or dictionary as Python prints it, and a
    password with a quote or a backslash is printed in another form, which is then not masked. Its own parameter
    ``no_log`` does not help: the task's setting overwrites it.
    """

    def _load_params(self) -> None:
        """Before any option is checked: the message about a wrong one comes with all of them."""
        super()._load_params()
        self.no_log_values.update(secrets(self.params))

    def _log_invocation(self) -> None:
        pass
