# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""The texts of our systemd units and drop-ins: what loads, opens, refreshes and takes back when no module runs.

Debian's and Red Hat's nftables.service begin each start and reload with "flush ruleset", which takes our table along.
That service is never enabled here: starting it would load, and flush for, a file that nobody may have read for years.
"""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress import files, rollback_file
from ansible_collections.outpost.smtp.plugins.module_utils._egress.own_table import RULES_PATH

_DIRECTORY = "/etc/systemd/system"
UNIT = "outpost-smtp-egress.service"
ROLLBACK_UNIT = "outpost-smtp-egress-rollback.service"
REFRESH_UNIT = "outpost-smtp-egress-refresh.service"
REFRESH_TIMER = "outpost-smtp-egress-refresh.timer"
UNIT_PATH, ROLLBACK_PATH, REFRESH_PATH, REFRESH_TIMER_PATH = (
    f"{_DIRECTORY}/{unit}" for unit in (UNIT, ROLLBACK_UNIT, REFRESH_UNIT, REFRESH_TIMER)
)
#: Units that are enabled where they are there, and the link that says so.
ENABLED = {
    UNIT: f"{_DIRECTORY}/multi-user.target.wants/{UNIT}",
    ROLLBACK_UNIT: f"{_DIRECTORY}/multi-user.target.wants/{ROLLBACK_UNIT}",
    REFRESH_TIMER: f"{_DIRECTORY}/timers.target.wants/{REFRESH_TIMER}",
}
ENABLED_PATH = ENABLED[UNIT]

NFTABLES = "nftables.service"
#: The services of managers that may get a drop-in.
_SERVICES = (NFTABLES, "iptables.service", "ip6tables.service")
_UNIT_DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_OTHERS = "nftables.service firewalld.service ufw.service netfilter-persistent.service iptables.service ip6tables.service"
_DEFAULT_NFT = "/usr/sbin/nft"
_HEADER = "# Managed by Ansible, module outpost.smtp.smtp_egress"

#: No ExecStop: stopping the unit at shutdown must not open what is closed while others still run. No Python is needed for the rules.
_UNIT_TEXT = """\
{header}.
[Unit]
Description=Outbound mail rules (nftables table inet outpost_smtp)
DefaultDependencies=no
Wants=network-pre.target
After=local-fs.target {others}
Before=network-pre.target shutdown.target
Conflicts=shutdown.target
ConditionPathExists={rules}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={nft} -f {rules}
ExecReload={nft} -f {rules}
{reopen}
[Install]
WantedBy=multi-user.target
"""

#: Its timer is made for each change, systemd-run(1). Started at boot, it takes back what a reboot has left without its timer.
_ROLLBACK_TEXT = """\
{header}.
[Unit]
Description=Takes back a change of the outbound mail rules that nobody confirmed
ConditionPathExists={pending}
After={unit} {others}

[Service]
Type=oneshot
ExecStart={program} rollback

[Install]
WantedBy=multi-user.target
"""

_REFRESH_TEXT = """\
{header}.
[Unit]
Description=Asks anew for the addresses of the mail relays (outbound mail rules)
After=nss-lookup.target network-online.target {unit}

[Service]
Type=oneshot
ExecStart={program} refresh
"""

_REFRESH_TIMER_TEXT = """\
{header}.
[Unit]
Description=Asks anew for the addresses of the mail relays (outbound mail rules)

[Timer]
OnActiveSec=1min
OnUnitInactiveSec={seconds}s
AccuracySec=10s

[Install]
WantedBy=timers.target
"""


def wanted(
    root: str, program: str, *, nft: t.Optional[str], reopened: t.Optional[t.Sequence[str]] = None, refresh: int = 0
) -> t.Dict[str, t.Optional[str]]:
    """Path and text of what must be there; None for what must not be.

    `program` begins the helper's command line, `nft` is None where it is yet to come. After each start of the services that are `reopened`,
    and at boot, the helper opens the ways again; None where the manager keeps them itself. `refresh` is in seconds, 0 for never.
    """
    common = {"header": _HEADER, "others": _OTHERS, "rules": RULES_PATH, "unit": UNIT, "program": program, "pending": rollback_file.PATH}
    load = f"{nft or _DEFAULT_NFT} -f {RULES_PATH}"
    reopen = f"-{program} reopen"
    texts: t.Dict[str, t.Optional[str]] = {
        UNIT_PATH: _UNIT_TEXT.format(
            nft=nft or _DEFAULT_NFT,
            reopen="" if reopened is None else f"ExecStart={reopen}\nExecReload={reopen}\n",
            **common,
        ),
        ROLLBACK_PATH: _ROLLBACK_TEXT.format(**common),
        REFRESH_PATH: _REFRESH_TEXT.format(**common) if refresh else None,
        REFRESH_TIMER_PATH: _REFRESH_TIMER_TEXT.format(seconds=refresh, **common) if refresh else None,
    }
    for service in _SERVICES:
        text = _unit_text(root, service)
        lines = []
        # The package that brings nft brings its service, too.
        if service == NFTABLES and (nft is None or text is not None):
            # ExecStopPost also runs when the start fails, so a broken nftables.conf does not take our rules along.
            lines += [f"{when}=-{load}" for when in ("ExecStartPost", "ExecReload", "ExecStopPost")]
        if reopened is not None and service in reopened and text is not None:
            # A service that has no reload must not get one by our line.
            reloads = re.search(r"^ExecReload *=", text, re.MULTILINE)
            lines += [f"{when}={reopen}" for when in ("ExecStartPost", *(["ExecReload"] if reloads else []))]
        texts[drop_in(service)] = _drop_in_text(lines) if lines else None
    return texts


def unwanted() -> t.Dict[str, None]:
    """Everything that :func:`wanted` may ever have made, not to be there."""
    return dict.fromkeys([UNIT_PATH, ROLLBACK_PATH, REFRESH_PATH, REFRESH_TIMER_PATH, *map(drop_in, _SERVICES)])


def drop_in(service: str) -> str:
    return f"{_DIRECTORY}/{service}.d/50-outpost-smtp.conf"


DROP_IN_PATH = drop_in(NFTABLES)


def _drop_in_text(lines: t.Sequence[str]) -> str:
    return f"{_HEADER}: this service takes rules away, ours included.\n[Service]\n" + "".join(f"{line}\n" for line in lines)


def _unit_text(root: str, service: str) -> t.Optional[str]:
    """The service's own unit file; None where there is none, or another service only has this name as well (netfilter-persistent does)."""
    paths = (f"{root}{directory}/{service}" for directory in _UNIT_DIRECTORIES)
    found = (files.read(path) for path in paths if os.path.basename(os.path.realpath(path)) == service)
    return next((text for text in found if text is not None), None)
