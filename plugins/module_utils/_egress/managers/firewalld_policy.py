# Copyright (c) 2026 outpost.smtp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection; may change without notice.
"""Our policy of firewalld as it is spelled in three places: its file, the rich rules of firewall-cmd, and the kernel's rules.

Policies of a priority below 0 are asked before the zones, the lowest first (firewalld.policy(5)), so ours comes before
one that drops. What it does not accept goes on to the others: its target is CONTINUE.
"""

from __future__ import annotations

import typing as t
from xml.etree import ElementTree

from ansible_collections.outpost.smtp.plugins.module_utils._egress.managers.manager import ANY, Way
from ansible_collections.outpost.smtp.plugins.module_utils._egress.nft import Json

NAME = "outpost-smtp"
PATH = f"/etc/firewalld/policies/{NAME}.xml"
#: The policy without its rules, as ``firewall-cmd --info-policy`` tells it. Priorities begin at -32768: this one comes before a
#: policy that somebody put first, and leaves room for one that must come before it.
FRAME = {"priority": "-30000", "target": "CONTINUE", "ingress-zones": "HOST", "egress-zones": "ANY"}

#: By which the policy is known as ours: firewalld keeps it when it writes the file itself, but no comment.
_DESCRIPTION = "Outbound mail to the relays, whatever other policies drop."
_TEXT = """\
<?xml version="1.0" encoding="utf-8"?>
<!-- Managed by Ansible, module outpost.smtp.smtp_egress. -->
<policy priority="{priority}" target="{target}">
  <short>{name}</short>
  <description>{description}</description>
  <ingress-zone name="{ingress-zones}"/>
  <egress-zone name="{egress-zones}"/>
{rules}</policy>
"""
_RULE = """\
  <rule family="ipv{version}">
    <destination address="{destination}"/>
    <port port="{port}" protocol="tcp"/>
    <accept/>
  </rule>
"""
#: Without effect on what is accepted, and firewalld writes them as it likes.
_WORDS = ("short", "description")
_FAMILIES = {"ipv4": 4, "ipv6": 6}


def text(ways: t.Collection[Way]) -> str:
    """The policy's file; empty where nothing is to be opened, and then there is none."""
    if not ways:
        return ""
    rules = "".join(_RULE.format(version=way.version, destination=way.destination, port=way.port) for way in sorted(ways))
    return _TEXT.format(name=NAME, description=_DESCRIPTION, rules=rules, **FRAME)


def is_strange(text: t.Optional[str]) -> bool:
    """Whether a policy's file is somebody else's. One without any content is nobody's."""
    return bool(text and text.strip()) and _DESCRIPTION not in (text or "")


def read(text: t.Optional[str]) -> t.Optional[t.Set[Way]]:
    """The ways of a policy's file; None for one that :func:`text` would not have written, whatever its layout."""
    # No file of firewalld has a document type, by which an XML parser can be made to work without end.
    if not text or "<!DOCTYPE" in text or is_strange(text):
        return None
    try:
        policy = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return None
    frame = dict(policy.attrib)
    frame.update((f"{child.tag}s", child.get("name", "")) for child in policy if child.tag in ("ingress-zone", "egress-zone"))
    rules = [child for child in policy if child.tag not in (*_WORDS, "ingress-zone", "egress-zone")]
    ways = [_read_rule(rule) for rule in rules]
    if frame != FRAME or len(policy) - len(rules) - sum(child.tag in _WORDS for child in policy) != 2:
        return None
    return None if None in ways else {way for way in ways if way is not None}


def _read_rule(rule: ElementTree.Element) -> t.Optional[Way]:
    found = {child.tag: dict(child.attrib) for child in rule}
    port = found.get("port", {}).get("port", "")
    destination = found.get("destination", {}).get("address", "")
    expected = {"destination": {"address": destination}, "port": {"port": port, "protocol": "tcp"}, "accept": {}}
    version = _FAMILIES.get(rule.get("family", ""), 0)
    if rule.tag != "rule" or rule.attrib != {"family": f"ipv{version}"} or found != expected or len(rule) != len(expected):
        return None
    return Way.read(version, destination, port)


def rich_rule(way: Way) -> str:
    """As firewalld.richlanguage(5) has it."""
    return f'rule family="ipv{way.version}" destination address="{way.destination}" port port="{way.port}" protocol="tcp" accept'


def lines(ways: t.Iterable[Way]) -> str:
    return "".join(f"{rich_rule(way)}\n" for way in sorted(ways))


def accepted(expressions: t.Sequence[Json]) -> t.Optional[Way]:
    """The way that firewalld's rule for a rich rule of ours lets through, from libnftables-json(5); None for any other rule."""
    version, destination, port, accepts = 0, "", "", False
    for expression in expressions:
        match = expression.get("match")
        if "accept" in expression:
            accepts = True
        elif match is None:
            if "counter" not in expression:
                return None
        elif match["left"] == {"meta": {"key": "nfproto"}}:
            version = _FAMILIES.get(match["right"], 0)
        elif match["left"] in ({"payload": {"protocol": "ip", "field": "daddr"}}, {"payload": {"protocol": "ip6", "field": "daddr"}}):
            version, destination = (4 if match["left"]["payload"]["protocol"] == "ip" else 6), _address(match["right"])
        elif match["left"] == {"payload": {"protocol": "tcp", "field": "dport"}}:
            port = str(match["right"])
        elif match["left"] != {"ct": {"key": "state"}}:  # of firewalld 0.9: new or untracked, as a first packet is
            return None
    return Way.read(version, destination or ANY.get(version, ""), port) if accepts else None


def _address(right: t.Any) -> str:
    prefix = right.get("prefix") if isinstance(right, dict) else None
    return f"{prefix['addr']}/{prefix['len']}" if prefix else str(right)
