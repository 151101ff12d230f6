# SPDX-License-Identifier: GPL-3.0-or-later
"""A network of its own for tests of real firewall rules: nothing that is done there reaches the machine's."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import typing as t

OWN, FAR, OWN6, FAR6 = "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"
"""This host's addresses there, and those of a neighbour that never answers."""

_LINK = f"""
ip link set lo up
ip link add name out type veth peer name far
ip link set out up
ip link set far up
ip address add {OWN}/24 dev out
ip -6 address add {OWN6}/64 dev out nodad
"""


@functools.lru_cache(maxsize=None)
def available() -> bool:
    """Whether this machine lets its user make one, and has nft."""
    try:
        done = subprocess.run(["unshare", "--net", "sh", "-ec", _LINK + "nft list ruleset"], capture_output=True, timeout=20, check=False)
    except OSError:
        return False
    return done.returncode == 0


def run(rules: str, script: str) -> t.Any:
    """Load *rules* (as nft -f takes them) in a new network and run the Python *script* there; what it prints, from JSON."""
    setup = f"{_LINK}nft -f - <<'RULES'\n{rules}\nRULES\nexec \"$0\" -c \"$1\""
    prelude = f"import sys; sys.path[:0] = {sys.path!r}\n"
    command = ["unshare", "--net", "sh", "-ec", setup, sys.executable, prelude + script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
