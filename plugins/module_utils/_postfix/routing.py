# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.

"""By which transport and to which next hop a message leaves: what trivial-rewrite(8) decides for sender and recipient.

ADDRESS_CLASS_README and postconf(5): the class of the recipient's domain gives a transport, the relayhost (or the one of
the sender) the next hop, a next hop written behind the transport is stronger, and transport_maps are strongest.
"""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.outpost.smtp.plugins.module_utils._postfix.maps import Maps, address_keys
from ansible_collections.outpost.smtp.plugins.module_utils._postfix.settings import Settings

#: A recipient that no host delivers for itself (RFC 2606), where none is given.
FOREIGN = "postmaster@example.net"

SENDER_RELAYHOST, SENDER_TRANSPORT = "sender_dependent_relayhost_maps", "sender_dependent_default_transport_maps"
TRANSPORT_MAPS = "transport_maps"


class Way(t.NamedTuple):
    """``chosen_by`` names the parameters that decided, the last of which is the strongest.

    Without a ``relay`` the next hop is the recipient's own domain: the message goes to whatever server that has.
    """

    sender: str
    recipient: str
    transport: str
    nexthop: str
    chosen_by: t.Tuple[str, ...]
    relay: bool


class Router:
    """The routing of one Postfix instance."""

    def __init__(self, settings: Settings, maps: Maps) -> None:
        self._parameters = settings.of_service("rewrite")
        self._cleanup = settings.of_service("cleanup")
        self._maps = maps

    def way(self, sender: str, recipient: str = FOREIGN) -> t.Optional[Way]:
        """The way of a message, None where it does not leave this host. Raises MapError for a table that can not be asked.

        ``sender`` is the address in the envelope after it was rewritten; it is empty for a bounce.
        """
        domain = recipient.rpartition("@")[2].lower()
        if self._is_delivered_here(domain):
            return None
        transport, chosen_by = self._transport(sender, domain)
        nexthop, by = self._relayhost(sender)
        if by:
            chosen_by = [by, *chosen_by]
        transport, _colon, explicit = transport.partition(":")
        nexthop = explicit or nexthop
        found = self._transport_map(recipient, domain)
        if found is not None:
            chosen_by = [*chosen_by, TRANSPORT_MAPS]
            new_transport, _colon, new_nexthop = found.partition(":")
            nexthop = new_nexthop or ("" if new_transport else nexthop)
            transport = new_transport or transport
        return Way(sender, recipient, transport, nexthop or domain, tuple(chosen_by), bool(nexthop))

    def rewritten(self, sender: str) -> str:
        """The envelope sender as cleanup(8) hands it on: canonical(5). Raises MapError."""
        cleanup = self._cleanup
        for name, classes in (("sender_canonical_maps", "sender_canonical_classes"), ("canonical_maps", "canonical_classes")):
            wanted = "envelope_sender"
            if sender and cleanup.get(name) and wanted in cleanup.names(classes):
                sender = self._canonical(sender, cleanup.get(name))
        return sender

    def default_sender(self) -> str:
        """Who sends what a program of this host sends without saying so: root."""
        return f"root@{self._origin()}"

    def _origin(self) -> str:
        return self._cleanup.get("myorigin")

    def senders(self) -> t.List[str]:
        """The senders that the tables have a way of their own for, as far as they can be listed. A domain gets a user, a user myorigin."""
        found: t.List[str] = []
        for name in (SENDER_RELAYHOST, SENDER_TRANSPORT):
            for table in self._parameters.names(name):
                keys = [key for key in self._maps.entries(table) if not key.startswith("<")]  # such as "<>", which stands for the empty sender
                found += [f"postmaster{key}" if key.startswith("@") else key if "@" in key else f"{key}@{self._origin()}" for key in keys]
        return sorted(set(found))

    def recipients(self) -> t.List[str]:
        """The recipients that transport_maps have a way of its own for, as far as they can be listed."""
        found = []
        for table in self._parameters.names(TRANSPORT_MAPS):
            for key in self._maps.entries(table):
                if key != "*":
                    domain = f"any{key}" if key.startswith(".") else key
                    found.append(key if "@" in key else f"postmaster@{domain}")
        return sorted(set(found))

    def _transport(self, sender: str, domain: str) -> t.Tuple[str, t.List[str]]:
        parameters = self._parameters
        if self._listed(domain, "relay_domains"):
            return parameters.get("relay_transport"), ["relay_transport"]
        found = self._of_sender(SENDER_TRANSPORT, sender, "empty_address_default_transport_maps_lookup_key")
        if found is not None and found.upper() != "DUNNO":
            return found, [SENDER_TRANSPORT]
        return parameters.get("default_transport"), ["default_transport"]

    def _relayhost(self, sender: str) -> t.Tuple[str, str]:
        found = self._of_sender(SENDER_RELAYHOST, sender, "empty_address_relayhost_maps_lookup_key")
        if found is not None and found.upper() != "DUNNO":
            return found, SENDER_RELAYHOST
        relayhost = self._parameters.get("relayhost")
        return relayhost, "relayhost" if relayhost else ""

    def _of_sender(self, name: str, sender: str, null_key: str) -> t.Optional[str]:
        tables = self._parameters.get(name)
        if not tables:
            return None
        keys = self._address_keys(sender) if sender else [self._parameters.get(null_key)]
        found = self._maps.find(tables, keys, partial=keys[1:])
        return found.value or "DUNNO" if found else None

    def _transport_map(self, recipient: str, domain: str) -> t.Optional[str]:
        """transport(5), "TABLE SEARCH ORDER": the address, its domain, the domains above it, and ``*``."""
        parameters = self._parameters
        tables = parameters.get(TRANSPORT_MAPS)
        if not tables:
            return None
        subdomains = "transport_maps" in parameters.names("parent_domain_matches_subdomains")
        labels = domain.split(".")
        above = [".".join(labels[index:]) for index in range(1, len(labels))]
        parts = [domain, *(above if subdomains else [f".{name}" for name in above])]
        addresses = address_keys(recipient, parameters.get("recipient_delimiter"), lambda _domain: False)[:-1]
        keys = [*addresses, *parts, "*"]
        found = self._maps.find(tables, keys, partial=keys[1:-1])
        return found.value if found else None

    def _canonical(self, sender: str, tables: str) -> str:
        keys = self._address_keys(sender)
        found = self._maps.find(tables, keys, partial=keys[1:])
        if found is None:
            return sender
        if found.value.startswith("@"):
            return sender.rpartition("@")[0] + found.value
        return found.value if "@" in found.value else f"{found.value}@{self._origin()}"

    def _address_keys(self, address: str) -> t.List[str]:
        # canonical(5): a user alone is looked up for $myorigin, too, though the host may not deliver for that.
        origin = self._origin().lower()
        return address_keys(address, self._parameters.get("recipient_delimiter"), lambda domain: domain.lower() == origin or self.is_local(domain))

    def _is_delivered_here(self, domain: str) -> bool:
        return self.is_local(domain) or any(self._listed(domain, name) for name in ("virtual_alias_domains", "virtual_mailbox_domains"))

    def is_local(self, domain: str) -> bool:
        """Whether this host delivers mail for a domain to its own users: ``mydestination``, and its own addresses."""
        if domain.startswith("["):
            return _is_loopback(domain.strip("[]"))
        return self._listed(domain, "mydestination")

    def _listed(self, domain: str, name: str) -> bool:
        """Whether a list of domains has a domain: first match counts, ``!`` negates (postconf(5), ``mydestination``)."""
        parents = name in self._parameters.names("parent_domain_matches_subdomains")
        for pattern in self._parameters.names(name):
            bare = pattern.lstrip("!")
            if self._matches(domain, bare, parents):
                return (len(pattern) - len(bare)) % 2 == 0
        return False

    def _matches(self, domain: str, pattern: str, parents: bool) -> bool:
        if ":" in pattern and not pattern.startswith("["):
            return self._maps.find(pattern, [domain]) is not None
        pattern = pattern.lower()
        return domain == pattern or (pattern.startswith(".") and domain.endswith(pattern)) or (parents and domain.endswith(f".{pattern}"))


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False
