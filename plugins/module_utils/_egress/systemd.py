# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""What loads the rules again: at boot a unit of ours, and after a reload or restart of nftables.service a drop-in.

Debian's and Red Hat's nftables.service begin each start and reload with "flush ruleset", which takes our table along.
That service is never enabled here: starting it would load, and flush for, a file that nobody may have read for years.
"""

from __future__ import annotations

import os
import shutil
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress.errors import EgressError
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Run

UNIT = "outpost-smtp-egress.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"
ENABLED_PATH = f"/etc/systemd/system/multi-user.target.wants/{UNIT}"
DROP_IN_PATH = "/etc/systemd/system/nftables.service.d/50-outpost-smtp.conf"
_NFTABLES_UNITS = [
    f"{directory}/nftables.service"
    for directory in ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
]

_DEFAULT_NFT = "/usr/sbin/nft"

#: No ExecStop: stopping the unit at shutdown must not open what is closed while others still run.
_UNIT_TEXT = """\
# Managed by Ansible, module outpost.smtp.smtp_egress.
[Unit]
Description=Outbound mail rules (nftables table inet outpost_smtp)
DefaultDependencies=no
Wants=network-pre.target
After=local-fs.target nftables.service firewalld.service ufw.service netfilter-persistent.service
Before=network-pre.target shutdown.target
Conflicts=shutdown.target
ConditionPathExists={rules}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={nft} -f {rules}
ExecReload={nft} -f {rules}

[Install]
WantedBy=multi-user.target
"""

#: ExecStopPost also runs when the start fails, so a broken nftables.conf does not take our rules along.
_DROP_IN_TEXT = """\
# Managed by Ansible, module outpost.smtp.smtp_egress: this service flushes all rules, ours included.
[Service]
ExecStartPost=-{nft} -f {rules}
ExecReload=-{nft} -f {rules}
ExecStopPost=-{nft} -f {rules}
"""


class Systemd:
    """systemd of this host; ``root`` is where the host's files are."""

    def __init__(self, run: Run, root: str = "") -> None:
        self._run = run
        self.root = root

    @property
    def installed(self) -> bool:
        return shutil.which("systemctl") is not None

    def units(self, nft: t.Optional[str], rules: str) -> t.Dict[str, t.Optional[str]]:
        """Path and text of what must be there; None for what must not be. ``nft`` is None where it is yet to come."""
        if not self.installed:
            return {}
        # The package that brings nft brings the service too.
        flushing = nft is None or any(os.path.exists(self.root + path) for path in _NFTABLES_UNITS)
        nft = nft or _DEFAULT_NFT
        return {
            UNIT_PATH: _UNIT_TEXT.format(nft=nft, rules=rules),
            DROP_IN_PATH: _DROP_IN_TEXT.format(nft=nft, rules=rules) if flushing else None,
        }

    @property
    def enabled(self) -> bool:
        return os.path.islink(self.root + ENABLED_PATH)

    def reload(self) -> None:
        """Read the unit files again; nothing to do where systemd is not the running init, as in an image build."""
        if os.path.isdir(self.root + "/run/systemd/system"):
            self._systemctl("daemon-reload")

    def enable(self) -> None:
        self._systemctl("enable", "--quiet", UNIT)

    def disable(self) -> None:
        self._systemctl("disable", "--quiet", UNIT)

    def _systemctl(self, *arguments: str) -> None:
        code, out, err = self._run(["systemctl", *arguments], "")
        if code != 0:
            raise EgressError(f"systemctl {' '.join(arguments)} failed: {(err or out).strip()}")
