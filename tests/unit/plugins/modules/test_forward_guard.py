# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's rule set with a container behind the host: real packets that are passed on, in networks of their own."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "_support"))

import egress_template  # noqa: E402  (needs the path set above)
import namespace  # noqa: E402

from ansible_collections.outpost.smtp.plugins.module_utils._egress import ruleset  # noqa: E402
from ansible_collections.outpost.smtp.plugins.module_utils._egress.addresses import Addresses  # noqa: E402

pytestmark = pytest.mark.skipif(not namespace.available(), reason="needs root and nft")

#: What a container engine does for its containers: their traffic leaves with the host's address.
ENGINE = """
table inet engine {
    chain postrouting {
        type nat hook postrouting priority srcnat
        oifname "out" masquerade
    }
}
"""
#: Whose filter drops what containers send, but to port 2525.
DROPPING = """
table inet dropping {
    chain forward {
        type filter hook forward priority filter; policy drop
        ct state established,related accept
        tcp dport 2525 accept
    }
}
"""
# In the network of the host: a container on 10.9.0.2 and fd09::2.
SCRIPT = """
import json, subprocess, sys, time
from ansible_collections.outpost.smtp.plugins.module_utils._egress import probe

def run(*words, **options):
    return subprocess.run(words, check=True, **options)

container = subprocess.Popen(["unshare", "--net", "sleep", "30"])
try:
    run("ip", "link", "add", "name", "bridge", "type", "veth", "peer", "name", "inside")
    for attempt in range(200):
        if subprocess.run(["ip", "link", "set", "inside", "netns", str(container.pid)], check=False, capture_output=True).returncode == 0:
            if subprocess.run(["ip", "link", "show", "inside"], check=False, capture_output=True).returncode != 0:
                break
        time.sleep(0.01)
    for path in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        with open("/proc/sys/net/" + path, "w") as file:
            file.write("1")
    run("sh", "-ec", "ip link set bridge up; ip address add 10.9.0.1/24 dev bridge; ip -6 address add fd09::1/64 dev bridge nodad")
    inside = ["nsenter", "--target", str(container.pid), "--net"]
    run(*inside, "sh", "-ec", "ip link set lo up; ip link set inside up; ip address add 10.9.0.2/24 dev inside;"
        "ip -6 address add fd09::2/64 dev inside nodad; ip route add default via 10.9.0.1; ip -6 route add default via fd09::1")
    try_it = "import json, sys; sys.path[:0] = %r; from ansible_collections.outpost.smtp.plugins.module_utils._egress import probe; " % sys.path
    try_it += "print(json.dumps([outcome.word for outcome in probe.connect([probe.Try(a, p, 0) for a, p in %r], 2)]))" % (TRIES,)
    found = json.loads(run(*inside, sys.executable, "-c", try_it, capture_output=True, text=True).stdout)
    listed = json.loads(run("nft", "-j", "list", "counters", capture_output=True).stdout)["nftables"]
    counters = {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listed if "counter" in entry}
    print(json.dumps([found, counters]))
finally:
    container.kill()
"""
TRIES = [(address, port) for address in (namespace.FAR, namespace.FAR6) for port in (25, 465, 587, 2525)]


def tried(forwarded: bool, others: str = ENGINE) -> t.Tuple[t.List[str], t.Dict[str, int]]:
    text = egress_template.rendered([{"name": "relay", "host": "relay.example.net", "port": 587}], forwarded=forwarded)
    addresses = {"relay.example.net": Addresses([namespace.FAR], [namespace.FAR6], "dns")}
    rules = ruleset.render(text, addresses, ruleset.Users(8, []), [])
    found, counters = namespace.run_beside([25, 465, 587, 2525], rules + others, SCRIPT.replace("TRIES", repr(TRIES)))
    return found, counters


def test_what_a_container_sends_is_refused_at_once_and_counted() -> None:
    """All three ports, on both families, the relay's included; other ports are open. What others would drop is refused all the same."""
    found, counters = tried(forwarded=True, others=ENGINE + DROPPING)

    assert found == ["refused", "refused", "refused", "reached"] * 2
    assert counters["refused_forwarded"] == 6 and counters["refused"] == 0


def test_without_the_forward_guard_a_container_is_not_touched() -> None:
    found, counters = tried(forwarded=False)

    assert found == ["reached"] * 8 and counters["refused"] == 0 and "refused_forwarded" not in counters
