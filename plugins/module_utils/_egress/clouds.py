# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Clouds that block outgoing mail, as their documents or their customers say, told by what the machine calls itself (DMI).

A hint and never a verdict: such blocks are lifted for single accounts, they change, and what is written of them differs.
So it is only mentioned where nothing answers and nothing on this host is in the way.
"""

from __future__ import annotations

import typing as t

_DMI = "/sys/class/dmi/id/"


class Cloud(t.NamedTuple):
    """A cloud: the file in /sys/class/dmi/id that tells it and how its content begins, the ports that it is said to block,
    from whom that is, and how the block goes away.
    """

    name: str
    file: str
    begins: str
    ports: t.FrozenSet[int]
    source: str
    lifted: str

    def hint(self, port: int) -> str:
        """What is to be said where nothing answers on a port; empty where nothing is known against it."""
        if port not in self.ports:
            return ""
        ports = ", ".join(str(number) for number in sorted(self.ports))
        return f"this server runs at {self.name}, which is said to block outgoing TCP to port {ports} ({self.source}); {self.lifted}"


def _cloud(name: str, file: str, begins: str, ports: t.Iterable[int], source: str, lifted: str) -> Cloud:
    return Cloud(name, file, begins, frozenset(ports), source, lifted)


_ON_REQUEST = "it is lifted on request to its support"
_AUTHENTICATED = "use port 465 or 587 of the relay"

#: The names are those by which cloud-init tells clouds (tools/ds-identify, dscheck_*).
CLOUDS: t.Tuple[Cloud, ...] = (
    _cloud("Hetzner Cloud", "sys_vendor", "Hetzner", (25, 465), "docs.hetzner.com/cloud/servers/faq", f"{_ON_REQUEST}, and port 587 is open"),
    _cloud("Linode (Akamai)", "sys_vendor", "Linode", (25, 465, 587), "linode.com/blog/linode/a-new-policy-to-help-fight-spam", _ON_REQUEST),
    _cloud("Akamai", "sys_vendor", "Akamai", (25, 465, 587), "linode.com/blog/linode/a-new-policy-to-help-fight-spam", _ON_REQUEST),
    _cloud(
        "DigitalOcean",
        "sys_vendor",
        "DigitalOcean",
        (25, 465, 587),
        "docs.digitalocean.com/support/why-is-smtp-blocked for 25, reports of customers for 465 and 587, 2026",
        "try port 2525 of the relay",
    ),
    _cloud(
        "Scaleway",
        "sys_vendor",
        "Scaleway",
        (25, 465, 587),
        "scaleway.com/en/docs/compute/instances/how-to/use-security-groups",
        "it is lifted by enabling SMTP in the security group of the instance",
    ),
    _cloud("Vultr", "sys_vendor", "Vultr", (25,), "reports of customers", _AUTHENTICATED),
    _cloud("UpCloud", "sys_vendor", "UpCloud", (25,), "upcloud.com/docs/products/networking/features/firewall", _ON_REQUEST),
    _cloud("Google Cloud", "product_name", "Google", (25,), "cloud.google.com/compute/docs/tutorials/sending-mail", _AUTHENTICATED),
    _cloud("Amazon EC2", "sys_vendor", "Amazon EC2", (25,), "aws.amazon.com/premiumsupport/knowledge-center/ec2-port-25-throttle", _ON_REQUEST),
    _cloud(
        "Microsoft Azure",
        "chassis_asset_tag",
        "7783-7084-3265-9085-8269-3286-77",
        (25,),
        "learn.microsoft.com/azure/virtual-network/troubleshoot-outbound-smtp-connectivity",
        _AUTHENTICATED,
    ),
    _cloud("Oracle Cloud", "chassis_asset_tag", "OracleCloud.com", (25,), "reports of customers", _AUTHENTICATED),
    _cloud("Alibaba Cloud", "product_name", "Alibaba Cloud ECS", (25,), "alibabacloud.com/help/doc-detail/49123.htm", _AUTHENTICATED),
)


def recognise(root: str = "") -> t.Optional[Cloud]:
    """The cloud that this host runs in; None on any other machine. Any user may read this."""
    texts: t.Dict[str, str] = {}
    for cloud in CLOUDS:
        if cloud.file not in texts:
            texts[cloud.file] = _read(f"{root}{_DMI}{cloud.file}")
        if texts[cloud.file].startswith(cloud.begins):
            return cloud
    return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(256).strip()
    except OSError:
        return ""
