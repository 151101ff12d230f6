# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""What every manager of a host's firewall can do for us: let mail out where its own rules would stop it.

Only the manager that drops can open, since an accept in one table does not undo a drop in another. What is opened is as
narrow as it can be said: one address, one TCP port. Our own table (egress.py) closes; no manager is asked to.
"""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._egress.change import Change
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Run

#: Any address, as a network of its version.
ANY = {4: "0.0.0.0/0", 6: "::/0"}


class Way(t.NamedTuple):
    """A way out to open: TCP to ``port`` of ``network``, an address or a network in canonical text; "" stands for any address of ``version``."""

    version: int  #: 4 or 6
    network: str
    port: int

    @classmethod
    def to(cls, network: str, port: int) -> Way:
        """To an address or network. Raises ValueError for what is neither."""
        parsed = ipaddress.ip_network(network)
        if parsed.prefixlen == 0:
            return cls(parsed.version, "", port)
        return cls(parsed.version, str(parsed.network_address) if parsed.num_addresses == 1 else str(parsed), port)

    @classmethod
    def read(cls, version: int, network: str, port: str) -> t.Optional[Way]:
        """What was read somewhere as a way; None where it is none of that version."""
        try:
            way = cls.to(network, int(port))
        except ValueError:
            return None
        return way if way.version == version else None

    @property
    def destination(self) -> str:
        """Where it goes, for managers that want any address spelled out."""
        return self.network or ANY[self.version]

    def __str__(self) -> str:
        where = self.network or f"any IPv{self.version} address"
        return f"{where} port {self.port}"


class Manager:
    """One manager on this host. ``root`` is where the host's files are. Methods raise EgressError, whose text names the manager."""

    name = ""
    #: The services whose start or reload takes away what was opened, so that our units put it back; none where the manager keeps it itself.
    services: t.Tuple[str, ...] = ()

    def __init__(self, run: Run, root: str = "") -> None:
        self._run = run
        self.root = root

    def opened(self) -> t.Set[Way]:
        """What we have opened through it, as it stands in its own lasting configuration AND in force; of others nothing.

        Cheap: it is asked in each run, so files are read rather than slow programs started.
        """
        raise NotImplementedError

    def plan(self, ways: t.Collection[Way]) -> t.List[Change]:
        """What :meth:`apply` would change, in the manager's own words; empty when exactly these ways are opened by us, for good and now."""
        raise NotImplementedError

    def apply(self, ways: t.Collection[Way]) -> None:
        """Open exactly these ways and close the others of ours, in force and for good, with rules of others left as they are.

        Checked before anything changes wherever the manager can check. Killed at any point, the old or the new ways are open, or both,
        and the next call completes it. No ways: nothing of ours stays anywhere.
        """
        raise NotImplementedError

    def reopen(self, ways: t.Collection[Way]) -> None:
        """Put these ways back after one of :attr:`services` has started or reloaded, and at boot. Called by our units."""
